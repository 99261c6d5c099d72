"""Trains the preview decoder on latents and the pictures they come from; it does not know the UNet."""

from __future__ import annotations

import argparse
import logging
import math
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from ldm_patched.ldm.preview import PreviewDecoder
from training.loop import Run, Schedule


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the preview decoder.")
    parser.add_argument("--data", type=Path, required=True, help="folder with pictures and latents")
    parser.add_argument("--run", type=Path, required=True, help="file that holds the resumable state")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--minutes", type=float, default=math.inf)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(0)
    decoder = PreviewDecoder()
    run = Run(args.run, decoder, Schedule(steps=args.steps, rate=3e-3))
    run.resume()
    latents = np.load(args.data / "latents-256x256.npy", mmap_mode="r")
    images = np.load(args.data / "images-256x256.npy", mmap_mode="r")
    rng = np.random.default_rng(run.step)

    def batch() -> Tensor:
        chosen = rng.integers(0, len(latents), 8)
        # Unfinished latents are blurred and noisy; a little noise makes the decoder expect it.
        noise = rng.normal(0, 0.1, (8, *latents.shape[1:])).astype(np.float32)
        x0 = torch.from_numpy(np.stack([latents[i] for i in chosen]).astype(np.float32) + noise)
        small = np.stack([cv2.resize(images[i], (64, 64), interpolation=cv2.INTER_AREA) for i in chosen])
        target = torch.from_numpy(small).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
        loss: Tensor = (decoder(x0) - target).abs().mean()
        return loss

    for _ in run.train(batch, minutes=args.minutes):
        pass


if __name__ == "__main__":
    main()
