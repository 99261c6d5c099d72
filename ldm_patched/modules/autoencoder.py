"""Pictures to latents and back, in one piece or in tiles, whatever the autoencoder's dtype can hold. Knows no file."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ldm_patched.ldm.vae import AutoencoderKL
from ldm_patched.modules.devices import free_memory
from ldm_patched.modules.streaming import visiting
from ldm_patched.modules.tiling import FACTOR, decode_in_tiles, encode_in_tiles, tile_that_fits

_FEATURE_MAPS = 4
"""How many feature maps as large as the autoencoder's widest are in memory at once: three, and room to spare."""


class VAE:
    """The autoencoder of a checkpoint. Its latents are scaled as the UNet knows them; pictures are 0..1."""

    def __init__(self, model: AutoencoderKL, scale: float, computes: torch.device | None = None) -> None:
        """computes: where it works, if not where its weights are now."""
        self.model = model
        self.scale = scale
        self.computes = computes or model.post_quant_conv.weight.device

    @torch.no_grad()
    def decode(self, latent: Tensor, tile: int | None = None) -> Tensor:
        """[batch, 4, h, w] -> float32 [batch, 3, 8h, 8w], clamped to 0..1. One by one, for the sake of memory.

        Where half precision overflows, the picture is decoded again in float32. tile: latent pixels of the side of the
        tiles that it is made of; by default what is free decides, and mostly there is one.
        """
        tile = tile or self._tile(*latent.shape[-2:])
        with visiting([self.model], self.computes):
            if tile is None:
                run = partial(self._guarded, AutoencoderKL.decode)
            else:
                run = partial(decode_in_tiles, partial(self._guarded, AutoencoderKL.decode), tile=tile)
            decoded = torch.cat([run(row / self.scale) for row in torch.split(latent, 1)])
        return ((decoded + 1.0) / 2.0).clamp_(0.0, 1.0)

    @torch.no_grad()
    def encode(self, pixels: Tensor, seed: int, tile: int | None = None) -> Tensor:
        """[batch, 3, H, W] in 0..1 -> float32 [batch, 4, H // 8, W // 8], a sample drawn with `seed`.

        What exceeds a multiple of 8 is cropped, evenly on both sides. Noise comes from a generator of its own on the
        CPU, so the latent is the same on every device. tile: see `decode`. Raises ValueError for a picture under 8
        pixels.
        """
        height, width = pixels.shape[-2:]
        if min(height, width) < 8:
            raise ValueError(f"the picture is {width}x{height} pixels; the smallest is 8x8")
        top, left = height % 8 // 2, width % 8 // 2
        cropped = pixels[..., top : top + height // 8 * 8, left : left + width // 8 * 8]
        tile = tile or self._tile(height // 8, width // 8)
        with visiting([self.model], self.computes):
            if tile is None:
                run = partial(self._guarded, _moments)
            else:
                run = partial(encode_in_tiles, partial(self._guarded, _moments), tile=tile)
            moments = torch.cat([run(2.0 * row - 1.0) for row in torch.split(cropped, 1)])
        mean, log_variance = moments.chunk(2, dim=1)
        generator = torch.Generator("cpu").manual_seed(seed)
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        return (mean + (0.5 * log_variance).exp() * noise) * self.scale

    def _tile(self, height: int, width: int) -> int | None:
        """The side of the tiles that a latent needs with the memory that is free now."""
        params = self.model.params
        widest = params.channels * max(params.channel_mult[:2])
        itemsize = self.model.post_quant_conv.weight.dtype.itemsize
        return tile_that_fits(height, width, FACTOR**2 * _FEATURE_MAPS * widest * itemsize, free_memory(self.computes))

    def _guarded(self, run: Callable[[AutoencoderKL, Tensor], Tensor], x: Tensor) -> Tensor:
        """Run in the network's dtype; where that gives no numbers, in float32 on a copy that is thrown away."""
        weight = self.model.post_quant_conv.weight
        result = run(self.model, _images(x, weight)).float()
        if weight.dtype != torch.float32 and not bool(result.sum().isfinite()):
            result = run(copy.deepcopy(self.model).float(), _images(x, weight.float()))
        return result


def _moments(model: AutoencoderKL, pixels: Tensor) -> Tensor:
    return torch.cat(model.encode_moments(pixels), dim=1)


def _images(x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.device, like.dtype, memory_format=torch.channels_last)
