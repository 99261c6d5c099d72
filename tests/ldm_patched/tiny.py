"""Checkpoints of each family that are a few kilobytes to megabytes small, with random weights, for tests."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ldm_patched.ldm.clip import ClipTextParams
from ldm_patched.ldm.unet import UNetParams
from ldm_patched.ldm.vae import VAEParams
from ldm_patched.modules.checkpoint_layout import TOWERS
from ldm_patched.modules.detection import Detection, TowerDetection, build, published_shapes

_L, _G = TOWERS["sdxl"]

TINY_VAE = VAEParams(channels=8, channel_mult=(1, 1, 2, 2), num_res_blocks=1, latent_channels=4)
TINY_SDXL = Detection(
    kind="sdxl",
    unet=UNetParams(
        in_channels=4,
        out_channels=4,
        model_channels=64,
        channel_mult=(1, 2),
        num_res_blocks=1,
        transformer_depth=(0, 1),
        middle_depth=1,
        context_dim=192,
        adm_channels=64 + 1536,
        linear_projections=True,
        head_channels=64,
        heads=0,
    ),
    vae=TINY_VAE,
    towers=(
        TowerDetection(
            _L,
            ClipTextParams(
                width=64,
                layers=2,
                heads=1,
                inner=96,
                vocabulary=1000,
                positions=77,
                projection_dim=0,
                activation="quick_gelu",
            ),
        ),
        TowerDetection(
            _G,
            ClipTextParams(
                width=128,
                layers=3,
                heads=2,
                inner=160,
                vocabulary=1000,
                positions=77,
                projection_dim=64,
                activation="gelu",
            ),
        ),
    ),
    prediction="eps",
    zero_terminal_snr=False,
)
TINY_REFINER = replace(
    TINY_SDXL,
    kind="sdxl_refiner",
    unet=replace(
        TINY_SDXL.unet,
        channel_mult=(1, 2, 2),
        transformer_depth=(0, 2, 0),
        middle_depth=2,
        context_dim=128,
        adm_channels=64 + 1280,
    ),
    towers=(TowerDetection(TOWERS["sdxl_refiner"][0], TINY_SDXL.towers[1].params),),
)
# As published, where the summary of a text is as wide as its states: then the UNet alone can be told from a base's.
TINY_REFINER_ALONE = replace(
    TINY_REFINER, unet=replace(TINY_REFINER.unet, adm_channels=128 + 1280), vae=None, towers=()
)
TINY_SD15 = replace(
    TINY_SDXL,
    kind="sd15",
    unet=replace(
        TINY_SDXL.unet,
        channel_mult=(1, 2, 2),
        num_res_blocks=2,
        transformer_depth=(1, 1, 0),
        context_dim=64,
        adm_channels=0,
        linear_projections=False,
        head_channels=0,
        heads=8,
    ),
    towers=(TowerDetection(TOWERS["sd15"][0], TINY_SDXL.towers[0].params),),
)
FAMILIES = (TINY_SDXL, TINY_REFINER, TINY_SD15)


def published_tensors(found: Detection, seed: int = 0) -> dict[str, Tensor]:
    """Random tensors under published names, float16, of a size that keeps signals near one."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: _values(name, shape, generator).half()
        for name, shape in published_shapes(found, build("a tiny checkpoint", found)).items()
    }


def _values(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=generator)
    if len(shape) > 1:
        return noise / math.sqrt(math.prod(shape[1:]))
    return 1.0 + 0.1 * noise if name.endswith("weight") else 0.1 * noise


def write(path: Path, found: Detection, extra: Mapping[str, Tensor] | None = None, seed: int = 0) -> Path:
    """Write a tiny checkpoint, with `extra` tensors beside its own."""
    tensors = published_tensors(found, seed) | dict(extra or {})
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {"modelspec.resolution": "64x64"})
    return path
