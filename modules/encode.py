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

from modules.expansion import completed
from modules.files import ModelFiles
from modules.flags import add_memory_flags, policy_of
from modules.parameters import GenerationParameters
from modules.plan import ImageJob, ModelFacts, plan
from modules.presets import apply_preset
from modules.prompt_sources import prompt_sources
from modules.prompts import Sources
from modules.settings import load_settings
from modules.styles import EXPANSION_STYLE, RANDOM_STYLE

if TYPE_CHECKING:
    from modules.observer import Picture

DONE, BAD_INPUT = 0, 2
WILDCARD = "__"


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
        jobs = [job for prompt in prompts for job in jobs_of(prompt, parameters, facts, sources, narrator.note)]
        for note in (*settings.notes, *start.notes, *left_out(prompts, parameters)):
            sys.stderr.write(f"{note}\n")
        from modules.pipeline import Pipeline  # here, not above: it loads torch, and bad input should be told at once

        pipeline = Pipeline(settings.models, settings.texts, settings.memory)
        if parameters.image_seed >= 0:
            jobs = completed(jobs, pipeline.expand, narrator.note)
        encoded = pipeline.encode(jobs, narrator)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_INPUT
    sys.stdout.write(f"{len(prompts)} prompts: {encoded} texts were encoded, all others were there.\n")
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
        help="any parameter, for example base_model=name.safetensors or clip_skip=1; may be given several times. With "
        "image_seed=NUMBER, what pictures draw from it is encoded too, for image_number=NUMBER pictures a prompt",
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


def jobs_of(
    prompt: str,
    parameters: GenerationParameters,
    facts: ModelFacts,
    sources: Sources,
    note: Callable[[str], None],
) -> list[ImageJob]:
    """The jobs of this prompt, for their texts: without words of the expansion yet. No seed stands for the seed 0."""
    changes: dict[str, Any] = {"prompt": prompt, "image_seed": max(0, parameters.image_seed)}
    return plan(parameters.with_values(changes), facts, sources, note)


def left_out(prompts: Sequence[str], parameters: GenerationParameters) -> tuple[str, ...]:
    """What pictures will be told that cannot be known without their seed, in a sentence; nothing if it is chosen."""
    styles = parameters.style_selections
    by_chance = not parameters.advanced.read_wildcards_in_order and any(
        WILDCARD in text for text in (*prompts, parameters.negative_prompt)
    )
    missing = [f"the words that {EXPANSION_STYLE} adds"] if EXPANSION_STYLE in styles else []
    missing += ["most of what is drawn from lists"] if by_chance or RANDOM_STYLE in styles else []
    if parameters.image_seed >= 0 or not missing:
        return ()
    return (f"Left out: {' and '.join(missing)}. With --set image_seed=NUMBER it is encoded too.",)


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
