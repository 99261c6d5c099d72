"""Trains the miniature's UNet on latents and captions; it does not know pixels.

v-prediction (arXiv 2202.00512, section 2.4) with SDXL's noise schedule and size conditioning: a small network that
predicts noise spends itself on repeating its input where noise is most of it, which is where a picture is laid out.
An error that counts alike at every noise level (arXiv 2312.02696, section 4.2) and more where the things are, captions
dropped for a tenth of the batch, averaged weights. Folders of several resolutions can be mixed.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ldm_patched.ldm.attention import SpatialTransformer
from ldm_patched.ldm.unet import ResBlock, UNet, UNetParams, timestep_embedding
from ldm_patched.modules.model_sampling import scaled_linear_sigmas
from ldm_patched.modules.sdxl_clip import SDXLClip, Tower
from ldm_patched.modules.token_chunks import ROOM
from training.captions import full_caption
from training.latents import LATENTS, THINGS, scene_of
from training.loop import Run, Schedule, channels_last
from training.text import LARGE, PROJECTION, SMALL, Family
from training.world import MEDIA

INNER = UNetParams(
    in_channels=4,
    out_channels=4,
    model_channels=64,
    channel_mult=(1, 2, 2),
    num_res_blocks=1,
    transformer_depth=(0, 1, 1),
    middle_depth=1,
    context_dim=SMALL.width + LARGE.width,
    adm_channels=PROJECTION + 6 * 256,
    linear_projections=True,
    head_channels=64,
    heads=0,
)
# The three levels of INNER learn what a caption means and how a picture is laid out at 128 pixels, four times as fast
# as at 256. For 256 pixels there is one more level around them, so that they see the picture as large as before.
PARAMS = UNetParams(
    in_channels=4,
    out_channels=4,
    model_channels=64,
    channel_mult=(1, 1, 2, 2),
    num_res_blocks=1,
    transformer_depth=(0, 0, 1, 1),
    middle_depth=1,
    context_dim=SMALL.width + LARGE.width,
    adm_channels=PROJECTION + 6 * 256,
    linear_projections=True,
    head_channels=64,
    heads=0,
)
DROPPED = 0.1
# Random captions of a picture that are used, beside the one that names everything: each is encoded once, ahead of the
# training.
CAPTIONS = 2
# A picture may claim to come from one between so many times as large as itself, so that the size numbers which
# inference uses (1.5 times for the prompt, 0.8 times for the negative) are known to the network.
CLAIMED = (0.7, 2.0)


def initialise(unet: UNet) -> None:
    """Residual branches and the output start at zero."""
    for module in unet.modules():
        if isinstance(module, ResBlock):
            _silence(module.out_layers[3])
        elif isinstance(module, SpatialTransformer):
            _silence(module.proj_out)
    _silence(unet.out[2])


def _silence(layer: nn.Module) -> None:
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    nn.init.zeros_(layer.weight)


@torch.no_grad()
def grow(unet: UNet, inner: Mapping[str, Tensor]) -> None:
    """Put the weights of a network of INNER's sizes inside of one of PARAMS' sizes.

    At first the new level only halves what comes in, hands it to the inner ones, and doubles what they say
    (arXiv 1710.10196 grows generators likewise).
    """
    moved = {}
    for name, tensor in inner.items():
        part, _, rest = name.partition(".")
        if part == "input_blocks" and not rest.startswith("0."):
            index, _, rest = rest.partition(".")
            moved[f"{part}.{int(index) + 2}.{rest}"] = tensor
        else:
            moved[name] = tensor
    missing, unexpected = unet.load_state_dict(moved, strict=False)
    assert not unexpected
    assert {name.split(".")[1] for name in missing} == {"1", "2", "5", "6", "7"}, missing
    same = torch.eye(unet.params.model_channels)
    down, up = unet.get_submodule("input_blocks.2.0.op"), unet.get_submodule("output_blocks.5.1.conv")
    assert isinstance(down, nn.Conv2d)
    assert isinstance(up, nn.Conv2d)
    for conv in (down, up):
        conv.weight.zero_()
        assert conv.bias is not None
        conv.bias.zero_()
    down.weight[:, :, 1:, 1:] = same[:, :, None, None] / 4
    up.weight[:, :, 1, 1] = same
    for place in (6, 7):
        skip = unet.get_submodule(f"output_blocks.{place}.0.skip_connection")
        assert isinstance(skip, nn.Conv2d)
        skip.weight[:, : len(same)] = same[:, :, None, None]
        skip.weight[:, len(same) :] *= 0.1


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
        rows = torch.tensor([self.texts.index[self._caption(bucket.captions[i])] for i in chosen])
        timesteps = torch.randint(0, 1000, (count,), generator=self.noise)
        favoured = torch.randint(*self.diet.span, (count,), generator=self.noise)
        timesteps = torch.where(torch.rand(count, generator=self.noise) < self.diet.share, favoured, timesteps)
        ratio = self.ratios[timesteps]
        eps = torch.randn(x0.shape, generator=self.noise)
        shape = (-1, 1, 1, 1)
        signal, spread = ratio.sqrt().view(shape), (1 - ratio).sqrt().view(shape)
        noisy = signal * x0 + spread * eps
        vector = torch.cat([self.texts.pooled[rows].float(), self._sizes(count, x0.shape)], dim=1)
        noisy = noisy.to(memory_format=torch.channels_last)
        forward = compiled if compiled is not None and x0.shape[2:] == self.commonest else predict
        out = forward(unet, noisy, timesteps.float(), vector, self.texts.hidden[rows])
        things = torch.from_numpy(np.stack([bucket.things[i] for i in chosen])).float() / 255
        weights = 1 + self.diet.emphasis * things
        velocity = signal * eps - spread * x0
        errors = (out.float() - velocity).square().mean(dim=1) * weights
        return self.levels.relative(errors.sum(dim=(1, 2)) / weights.sum(dim=(1, 2)), timesteps)

    def _caption(self, captions: Sequence[str]) -> str:
        if self.rng.random() < DROPPED:
            return ""
        return captions[0] if self.rng.random() < self.diet.full else self.rng.choice(captions[1:])

    def _sizes(self, count: int, shape: torch.Size) -> Tensor:
        """Size embeddings [count, 1536]: original height and width, crop, and the target as inference rounds it."""
        height, width = 8 * shape[2], 8 * shape[3]
        rounded = [64 * round(height / 64), 64 * round(width / 64)]
        numbers = []
        for _ in range(count):
            claim = self.rng.uniform(*CLAIMED)
            numbers.append([int(height * claim), int(width * claim), 0, 0, *rounded])
        return timestep_embedding(torch.tensor(numbers, dtype=torch.float32).flatten(), 256).view(count, -1)


def command_line() -> argparse.ArgumentParser:
    """What the command understands."""
    parser = argparse.ArgumentParser(description="Train the miniature's UNet.")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders with latents")
    parser.add_argument("--text", type=Path, required=True, help="the text towers' run")
    parser.add_argument("--encoded", type=Path, help="file that keeps the encoded captions; made if missing")
    parser.add_argument("--run", type=Path, required=True, help="file that holds the resumable state")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--positions", type=int, default=32 * 256, help="latent positions of a batch")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--final", type=float, default=0.05, help="the last learning rate, as a share of the first")
    parser.add_argument("--decay", type=float, default=0.998, help="of the averaged weights")
    parser.add_argument("--inner", action="store_true", help="train the inner levels, for 128 pixels")
    parser.add_argument("--grow", type=Path, help="run of the inner levels to begin with, for 256 pixels")
    diet = Diet()
    parser.add_argument(
        "--share", type=float, default=diet.share, help="of the samples between the timesteps of --span"
    )
    parser.add_argument(
        "--span", type=int, nargs=2, default=diet.span, help="first timestep, and the one after the last"
    )
    parser.add_argument("--emphasis", type=float, default=diet.emphasis, help="how much more errors on things count")
    parser.add_argument("--full", type=float, default=diet.full, help="share of the captions that name everything")
    parser.add_argument(
        "--favour", nargs=2, action="append", default=[], metavar=("MEDIUM", "TIMES"), help="show a medium more often"
    )
    parser.add_argument("--fresh", action="store_true", help="keep the averaged weights, begin a new schedule")
    parser.add_argument("--compile", action="store_true", help="compile the network for the commonest shape (minutes)")
    return parser


def main() -> None:
    """The command line."""
    parser = command_line()
    args = parser.parse_args()
    unknown = [medium for medium, _ in args.favour if medium not in MEDIA]
    if unknown:
        parser.error(f"--favour {unknown[0]}: the media are {', '.join(MEDIA)}")
    media = {medium: float(times) for medium, times in args.favour}
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(0)
    unet = UNet(INNER if args.inner else PARAMS)
    initialise(unet)
    if args.grow is not None:
        grow(unet, torch.load(args.grow, weights_only=True)["average"])
    channels_last(unet)
    schedule = Schedule(steps=args.steps, rate=args.rate, warmup=200, final=args.final)
    run = Run(args.run, unet, schedule, decay=args.decay)
    run.resume(fresh=args.fresh)
    buckets = [bucket for folder in args.data for bucket in load_buckets(folder)]
    captions = [caption for bucket in buckets for several in bucket.captions for caption in several]
    texts = Texts.of(captions, args.text, args.encoded)
    batches = Batches(
        buckets,
        texts,
        args.positions,
        run.step,
        Diet(args.share, (args.span[0], args.span[1]), args.emphasis, args.full, media),
    )
    compiled = torch.compile(predict, dynamic=False) if args.compile else None
    for _ in run.train(lambda: batches.loss(unet, compiled), minutes=args.minutes, save_every=250):
        pass


if __name__ == "__main__":
    main()
