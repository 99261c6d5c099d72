"""Lays out a scene and renders it to pixels; it does not know the shapes, the paints or the wording of anything."""

from __future__ import annotations

import math
import random

import numpy as np

from training import media, places, subjects
from training.media import Figure
from training.shapes import Image, Part
from training.world import Scene, Thing

_CENTRES = {
    "small": {"left": 0.27, "center": 0.5, "right": 0.73},
    "large": {"left": 0.33, "center": 0.5, "right": 0.67},
}
_RADII = {"small": 0.19, "large": 0.315}
_PAIR_RADIUS = 0.21
BACKDROPS = 3  # ways in which a place is laid out


def render(scene: Scene, width: int = 256, height: int = 256) -> Image:
    """The scene as an RGB picture [height, width, 3]; equal arguments give equal pictures."""
    back, figures = _lay_out(scene, width, height)
    return media.paint(scene.medium, back, figures, width, height, scene.seed)


def thing_masks(scene: Scene, width: int = 256, height: int = 256) -> list[Image]:
    """For every thing of the scene, how much it covers each pixel, 0 to 255."""
    _, figures = _lay_out(scene, width, height)
    return [media.silhouette(figure, width, height) for figure in figures]


def _lay_out(scene: Scene, width: int, height: int) -> tuple[places.Backdrop, list[Figure]]:
    short = min(width, height)
    w, h = width / short, height / short
    figures = [_place_thing(thing, len(scene.things) == 2, scene.place, w, h) for thing in scene.things]
    variant = scene.seed % BACKDROPS
    return places.backdrop(scene.place, w, h, random.Random(f"{scene.place}/{variant}")), figures


def _place_thing(thing: Thing, paired: bool, place: str, w: float, h: float) -> Figure:
    """A thing where its scene has it, without any chance.

    A shift by half a latent position, or a few degrees of turn, changes every latent along an outline: most of what a
    small network would learn were where exactly lines lie. Things look towards the middle of the picture.
    """
    radius = _PAIR_RADIUS if paired else _RADII[thing.size]
    cx = w * _CENTRES["small" if paired else thing.size][thing.side]
    flip = -1.0 if thing.side == "right" else 1.0
    turn = flip * math.radians(18) if thing.subject == "rocket" else 0.0
    cos, sin = math.cos(turn), math.sin(turn)
    matrix = np.array([[flip * cos, flip * sin], [-sin, cos]]) * radius
    shapes = [(part, part.pts @ matrix) for part in subjects.parts(thing.subject)]
    below = max(float(pts[:, 1].max()) + 0.5 * part.width * radius for part, pts in shapes)
    standing = thing.subject not in subjects.FLOATING
    standing_at = h * (0.9 if radius > 0.25 else 0.86) - below
    floating_at = h * (0.46 if place != "underwater" else 0.48)
    cy = standing_at if standing else floating_at
    cx = min(max(cx, radius * 1.06), w - radius * 1.06)
    cy = min(max(cy, radius * 1.04), h - radius * 1.06)
    parts = tuple(Part(pts + (cx, cy), part.role, part.width * radius, part.rim) for part, pts in shapes)
    return Figure(parts, subjects.paints(thing.colour), thing.colour, (cx, cy), radius, cy + below, standing)
