"""Outlines of simple shapes as arrays of points; it does not know what the shapes stand for or how they are painted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.world import RGB

Points = NDArray[np.float64]
Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Pairs = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Part:
    """A piece of a subject, in the square from -1 to 1 with y pointing down.

    The role names its paint; a width above zero makes it a stroke; the rim parts together are the silhouette.
    """

    pts: Points
    role: str
    width: float = 0.0
    rim: bool = True


@dataclass(frozen=True)
class Patch:
    """A piece of a background, in units of the picture's shorter side; edge says whether line media outline it."""

    pts: Points
    rgb: RGB
    width: float = 0.0
    edge: bool = True


def poly(pairs: Pairs) -> Points:
    """The points as an array."""
    return np.array(pairs, dtype=np.float64)


def ellipse(cx: float, cy: float, rx: float, ry: float, degrees: float = 0.0, n: int = 36) -> Points:
    """An ellipse, turned clockwise by the angle."""
    t = np.linspace(0.0, 2.0 * math.pi, n, endpoint=False)
    x = rx * np.cos(t)
    y = ry * np.sin(t)
    a = math.radians(degrees)
    return np.stack([cx + x * math.cos(a) - y * math.sin(a), cy + x * math.sin(a) + y * math.cos(a)], axis=1)


def arc(cx: float, cy: float, rx: float, ry: float, start: float, end: float, n: int = 16) -> Points:
    """An open arc from one angle to another, in degrees, clockwise from the right."""
    t = np.radians(np.linspace(start, end, n))
    return np.stack([cx + rx * np.cos(t), cy + ry * np.sin(t)], axis=1)


def smooth(pairs: Pairs | Points, steps: int = 6) -> Points:
    """A closed curve through all the points (Catmull-Rom)."""
    p1 = np.asarray(pairs, dtype=np.float64)
    p0, p2, p3 = np.roll(p1, 1, axis=0), np.roll(p1, -1, axis=0), np.roll(p1, -2, axis=0)
    return _catmull(p0, p1, p2, p3, steps)


def curve(pairs: Pairs | Points, steps: int = 6) -> Points:
    """An open curve through all the points (Catmull-Rom)."""
    p = np.asarray(pairs, dtype=np.float64)
    full = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    body = _catmull(full[:-3], full[1:-2], full[2:-1], full[3:], steps)
    return np.concatenate([body, p[-1:]])


def _catmull(p0: Points, p1: Points, p2: Points, p3: Points, steps: int) -> Points:
    t = (np.arange(steps) / steps)[None, :, None]
    a, b, c, d = p0[:, None], p1[:, None], p2[:, None], p3[:, None]
    out = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.asarray(out.reshape(-1, 2), dtype=np.float64)


def rounded(pairs: Pairs | Points, cut: float = 0.25, rounds: int = 3) -> Points:
    """A closed polygon with its corners cut round (Chaikin); the first round cuts by the given share."""
    p = np.asarray(pairs, dtype=np.float64)
    for i in range(rounds):
        share = cut if i == 0 else 0.25
        q = np.roll(p, -1, axis=0)
        p = np.stack([p + share * (q - p), q + share * (p - q)], axis=1).reshape(-1, 2)
    return p


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """Colour a with the given share of b in it."""
    return (
        round(a[0] + (b[0] - a[0]) * share),
        round(a[1] + (b[1] - a[1]) * share),
        round(a[2] + (b[2] - a[2]) * share),
    )


def scaled(a: RGB, factor: float) -> RGB:
    """Colour a made darker or lighter by a factor."""
    return (min(255, round(a[0] * factor)), min(255, round(a[1] * factor)), min(255, round(a[2] * factor)))


def luma(a: RGB) -> float:
    """Perceived brightness, 0 to 255."""
    return 0.299 * a[0] + 0.587 * a[1] + 0.114 * a[2]
