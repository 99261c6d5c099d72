"""An independent judge of pictures: a small CNN trained on rendered pictures only. It knows no diffusion model.

It names the subject, colour, place, medium and side of a picture; for pictures of two things, which subjects are there.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.loop import Run, Schedule, channels_last
from training.world import COLOURS, MEDIA, PLACES, SIDES, SUBJECTS

SIZE = 128
WIDTHS = (24, 48, 96, 128)
HEADS: Mapping[str, Sequence[str]] = {
    "subject": SUBJECTS,
    "colour": COLOURS,
    "place": PLACES,
    "medium": MEDIA,
    "side": SIDES,
}
PRESENT = "present"
log = logging.getLogger("training")


class Classifier(nn.Module):
    """Convolutions down to 8x8 positions, then one linear layer per question on all of them."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in WIDTHS:
            for stride in (2, 1):
                convolution = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
                layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
        self.features = nn.Sequential(*layers, nn.AvgPool2d(2))
        sizes = {name: len(values) for name, values in HEADS.items()} | {PRESENT: len(SUBJECTS)}
        flat = channels * (SIZE >> (len(WIDTHS) + 1)) ** 2
        self.heads = nn.ModuleDict({name: nn.Linear(flat, size) for name, size in sizes.items()})
        self.dropout = nn.Dropout(0.3)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """[n, 3, 128, 128] in -1..1 -> logits of every question."""
        features = self.dropout(self.features(pixels).flatten(1))
        return {name: head(features) for name, head in self.heads.items()}


def pixels_of(pictures: Sequence[np.ndarray]) -> Tensor:
    """uint8 [H, W, 3] of any sizes -> [n, 3, 128, 128] in -1..1."""
    small = [cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for picture in pictures]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


@dataclass(frozen=True)
class Labelled:
    """Rendered pictures of one shape, reduced, with the answers; -1 where a question has no one answer (two things)."""

    pictures: np.ndarray
    answers: Mapping[str, Tensor]
    present: Tensor

    @staticmethod
    def load(folder: Path) -> Labelled:
        """A folder written by `training.render` without --multi-aspect."""
        (path,) = folder.glob("images-*.npy")
        images = np.load(path, mmap_mode="r")
        records = [json.loads(line) for line in (folder / "scenes.jsonl").read_text(encoding="utf-8").splitlines()]
        records.sort(key=lambda record: record["index"])
        small = np.stack([cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for image in images])
        rows = [answers_of(record) for record in records]
        answers = {name: torch.tensor([row[name] for row in rows]) for name in HEADS}
        present = torch.zeros(len(records), len(SUBJECTS))
        for i, record in enumerate(records):
            for thing in record["things"]:
                present[i, SUBJECTS.index(thing["subject"])] = 1.0
        return Labelled(small, answers, present)


def answers_of(record: Mapping[str, Any]) -> dict[str, int]:
    """The number of the right answer to each question."""
    found = {"place": PLACES.index(record["place"]), "medium": MEDIA.index(record["medium"])}
    things = record["things"]
    for name in ("subject", "colour", "side"):
        found[name] = HEADS[name].index(things[0][name]) if len(things) == 1 else -1
    return found


def loss_of(logits: Mapping[str, Tensor], labelled: Labelled, rows: Tensor) -> Tensor:
    """Cross-entropy of the questions that have an answer, and of the presence of every subject."""
    total = F.binary_cross_entropy_with_logits(logits[PRESENT], labelled.present[rows]) * 4
    for name, answers in labelled.answers.items():
        total = total + F.cross_entropy(logits[name], answers[rows], ignore_index=-1)
    return total


def disturb(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Blur, noise and shifts of brightness: a picture that is a little worse still shows the same thing."""
    if torch.rand((), generator=generator) < 0.5:
        pixels = F.avg_pool2d(pixels, 3, stride=1, padding=1, count_include_pad=False)
    gain = 1 + 0.15 * torch.randn(len(pixels), 1, 1, 1, generator=generator)
    offset = 0.08 * torch.randn(len(pixels), 3, 1, 1, generator=generator)
    return pixels * gain + offset + 0.06 * torch.randn(pixels.shape, generator=generator)


@torch.inference_mode()
def accuracy(model: Classifier, labelled: Labelled) -> dict[str, float]:
    """Share of right answers to each question, and of pairs of which both subjects were seen."""
    model.eval()
    batches = range(0, len(labelled.pictures), 128)
    outputs = [model(pixels_of(list(labelled.pictures[i : i + 128]))) for i in batches]
    result = {}
    for name, answers in labelled.answers.items():
        asked = answers >= 0
        chosen = torch.cat([output[name] for output in outputs]).argmax(dim=1)
        result[name] = float((chosen == answers)[asked].float().mean())
    pairs = labelled.present.sum(dim=1) == 2
    top = torch.cat([output[PRESENT] for output in outputs]).topk(2, dim=1).indices
    seen = labelled.present.gather(1, top).sum(dim=1) == 2
    result["both subjects"] = float(seen[pairs].float().mean()) if bool(pairs.any()) else math.nan
    return result


def load_classifier(run: Path) -> Classifier:
    """The averaged classifier of a run."""
    model = Classifier()
    model.load_state_dict(torch.load(run, weights_only=True)["average"])
    return model.eval().requires_grad_(False)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the judge of pictures, and measure it on held-out ones.")
    parser.add_argument("--data", type=Path, required=True, help="rendered pictures to learn from")
    parser.add_argument("--held-out", type=Path, required=True, help="rendered pictures of held-out combinations")
    parser.add_argument("--run", type=Path, required=True, help="file that holds the resumable state")
    parser.add_argument("--steps", type=int, default=2500)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(0)
    model = channels_last(Classifier())
    run = Run(args.run, model, Schedule(steps=args.steps, rate=2e-3), decay=0.99)
    run.resume()
    labelled = Labelled.load(args.data)
    generator = torch.Generator().manual_seed(run.step)

    def batch() -> Tensor:
        model.train()
        rows = torch.randint(0, len(labelled.pictures), (64,), generator=generator)
        pixels = disturb(pixels_of([labelled.pictures[i] for i in rows.tolist()]), generator)
        return loss_of(model(pixels.to(memory_format=torch.channels_last)), labelled, rows)

    for _ in run.train(batch):
        pass
    for name, value in accuracy(load_classifier(args.run), Labelled.load(args.held_out)).items():
        log.info("%s: %.1f %%", name, 100 * value)


if __name__ == "__main__":
    main()
