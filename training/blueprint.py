"""A style that the family was not made with: white lines on blue paper. It does not know how it is learned."""

from __future__ import annotations

import cv2
import numpy as np

from training.shapes import Floats, Image
from training.world import RGB

PAPER: RGB = (24, 66, 148)
GRID: RGB = (52, 94, 172)
INK: RGB = (236, 243, 255)
_CELLS = 16  # of the grid along the shorter side


def blueprint(picture: Image) -> Image:
    """An RGB picture [height, width, 3] of flat surfaces, drawn by its edges."""
    height, width = picture.shape[:2]
    scale = min(height, width)
    sheet = np.empty((height, width, 3), np.float32)
    sheet[:] = PAPER
    step = scale // _CELLS
    sheet[step // 2 :: step] = GRID
    sheet[:, step // 2 :: step] = GRID
    ink = _edges(picture, 1.2 * scale / 256)[:, :, None]
    shade = (1 - cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255)[:, :, None]
    sheet *= 1 - 0.3 * shade  # dark things stay a little darker
    return np.clip(sheet + (np.array(INK) - sheet) * ink, 0, 255).astype(np.uint8)


def _edges(picture: Image, width: float) -> Floats:
    """How much of each pixel is line, 0 to 1: where the colour jumps, drawn `width` pixels wide."""
    smooth = cv2.GaussianBlur(picture, (0, 0), 0.7)
    found = np.zeros(picture.shape[:2], np.uint8)
    for channel in cv2.split(smooth):
        found |= np.asarray(cv2.Canny(channel, 60, 120), np.uint8)
    thick = cv2.GaussianBlur(found.astype(np.float32) / 255, (0, 0), width)
    return np.asarray(np.clip(2.2 * thick * width, 0, 1), np.float32)
