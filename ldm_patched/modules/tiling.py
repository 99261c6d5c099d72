"""A network with a factor of 8 between its two sides runs in overlapping tiles. Knows no autoencoder and no device.

All lengths are in latent pixels. Neighbouring tiles are cross-faded by squared sines over their overlap, where the
weights add up to one; outside of overlaps a tile stands alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

FACTOR = 8
"""Picture pixels per latent pixel."""

OVERLAP_SHARE = 4
"""A tile shares a quarter of its length with the next one: far enough from the border, where padding shows."""

SMALLEST = 16
"""Under this, tiles are mostly overlap."""


def tile_that_fits(height: int, width: int, bytes_per_pixel: int, free: int | None) -> int | None:
    """The side of the largest tiles for whose latent pixels memory is enough; None where no tiles are needed.

    height, width: of the latent. bytes_per_pixel: what the network needs at the most for one latent pixel. free: bytes,
    None if not known. Never under `SMALLEST`: what does not fit even then fails.
    """
    if free is None or height * width * bytes_per_pixel <= free:
        return None
    side = math.isqrt(max(0, free // bytes_per_pixel))
    return max(SMALLEST, side - side % FACTOR)


def decode_in_tiles(run: Callable[[Tensor], Tensor], latent: Tensor, tile: int) -> Tensor:
    """[batch, c, h, w] -> [batch, c', 8h, 8w] of `run`, which maps tiles so, of `tile` x `tile` or smaller."""
    return _in_tiles(run, latent, tile, latent.shape[-2], latent.shape[-1], 1, FACTOR)


def encode_in_tiles(run: Callable[[Tensor], Tensor], pixels: Tensor, tile: int) -> Tensor:
    """[batch, c, 8h, 8w] -> [batch, c', h, w], with tiles of `tile` x `tile` latent pixels; see `decode_in_tiles`."""
    return _in_tiles(run, pixels, tile, pixels.shape[-2] // FACTOR, pixels.shape[-1] // FACTOR, FACTOR, 1)


def starts(length: int, tile: int) -> list[int]:
    """Where tiles begin that cover a length: evenly, each at least a quarter of a tile over the next one."""
    if length <= tile:
        return [0]
    count = math.ceil((length - tile) / (tile - tile // OVERLAP_SHARE)) + 1
    return [round(index * (length - tile) / (count - 1)) for index in range(count)]


def _in_tiles(
    run: Callable[[Tensor], Tensor], x: Tensor, tile: int, height: int, width: int, inward: int, outward: int
) -> Tensor:
    """inward, outward: pixels of what goes in, and of what comes out, per latent pixel."""
    whole: Tensor | None = None
    downs, acrosses = _fades(height, tile, outward), _fades(width, tile, outward)
    for (top, rows), (left, columns) in _tiles(height, width, tile):
        piece = x[..., _scaled(top, rows, inward), _scaled(left, columns, inward)]
        out = run(piece).float()
        if whole is None:
            whole = out.new_zeros(*out.shape[:-2], height * outward, width * outward)
        # A row of a tile and a column of a tile have weights of their own: their product is a pixel's.
        down, across = downs[top].to(out), acrosses[left].to(out)
        whole[..., _scaled(top, rows, outward), _scaled(left, columns, outward)] += out * down[:, None] * across
    assert whole is not None
    return whole


def _tiles(height: int, width: int, tile: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """(begin, length) of the rows and of the columns of each tile."""
    for top in starts(height, tile):
        for left in starts(width, tile):
            yield (top, min(tile, height)), (left, min(tile, width))


def _scaled(begin: int, length: int, factor: int) -> slice:
    return slice(begin * factor, (begin + length) * factor)


def _fades(length: int, tile: int, factor: int) -> dict[int, Tensor]:
    """Weights [tile * factor] of each tile by where it begins; those of all tiles add up to one everywhere."""
    curves = {place: _curve(length, tile, place, factor) for place in starts(length, tile)}
    total = torch.zeros(length * factor, dtype=torch.float64)
    for place, curve in curves.items():
        total[_scaled(place, len(curve) // factor, factor)] += curve
    return {place: curve / total[_scaled(place, len(curve) // factor, factor)] for place, curve in curves.items()}


def _curve(length: int, tile: int, begin: int, factor: int) -> Tensor:
    """One in the middle, falling to the sides on which there is another tile."""
    size = min(tile, length)
    ramp = size // OVERLAP_SHARE * factor
    rise = torch.sin((torch.arange(ramp, dtype=torch.float64) + 0.5) / ramp * (math.pi / 2)).square()
    curve = torch.ones(size * factor, dtype=torch.float64)
    if begin > 0:
        curve[:ramp] *= rise
    if begin + size < length:
        curve[-ramp:] *= rise.flip(0)
    return curve
