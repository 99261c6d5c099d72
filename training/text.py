"""Trains the miniature's two text towers and its image tower contrastively; it does not know the autoencoder.

Both text towers are trained against one image tower (arXiv 2103.00020). The smaller one's projection exists for
the training only, as in the published family.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm_patched.ldm.clip import ClipText, ClipTextParams
from ldm_patched.ldm.clip_vision import ClipVision, ClipVisionParams
from ldm_patched.modules.tokenizer import Tokenizer
from training.loop import Run, Schedule
from training.world import COLOURS, MEDIA, PLACES, SIDES, SIZES, SUBJECTS

VOCABULARY = 4096
PROJECTION = 128
SMALL = ClipTextParams(
    width=64, layers=3, heads=1, inner=256, vocabulary=VOCABULARY, positions=77, projection_dim=PROJECTION,
    activation="quick_gelu",
)  # fmt: skip
LARGE = ClipTextParams(
    width=128, layers=4, heads=2, inner=512, vocabulary=VOCABULARY, positions=77, projection_dim=PROJECTION,
    activation="gelu",
)  # fmt: skip
VISION = ClipVisionParams(
    width=128, layers=3, heads=2, inner=512, image_size=64, patch_size=8, projection_dim=PROJECTION, activation="gelu"
)
# Share of the patches that a picture is trained on (arXiv 2212.00794): half the cost, hardly any loss.
KEPT_PATCHES = 0.5
# The hidden state that the UNet is told, counted from the last layer.
CLIP_SKIP = 2
# Share of the batches that show pictures. The others are words alone, which are examined at a fraction of the cost.
SHOWN = 0.3
# Mean and deviation that CLIP's pictures are normalised with.
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
# Words that say nothing about the picture: they move the caption to later positions and teach to be ignored.
FILLER = (
    "a picture of the very fine and lovely best quality detailed sharp focus soft light bright new old nice art by "
    "some great artist trending high resolution award winning photo image illustration scene with"
)


# What is asked about a picture, with the number of answers; the last one of the second thing's is "there is none".
QUESTIONS: Mapping[str, int] = {
    "subject": len(SUBJECTS),
    "colour": len(COLOURS),
    "side": len(SIDES),
    "size": len(SIZES),
    "second subject": len(SUBJECTS) + 1,
    "second colour": len(COLOURS) + 1,
    "place": len(PLACES),
    "medium": len(MEDIA),
}


def answers_of(record: Mapping[str, Any]) -> list[int]:
    """The numbers of the right answers to QUESTIONS about a rendered scene."""
    first, *others = record["things"]
    second = others[0] if others else None
    return [
        SUBJECTS.index(first["subject"]),
        COLOURS.index(first["colour"]),
        SIDES.index(first["side"]),
        SIZES.index(first["size"]),
        len(SUBJECTS) if second is None else SUBJECTS.index(second["subject"]),
        len(COLOURS) if second is None else COLOURS.index(second["colour"]),
        PLACES.index(record["place"]),
        MEDIA.index(record["medium"]),
    ]


class Examiner(nn.Module):
    """Asks vectors for the attributes of the scene; it exists for the training only.

    Contrast alone is content with colour, place and medium, which tell most pictures of a batch apart; the UNet needs
    the subject as well.
    """

    def __init__(self, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(width, sum(QUESTIONS.values())) for name, width in widths.items()})

    def forward(self, vectors: Mapping[str, Tensor], answers: Tensor) -> Tensor:
        """Mean cross-entropy of all questions over the vectors [n, width] that are there. answers: [n, questions]."""
        total = answers.new_zeros((), dtype=torch.float32)
        for name, vector in vectors.items():
            single = vector.float()
            logits = self.heads[name](F.layer_norm(single, single.shape[-1:]))
            parts = logits.split(list(QUESTIONS.values()), dim=1)
            for question, part in enumerate(parts):
                total = total + F.cross_entropy(part, answers[:, question])
        return total / (len(vectors) * len(QUESTIONS))


class Family(nn.Module):
    """The three towers, their common temperature, and who examines them."""

    def __init__(self) -> None:
        super().__init__()
        self.small = ClipText(SMALL)
        self.large = ClipText(LARGE)
        self.vision = ClipVision(VISION)
        self.examiner = Examiner(
            {
                "small": PROJECTION,
                "large": PROJECTION,
                "vision": PROJECTION,
                "small states": SMALL.width,
                "large states": LARGE.width,
            }
        )
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1 and not name.endswith(("class_embedding",)):
                continue  # norms and biases keep torch's defaults, fused biases are set below
            if parameter.ndim >= 1:
                nn.init.normal_(parameter, std=0.02 if "embedding" in name else parameter.shape[-1] ** -0.5)
            if name.endswith("patch_embedding.weight"):
                nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)


class Pictures:
    """Pictures with their captions' tokens."""

    def __init__(self, folder: Path, tokenizer: Tokenizer, seed: int) -> None:
        (path,) = folder.glob("images-*.npy")
        self.images = np.load(path, mmap_mode="r")
        lines = (folder / "scenes.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        self.captions = [record["captions"] for record in records]
        self.answers = torch.tensor([answers_of(record) for record in records])
        self.tokenizer = tokenizer
        self.filler = tokenizer.encode(FILLER)
        self.rng = random.Random(seed)

    def batch(self, count: int, shown: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Pixels [count, 3, h, w] (none unless shown), ids for the small and the large tower [count, longest], end
        positions [count], answers [count, questions].
        """
        chosen = [self.rng.randrange(len(self.captions)) for _ in range(count)]
        images = np.stack([self.images[i] for i in (chosen if shown else [])] or [self.images[0]])
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)
        pixels = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
        texts = [self.rng.choice(self.captions[i]) for i in chosen]
        rows = [[token for word in self.tokenizer.encode(text) for token in word] for text in texts]
        # One batch in six is padded with filler to any place of the chunk; the others stay short and cheap.
        if self.rng.random() < 1 / 6:
            rows = [self._shifted(row) for row in rows]
        longest = max(map(len, rows)) + 2
        start, end = self.tokenizer.start, self.tokenizer.end
        small, large = ([[start, *row, end] + [pad] * (longest - 2 - len(row)) for row in rows] for pad in (end, 0))
        ends = torch.tensor([len(row) + 1 for row in rows])
        return pixels, torch.tensor(small), torch.tensor(large), ends, self.answers[chosen]

    def _shifted(self, row: list[int]) -> list[int]:
        room = 75 - len(row)
        before: list[int] = []
        for _ in range(self.rng.randrange(room)):
            before += self.rng.choice(self.filler)
        return (before[: max(room, 0)] + row)[:75]


def masked_vector(vision: ClipVision, pixels: Tensor) -> Tensor:
    """The image tower's vectors [n, projection_dim] from a random half of the patches, the same half for the batch."""
    tokens = vision.vision_model.embeddings(pixels)
    patches = tokens.shape[1] - 1
    kept = 1 + torch.randperm(patches)[: int(KEPT_PATCHES * patches)]
    return vision.encode_tokens(torch.cat([tokens[:, :1], tokens[:, kept]], dim=1))[1]


def contrast(text: Tensor, image: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross-entropy over the batch's similarities."""
    logits = scale.exp().clamp(max=100.0) * F.normalize(text, dim=-1) @ F.normalize(image, dim=-1).T
    wanted = torch.arange(len(logits))
    return (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted)) / 2


def mean_state(states: Tensor, ends: Tensor) -> Tensor:
    """The mean over the words [n, width] of hidden states [n, tokens, width]."""
    inside = (torch.arange(states.shape[1]) <= ends[:, None])[..., None]
    return (states * inside).sum(dim=1) / (ends[:, None] + 1)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the miniature's text and image towers.")
    parser.add_argument("--data", type=Path, required=True, help="folder of 64-pixel pictures")
    parser.add_argument("--run", type=Path, required=True, help="file that holds the resumable state")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--fresh", action="store_true", help="keep the averaged weights, begin a new schedule")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(0)
    family = Family()
    run = Run(args.run, family, Schedule(steps=args.steps, rate=args.rate, warmup=150), decay=0.995)
    run.resume(fresh=args.fresh)
    pictures = Pictures(args.data, Tokenizer(VOCABULARY), seed=run.step)

    def batch() -> Tensor:
        shown = pictures.rng.random() < SHOWN
        pixels, small, large, ends, answers = pictures.batch(args.batch, shown)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            small_states, from_small = family.small(family.small.embed(small), ends, CLIP_SKIP)
            large_states, from_large = family.large(family.large.embed(large), ends, CLIP_SKIP)
        vectors = {
            "small": from_small,
            "large": from_large,
            "small states": mean_state(small_states, ends),
            "large states": mean_state(large_states, ends),
        }
        examined: Tensor
        if not shown:
            examined = family.examiner(vectors, answers)
            return examined
        with torch.autocast("cpu", dtype=torch.bfloat16):
            image = masked_vector(family.vision, pixels)
        losses = (contrast(vector.float(), image.float(), family.logit_scale) for vector in (from_small, from_large))
        examined = family.examiner({**vectors, "vision": image}, answers)
        return sum(losses, torch.zeros(())) / 2 + examined

    for _ in run.train(batch, minutes=args.minutes, save_every=250):
        pass


if __name__ == "__main__":
    main()
