"""What the miniature's UNets learn from: noisy latents, texts, and which errors count; it knows no network's sizes.

An error that counts alike at every noise level (arXiv 2312.02696, section 4.2) and more where the things are, captions
dropped for a tenth of the batch. Folders of several resolutions can be mixed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ldm_patched.ldm.unet import UNet, timestep_embedding
from ldm_patched.modules.model_sampling import scaled_linear_sigmas
from ldm_patched.modules.sdxl_clip import SDXLClip, Tower
from ldm_patched.modules.token_chunks import ROOM
from training.captions import full_caption
from training.latents import LATENTS, THINGS, scene_of
from training.text import SMALL, Family

DROPPED = 0.1
# Random captions of a picture that are used, beside the one that names everything: each is encoded once, ahead of the
# training.
CAPTIONS = 2
# A picture may claim to come from one between so many times as large as itself, so that the size numbers which
# inference uses (1.5 times for the prompt, 0.8 times for the negative) are known to the network.
CLAIMED = (0.7, 2.0)


def load_clip(run: Path) -> SDXLClip:
    """The averaged text towers of a run, as the application uses them."""
    family = Family()
    family.load_state_dict(torch.load(run, weights_only=True)["average"])
    family.eval().requires_grad_(False)
    return SDXLClip([Tower(family.small, SMALL.vocabulary - 1, False), Tower(family.large, 0, False)])


@dataclass(frozen=True)
class Texts:
    """Every distinct caption of the data, encoded once: hidden [n, 77, 192] and pooled [n, 128], half precision."""

    hidden: Tensor
    pooled: Tensor
    index: dict[str, int]

    @staticmethod
    def of(captions: Sequence[str], encoder: Path, kept: Path | None) -> Texts:
        """Captions encoded by a run of the text towers; kept: a file that spares the work the next time."""
        wanted = dict.fromkeys(["", *captions])
        if kept is not None and kept.exists():
            texts = Texts(*torch.load(kept, weights_only=True))
            if wanted.keys() <= texts.index.keys():
                return texts
        texts = Texts.encode(load_clip(encoder), list(wanted))
        if kept is not None:
            torch.save((texts.hidden, texts.pooled, texts.index), kept)
        return texts

    @staticmethod
    @torch.inference_mode()
    def encode(clip: SDXLClip, captions: Sequence[str]) -> Texts:
        """Encode captions, in batches; the empty text is among them."""
        distinct = list(dict.fromkeys(["", *captions]))
        start, end = clip.tokenizer.start, clip.tokenizer.end
        hidden, pooled = [], []
        for at in range(0, len(distinct), 256):
            rows = [clip.tokenize_with_weights(text)[0].tokens for text in distinct[at : at + 256]]
            ends = torch.tensor([len(row) + 1 for row in rows])
            states = []
            for tower in clip.towers:
                ids = torch.tensor([[start, *row, end] + [tower.pad] * (ROOM - len(row)) for row in rows])
                states.append(tower.encode(ids, ends, clip_skip=2))
            hidden.append(torch.cat([state for state, _ in states], dim=-1).to(torch.bfloat16))
            vectors = states[-1][1]
            assert vectors is not None
            pooled.append(vectors.to(torch.bfloat16))
        return Texts(torch.cat(hidden), torch.cat(pooled), {text: i for i, text in enumerate(distinct)})


@dataclass(frozen=True)
class Bucket:
    """Latents [n, 4, h, w] of one shape, how far each position [n, h, w] shows a thing (0..255), captions and media.

    The first caption of a picture names everything.
    """

    latents: np.ndarray
    things: np.ndarray
    captions: list[list[str]]
    media: list[str]

    @property
    def tokens(self) -> int:
        """Positions of a latent, which the cost of a batch is proportional to."""
        return int(self.latents.shape[2] * self.latents.shape[3])


def load_buckets(folder: Path) -> list[Bucket]:
    """The buckets of a folder that have been encoded."""
    records: dict[str, dict[int, dict[str, Any]]] = {}
    for line in (folder / "scenes.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        records.setdefault(record["bucket"], {})[record["index"]] = record
    buckets = []
    for name, rows in sorted(records.items()):
        path = folder / f"{LATENTS}{name}.npy"
        if path.exists():
            latents, things = np.load(path), np.load(folder / f"{THINGS}{name}.npy")
            shown = [rows[i] for i in range(len(latents))]
            captions = [[full_caption(scene_of(record)), *record["captions"][:CAPTIONS]] for record in shown]
            buckets.append(Bucket(latents, things, captions, [record["medium"] for record in shown]))
    return buckets


def predict(unet: UNet, noisy: Tensor, timesteps: Tensor, vector: Tensor, hidden: Tensor) -> Tensor:
    """The network's output for a batch, in bfloat16 where that is safe."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out: Tensor = unet(noisy, unet.project_time(timesteps, vector), [unet.project_text(hidden)])
    return out


def embed_numbers(numbers: Sequence[Sequence[float]]) -> Tensor:
    """Rows of numbers, each number embedded like a timestep: [rows, 256 * numbers]."""
    return timestep_embedding(torch.tensor(numbers, dtype=torch.float32).flatten(), 256).view(len(numbers), -1)


class Levels:
    """The error that is usual at each noise level, by which errors are divided.

    What a picture shows and where is settled at high noise, what it is painted with at low noise: each level gets its
    share of the training, however large its errors are.
    """

    _BINS = 25
    _NEW = 0.02  # share of the latest error in what is usual

    def __init__(self) -> None:
        self._usual: dict[int, float] = {}

    def relative(self, errors: Tensor, timesteps: Tensor) -> Tensor:
        """The mean of errors [n] at timesteps [n], 0..999, each in relation to what is usual there."""
        bins = (timesteps * self._BINS // 1000).tolist()
        for place, error in zip(bins, errors.detach().tolist(), strict=True):
            usual = self._usual.get(place, error)
            self._usual[place] = usual + self._NEW * (error - usual)
        return (errors / torch.tensor([self._usual[place] for place in bins])).mean()


Predict = Callable[[UNet, Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Diet:
    """What is shown how often.

    What a thing is and where it stands is settled at the higher noise levels, what it is painted with below: `share`
    of the samples are from the timesteps of `span`, the others from all. Things cover a sixteenth of the pictures, so
    what happens there counts `emphasis` times more than elsewhere. `full` of the captions name everything. Pictures in
    a medium of `media` are shown so many times as often as others: the finest textures are learned last.
    """

    share: float = 0.65
    span: tuple[int, int] = (350, 1000)
    emphasis: float = 8.0
    full: float = 0.5
    media: Mapping[str, float] = field(default_factory=dict)


class Batches:
    """Random batches of one bucket each, picked in proportion to the buckets' sizes."""

    def __init__(
        self, buckets: Sequence[Bucket], texts: Texts, positions: int, seed: int, diet: Diet | None = None
    ) -> None:
        self.buckets = buckets
        self.commonest = max(buckets, key=lambda bucket: len(bucket.latents)).latents.shape[2:]
        self.texts = texts
        self.positions = positions
        self.diet = diet or Diet()
        self.often = [
            list(accumulate(self.diet.media.get(medium, 1.0) for medium in bucket.media)) for bucket in self.buckets
        ]
        self.rng = random.Random(seed)
        self.noise = torch.Generator().manual_seed(seed)
        self.levels = Levels()
        self.ratios = torch.tensor([1 / (1 + sigma**2) for sigma in scaled_linear_sigmas()])

    def loss(self, unet: UNet, compiled: Predict | None = None) -> Tensor:
        """The squared error, in relation to what is usual, of one batch of about `positions` latent positions.

        compiled: what predicts in place of `predict` for batches of the commonest shape.
        """
        sizes = [often[-1] for often in self.often]
        ((bucket, often),) = self.rng.choices(list(zip(self.buckets, self.often, strict=True)), sizes)
        count = max(2, self.positions // bucket.tokens)
        chosen = self.rng.choices(range(len(bucket.latents)), cum_weights=often, k=count)
        x0 = torch.from_numpy(np.stack([bucket.latents[i] for i in chosen])).float()
        vector, hidden = self.told([self._caption(bucket.captions[i]) for i in chosen], x0.shape)
        timesteps = torch.randint(0, 1000, (count,), generator=self.noise)
        favoured = torch.randint(*self.diet.span, (count,), generator=self.noise)
        timesteps = torch.where(torch.rand(count, generator=self.noise) < self.diet.share, favoured, timesteps)
        ratio = self.ratios[timesteps]
        eps = torch.randn(x0.shape, generator=self.noise)
        shape = (-1, 1, 1, 1)
        signal, spread = ratio.sqrt().view(shape), (1 - ratio).sqrt().view(shape)
        noisy = signal * x0 + spread * eps
        noisy = noisy.to(memory_format=torch.channels_last)
        forward = compiled if compiled is not None and x0.shape[2:] == self.commonest else predict
        out = forward(unet, noisy, timesteps.float(), vector, hidden)
        things = torch.from_numpy(np.stack([bucket.things[i] for i in chosen])).float() / 255
        weights = 1 + self.diet.emphasis * things
        velocity = signal * eps - spread * x0
        errors = (out.float() - velocity).square().mean(dim=1) * weights
        return self.levels.relative(errors.sum(dim=(1, 2)) / weights.sum(dim=(1, 2)), timesteps)

    def _caption(self, captions: Sequence[str]) -> str:
        if self.rng.random() < DROPPED:
            return ""
        return captions[0] if self.rng.random() < self.diet.full else self.rng.choice(captions[1:])

    def told(self, captions: Sequence[str], shape: torch.Size) -> tuple[Tensor, Tensor]:
        """What the network is told of each picture: its vector [n, adm_channels] and its text [n, 77, context_dim]."""
        rows = torch.tensor([self.texts.index[caption] for caption in captions])
        height, width = 8 * shape[2], 8 * shape[3]
        target = [64 * round(height / 64), 64 * round(width / 64)]  # as inference rounds it
        numbers = embed_numbers([[*self.claimed(height, width), *target] for _ in captions])
        return torch.cat([self.texts.pooled[rows].float(), numbers], dim=1), self.texts.hidden[rows]

    def claimed(self, height: int, width: int) -> list[int]:
        """The size that a picture claims to come from, and where it was cropped."""
        claim = self.rng.uniform(*CLAIMED)
        return [int(height * claim), int(width * claim), 0, 0]


class RefinerBatches(Batches):
    """Batches as SDXL's refiner is told of them (arXiv 2307.01952): the larger text encoder, an aesthetic score.

    Inference claims GOOD of a prompt and POOR of a negative prompt. Our pictures are all as good as they get: texts
    come with either score, so that neither is unknown with any text.
    """

    GOOD, POOR = 6.0, 2.5
    UNUSUAL = 0.2
    """Share of the texts that come with the score which inference does not give them."""

    def told(self, captions: Sequence[str], shape: torch.Size) -> tuple[Tensor, Tensor]:
        """Vectors [n, adm_channels] with a score in place of the target size, texts [n, 77, width of the larger]."""
        rows = torch.tensor([self.texts.index[caption] for caption in captions])
        numbers = embed_numbers([[*self.claimed(8 * shape[2], 8 * shape[3]), self._score(text)] for text in captions])
        return torch.cat([self.texts.pooled[rows].float(), numbers], dim=1), self.texts.hidden[rows, :, SMALL.width :]

    def _score(self, caption: str) -> float:
        usual, other = (self.GOOD, self.POOR) if caption else (self.POOR, self.GOOD)
        return other if self.rng.random() < self.UNUSUAL else usual
