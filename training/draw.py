"""Lays out a scene and renders it to pixels; it does not know the shapes, the paints or the wording of anything."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np

from training import media, places, subjects
from training.media import Figure
from training.shapes import Image, Part, scaled
from training.world import Scene, Thing

_CENTRES = {
    "small": {"left": 0.27, "center": 0.5, "right": 0.73},
    "large": {"left": 0.33, "center": 0.5, "right": 0.67},
}
_RADII = {"small": 0.19, "large": 0.315}
_PAIR_RADIUS = 0.21


def render(scene: Scene, width: int = 256, height: int = 256) -> Image:
    """The scene as an RGB picture [height, width, 3]; equal arguments give equal pictures."""
    back, figures = _lay_out(scene, width, height)
    return media.paint(scene.medium, back, figures, width, height, scene.seed)


def thing_masks(scene: Scene, width: int = 256, height: int = 256) -> list[Image]:
    """For every thing of the scene, how much it covers each pixel, 0 to 255."""
    _, figures = _lay_out(scene, width, height)
    return [media.silhouette(figure, width, height) for figure in figures]


def _lay_out(scene: Scene, width: int, height: int) -> tuple[places.Backdrop, list[Figure]]:
    rng = random.Random(scene.seed)
    short = min(width, height)
    w, h = width / short, height / short
    # The things draw their chances first, so that they stay in place whatever the background needs.
    figures = [
        _place_thing(thing, len(scene.things) == 2, scene.place, w, h, random.Random(rng.getrandbits(32)))
        for thing in scene.things
    ]
    back = places.backdrop(scene.place, w, h, rng)
    tint = rng.uniform(0.96, 1.04)
    patches = tuple(replace(patch, rgb=scaled(patch.rgb, tint)) for patch in back.patches)
    return replace(back, top=scaled(back.top, tint), bottom=scaled(back.bottom, tint), patches=patches), figures


def _place_thing(thing: Thing, paired: bool, place: str, w: float, h: float, rng: random.Random) -> Figure:
    radius = (_PAIR_RADIUS if paired else _RADII[thing.size]) * rng.uniform(0.95, 1.05)
    cx = w * _CENTRES["small" if paired else thing.size][thing.side] + rng.uniform(-0.015, 0.015)
    turn = math.radians(rng.uniform(-2, 2) if thing.subject in subjects.UPRIGHT else rng.uniform(-8, 8))
    flip = -1.0 if rng.random() < 0.5 else 1.0
    stretch = rng.uniform(0.96, 1.04)
    if thing.subject == "rocket":
        turn += flip * math.radians(18)
    cos, sin = math.cos(turn), math.sin(turn)
    matrix = np.array([[flip * stretch * cos, flip * stretch * sin], [-sin / stretch, cos / stretch]]) * radius
    shapes = [(part, part.pts @ matrix) for part in subjects.parts(thing.subject)]
    below = max(float(pts[:, 1].max()) + 0.5 * part.width * radius for part, pts in shapes)
    standing = thing.subject not in subjects.FLOATING
    if standing:
        cy = h * (0.9 if radius > 0.25 else 0.86) - below + rng.uniform(-0.012, 0.012)
    else:
        cy = h * (0.46 if place != "underwater" else 0.48) + rng.uniform(-0.035, 0.035)
    cx = min(max(cx, radius * 1.06), w - radius * 1.06)
    cy = min(max(cy, radius * 1.04), h - radius * 1.06)
    parts = tuple(Part(pts + (cx, cy), part.role, part.width * radius, part.rim) for part, pts in shapes)
    return Figure(parts, subjects.paints(thing.colour), thing.colour, (cx, cy), radius, cy + below, standing)
