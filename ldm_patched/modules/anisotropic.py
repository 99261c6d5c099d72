"""A bilateral filter guided by a second picture, in plain torch. Knows no sampler.

It smooths where the guide is smooth and keeps what changes across the guide's edges (Tomasi and Manduchi, "Bilateral
filtering for gray and color images", 1998; joint form: Petschnigg et al., 2004).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

RADIUS = 6
SPATIAL_SIGMA = 3.0
RANGE_SIGMA = 3.0


def bilateral_filter(x: Tensor, guide: Tensor) -> Tensor:
    """Weighted mean of `x` over 13 x 13 windows; both [batch, channels, h, w], any h and w from 1.

    A weight is a Gaussian of the distance in space (sigma 3) times one of the distance in the guide (sigma 3), which
    is summed over the channels after the guide is brought to mean 0 and deviation 1, picture by picture. Borders are
    reflected. One row of the window at a time: 13 times the size of `x` is the most memory that it takes.
    """
    height = x.shape[2]
    std, mean = torch.std_mean(guide, dim=(1, 2, 3), keepdim=True)
    guide = (guide - mean) / (std + 1e-5)
    guide_windows = _windows(guide)
    x_windows = _windows(torch.cat([x, torch.ones_like(x[:, :1])], dim=1))  # the ones add up the weights
    offsets = torch.arange(-RADIUS, RADIUS + 1, dtype=x.dtype, device=x.device)
    log_spatial = offsets**2 / (-2 * SPATIAL_SIGMA**2)
    total = x.new_zeros(x.shape[0], x.shape[1] + 1, *x.shape[2:])
    for row in range(2 * RADIUS + 1):
        rows = slice(row, row + height)
        distance = (guide_windows[:, :, rows] - guide[..., None]).abs_().sum(1, keepdim=True)
        weight = torch.addcmul(log_spatial, distance, distance, value=-1 / (2 * RANGE_SIGMA**2)).exp_()
        row_weight = math.exp(-((row - RADIUS) ** 2) / (2 * SPATIAL_SIGMA**2))
        total.add_((x_windows[:, :, rows] * weight).sum(-1), alpha=row_weight)
    return total[:, :-1] / total[:, -1:]


def _windows(x: Tensor) -> Tensor:
    """[batch, channels, h, w] -> a view [batch, channels, h + 12, w, 13] of the padded picture's rows."""
    # A side of 6 or less is too short to be reflected at both ends.
    mode = "reflect" if min(x.shape[2:]) > RADIUS else "replicate"
    return F.pad(x, (RADIUS,) * 4, mode=mode).unfold(3, 2 * RADIUS + 1, 1)
