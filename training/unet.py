"""Trains the miniature's UNets, base and refiner, on latents and captions; it does not know pixels.

v-prediction (arXiv 2202.00512, section 2.4) with SDXL's noise schedule and size conditioning: a small network that
predicts noise spends itself on repeating its input where noise is most of it, which is where a picture is laid out.
Averaged weights; `batches` has what is shown and how errors count.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm_patched.ldm.attention import SpatialTransformer
from ldm_patched.ldm.unet import ResBlock, UNet, UNetParams
from ldm_patched.modules.conditioning import NUMBER_WIDTH, REFINER_NUMBERS, SIZE_NUMBERS
from training.batches import Batches, Diet, RefinerBatches, Texts, load_buckets, predict
from training.loop import Run, Schedule, channels_last
from training.text import LARGE, PROJECTION, SMALL
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
    adm_channels=PROJECTION + SIZE_NUMBERS * NUMBER_WIDTH,
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
    adm_channels=PROJECTION + SIZE_NUMBERS * NUMBER_WIDTH,
    linear_projections=True,
    head_channels=64,
    heads=0,
)
# As SDXL's, the refiner reads the larger text encoder and a score (arXiv 2307.01952, section 2.5). What a picture shows
# and where is settled when it takes over: it has no innermost level.
REFINER = UNetParams(
    in_channels=4,
    out_channels=4,
    model_channels=64,
    channel_mult=(1, 1, 2),
    num_res_blocks=1,
    transformer_depth=(0, 0, 1),
    middle_depth=1,
    context_dim=LARGE.width,
    adm_channels=PROJECTION + REFINER_NUMBERS * NUMBER_WIDTH,
    linear_projections=True,
    head_channels=64,
    heads=0,
)


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


@torch.no_grad()
def shrink(unet: UNet, base: Mapping[str, Tensor]) -> None:
    """Put the weights of a network of PARAMS' sizes into one of REFINER's.

    Without the innermost level, what reads the smaller text encoder, and what reads the size of the target, in whose
    place the score comes.
    """
    inner = {"input_blocks": (6, 7), "output_blocks": (0, 1)}
    kept = {}
    for name, tensor in base.items():
        part, _, rest = name.partition(".")
        index, _, within = rest.partition(".")
        if part in inner and int(index) in inner[part]:
            continue
        if ".attn2.to_k." in name or ".attn2.to_v." in name:
            tensor = tensor[:, SMALL.width :]
        elif name == "label_emb.0.0.weight":
            tensor = F.pad(tensor[:, : PROJECTION + (REFINER_NUMBERS - 1) * NUMBER_WIDTH], (0, NUMBER_WIDTH))
        kept[f"{part}.{int(index) - 2}.{within}" if part == "output_blocks" else name] = tensor
    unet.load_state_dict(kept)


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
    parser.add_argument("--refine", type=Path, help="train the refiner, beginning with this run of the UNet")
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
    unet = UNet(INNER if args.inner else REFINER if args.refine else PARAMS)
    initialise(unet)
    if args.grow is not None:
        grow(unet, torch.load(args.grow, weights_only=True)["average"])
    if args.refine is not None:
        shrink(unet, torch.load(args.refine, weights_only=True)["average"])
    channels_last(unet)
    schedule = Schedule(steps=args.steps, rate=args.rate, warmup=200, final=args.final)
    run = Run(args.run, unet, schedule, decay=args.decay)
    run.resume(fresh=args.fresh)
    buckets = [bucket for folder in args.data for bucket in load_buckets(folder)]
    captions = [caption for bucket in buckets for several in bucket.captions for caption in several]
    texts = Texts.of(captions, args.text, args.encoded)
    batches = (RefinerBatches if args.refine else Batches)(
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
