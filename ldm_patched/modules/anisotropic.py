"""A bilateral filter guided by a second picture, in plain torch. Knows no sampler.

It smooths where the guide is smooth and keeps what changes across the guide's edges (Tomasi and Manduchi, "Bilateral
filtering for gray and color images", 1998; joint form: Petschnigg et al., 2004).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RADIUS = 6
WINDOW = 2 * RADIUS + 1  # pixels, each way
SPATIAL_SIGMA = 3.0
RANGE_SIGMA = 3.0
AT_ONCE = 2**20  # numbers: as much of the windows as the caches hold


def bilateral_filter(x: Tensor, guide: Tensor) -> Tensor:
    """Weighted mean of `x` over 13 x 13 windows; both [batch, channels, h, w], any h and w from 1.

    A weight is a Gaussian of the distance in space (sigma 3) times one of the distance in the guide (sigma 3), which
    is summed over the channels after the guide is brought to mean 0 and deviation 1, picture by picture. Borders are
    reflected.

    A weight is that of two pixels, each for the other: it is computed once. Some rows of the window are done at a
    time, at least one: a small picture takes few operations, a large one about 30 times the memory of `x`.
    """
    batch, channels, height, width = x.shape
    std, mean = torch.std_mean(guide, dim=(1, 2, 3), keepdim=True)
    guides, values = _line((guide - mean) / (std + 1e-5)), _line(x)
    # All pixels lie in one line, with their borders between the rows: every neighbour is a shift along it. What this
    # computes for the borders is thrown away.
    stride = width + 2 * RADIUS
    first, count = RADIUS * (stride + 2), (height - 1) * stride + width
    log_spatial = _log_spatial(x)
    total, whole = (x.new_zeros(batch, size, height * stride) for size in (channels, 1))
    sums, weights = total[..., :count], whole[..., :count]
    rows = min(RADIUS + 1, max(1, AT_ONCE // (WINDOW * sums.numel())))
    for top in range(0, RADIUS + 1, rows):  # of the window's lower half
        bottom = min(top + rows, RADIUS + 1) - 1
        furthest = bottom * stride + RADIUS
        spatial = log_spatial[RADIUS + top : RADIUS + bottom + 1]
        weight = _weights(guides, top * stride, stride, first - furthest, count + furthest, spatial)
        below = weight[..., furthest:]
        sums += _sum(below, values, first + top * stride - RADIUS, stride)
        weights += below.sum((0, 1))
        # The window's upper half is the lower one turned round. Its own row has been done as a whole.
        turned = (weight[1:] if top == 0 else weight).flip(0, 1)
        steps = (turned.stride(0) + stride, turned.stride(1) + 1, *turned.stride()[2:])
        above = turned.as_strided((*turned.shape[:4], count), steps)
        sums += _sum(above, values, first - furthest, stride)
        weights += above.sum((0, 1))
    return (total / whole).view(batch, channels, height, stride)[..., :width]


def _weights(guides: Tensor, shift: int, stride: int, first: int, count: int, log_spatial: Tensor) -> Tensor:
    """Of the pixels from `first` on, each with its neighbours from `shift` on: [rows, 13, batch, 1, count]."""
    centre = guides[..., first : first + count]
    shape = (*log_spatial.shape, *centre.shape)
    neighbours = _shifts(guides, first + shift - RADIUS, stride, shape)
    distance = torch.sub(neighbours, centre, out=guides.new_empty(shape)).abs_()
    log_range = distance.sum(3, keepdim=True).square_().mul_(-1 / (2 * RANGE_SIGMA**2))
    return log_range.add_(log_spatial[..., None, None, None]).exp_()


def _sum(weight: Tensor, values: Tensor, first: int, stride: int) -> Tensor:
    """[batch, channels, count]: the neighbours of each pixel from `first` on, by their weights, added up."""
    shape = (*weight.shape[:2], *values.shape[:2], weight.shape[-1])
    # A product of views that overlap would itself be laid out as they are, and slow to add up.
    return torch.mul(_shifts(values, first, stride, shape), weight, out=values.new_empty(shape)).sum((0, 1))


def _log_spatial(x: Tensor) -> Tensor:
    """The logarithm of the Gaussian of the distance in space, over the window."""
    squares = torch.arange(-RADIUS, RADIUS + 1, dtype=x.dtype, device=x.device) ** 2
    return (squares[:, None] + squares) / (-2 * SPATIAL_SIGMA**2)


def _line(x: Tensor) -> Tensor:
    """[batch, channels, h, w] -> [batch, channels, (h + 12) * (w + 12) + 12]: padded rows, and 6 more at each end."""
    # A side of 6 or less is too short to be reflected at both ends.
    mode = "reflect" if min(x.shape[2:]) > RADIUS else "replicate"
    return F.pad(F.pad(x, (RADIUS,) * 4, mode=mode).flatten(2), (RADIUS, RADIUS))


def _shifts(line: Tensor, first: int, stride: int, shape: tuple[int, ...]) -> Tensor:
    """A view [rows, 13, batch, channels, count] of a line: every row one picture's row on, every column one pixel."""
    return line.as_strided(shape, (stride, 1, line.stride(0), line.stride(1), 1), first)
