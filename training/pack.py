"""Packs finished runs into the files of `models/`, in the published layouts; it trains nothing."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ldm_patched.modules.checkpoint_layout import (
    TOWERS,
    UNET_PREFIX,
    V_PREDICTION,
    VAE_PREFIX,
    tower_to_published,
    unet_to_published,
)
from training.vae import LATENT_NOISE

LATENT_SCALE = 0.13025
BASE = "pinhole-mini-base.safetensors"
REFINER = "pinhole-mini-refiner.safetensors"
PREVIEW = "pinhole-mini-preview.safetensors"
VISION = "pinhole-mini-clip-vision.safetensors"
METADATA = {
    "modelspec.sai_model_spec": "1.0.0",
    "modelspec.architecture": "stable-diffusion-xl-v1-base",
    "modelspec.title": "Pinhole miniature",
    "modelspec.description": "A miniature of the SDXL family, trained on a picture-book world that Pinhole renders.",
    "modelspec.author": "the Pinhole developers",
    "modelspec.license": "Apache-2.0",
    "modelspec.resolution": "256x256",
    "pinhole.preview": PREVIEW,
}

REFINER_METADATA = {
    **{name: text for name, text in METADATA.items() if name != "pinhole.preview"},
    "modelspec.architecture": "stable-diffusion-xl-v1-refiner",
    "modelspec.title": "Pinhole miniature refiner",
    "modelspec.description": "The UNet alone: a refiner uses the text encoders and the autoencoder of its base.",
}


def average_of(run: Path) -> dict[str, Tensor]:
    """The averaged weights of a run."""
    average: dict[str, Tensor] = torch.load(run, weights_only=True)["average"]
    return average


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def fold_whitening(vae: Mapping[str, Tensor], mean: Tensor, matrix: Tensor) -> dict[str, Tensor]:
    """An autoencoder whose latents, times SDXL's scale, are the whitened ones that the UNet was trained on.

    Encoder: z' = W (z - m) / scale, in `quant_conv`. Decoder: z = W^-1 z' scale + m, in `post_quant_conv`. The
    log-variance becomes the constant noise that the decoder was trained with.
    """
    folded = dict(vae)
    forward, inverse = matrix / LATENT_SCALE, torch.linalg.inv(matrix) * LATENT_SCALE
    weight, bias = vae["quant_conv.weight"][:, :, 0, 0], vae["quant_conv.bias"]
    noise = torch.full((4,), 2 * math.log(LATENT_NOISE / LATENT_SCALE))
    folded["quant_conv.weight"] = torch.cat([forward @ weight[:4], torch.zeros_like(weight[4:])])[:, :, None, None]
    folded["quant_conv.bias"] = torch.cat([forward @ (bias[:4] - mean), noise])
    weight = vae["post_quant_conv.weight"][:, :, 0, 0]
    folded["post_quant_conv.weight"] = (weight @ inverse)[:, :, None, None]
    folded["post_quant_conv.bias"] = vae["post_quant_conv.bias"] + weight @ mean
    return folded


def base(vae: Path, statistics: Path, text: Path, unet: Path) -> dict[str, Tensor]:
    """Every tensor of the base checkpoint under its published name, float32."""
    whitening = torch.load(statistics, weights_only=True)
    families = average_of(text)
    small, large = part(families, "small."), part(families, "large.")
    del small["text_projection"]  # for the training only
    towers = [tower_to_published(slot, tower) for slot, tower in zip(TOWERS["sdxl"], (small, large), strict=True)]
    towers[0]["embeddings.position_ids"] = torch.arange(len(small["positional_embedding"]))[None]
    towers[1]["logit_scale"] = families["logit_scale"]
    autoencoder = fold_whitening(part(average_of(vae), "autoencoder."), whitening["mean"], whitening["matrix"])
    groups = {
        UNET_PREFIX: unet_to_published(average_of(unet)),
        VAE_PREFIX: autoencoder,
        **{slot.prefix: tower for slot, tower in zip(TOWERS["sdxl"], towers, strict=True)},
    }
    packed = {prefix + name: tensor for prefix, tensors in groups.items() for name, tensor in tensors.items()}
    return packed | {V_PREDICTION: torch.zeros(0)}


def refiner(unet: Path) -> dict[str, Tensor]:
    """Every tensor of the refiner's file under its published name, float32: the UNet alone."""
    tensors = {UNET_PREFIX + name: tensor for name, tensor in unet_to_published(average_of(unet)).items()}
    return tensors | {V_PREDICTION: torch.zeros(0)}


def save(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str], dtype: torch.dtype) -> None:
    """Write a file; integers keep their type."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ready = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    save_file(ready, path, dict(metadata))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Pack trained runs into the built-in family's files.")
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--statistics", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--unet", type=Path, required=True)
    parser.add_argument("--refiner", type=Path, help="left as it is when not given")
    parser.add_argument("--preview", type=Path, help="left as it is when not given")
    parser.add_argument("--models", type=Path, default=Path("models"))
    args = parser.parse_args()
    tensors = base(args.vae, args.statistics, args.text, args.unet)
    save(tensors, args.models / "checkpoints" / BASE, METADATA, torch.float16)
    vision = part(average_of(args.text), "vision.")
    save(vision, args.models / "clip_vision" / VISION, {"modelspec.license": "Apache-2.0"}, torch.float16)
    if args.refiner:
        save(refiner(args.refiner), args.models / "checkpoints" / REFINER, REFINER_METADATA, torch.float16)
    if args.preview:
        save(average_of(args.preview), args.models / "vae_approx" / PREVIEW, {}, torch.float16)


if __name__ == "__main__":
    main()
