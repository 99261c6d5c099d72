"""Turns rendered pictures into the latents that the UNet learns from; it does not know the UNet.

Beside the latents it writes how far each of their positions shows a thing.

The autoencoder's latents are whitened (zero mean, unit variance, no correlation), which `training.pack` folds into
the autoencoder's 1x1 convolutions, so that the packed file's latents are these.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from ldm_patched.ldm.vae import AutoencoderKL
from training.draw import thing_masks
from training.loop import channels_last
from training.vae import Trainee
from training.world import Scene, Thing

log = logging.getLogger("training")
STATISTICS = "statistics.pt"
# Names of the written files, less the bucket.
IMAGES, LATENTS, THINGS = "images-", "latents-", "things-"


def load_autoencoder(run: Path) -> AutoencoderKL:
    """The averaged autoencoder of a run, in bfloat16."""
    trainee = Trainee()
    trainee.load_state_dict(torch.load(run, weights_only=True)["average"])
    return channels_last(trainee.autoencoder.to(torch.bfloat16)).eval().requires_grad_(False)


def pixels_of(images: np.ndarray) -> Tensor:
    """uint8 [n, H, W, 3] -> [n, 3, H, W] in -1..1, bfloat16, channels last."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32).div_(127.5).sub_(1.0)
    return pixels.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def encode(model: AutoencoderKL, images: np.ndarray, count: int = 16) -> Tensor:
    """Means of the latents of uint8 pictures, float32 [n, 4, h, w]."""
    batches = (images[i : i + count] for i in range(0, len(images), count))
    return torch.cat([model.encode_moments(pixels_of(batch))[0].float() for batch in batches])


def whitening(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [4] and the symmetric matrix [4, 4] that brings latents [n, 4, h, w] to unit covariance."""
    flat = latents.transpose(0, 1).flatten(1).double()
    mean = flat.mean(dim=1)
    values, vectors = torch.linalg.eigh(torch.cov(flat))
    return mean.float(), (vectors @ torch.diag(values.rsqrt()) @ vectors.T).float()


def whiten(latents: Tensor, mean: Tensor, matrix: Tensor) -> Tensor:
    """Apply `whitening` to latents [n, 4, h, w]."""
    return torch.einsum("ij,njhw->nihw", matrix, latents - mean[:, None, None])


def scene_of(record: Mapping[str, Any]) -> Scene:
    """The scene of a line that training.render wrote."""
    return Scene(tuple(Thing(**thing) for thing in record["things"]), record["place"], record["medium"], record["seed"])


def things(folder: Path, bucket: str, shape: tuple[int, ...]) -> np.ndarray:
    """How far each position of latents [n, 4, h, w] or its neighbour shows a thing, uint8 [n, h, w]."""
    number, _, height, width = shape
    shares = np.zeros((number, height, width), dtype=np.uint8)
    for line in (folder / "scenes.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["bucket"] == bucket and record["index"] < number:
            mask = np.max(thing_masks(scene_of(record), 8 * width, 8 * height), axis=0)
            share = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
            shares[record["index"]] = cv2.dilate(share, np.ones((3, 3), np.uint8))
    return shares


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Encode rendered pictures into whitened latents.")
    parser.add_argument("--vae", type=Path, required=True, help="the autoencoder's run")
    parser.add_argument("--data", type=Path, required=True, help="folder written by training.render")
    parser.add_argument("--statistics", type=Path, required=True, help="file of the whitening; made if missing")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    model = load_autoencoder(args.vae)
    paths = sorted(args.data.glob(f"{IMAGES}*.npy"))
    if not args.statistics.exists():
        mean, matrix = whitening(encode(model, np.load(paths[-1], mmap_mode="r")[:400]))
        torch.save({"mean": mean, "matrix": matrix}, args.statistics)
    statistics = torch.load(args.statistics, weights_only=True)
    for path in paths:
        images = np.load(path, mmap_mode="r")
        number, height, width, _ = images.shape
        bucket = path.stem.removeprefix(IMAGES)
        target = args.data / f"{LATENTS}{bucket}.npy"
        if target.exists():
            continue
        np.save(args.data / f"{THINGS}{bucket}.npy", things(args.data, bucket, (number, 4, height // 8, width // 8)))
        part = target.with_suffix(".part")
        latents = open_memmap(part, mode="w+", dtype=np.float16, shape=(number, 4, height // 8, width // 8))
        for start in range(0, number, 64):
            encoded = whiten(encode(model, images[start : start + 64]), statistics["mean"], statistics["matrix"])
            latents[start : start + 64] = encoded.numpy()
        latents.flush()
        part.rename(target)
        log.info("%s: %d latents", target.name, number)


if __name__ == "__main__":
    main()
