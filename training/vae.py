"""Trains the miniature's autoencoder on crops of rendered pictures; it does not know their captions."""

from __future__ import annotations

import argparse
import logging
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm_patched.ldm.vae import AutoencoderKL, VAEParams
from training.loop import Run, Schedule, channels_last

PARAMS = VAEParams(channels=32, channel_mult=(1, 2, 2, 4), num_res_blocks=1, latent_channels=4)
# Noise on the latents while training: the decoder learns to forgive the small errors of a sampled latent.
LATENT_NOISE = 0.06


def initialise(module: nn.Module) -> None:
    """Start every residual branch near zero, so that the first gradients are even."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d) and name.endswith(("conv2", "proj_out")):
            layer.weight.data.mul_(0.2)


class Crops:
    """Random square crops of a memory-mapped array of pictures."""

    def __init__(self, images: np.ndarray, size: int, seed: int) -> None:
        self.images = images
        self.size = size
        self.rng = np.random.default_rng(seed)

    def batch(self, count: int) -> Tensor:
        """[count, 3, size, size] in -1..1; half of them mirrored."""
        number, height, width, _ = self.images.shape
        crops = np.empty((count, self.size, self.size, 3), np.uint8)
        for i in range(count):
            y = int(self.rng.integers(0, height - self.size + 1))
            x = int(self.rng.integers(0, width - self.size + 1))
            crop = self.images[int(self.rng.integers(number)), y : y + self.size, x : x + self.size]
            crops[i] = crop[:, ::-1] if self.rng.random() < 0.5 else crop
        return torch.from_numpy(crops).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


class Trainee(nn.Module):
    """The autoencoder with what only its training needs: a linear reading of the mean colour out of the latent.

    Shapes are learned first and leave one axis of colour out; the short way through this layer puts it back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.autoencoder = AutoencoderKL(PARAMS)
        self.colour = nn.Conv2d(PARAMS.latent_channels, 3, 1)


def distance(out: Tensor, target: Tensor) -> Tensor:
    """L1, L1 of neighbours' differences (edges), and L1 of the pooled colour differences, which the eye minds most."""
    error = out - target
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    red, green, blue = error.unbind(1)
    opponents = torch.stack([red - green, (red + green) / 2 - blue, (red + green + blue) / 3], dim=1)
    return error.abs().mean() + 0.5 * edges + 2.0 * F.avg_pool2d(opponents, 4).abs().mean()


def unit_moments(z: Tensor) -> Tensor:
    """How far the latent channels are from zero mean, unit variance and no correlation over the batch."""
    flat = z.transpose(0, 1).flatten(1)
    mean = flat.mean(dim=1)
    centred = flat - mean[:, None]
    covariance = centred @ centred.T / flat.shape[1]
    return mean.square().mean() + (covariance - torch.eye(len(mean))).square().mean()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the miniature's autoencoder.")
    parser.add_argument("--data", type=Path, required=True, help="folder written by training.render")
    parser.add_argument("--run", type=Path, required=True, help="file that holds the resumable state")
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--rate", type=float, default=8e-4)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--decoder-only", action="store_true", help="keep the latents, sharpen the pictures")
    parser.add_argument("--fresh", action="store_true", help="keep the weights, begin a new schedule")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(0)
    model = channels_last(Trainee())
    initialise(model)
    autoencoder = model.autoencoder
    run = Run(args.run, model, Schedule(steps=args.steps, rate=args.rate, warmup=args.warmup), decay=0.998)
    run.resume(fresh=args.fresh)
    (path,) = args.data.glob("images-*.npy")
    crops = Crops(np.load(path, mmap_mode="r"), args.crop, seed=run.step)
    noise = torch.Generator().manual_seed(run.step)

    def batch() -> Tensor:
        target = crops.batch(args.batch).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with torch.set_grad_enabled(not args.decoder_only):
                mean = autoencoder.encode_moments(target)[0].float()
            z = mean + LATENT_NOISE * torch.randn(mean.shape, generator=noise)
            out = autoencoder.decode(z)
        if args.decoder_only:
            return distance(out.float(), target)
        colours: Tensor = (model.colour(mean) - F.avg_pool2d(target, 8)).abs().mean()
        return distance(out.float(), target) + colours + 0.02 * unit_moments(mean)

    for _ in run.train(batch, minutes=args.minutes, save_every=250):
        pass


if __name__ == "__main__":
    main()
