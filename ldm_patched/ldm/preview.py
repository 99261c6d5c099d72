"""The preview decoder: a latent to a small picture in eight convolutions. Knows no sampling and no files."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

_CHANNELS = (4, 8, 16, 32, 64, 32, 16, 8, 3)
_KERNELS = (7, 5, 3, 3, 3, 3, 3, 3)
# What eight unpadded convolutions take off each side in all.
_BORDER = sum(kernel // 2 for kernel in _KERNELS)


class PreviewDecoder(nn.Module):
    """Approximates a VAE at a quarter of the picture's size. Attribute names are the published file's."""

    def __init__(self) -> None:
        super().__init__()
        sizes = zip(_CHANNELS, _CHANNELS[1:], _KERNELS, strict=False)
        for index, (channels, out_channels, kernel) in enumerate(sizes, start=1):
            self.add_module(f"conv{index}", nn.Conv2d(channels, out_channels, kernel))

    def forward(self, x0: Tensor) -> Tensor:
        """Scaled latents [batch, 4, h, w] -> pictures [batch, 3, 2h, 2w], about -1..1, not clamped."""
        h = F.interpolate(x0, scale_factor=2.0, mode="nearest")
        h = F.pad(h, (_BORDER,) * 4)
        for conv in self.children():
            h = F.leaky_relu_(conv(h), 0.1)
        return h
