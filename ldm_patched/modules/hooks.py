"""What steps into a UNet's evaluation for one job, as frozen callables. Knows no sampler and no prompt."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FreeU:
    """Stronger features and weaker low frequencies of the skips where they meet (arXiv 2309.11497, second version).

    channels: the UNet's first width. (b1, s1) act where the features are 4 times as wide, (b2, s2) where they are
    twice as wide, and nothing is changed elsewhere. b: factor on the first half of the features where their mean over
    the channels is largest, 1 where it is smallest. s: factor on the four lowest frequencies of the skip.
    """

    channels: int
    b1: float = 1.01
    b2: float = 1.02
    s1: float = 0.99
    s2: float = 0.95

    def __call__(self, h: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        """Features [batch, c, h, w] and the skip [batch, c', h, w] as they are to be concatenated."""
        match h.shape[1] // self.channels:
            case 4:
                return strengthen(h, self.b1), scale_low_frequencies(skip, self.s1)
            case 2:
                return strengthen(h, self.b2), scale_low_frequencies(skip, self.s2)
            case _:
                return h, skip


def strengthen(h: Tensor, factor: float) -> Tensor:
    """The first half of the channels of h [batch, c, h, w] times 1 .. factor, by the mean of all channels there."""
    mean = h.float().mean(dim=1, keepdim=True)
    low, high = mean.amin(dim=(2, 3), keepdim=True), mean.amax(dim=(2, 3), keepdim=True)
    share = ((mean - low) / (high - low).clamp_min(1e-12)).to(h.dtype)
    half = h.shape[1] // 2
    return torch.cat([h[:, :half] * (1 + (factor - 1) * share), h[:, half:]], dim=1)


def scale_low_frequencies(x: Tensor, factor: float) -> Tensor:
    """x [batch, c, h, w] with four of its spatial frequencies times `factor`: 0 and -1, in each direction.

    That is what a centred Fourier spectrum holds in the two by two places around its centre. These are four products
    of waves, so two small matrix products take the place of a Fourier transform there and back, whatever the size.
    """
    rows, columns = _waves(x.shape[2], x), _waves(x.shape[3], x)
    turn = x.new_tensor(_TURN)
    found = rows.T @ x @ columns
    lowest = rows @ (found - turn @ found @ turn.T) @ columns.T
    return torch.add(x, lowest, alpha=factor - 1)


# The projection on the frequencies 0 and -1 is V V^T + i V T V^T with the waves V: this is T.
_TURN = ((0.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))


def _waves(n: int, like: Tensor) -> Tensor:
    """[n, 3]: the constant, the cosine and the sine of one period over n places, divided by sqrt(n)."""
    angles = torch.arange(n, device=like.device, dtype=torch.float32) * (2 * math.pi / n)
    waves = torch.stack([torch.ones_like(angles), angles.cos(), angles.sin()], dim=1)
    return (waves / math.sqrt(n)).to(like.dtype)
