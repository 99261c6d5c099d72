"""Measures how well the miniature follows its prompts, with the independent judge; it trains nothing.

Prompts name combinations that were never captioned in training. Also draws contact sheets, to be looked at.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch

from modules.files import ModelFiles
from modules.model_folders import ModelFolders
from modules.pipeline import Pipeline
from modules.plan import ImageJob, plan
from modules.presets import MINI_PRESET, apply_preset
from modules.prompt_sources import prompt_sources
from modules.settings import built_in_settings
from training.captions import full_caption
from training.classifier import HEADS, PRESENT, load_classifier, pixels_of
from training.pack import BASE
from training.world import MEDIA, SUBJECTS, Scene, sample_scene

log = logging.getLogger("training")


@dataclass
class Collector:
    """An observer that keeps the pictures."""

    pictures: list[np.ndarray] = field(default_factory=list)

    def progress(self, job: int, step: int, steps: int, text: str, preview: Callable[[], Any] | None) -> None:
        """Nobody watches."""

    def note(self, text: str) -> None:
        """What is said there is said here."""
        sys.stderr.write(f"{text}\n")

    def cancelled(self) -> Literal["", "skip", "stop"]:
        """Never."""
        return ""

    def finished(self, job: int, picture: Any, timings: dict[str, float]) -> None:
        """Keep it."""
        self.pictures.append(picture)
        if len(self.pictures) % 20 == 0:
            log.info("%d pictures", len(self.pictures))


def draw(models: Path, prompts: Sequence[str], assignments: Sequence[str], seed: int) -> list[np.ndarray]:
    """One square picture per prompt, by the application's pipeline and the miniature's preset."""
    settings = replace(built_in_settings(Path(__file__).resolve().parents[1]), models=ModelFolders.under(models))
    checkpoints = ModelFiles(settings.models.checkpoints)
    start = apply_preset(MINI_PRESET, settings, checkpoints).parameters
    start = start.with_values({"aspect_ratios_selection": "1024*1024", "image_number": 1}).with_set(list(assignments))
    collector = Collector()
    jobs: list[ImageJob] = []
    for number, prompt in enumerate(prompts):
        parameters = start.with_values({"prompt": prompt, "image_seed": seed + number})
        jobs += plan(parameters, checkpoints.facts(BASE), prompt_sources(settings), collector.note)
    Pipeline(settings.models).run(jobs, collector)
    return collector.pictures


def scenes(count: int, things: int, seed: int) -> list[Scene]:
    """Held-out single things, or pairs in combinations of any kind."""
    rng = random.Random(seed)
    found: list[Scene] = []
    while len(found) < count:
        scene = sample_scene(rng, held_out=things == 1)
        if len(scene.things) == things:
            found.append(scene)
    return found


@torch.inference_mode()
def judge(run: Path, pictures: Sequence[np.ndarray], asked: Sequence[Scene]) -> dict[str, float]:
    """Share of right answers to each question about pictures of one thing, or of pairs seen whole."""
    outputs = load_classifier(run)(pixels_of(pictures))
    if len(asked[0].things) == 2:
        top = outputs[PRESENT].topk(2, dim=1).indices.tolist()
        right = [
            {SUBJECTS[i] for i in pair} == {thing.subject for thing in scene.things}
            for pair, scene in zip(top, asked, strict=True)
        ]
        return {"both subjects": sum(right) / len(right)}
    result = {}
    for name, values in HEADS.items():
        chosen = [values[i] for i in outputs[name].argmax(dim=1).tolist()]
        wanted = [getattr(scene if name in ("place", "medium") else scene.things[0], name) for scene in asked]
        result[name] = sum(a == b for a, b in zip(chosen, wanted, strict=True)) / len(asked)
    return result


def styles(run: Path, models: Path, count: int, settings: Sequence[str], seed: int) -> dict[str, float]:
    """For each medium, how many of `count` prompts that name none are drawn in it when it is chosen as a style."""
    asked = scenes(count, 1, seed)
    neutral = [full_caption(scene).removesuffix(f", {scene.medium}") for scene in asked]
    found = {}
    for medium in MEDIA:
        chosen = [*settings, f"style_selections={json.dumps([medium.title()])}"]
        in_it = [replace(scene, medium=medium) for scene in asked]
        found[medium] = judge(run, draw(models, neutral, chosen, seed), in_it)["medium"]
    return found


def sheet(pictures: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Pictures of one size side by side, RGB."""
    rows = [np.concatenate(list(pictures[i : i + columns]), axis=1) for i in range(0, len(pictures), columns)]
    return np.concatenate([row for row in rows if row.shape == rows[0].shape], axis=0)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure how well the miniature follows its prompts.")
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--judge", type=Path, help="the classifier's run; without it only the sheet is drawn")
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--styles", type=int, default=0, metavar="N", help="draw N prompts in each medium as a style")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a parameter of the pictures")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of the first 48 pictures here")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for things, count in ((1, args.count), (2, args.pairs)):
        if not count:
            continue
        asked = scenes(count, things, args.seed + things)
        pictures = draw(args.models, [full_caption(scene) for scene in asked], args.set, args.seed)
        if args.judge:
            for name, value in judge(args.judge, pictures, asked).items():
                log.info("%s: %.1f %% of %d", name, 100 * value, count)
        if args.sheet:
            path = args.sheet.with_stem(f"{args.sheet.stem}-{things}")
            cv2.imwrite(str(path), cv2.cvtColor(sheet(pictures[:48], 8), cv2.COLOR_RGB2BGR))
    if args.styles and args.judge:
        by_medium = styles(args.judge, args.models, args.styles, args.set, args.seed)
        for medium, share in {**by_medium, "all styles": sum(by_medium.values()) / len(by_medium)}.items():
            log.info("%s: %.1f %%", medium, 100 * share)


if __name__ == "__main__":
    main()
