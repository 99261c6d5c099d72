"""The latent interposer: latents of one autoencoder to those of another. Knows no autoencoder, no scale and no file.

Attribute names are the published file's, whose sequences count activations too.
"""

from __future__ import annotations

from torch import Tensor, nn


class _Block(nn.Module):
    """ReLU(long(x) + short(x)): three convolutions beside one, or beside x itself after a batch normalisation."""

    def __init__(self, channels: int, out_channels: int, first: bool) -> None:
        super().__init__()
        if first:
            self.short = nn.Conv2d(channels, out_channels, 3, padding=1)
        else:
            self.norm = nn.BatchNorm2d(channels)
        self.long = nn.Sequential(
            nn.Conv2d(channels, out_channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )
        self._first = first

    def forward(self, x: Tensor) -> Tensor:
        beside = self.short(x) if self._first else (x := self.norm(x))
        out: Tensor = (self.long(x) + beside).relu()
        return out


class Interposer(nn.Module):
    """A convolutional network without change of size. For inference: batch normalisation by its running figures."""

    def __init__(self, channels: int = 4, width: int = 64, blocks: int = 12) -> None:
        super().__init__()
        self.head = _Block(channels, width, first=True)
        # The published sequence begins with an upsampling by 1, which is the identity.
        residual = [_Block(width, width, first=False) for _ in range(blocks)]
        self.core = nn.Sequential(nn.Identity(), *residual, nn.BatchNorm2d(width), nn.SiLU())
        self.tail = nn.Conv2d(width, channels, 3, padding=1)
        self.eval()

    def forward(self, latent: Tensor) -> Tensor:
        """Unscaled latents [batch, channels, h, w] -> those of the other autoencoder, of the same shape."""
        out: Tensor = self.tail(self.core(self.head(latent)))
        return out
