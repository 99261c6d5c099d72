"""The backgrounds of the eight places as coloured shapes; it does not know the medium or what stands in front."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np

from training.shapes import Patch, Points, arc, curve, ellipse, mix, poly, smooth
from training.world import RGB


@dataclass(frozen=True)
class Backdrop:
    """A sky running from one colour to another, the shapes before it, and whether tiny lights are scattered over it."""

    top: RGB
    bottom: RGB
    patches: tuple[Patch, ...]
    sparkling: bool = False


def backdrop(place: str, w: float, h: float, rng: random.Random) -> Backdrop:
    """The place laid out on w by h units, where the shorter side is one unit."""
    return _PLACES[place](w, h, rng)


def _hill(w: float, h: float, y: float, height: float, waves: float, phase: float) -> Points:
    """Ground with a wavy upper edge around y, down to the bottom."""
    x = np.linspace(-0.05, w + 0.05, 28)
    top = y + height * np.sin(waves * 2 * math.pi * x / max(w, 1.0) + phase)
    return np.concatenate([np.stack([x, top], axis=1), poly([(w + 0.05, h + 0.05), (-0.05, h + 0.05)])])


def _cloud(x: float, y: float, s: float, rgb: RGB) -> list[Patch]:
    outline = [
        (-1.0, 0.25),
        (-0.95, -0.1),
        (-0.6, -0.2),
        (-0.35, -0.55),
        (0.1, -0.5),
        (0.3, -0.3),
        (0.7, -0.32),
        (1.0, 0.0),
        (0.95, 0.28),
        (0.0, 0.32),
    ]
    return [Patch(smooth([(x + s * a, y + s * b) for a, b in outline]), rgb)]


def _phase(rng: random.Random) -> float:
    return rng.uniform(0, 2 * math.pi)


def _meadow(w: float, h: float, rng: random.Random) -> Backdrop:
    out: list[Patch] = []
    sx = w * rng.choice((rng.uniform(0.12, 0.25), rng.uniform(0.75, 0.88)))
    out.append(Patch(ellipse(sx, h * 0.15, 0.125, 0.125), (255, 240, 170), edge=False))
    out.append(Patch(ellipse(sx, h * 0.15, 0.09, 0.09), (255, 218, 84)))
    out += _cloud(w * rng.uniform(0.32, 0.48), h * rng.uniform(0.12, 0.2), 0.13, (255, 255, 255))
    out += _cloud((w - sx) + rng.uniform(-0.06, 0.06), h * rng.uniform(0.24, 0.32), 0.1, (255, 255, 255))
    out.append(Patch(_hill(w, h, h * 0.58, 0.05, 1.0, _phase(rng)), (158, 214, 132)))
    out.append(Patch(_hill(w, h, h * 0.68, 0.04, 1.3, _phase(rng)), (128, 198, 98)))
    out.append(Patch(_hill(w, h, h * 0.79, 0.025, 1.0, _phase(rng)), (102, 182, 78)))
    for i in range(round(5 * w)):
        x, y = w * (i + rng.uniform(0.2, 0.8)) / round(5 * w), h * rng.uniform(0.85, 0.96)
        petal = rng.choice(((255, 255, 255), (255, 224, 100), (255, 160, 180)))
        out.append(Patch(poly([(x, y), (x, y + 0.05)]), (62, 140, 56), 0.01, edge=False))
        out.append(Patch(ellipse(x, y, 0.019, 0.019, n=12), petal))
    return Backdrop((126, 200, 246), (218, 242, 252), tuple(out))


def _beach(w: float, h: float, rng: random.Random) -> Backdrop:
    out: list[Patch] = []
    horizon = h * rng.uniform(0.42, 0.48)
    shore = h * rng.uniform(0.68, 0.72)
    sx = w * rng.uniform(0.2, 0.8)
    out.append(Patch(ellipse(sx, horizon - 0.02, 0.17, 0.17), (255, 244, 190), edge=False))
    out.append(Patch(ellipse(sx, horizon - 0.02, 0.12, 0.12), (255, 206, 92)))
    out += _cloud(w * rng.uniform(0.15, 0.3), h * 0.13, 0.1, (255, 255, 255))
    out += _cloud(w * rng.uniform(0.7, 0.85), h * 0.2, 0.12, (255, 255, 255))
    out.append(Patch(poly([(-0.05, horizon), (w + 0.05, horizon), (w + 0.05, h), (-0.05, h)]), (36, 138, 200)))
    out.append(
        Patch(_hill(w, h, horizon + (shore - horizon) * 0.4, 0.008, 3.0, _phase(rng)), (58, 174, 212), edge=False)
    )
    for _ in range(3):
        x, y = w * rng.uniform(0.05, 0.9), horizon + (shore - horizon) * rng.uniform(0.15, 0.5)
        out.append(
            Patch(
                curve([(x, y), (x + 0.04, y - 0.012), (x + 0.08, y), (x + 0.12, y - 0.012)], 4),
                (220, 244, 252),
                0.011,
                edge=False,
            )
        )
    phase = _phase(rng)
    out.append(Patch(_hill(w, h, shore - 0.035, 0.02, 1.2, phase), (120, 212, 220), edge=False))
    out.append(Patch(_hill(w, h, shore, 0.02, 1.2, phase), (255, 255, 255)))
    out.append(Patch(_hill(w, h, shore + 0.03, 0.02, 1.2, phase), (250, 224, 160)))
    out.append(Patch(_hill(w, h, h * 0.88, 0.02, 1.0, _phase(rng)), (242, 208, 136), edge=False))
    for _ in range(3):
        x, y = w * rng.uniform(0.06, 0.94), h * rng.uniform(0.9, 0.96)
        out.append(Patch(arc(x, y, 0.03, 0.03, 180, 360, 9), rng.choice(((255, 170, 150), (255, 240, 225)))))
    return Backdrop((140, 214, 246), (255, 240, 214), tuple(out))


def _desert(w: float, h: float, rng: random.Random) -> Backdrop:
    out: list[Patch] = []
    sx = w * rng.uniform(0.3, 0.7)
    out.append(Patch(ellipse(sx, h * 0.2, 0.12, 0.12), (255, 246, 208)))
    mx = w * rng.choice((0.15, 0.8))
    base = h * 0.62
    mesa = [(mx - 0.3, base), (mx - 0.2, h * 0.42), (mx + 0.14, h * 0.42), (mx + 0.18, h * 0.5), (mx + 0.28, base)]
    out.append(Patch(poly(mesa), (206, 104, 70)))
    out.append(Patch(_hill(w, h, h * 0.6, 0.03, 1.0, _phase(rng)), (236, 166, 88)))
    a = h * rng.uniform(0.66, 0.7)
    crest = w * rng.uniform(0.35, 0.65)
    out.append(
        Patch(
            smooth(
                [
                    (-0.1, a + 0.06),
                    (crest * 0.6, a + 0.03),
                    (crest, a - 0.06),
                    (crest * 1.1, a + 0.04),
                    (w + 0.1, a + 0.1),
                    (w + 0.1, h + 0.1),
                    (-0.1, h + 0.1),
                ]
            ),
            (246, 190, 108),
        )
    )
    out.append(Patch(_hill(w, h, h * 0.84, 0.03, 0.8, _phase(rng)), (252, 208, 134)))
    for side in (0, 1):
        cx = w * (rng.uniform(0.05, 0.13) if side == 0 else rng.uniform(0.87, 0.95))
        cy = h * rng.uniform(0.76, 0.84)
        s = rng.uniform(0.85, 1.1)
        green: RGB = (58, 134, 84)
        out.append(Patch(poly([(cx, cy), (cx, cy - 0.24 * s)]), green, 0.055 * s))
        out.append(
            Patch(
                curve([(cx, cy - 0.08 * s), (cx - 0.07 * s, cy - 0.09 * s), (cx - 0.075 * s, cy - 0.17 * s)]),
                green,
                0.036 * s,
            )
        )
        out.append(
            Patch(
                curve([(cx, cy - 0.12 * s), (cx + 0.065 * s, cy - 0.13 * s), (cx + 0.07 * s, cy - 0.2 * s)]),
                green,
                0.036 * s,
            )
        )
    return Backdrop((250, 152, 92), (255, 226, 160), tuple(out))


def _pine(x: float, y: float, s: float) -> list[Patch]:
    out = [Patch(poly([(x, y), (x, y - 0.1 * s)]), (104, 78, 70), 0.035 * s, edge=False)]
    for k in range(3):
        b = y - 0.06 * s - 0.11 * s * k
        r = (0.12 - 0.026 * k) * s
        top = b - 0.16 * s
        out.append(Patch(poly([(x - r, b), (x + r, b), (x, top)]), (84, 136, 134)))
        out.append(
            Patch(
                poly(
                    [
                        (x - r * 0.5, (b + top) / 2),
                        (x, top),
                        (x + r * 0.5, (b + top) / 2),
                        (x, (b + top) / 2 - 0.02 * s),
                    ]
                ),
                (250, 253, 255),
                edge=False,
            )
        )
    return out


def _snow(w: float, h: float, rng: random.Random) -> Backdrop:
    out: list[Patch] = []
    out.append(
        Patch(
            poly(
                [
                    (-0.1, h * 0.66),
                    (w * 0.08, h * 0.46),
                    (w * 0.26, h * 0.32),
                    (w * 0.46, h * 0.58),
                    (w * 0.7, h * 0.36),
                    (w + 0.1, h * 0.6),
                    (w + 0.1, h * 0.7),
                ]
            ),
            (166, 192, 222),
        )
    )
    for px, py in ((0.26, 0.32), (0.7, 0.36)):
        out.append(
            Patch(
                poly(
                    [
                        (w * px, h * py),
                        (w * (px + 0.07), h * (py + 0.085)),
                        (w * (px + 0.02), h * (py + 0.07)),
                        (w * (px - 0.03), h * (py + 0.09)),
                        (w * (px - 0.075), h * (py + 0.085)),
                    ]
                ),
                (255, 255, 255),
                edge=False,
            )
        )
    out.append(Patch(_hill(w, h, h * 0.6, 0.03, 1.0, _phase(rng)), (220, 233, 246)))
    out += _pine(w * rng.uniform(0.06, 0.12), h * rng.uniform(0.7, 0.74), rng.uniform(0.8, 1.0))
    out += _pine(w * rng.uniform(0.88, 0.94), h * rng.uniform(0.7, 0.76), rng.uniform(0.8, 1.0))
    if w > 1.2:
        out += _pine(w * rng.uniform(0.2, 0.3), h * 0.7, 0.7)
    out.append(Patch(_hill(w, h, h * 0.77, 0.025, 1.2, _phase(rng)), (246, 250, 254)))
    n = round(14 * w * h)
    for i in range(n):
        x, y = w * (i + rng.random()) / n, h * rng.uniform(0.03, 0.74)
        r = rng.uniform(0.01, 0.017)
        out.append(Patch(ellipse(x, y, r, r, n=10), (255, 255, 255), edge=False))
    return Backdrop((150, 184, 220), (214, 228, 242), tuple(out), True)


def _forest(w: float, h: float, rng: random.Random) -> Backdrop:
    out: list[Patch] = []
    out.append(
        Patch(
            smooth([(w * 0.3, h * 0.1), (w * 0.7, h * 0.1), (w * 0.68, h * 0.75), (w * 0.32, h * 0.75)]),
            (176, 214, 130),
            edge=False,
        )
    )
    far = max(4, round(5 * w))
    for i in range(far):
        x = w * (i + rng.uniform(0.3, 0.7)) / far
        out.append(
            Patch(
                poly([(x - 0.02, -0.05), (x + 0.02, -0.05), (x + 0.025, h * 0.72), (x - 0.025, h * 0.72)]),
                (98, 138, 84),
                edge=False,
            )
        )
    out.append(Patch(_hill(w, h, h * 0.68, 0.02, 1.2, _phase(rng)), (84, 140, 62)))
    out.append(Patch(_hill(w, h, h * 0.8, 0.02, 1.0, _phase(rng)), (60, 112, 54)))
    near = [rng.uniform(0.03, 0.08), rng.uniform(0.92, 0.97), rng.uniform(0.22, 0.27), rng.uniform(0.74, 0.79)]
    for k, f in enumerate(near):
        x, r = w * f, 0.05 if k < 2 else 0.034
        b = h * (0.84 if k < 2 else 0.74)
        out.append(
            Patch(
                smooth(
                    [
                        (x - r, -0.1),
                        (x + r, -0.1),
                        (x + r, h * 0.5),
                        (x + r * 1.8, b),
                        (x, b + 0.01),
                        (x - r * 1.8, b),
                        (x - r, h * 0.5),
                    ]
                ),
                (104, 70, 44) if k < 2 else (122, 88, 56),
            )
        )
    n = round(5 * w) + 1
    bumps = [(w * i / n, h * 0.13 + rng.uniform(-0.03, 0.03) + (0.07 if i % 2 else 0.0)) for i in range(n + 1)]
    canopy = np.concatenate(
        [curve([(-0.1, h * 0.2), *bumps, (w + 0.1, h * 0.2)], 5), poly([(w + 0.1, -0.1), (-0.1, -0.1)])]
    )
    out.append(Patch(canopy, (38, 104, 58)))
    out.append(
        Patch(
            np.concatenate(
                [
                    curve([(x, y * 0.5) for x, y in [(-0.1, h * 0.2), *bumps, (w + 0.1, h * 0.2)]], 5),
                    poly([(w + 0.1, -0.1), (-0.1, -0.1)]),
                ]
            ),
            (28, 82, 50),
            edge=False,
        )
    )
    for _ in range(2):
        x, y = w * rng.uniform(0.05, 0.95), h * rng.uniform(0.9, 0.95)
        out.append(Patch(arc(x, y, 0.07, 0.06, 180, 360, 10), (44, 92, 44)))
    return Backdrop((110, 168, 96), (196, 222, 146), tuple(out))


def _city(w: float, h: float, rng: random.Random) -> Backdrop:
    out: list[Patch] = []
    street = h * 0.76
    far = max(4, round(5 * w))
    for i in range(far):
        x0, x1 = w * i / far - 0.01, w * (i + 1) / far + 0.01
        top = h * rng.uniform(0.22, 0.4)
        out.append(Patch(poly([(x0, street), (x0, top), (x1, top), (x1, street)]), (190, 178, 214), edge=False))
    hues: tuple[RGB, ...] = ((122, 132, 184), (206, 128, 124), (148, 118, 168), (98, 146, 170), (222, 164, 122))
    near = max(3, round(4 * w))
    shift = rng.randrange(len(hues))
    for i in range(near):
        x0, x1 = w * i / near + 0.008, w * (i + 1) / near - 0.008
        top = h * rng.uniform(0.3, 0.52)
        out.append(Patch(poly([(x0, street), (x0, top), (x1, top), (x1, street)]), hues[(i + shift) % len(hues)]))
        rows = max(2, int((street - top) / 0.115))
        for row in range(rows):
            y = top + 0.045 + row * (street - top - 0.03) / rows
            for col in range(3):
                x = x0 + (x1 - x0) * (0.14 + 0.28 * col)
                lit = mix((255, 236, 160), hues[(i + shift) % len(hues)], 0.0 if rng.random() < 0.7 else 0.5)
                ww = (x1 - x0) * 0.17
                out.append(Patch(poly([(x, y), (x + ww, y), (x + ww, y + 0.055), (x, y + 0.055)]), lit, edge=False))
    out.append(
        Patch(poly([(-0.05, street), (w + 0.05, street), (w + 0.05, h + 0.05), (-0.05, h + 0.05)]), (214, 208, 204))
    )
    out.append(
        Patch(
            poly([(-0.05, street + 0.045), (w + 0.05, street + 0.045), (w + 0.05, h + 0.05), (-0.05, h + 0.05)]),
            (94, 96, 112),
        )
    )
    y = (street + 0.045 + h) / 2 + 0.03
    x = -rng.uniform(0, 0.2)
    while x < w:
        out.append(
            Patch(poly([(x, y - 0.011), (x + 0.13, y - 0.011), (x + 0.13, y + 0.011), (x, y + 0.011)]), (250, 240, 200))
        )
        x += 0.22
    return Backdrop((166, 204, 240), (255, 226, 206), tuple(out))


def _night(w: float, h: float, rng: random.Random) -> Backdrop:
    out: list[Patch] = []
    n = round(24 * w * h)
    for i in range(n):
        x, y = w * (i + rng.random()) / n, h * rng.uniform(0.03, 0.64)
        r = rng.choice((0.008, 0.011, 0.015))
        out.append(Patch(ellipse(x, y, r, r, n=10), (255, 246, 200), edge=False))
    mx, my = w * rng.choice((rng.uniform(0.14, 0.24), rng.uniform(0.76, 0.86))), h * rng.uniform(0.14, 0.18)
    out.append(Patch(ellipse(mx, my, 0.15, 0.15), (48, 62, 130), edge=False))
    moon = np.concatenate([arc(mx, my, 0.1, 0.1, 14.5, 258, 26), arc(mx + 0.042, my - 0.04, 0.085, 0.085, 223, 50, 20)])
    out.append(Patch(moon, (255, 238, 168)))
    out.append(Patch(_hill(w, h, h * 0.7, 0.05, 1.0, _phase(rng)), (38, 52, 106)))
    out.append(Patch(_hill(w, h, h * 0.8, 0.03, 1.3, _phase(rng)), (28, 38, 82)))
    return Backdrop((16, 20, 66), (66, 74, 148), tuple(out), True)


def _underwater(w: float, h: float, rng: random.Random) -> Backdrop:
    out: list[Patch] = []
    for _ in range(3):
        x = w * rng.uniform(0.05, 0.85)
        out.append(
            Patch(
                poly([(x, -0.05), (x + 0.14, -0.05), (x - 0.02, h * 0.72), (x - 0.24, h * 0.72)]),
                (86, 196, 226),
                edge=False,
            )
        )
    out.append(
        Patch(
            smooth(
                [
                    (-0.1, h * 0.82),
                    (w * 0.1, h * 0.66),
                    (w * 0.26, h * 0.74),
                    (w * 0.4, h * 0.86),
                    (w * 0.4, h * 1.1),
                    (-0.1, h * 1.1),
                ]
            ),
            (20, 98, 150),
        )
    )
    out.append(
        Patch(
            smooth(
                [
                    (w + 0.1, h * 0.8),
                    (w * 0.92, h * 0.64),
                    (w * 0.76, h * 0.74),
                    (w * 0.62, h * 0.86),
                    (w * 0.62, h * 1.1),
                    (w + 0.1, h * 1.1),
                ]
            ),
            (20, 98, 150),
        )
    )
    out.append(Patch(_hill(w, h, h * 0.87, 0.018, 1.2, _phase(rng)), (222, 204, 150)))
    for f in (rng.uniform(0.03, 0.07), rng.uniform(0.11, 0.15), rng.uniform(0.85, 0.89), rng.uniform(0.93, 0.97)):
        x, tall, sway = w * f, rng.uniform(0.22, 0.4), rng.choice((-1, 1)) * 0.03
        y = h * 0.92
        stalk = curve([(x, y), (x + sway, y - tall * 0.33), (x - sway, y - tall * 0.66), (x + sway, y - tall)])
        out.append(Patch(stalk, rng.choice(((34, 140, 86), (64, 168, 92))), 0.034))
    cx = w * rng.choice((0.2, 0.8))
    for dx, top in ((-0.05, 0.09), (0.0, 0.13), (0.055, 0.1)):
        out.append(Patch(poly([(cx, h * 0.93), (cx + dx, h * 0.93 - top)]), (242, 116, 130), 0.032))
    for i in range(round(6 * w)):
        x, y = w * (i + rng.random()) / round(6 * w), h * rng.uniform(0.06, 0.66)
        r = rng.uniform(0.014, 0.03)
        out.append(Patch(ellipse(x, y, r, r, n=16), (190, 236, 248)))
        out.append(Patch(ellipse(x, y, r * 0.6, r * 0.6, n=12), (110, 206, 232), edge=False))
    return Backdrop((80, 200, 232), (16, 92, 168), tuple(out))


_PLACES = {
    "meadow": _meadow,
    "beach": _beach,
    "desert": _desert,
    "snow": _snow,
    "forest": _forest,
    "city": _city,
    "night": _night,
    "underwater": _underwater,
}
