"""The command ``encode``: prompts of a file are encoded ahead of time, so that pictures of them need no text encoder.

Knows the pipeline, and no queue: it runs beside the application or without it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modules.files import ModelFiles
from modules.flags import add_memory_flags, policy_of
from modules.parameters import GenerationParameters
from modules.plan import ImageJob, ModelFacts, plan
from modules.presets import apply_preset
from modules.prompt_sources import prompt_sources
from modules.prompts import Sources
from modules.settings import load_settings

if TYPE_CHECKING:
    from modules.observer import Picture

DONE, BAD_INPUT = 0, 2


def main(argv: Sequence[str], root: Path | None = None) -> int:
    """Runs ``encode`` with the arguments ``argv``; returns the exit code."""
    arguments = parser().parse_args(argv)
    try:
        prompts = read_prompts(arguments.file)
        settings = load_settings(
            root or Path(__file__).resolve().parent.parent, {"memory": policy_of(arguments)}, os.environ
        )
        models = ModelFiles(settings.models.checkpoints)
        start = apply_preset(arguments.preset, settings, models)
        parameters = start.parameters.with_set(arguments.assignments)
        facts = models.facts(parameters.base_model)
        sources, narrator = prompt_sources(settings), Narrator()
        jobs = [job_of(prompt, parameters, facts, sources, narrator.note) for prompt in prompts]
        for note in (*settings.notes, *start.notes):
            sys.stderr.write(f"{note}\n")
        from modules.pipeline import Pipeline  # here, not above: it loads torch, and bad input should be told at once

        encoded = Pipeline(settings.models, settings.texts, settings.memory).encode(jobs, narrator)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_INPUT
    sys.stdout.write(f"{len(jobs)} prompts: {encoded} texts were encoded, all others were there.\n")
    return DONE


def parser() -> argparse.ArgumentParser:
    """The flags of ``encode``."""
    made = argparse.ArgumentParser(
        prog="entry.py encode", description="Encodes prompts ahead of time; pictures of them need no text encoder then."
    )
    made.add_argument("file", type=Path, metavar="FILE", help="a text file with one prompt a line")
    made.add_argument("--preset", default="", metavar="NAME", help="the preset whose model and texts are meant")
    made.add_argument(
        "--set", action="append", default=[], dest="assignments", metavar="KEY=VALUE",
        help="any parameter, for example base_model=name.safetensors or clip_skip=1; may be given several times",
    )  # fmt: skip
    add_memory_flags(made)
    return made


def read_prompts(path: Path) -> list[str]:
    """The lines of a text file that are not empty; raises ``ValueError`` in words."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file in UTF-8.") from None
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise ValueError(f"{path} has no prompts: one is expected on each line.")
    return prompts


def job_of(
    prompt: str,
    parameters: GenerationParameters,
    facts: ModelFacts,
    sources: Sources,
    note: Callable[[str], None],
) -> ImageJob:
    """The job whose texts are those of this prompt; only they are used of it."""
    changes: dict[str, Any] = {"prompt": prompt, "image_number": 1, "image_seed": 0}
    return plan(parameters.with_values(changes), facts, sources, note)[0]


class Narrator:
    """An observer that tells the terminal what happens."""

    def progress(self, job: int, step: int, steps: int, text: str, preview: Callable[[], Picture] | None) -> None:
        """One sentence."""
        sys.stderr.write(f"{text}\n")

    def note(self, text: str) -> None:
        """One sentence."""
        sys.stderr.write(f"{text}\n")

    def cancelled(self) -> Literal["", "skip", "stop"]:
        """Never: Ctrl+C ends the command."""
        return ""

    def finished(self, job: int, picture: Picture, timings: dict[str, float]) -> None:
        """No picture is made."""
