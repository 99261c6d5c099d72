"""The shapes and paints of the sixteen subjects; it does not know where they stand or how a medium draws them."""

from __future__ import annotations

import math

import numpy as np

from training.shapes import Part, arc, curve, ellipse, luma, mix, poly, rounded, scaled, smooth
from training.world import COLOUR_RGB, RGB

FLOATING = frozenset({"fish", "bird", "butterfly", "rocket", "balloon", "star", "heart", "umbrella"})

_WHITE: RGB = (255, 255, 255)
_INK: RGB = (34, 30, 46)


def paints(colour: str) -> dict[str, RGB]:
    """What each role of a subject of this colour is painted with."""
    body = COLOUR_RGB[colour]
    light, dark, deep = mix(body, _WHITE, 0.38), scaled(body, 0.76), mix(scaled(body, 0.42), (30, 20, 60), 0.35)
    if colour == "yellow":
        dark, deep = (240, 186, 38), (122, 74, 16)
    elif colour == "orange":
        dark, deep = (220, 98, 14), (116, 48, 14)
    mark = deep
    if colour == "white":
        light, dark, deep, mark = (255, 255, 255), (218, 225, 236), (96, 106, 130), (110, 120, 145)
    elif colour == "black":
        light, dark, deep, mark = (78, 78, 90), (18, 18, 24), (6, 6, 10), (200, 200, 212)
    elif colour == "gray":
        light, dark, deep, mark = (184, 186, 192), (108, 110, 118), (58, 58, 70), (58, 58, 70)
    elif luma(body) < 80:
        mark = mix(body, _WHITE, 0.7)
    warm = colour in ("yellow", "orange")
    return {
        "body": body,
        "light": light,
        "dark": dark,
        "deep": deep,
        "mark": mark,
        "roof": mix(dark, deep, 0.45 if colour != "yellow" else 0.12),
        "ink": _INK,
        "eye": _WHITE,
        "blush": (255, 150, 160) if colour not in ("pink", "red") else (255, 205, 205),
        "spot": (255, 252, 244) if colour != "white" else (176, 186, 204),
        "cream": (255, 240, 212) if colour != "white" else (232, 220, 200),
        "wood": (132, 84, 48) if colour != "brown" else (92, 54, 30),
        "stem": (70, 150, 60) if colour != "green" else (40, 110, 44),
        "heart": (255, 206, 64) if not warm else (150, 84, 30),
        "beak": (250, 160, 40) if not warm else (214, 84, 30),
        "glass": (196, 232, 250),
        "glow": (255, 226, 120) if not warm else (255, 250, 214),
        "flame": (255, 140, 30),
        "flame2": (255, 226, 90),
        "tyre": (44, 42, 54),
        "hub": (206, 210, 218),
    }


def parts(subject: str) -> list[Part]:
    """The subject's pieces in drawing order."""
    return _DRAWINGS[subject]()


def _eye(x: float, y: float, r: float, look: float = 0.0) -> list[Part]:
    return [
        Part(ellipse(x, y, r, r * 1.1, n=20), "eye", rim=False),
        Part(ellipse(x + look * r, y + 0.1 * r, r * 0.62, r * 0.72, n=16), "ink", rim=False),
        Part(ellipse(x + look * r - 0.22 * r, y - 0.24 * r, r * 0.24, r * 0.24, n=10), "eye", rim=False),
    ]


def _cat() -> list[Part]:
    out = [
        Part(curve([(0.3, 0.82), (0.78, 0.78), (0.86, 0.4), (0.68, 0.1)]), "body", 0.2),
        Part(
            smooth([(-0.3, -0.1), (0.3, -0.1), (0.5, 0.45), (0.48, 0.92), (0, 0.98), (-0.48, 0.92), (-0.5, 0.45)]),
            "body",
        ),
        Part(ellipse(0, 0.06, 0.44, 0.16), "dark", rim=False),
        Part(ellipse(0, 0.56, 0.24, 0.34), "light", rim=False),
        Part(ellipse(-0.24, 0.92, 0.19, 0.1), "light"),
        Part(ellipse(0.24, 0.92, 0.19, 0.1), "light"),
    ]
    for s in (-1.0, 1.0):
        out.append(Part(rounded([(s * 0.66, -0.28), (s * 0.62, -1.02), (s * 0.06, -0.66)], 0.1), "body"))
    out.append(Part(ellipse(0, -0.34, 0.68, 0.47), "body"))
    for s in (-1.0, 1.0):
        out.append(Part(rounded([(s * 0.55, -0.56), (s * 0.54, -0.86), (s * 0.28, -0.68)], 0.12), "blush", rim=False))
        out.append(Part(ellipse(s * 0.46, -0.14, 0.11, 0.07, n=20), "blush", rim=False))
        out.extend(_eye(s * 0.27, -0.36, 0.135))
        out.append(Part(poly([(s * 0.42, -0.2), (s * 0.8, -0.26)]), "mark", 0.03, rim=False))
        out.append(Part(poly([(s * 0.42, -0.1), (s * 0.78, -0.06)]), "mark", 0.03, rim=False))
    out.append(Part(rounded([(-0.09, -0.22), (0.09, -0.22), (0, -0.12)], 0.15), "blush", rim=False))
    out.append(Part(arc(-0.075, -0.12, 0.075, 0.07, 0, 150, 8), "mark", 0.035, rim=False))
    out.append(Part(arc(0.075, -0.12, 0.075, 0.07, 30, 180, 8), "mark", 0.035, rim=False))
    return out


def _fish() -> list[Part]:
    return [
        Part(smooth([(-0.42, -0.02), (-0.72, -0.4), (-1.0, -0.5), (-0.88, 0.0), (-1.0, 0.5), (-0.72, 0.4)]), "dark"),
        Part(smooth([(-0.3, -0.36), (0.0, -0.72), (0.42, -0.62), (0.36, -0.3)]), "dark"),
        Part(smooth([(-0.15, 0.36), (-0.1, 0.66), (0.16, 0.64), (0.22, 0.36)]), "dark"),
        Part(
            smooth(
                [
                    (0.98, 0.06),
                    (0.78, -0.3),
                    (0.3, -0.5),
                    (-0.25, -0.36),
                    (-0.62, 0.0),
                    (-0.25, 0.38),
                    (0.3, 0.52),
                    (0.78, 0.38),
                ]
            ),
            "body",
        ),
        Part(
            smooth([(0.84, 0.3), (0.3, 0.34), (-0.3, 0.2), (-0.2, 0.36), (0.3, 0.48), (0.68, 0.42)]), "light", rim=False
        ),
        Part(curve([(0.22, -0.44), (0.32, -0.1), (0.24, 0.3)]), "light", 0.1, rim=False),
        Part(curve([(-0.1, -0.37), (0.0, -0.06), (-0.08, 0.26)]), "light", 0.1, rim=False),
        Part(smooth([(0.12, 0.02), (-0.2, -0.1), (-0.26, 0.14), (-0.14, 0.22)]), "dark", rim=False),
        *_eye(0.62, -0.1, 0.15, 0.1),
        Part(curve([(0.78, 0.22), (0.88, 0.24), (0.95, 0.16)]), "mark", 0.045, rim=False),
    ]


def _bird() -> list[Part]:
    return [
        Part(poly([(0.0, 0.6), (-0.04, 0.92), (0.12, 0.95)]), "beak", 0.07),
        Part(poly([(0.24, 0.58), (0.24, 0.9), (0.4, 0.92)]), "beak", 0.07),
        Part(rounded([(-0.4, 0.0), (-1.0, -0.34), (-0.98, 0.02), (-0.86, 0.16), (-0.4, 0.42)], 0.16), "dark"),
        Part(rounded([(0.74, -0.46), (1.04, -0.28), (0.74, -0.14)], 0.1), "beak"),
        Part(
            smooth(
                [
                    (0.42, -0.82),
                    (0.76, -0.6),
                    (0.8, -0.26),
                    (0.74, 0.2),
                    (0.4, 0.58),
                    (-0.08, 0.64),
                    (-0.52, 0.42),
                    (-0.66, 0.1),
                    (-0.3, -0.12),
                    (0.02, -0.52),
                ]
            ),
            "body",
        ),
        Part(smooth([(0.7, 0.02), (0.62, 0.36), (0.26, 0.58), (0.0, 0.56), (0.34, 0.28)]), "light", rim=False),
        Part(
            smooth([(0.18, -0.1), (0.22, 0.2), (-0.14, 0.42), (-0.66, 0.34), (-0.4, 0.16), (-0.16, -0.14)]),
            "dark",
            rim=False,
        ),
        Part(curve([(0.34, -0.8), (0.24, -0.98), (0.4, -1.0)]), "body", 0.08),
        *_eye(0.5, -0.4, 0.135, 0.1),
    ]


def _butterfly() -> list[Part]:
    out: list[Part] = []
    for s in (-1.0, 1.0):
        out.append(Part(curve([(s * 0.03, -0.5), (s * 0.12, -0.82), (s * 0.3, -0.94)]), "ink", 0.05))
        out.append(Part(ellipse(s * 0.31, -0.93, 0.055, 0.055, n=12), "ink"))
        out.append(
            Part(
                smooth(
                    [
                        (s * 0.04, 0.0),
                        (s * 0.5, 0.02),
                        (s * 0.78, 0.3),
                        (s * 0.66, 0.74),
                        (s * 0.34, 0.82),
                        (s * 0.1, 0.42),
                    ]
                ),
                "dark",
            )
        )
        out.append(
            Part(
                smooth(
                    [
                        (s * 0.04, 0.1),
                        (s * 0.16, -0.34),
                        (s * 0.56, -0.78),
                        (s * 0.96, -0.72),
                        (s * 0.98, -0.3),
                        (s * 0.72, 0.06),
                        (s * 0.3, 0.18),
                    ]
                ),
                "body",
            )
        )
        out.append(Part(ellipse(s * 0.68, -0.42, 0.17, 0.2, s * 30), "light", rim=False))
        out.append(Part(ellipse(s * 0.34, -0.12, 0.1, 0.12, s * 40, 20), "light", rim=False))
        out.append(Part(ellipse(s * 0.46, 0.46, 0.16, 0.18), "body", rim=False))
    out.append(Part(ellipse(0, 0.05, 0.1, 0.52), "ink"))
    out.append(Part(ellipse(0, -0.46, 0.14, 0.14), "ink"))
    return out


def _snail() -> list[Part]:
    t = np.linspace(0.5, 4.2 * math.pi, 40)
    r = 0.5 * t / t[-1]
    spiral = np.stack([-0.2 + r * np.cos(t + 0.4), -0.1 + r * np.sin(t + 0.4)], axis=1)
    return [
        Part(curve([(0.62, 0.1), (0.6, -0.2), (0.5, -0.44)]), "light", 0.1),
        Part(curve([(0.74, 0.1), (0.84, -0.18), (0.88, -0.42)]), "light", 0.1),
        Part(
            smooth(
                [
                    (-1.0, 0.76),
                    (-0.6, 0.42),
                    (0.2, 0.44),
                    (0.44, 0.3),
                    (0.5, 0.02),
                    (0.74, -0.08),
                    (0.96, 0.08),
                    (0.94, 0.42),
                    (0.7, 0.7),
                    (0.3, 0.8),
                    (-0.5, 0.8),
                ]
            ),
            "light",
        ),
        Part(ellipse(-0.2, -0.1, 0.66, 0.64), "body"),
        Part(spiral, "mark", 0.075, rim=False),
        *_eye(0.49, -0.5, 0.12, 0.2),
        *_eye(0.9, -0.48, 0.12, 0.2),
        Part(arc(0.8, 0.18, 0.1, 0.09, 20, 150, 8), "mark", 0.045, rim=False),
        Part(ellipse(0.62, 0.22, 0.07, 0.05, n=14), "blush", rim=False),
    ]


def _tree() -> list[Part]:
    blobs = [
        (-0.42, 0.08, 0.42),
        (0.42, 0.08, 0.42),
        (-0.3, -0.38, 0.42),
        (0.32, -0.38, 0.42),
        (0, -0.6, 0.38),
        (0, -0.1, 0.5),
    ]
    out = [
        Part(
            smooth([(-0.12, 0.2), (0.12, 0.2), (0.15, 0.7), (0.34, 0.98), (0, 0.94), (-0.34, 0.98), (-0.15, 0.7)]),
            "wood",
        ),
        Part(poly([(0.02, 0.6), (0.3, 0.3)]), "wood", 0.12),
    ]
    out += [Part(ellipse(x, y, r, r), "body") for x, y, r in blobs]
    out += [
        Part(
            smooth(
                [(-0.8, 0.2), (-0.4, 0.32), (0, 0.22), (0.4, 0.32), (0.8, 0.2), (0.5, 0.48), (0, 0.38), (-0.5, 0.48)]
            ),
            "dark",
            rim=False,
        ),
        Part(ellipse(-0.3, -0.5, 0.2, 0.15, -30), "light", rim=False),
        Part(ellipse(0.22, -0.2, 0.15, 0.1, -20), "light", rim=False),
        Part(ellipse(-0.46, 0.02, 0.15, 0.1, -20), "light", rim=False),
    ]
    return out


def _flower() -> list[Part]:
    out = [
        Part(curve([(0, -0.2), (0.05, 0.4), (0, 0.98)]), "stem", 0.11),
        Part(smooth([(0.02, 0.86), (0.2, 0.56), (0.56, 0.5), (0.42, 0.76)]), "stem"),
        Part(smooth([(0.02, 0.94), (-0.2, 0.66), (-0.56, 0.62), (-0.42, 0.86)]), "stem"),
    ]
    for i in range(6):
        a = math.radians(60 * i + 30)
        x, y = 0.4 * math.cos(a), -0.3 + 0.4 * math.sin(a)
        out.append(Part(ellipse(x, y, 0.33, 0.27, 60 * i + 30), "body"))
    for i in range(6):
        a = math.radians(60 * i)
        x, y = math.cos(a), math.sin(a)
        out.append(Part(poly([(0.2 * x, -0.3 + 0.2 * y), (0.44 * x, -0.3 + 0.44 * y)]), "dark", 0.05, rim=False))
    out.append(Part(ellipse(0, -0.3, 0.23, 0.23), "heart", rim=False))
    out.append(Part(ellipse(-0.08, -0.33, 0.035, 0.05, n=10), "ink", rim=False))
    out.append(Part(ellipse(0.08, -0.33, 0.035, 0.05, n=10), "ink", rim=False))
    out.append(Part(arc(0, -0.27, 0.08, 0.07, 20, 160, 8), "ink", 0.035, rim=False))
    return out


def _mushroom() -> list[Part]:
    return [
        Part(
            smooth([(-0.26, 0.0), (0.26, 0.0), (0.3, 0.5), (0.38, 0.9), (0, 0.98), (-0.38, 0.9), (-0.3, 0.5)]), "cream"
        ),
        Part(
            smooth(
                [
                    (-0.96, 0.12),
                    (-0.84, -0.42),
                    (-0.42, -0.82),
                    (0, -0.94),
                    (0.42, -0.82),
                    (0.84, -0.42),
                    (0.96, 0.12),
                    (0.55, 0.25),
                    (0, 0.28),
                    (-0.55, 0.25),
                ]
            ),
            "body",
        ),
        Part(
            smooth(
                [(-0.9, 0.12), (-0.5, 0.1), (0, 0.12), (0.5, 0.1), (0.9, 0.12), (0.5, 0.23), (0, 0.26), (-0.5, 0.23)]
            ),
            "dark",
            rim=False,
        ),
        Part(ellipse(-0.12, -0.56, 0.2, 0.16, -10), "spot", rim=False),
        Part(ellipse(0.46, -0.32, 0.17, 0.15, 25), "spot", rim=False),
        Part(ellipse(-0.56, -0.2, 0.16, 0.15, -30), "spot", rim=False),
        Part(ellipse(0.02, -0.12, 0.11, 0.09), "spot", rim=False),
        Part(ellipse(-0.14, 0.52, 0.05, 0.075, n=12), "ink", rim=False),
        Part(ellipse(0.14, 0.52, 0.05, 0.075, n=12), "ink", rim=False),
        Part(arc(0, 0.58, 0.09, 0.09, 20, 160, 8), "ink", 0.04, rim=False),
    ]


def _house() -> list[Part]:
    return [
        Part(poly([(0.38, -0.86), (0.62, -0.86), (0.62, -0.2), (0.38, -0.2)]), "dark"),
        Part(poly([(-0.74, -0.2), (0.74, -0.2), (0.74, 0.94), (-0.74, 0.94)]), "body"),
        Part(poly([(-0.74, 0.78), (0.74, 0.78), (0.74, 0.94), (-0.74, 0.94)]), "dark", rim=False),
        Part(poly([(-0.74, -0.14), (0.74, -0.14), (0.74, 0.0), (-0.74, 0.0)]), "dark", rim=False),
        Part(rounded([(-1.02, -0.1), (0, -1.02), (1.02, -0.1)], 0.06), "roof"),
        Part(ellipse(0, -0.44, 0.16, 0.16), "glow", rim=False),
        Part(rounded([(-0.18, 0.94), (-0.18, 0.36), (0, 0.22), (0.18, 0.36), (0.18, 0.94)], 0.04), "wood", rim=False),
        Part(ellipse(0.1, 0.64, 0.04, 0.04, n=10), "glow", rim=False),
        Part(poly([(-0.6, 0.14), (-0.3, 0.14), (-0.3, 0.5), (-0.6, 0.5)]), "glow", rim=False),
        Part(poly([(0.3, 0.14), (0.6, 0.14), (0.6, 0.5), (0.3, 0.5)]), "glow", rim=False),
        Part(poly([(-0.45, 0.14), (-0.45, 0.5)]), "spot", 0.04, rim=False),
        Part(poly([(-0.6, 0.32), (-0.3, 0.32)]), "spot", 0.04, rim=False),
        Part(poly([(0.45, 0.14), (0.45, 0.5)]), "spot", 0.04, rim=False),
        Part(poly([(0.3, 0.32), (0.6, 0.32)]), "spot", 0.04, rim=False),
    ]


def _car() -> list[Part]:
    out = [
        Part(
            smooth([(-0.62, 0.1), (-0.5, -0.42), (-0.1, -0.6), (0.3, -0.5), (0.58, 0.04), (0.3, 0.2), (-0.3, 0.2)]),
            "body",
        ),
        Part(
            smooth(
                [
                    (-0.98, 0.34),
                    (-0.94, 0.04),
                    (-0.6, -0.06),
                    (0.0, -0.06),
                    (0.6, -0.02),
                    (0.94, 0.14),
                    (1.0, 0.44),
                    (0.86, 0.54),
                    (0.0, 0.56),
                    (-0.86, 0.54),
                ]
            ),
            "body",
        ),
        Part(
            smooth([(-0.92, 0.4), (0.0, 0.38), (0.94, 0.4), (0.86, 0.53), (0.0, 0.55), (-0.86, 0.53)]),
            "dark",
            rim=False,
        ),
        Part(rounded([(-0.46, -0.04), (-0.38, -0.34), (-0.1, -0.46), (-0.1, -0.04)], 0.12), "glass", rim=False),
        Part(rounded([(0.02, -0.04), (0.02, -0.46), (0.22, -0.38), (0.42, -0.02)], 0.12), "glass", rim=False),
        Part(poly([(-0.1, 0.12), (0.02, 0.12)]), "mark", 0.05, rim=False),
        Part(ellipse(0.88, 0.2, 0.08, 0.1, n=18), "glow", rim=False),
    ]
    for x in (-0.52, 0.54):
        out.append(Part(ellipse(x, 0.52, 0.27, 0.27), "tyre"))
        out.append(Part(ellipse(x, 0.52, 0.13, 0.13), "hub", rim=False))
    return out


def _boat() -> list[Part]:
    return [
        Part(poly([(0.0, -0.94), (0.0, 0.4)]), "wood", 0.09),
        Part(smooth([(0.08, -0.86), (0.5, -0.36), (0.72, 0.2), (0.4, 0.24), (0.08, 0.22)], 5), "body"),
        Part(smooth([(-0.08, -0.66), (-0.4, -0.2), (-0.62, 0.2), (-0.3, 0.24), (-0.08, 0.22)], 5), "light"),
        Part(rounded([(0.0, -1.0), (0.3, -0.92), (0.0, -0.82)], 0.05), "dark"),
        Part(rounded([(-0.98, 0.36), (0.98, 0.36), (0.66, 0.9), (-0.62, 0.9)], 0.13), "body"),
        Part(poly([(-0.86, 0.44), (0.86, 0.44)]), "light", 0.09, rim=False),
        Part(rounded([(-0.74, 0.74), (0.78, 0.74), (0.62, 0.89), (-0.58, 0.89)], 0.13), "dark", rim=False),
        Part(ellipse(-0.4, 0.6, 0.075, 0.075, n=16), "spot", rim=False),
        Part(ellipse(0.0, 0.6, 0.075, 0.075, n=16), "spot", rim=False),
        Part(ellipse(0.4, 0.6, 0.075, 0.075, n=16), "spot", rim=False),
    ]


def _rocket() -> list[Part]:
    return [
        Part(smooth([(-0.2, 0.58), (0.2, 0.58), (0.24, 0.76), (0.0, 1.04), (-0.24, 0.76)]), "flame"),
        Part(smooth([(-0.1, 0.6), (0.1, 0.6), (0.12, 0.7), (0.0, 0.86), (-0.12, 0.7)]), "flame2", rim=False),
        Part(rounded([(-0.3, 0.08), (-0.7, 0.48), (-0.7, 0.84), (-0.28, 0.6)], 0.16), "dark"),
        Part(rounded([(0.3, 0.08), (0.7, 0.48), (0.7, 0.84), (0.28, 0.6)], 0.16), "dark"),
        Part(
            smooth(
                [
                    (0, -1.02),
                    (0.28, -0.66),
                    (0.42, -0.16),
                    (0.36, 0.4),
                    (0.22, 0.62),
                    (-0.22, 0.62),
                    (-0.36, 0.4),
                    (-0.42, -0.16),
                    (-0.28, -0.66),
                ]
            ),
            "body",
        ),
        Part(
            smooth([(0, -1.0), (0.18, -0.8), (0.29, -0.6), (0, -0.52), (-0.29, -0.6), (-0.18, -0.8)]), "dark", rim=False
        ),
        Part(curve([(-0.27, -0.4), (-0.31, -0.1), (-0.26, 0.32)]), "light", 0.09, rim=False),
        Part(ellipse(0.02, -0.14, 0.22, 0.22), "deep", rim=False),
        Part(ellipse(0.02, -0.14, 0.155, 0.155), "glass", rim=False),
        Part(smooth([(-0.32, 0.44), (0, 0.5), (0.32, 0.44), (0.22, 0.6), (0, 0.62), (-0.22, 0.6)]), "dark", rim=False),
        Part(ellipse(0.0, 0.46, 0.07, 0.26), "dark"),
    ]


def _balloon() -> list[Part]:
    return [
        Part(poly([(-0.34, 0.42), (-0.17, 0.76)]), "wood", 0.05),
        Part(poly([(0.34, 0.42), (0.17, 0.76)]), "wood", 0.05),
        Part(poly([(0.0, 0.42), (0.0, 0.76)]), "wood", 0.05),
        Part(rounded([(-0.22, 0.72), (0.22, 0.72), (0.18, 1.0), (-0.18, 1.0)], 0.1), "wood"),
        Part(
            smooth(
                [
                    (0, -1.02),
                    (0.5, -0.88),
                    (0.78, -0.44),
                    (0.72, -0.04),
                    (0.38, 0.4),
                    (0.22, 0.54),
                    (-0.22, 0.54),
                    (-0.38, 0.4),
                    (-0.72, -0.04),
                    (-0.78, -0.44),
                    (-0.5, -0.88),
                ]
            ),
            "body",
        ),
        Part(
            smooth(
                [
                    (0, -1.0),
                    (0.3, -0.78),
                    (0.4, -0.4),
                    (0.36, 0.0),
                    (0.14, 0.5),
                    (-0.14, 0.5),
                    (-0.36, 0.0),
                    (-0.4, -0.4),
                    (-0.3, -0.78),
                ]
            ),
            "light",
            rim=False,
        ),
        Part(
            smooth(
                [
                    (0, -1.0),
                    (0.1, -0.78),
                    (0.14, -0.4),
                    (0.12, 0.0),
                    (0.05, 0.5),
                    (-0.05, 0.5),
                    (-0.12, 0.0),
                    (-0.14, -0.4),
                    (-0.1, -0.78),
                ]
            ),
            "body",
            rim=False,
        ),
        Part(smooth([(-0.32, 0.42), (0, 0.46), (0.32, 0.42), (0.22, 0.53), (-0.22, 0.53)]), "dark", rim=False),
    ]


def _star() -> list[Part]:
    pts = []
    for i in range(10):
        a = math.radians(-90 + 36 * i)
        r = 1.08 if i % 2 == 0 else 0.52
        pts.append((r * math.cos(a), 0.06 + r * math.sin(a)))
    inner = [(x * 0.72, 0.06 + (y - 0.06) * 0.72) for x, y in pts]
    return [
        Part(rounded(pts, 0.14), "body"),
        Part(rounded(inner, 0.14), "light", rim=False),
        Part(rounded([(x * 0.93 + 0.03, y * 0.93 + 0.05) for x, y in inner], 0.14), "body", rim=False),
        Part(ellipse(-0.18, -0.02, 0.065, 0.1, n=16), "mark", rim=False),
        Part(ellipse(0.18, -0.02, 0.065, 0.1, n=16), "mark", rim=False),
        Part(arc(0, 0.12, 0.15, 0.13, 10, 170, 10), "mark", 0.055, rim=False),
        Part(ellipse(-0.34, 0.14, 0.08, 0.055, n=14), "blush", rim=False),
        Part(ellipse(0.34, 0.14, 0.08, 0.055, n=14), "blush", rim=False),
    ]


def _heart() -> list[Part]:
    t = np.linspace(0, 2 * math.pi, 56, endpoint=False)
    x = 16 * np.sin(t) ** 3 / 16.5
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16.0 - 0.08
    return [
        Part(np.stack([x, y], axis=1), "dark"),
        Part(np.stack([x * 0.9 - 0.03, y * 0.9 - 0.05], axis=1), "body", rim=False),
        Part(ellipse(-0.46, -0.42, 0.22, 0.13, -38), "light", rim=False),
        Part(ellipse(-0.68, -0.12, 0.07, 0.07, n=14), "light", rim=False),
    ]


def _umbrella() -> list[Part]:
    dome = arc(0, 0.1, 0.98, 0.98, 180, 360, 26)
    scallops = [arc(x, 0.1, 0.245, 0.14, 0, -180, 9) for x in (0.735, 0.245, -0.245, -0.735)]
    top = (0.0, -0.88)
    out = [
        Part(poly([(0, -1.0), (0, -0.8)]), "wood", 0.09),
        Part(curve([(0, -0.1), (0, 0.5), (0.0, 0.76), (0.1, 0.93), (0.26, 0.9), (0.31, 0.74)]), "wood", 0.1),
        Part(np.concatenate([dome, *scallops]), "body"),
    ]
    for s in (-1.0, 1.0):
        panel = curve([(s * 0.49, 0.1), (s * 0.36, -0.44), top])
        outer = curve([top, (s * 0.74, -0.52), (s * 0.98, 0.1)])
        out.append(
            Part(
                np.concatenate(
                    [panel, outer, arc(s * 0.735, 0.1, 0.245, 0.14, 0 if s > 0 else 180, -180 if s > 0 else 360, 9)]
                ),
                "dark",
                rim=False,
            )
        )
    out.append(Part(curve([(-0.56, -0.5), (-0.3, -0.72), (-0.16, -0.77)]), "light", 0.07, rim=False))
    out.append(Part(curve([(0.0, 0.0), (0.0, -0.86)]), "dark", 0.035, rim=False))
    return out


_DRAWINGS = {
    "cat": _cat,
    "fish": _fish,
    "bird": _bird,
    "butterfly": _butterfly,
    "snail": _snail,
    "tree": _tree,
    "flower": _flower,
    "mushroom": _mushroom,
    "house": _house,
    "car": _car,
    "boat": _boat,
    "rocket": _rocket,
    "balloon": _balloon,
    "star": _star,
    "heart": _heart,
    "umbrella": _umbrella,
}
