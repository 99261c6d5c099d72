"""How a network's latents differ from the autoencoder's scaled ones. Knows no network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LatentFormat:
    """By channel, the mean and the deviation that a network's latents have been freed of: model = (vae - mean) / std.

    Both are in the scale of the autoencoder's latents as `VAE` gives and takes them. Without them there is no
    difference.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def to_model(self, latent: Tensor) -> Tensor:
        """From the autoencoder's latents [batch, channels, h, w] to the network's."""
        return (latent - _channels(self.mean, latent)) / _channels(self.std, latent) if self.mean else latent

    def to_vae(self, latent: Tensor) -> Tensor:
        """From the network's latents [batch, channels, h, w] to the autoencoder's, which previews know as well."""
        return latent * _channels(self.std, latent) + _channels(self.mean, latent) if self.mean else latent


def _channels(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(-1, 1, 1)


SDXL_SCALE = 0.13025
_PLAYGROUND_MEAN = (-1.6574, 1.886, -1.383, 2.5155)
_PLAYGROUND_STD = (8.4927, 5.9022, 6.5498, 5.2299)
_PLAYGROUND_DEVIATION = 0.5

AS_THE_VAE_S = LatentFormat()

PLAYGROUND_V2_5 = LatentFormat(
    mean=tuple(SDXL_SCALE * mean for mean in _PLAYGROUND_MEAN),
    std=tuple(SDXL_SCALE * std / _PLAYGROUND_DEVIATION for std in _PLAYGROUND_STD),
)
"""Playground v2.5 (arXiv 2402.17245): latents of deviation 0.5, from the statistics of SDXL's unscaled ones."""
