"""The six media: how the shapes of a scene become a picture; it does not know what the shapes stand for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from training.places import Backdrop
from training.shapes import Floats, Image, Part, Patch, Points, luma, mix, scaled
from training.world import RGB

Tone = Callable[[RGB], RGB]

_SHIFT = 4
_FINE = 2
_WHITE: RGB = (255, 255, 255)
_PAPER: RGB = (252, 250, 244)


@dataclass(frozen=True)
class Figure:
    """A subject's pieces already placed in picture units, its paints, and where its foot casts a shadow."""

    parts: tuple[Part, ...]
    paints: dict[str, RGB]
    colour: str
    centre: tuple[float, float]
    radius: float
    foot: float
    standing: bool


@dataclass(frozen=True)
class Layer:
    """A drawn figure: where its box lies, its paint and how much it covers."""

    x: int
    y: int
    rgb: Image
    mask: Image


@dataclass(frozen=True)
class Pen:
    """How a figure is drawn: its tone, the outline around the silhouette, and the line along each inner piece."""

    tone: Tone
    outline: RGB
    outline_width: float
    line: RGB | None = None
    line_width: float = 0.0
    rim: RGB | None = None
    rim_width: float = 0.0


def paint(medium: str, back: Backdrop, figures: Sequence[Figure], width: int, height: int, seed: int) -> Image:
    """The scene as a picture [height, width, 3]."""
    rng = np.random.default_rng(seed)
    return _u8(_MEDIA[medium](back, figures, width, height, rng))


def silhouette(figure: Figure, width: int, height: int) -> Image:
    """How much the figure covers each pixel, 0 to 255."""
    layer = _layer(figure, width, height, Pen(_same, (0, 0, 0), 0.0))
    out = np.zeros((height, width), np.uint8)
    out[layer.y : layer.y + layer.mask.shape[0], layer.x : layer.x + layer.mask.shape[1]] = layer.mask
    return out


def _same(rgb: RGB) -> RGB:
    return rgb


def _fixed(pts: Points, scale: float, dx: float = 0.0, dy: float = 0.0) -> NDArray[np.int32]:
    return np.rint((pts * scale - (dx, dy)) * (1 << _SHIFT)).astype(np.int32)


def _fill(img: Image, pts: Points, rgb: RGB | int, scale: float, dx: float = 0.0, dy: float = 0.0) -> None:
    cv2.fillPoly(img, [_fixed(pts, scale, dx, dy)], rgb if isinstance(rgb, tuple) else (rgb,), cv2.LINE_AA, _SHIFT)


def _stroke(
    img: Image, pts: Points, rgb: RGB | int, width: float, closed: bool, scale: float, dx: float = 0.0, dy: float = 0.0
) -> None:
    cv2.polylines(
        img,
        [_fixed(pts, scale, dx, dy)],
        closed,
        rgb if isinstance(rgb, tuple) else (rgb,),
        max(1, round(width)),
        cv2.LINE_AA,
        _SHIFT,
    )


def _is_spark(patch: Patch) -> bool:
    """Whether the patch is a tiny bright spot, such as a star, a snowflake or a lit window."""
    return (
        not patch.edge and patch.width == 0 and luma(patch.rgb) > 200 and float(np.ptp(patch.pts, axis=0).max()) < 0.07
    )


def _is_small(patch: Patch) -> bool:
    """Whether the patch is a stroke, or no larger than the sun."""
    return patch.width > 0 or float(np.ptp(patch.pts, axis=0).max()) < 0.25


def _sky(top: RGB, bottom: RGB, width: int, height: int, reach: float = 0.75) -> Image:
    t = np.clip(np.linspace(0, 1 / reach, height, dtype=np.float32), 0, 1)[:, None, None]
    column = np.array(top, np.float32) * (1 - t) + np.array(bottom, np.float32) * t
    return np.ascontiguousarray(np.broadcast_to(np.rint(column).astype(np.uint8), (height, width, 3)))


def _background(
    back: Backdrop,
    width: int,
    height: int,
    tone: Tone,
    line: Tone | None = None,
    line_width: float = 0.0,
    spark: Tone | None = None,
) -> Image:
    """The backdrop painted in a tone, with a line along the edges where one is asked for."""
    scale = float(min(width, height))
    img = _sky(tone(back.top), tone(back.bottom), width, height)
    for patch in back.patches:
        rgb = spark(patch.rgb) if spark is not None and _is_spark(patch) else tone(patch.rgb)
        if patch.width > 0:
            if line is not None and patch.edge:
                _stroke(img, patch.pts, line(patch.rgb), patch.width * scale + 2 * line_width, False, scale)
            _stroke(img, patch.pts, rgb, patch.width * scale, False, scale)
        else:
            _fill(img, patch.pts, rgb, scale)
            if line is not None and patch.edge:
                _stroke(img, patch.pts, line(patch.rgb), line_width, True, scale)
    return img


def _shadows(img: Image, figures: Sequence[Figure], strength: float) -> None:
    """A soft dark pool under every standing figure."""
    scale = float(min(img.shape[:2]))
    for figure in figures:
        if not figure.standing:
            continue
        cx, cy = figure.centre[0] * scale, (figure.foot - 0.02 * figure.radius) * scale
        rx, ry = figure.radius * 0.85 * scale, figure.radius * 0.12 * scale
        x0, x1 = max(0, int(cx - rx)), min(img.shape[1], int(cx + rx) + 1)
        y0, y1 = max(0, int(cy - ry)), min(img.shape[0], int(cy + ry) + 1)
        if x1 <= x0 or y1 <= y0:
            continue
        gx = (np.arange(x0, x1, dtype=np.float32) - cx) / rx
        gy = (np.arange(y0, y1, dtype=np.float32) - cy) / ry
        pool = np.clip(1.6 * (1 - gx[None, :] ** 2 - gy[:, None] ** 2), 0, 1) * strength
        box = img[y0:y1, x0:x1]
        box[...] = (box * (1 - pool[:, :, None])).astype(np.uint8)


def _layer(figure: Figure, width: int, height: int, pen: Pen) -> Layer:
    """The figure drawn alone, twice as fine as the picture, then reduced."""
    scale = float(min(width, height))
    reach = figure.radius * 1.3 * scale + 6
    x0, y0 = max(0, int(figure.centre[0] * scale - reach)), max(0, int(figure.centre[1] * scale - reach))
    x1, y1 = min(width, int(figure.centre[0] * scale + reach)), min(height, int(figure.centre[1] * scale + reach))
    shape = ((y1 - y0) * _FINE, (x1 - x0) * _FINE)
    fine, dx, dy = scale * _FINE, x0 * _FINE, y0 * _FINE
    unit = fine / 256
    mask = np.zeros(shape, np.uint8)
    outer = pen.rim if pen.rim is not None else pen.outline
    rgb = np.empty((*shape, 3), np.uint8)
    rgb[:] = outer
    grown = 2 * pen.outline_width * unit
    for part in figure.parts:
        if not part.rim:
            continue
        for target, value, extra in ((mask, 255, grown + 2 * pen.rim_width * unit), (rgb, pen.outline, grown)):
            if part.width > 0:
                _stroke(target, part.pts, value, part.width * fine + extra, False, fine, dx, dy)
            else:
                _fill(target, part.pts, value, fine, dx, dy)
                if extra >= 1:
                    _stroke(target, part.pts, value, extra, True, fine, dx, dy)
    for part in figure.parts:
        paint_rgb = pen.tone(figure.paints[part.role])
        if part.width > 0:
            if pen.line is not None and part.rim:
                _stroke(rgb, part.pts, pen.line, part.width * fine + 2 * pen.line_width * unit, False, fine, dx, dy)
            _stroke(rgb, part.pts, paint_rgb, part.width * fine, False, fine, dx, dy)
        else:
            _fill(rgb, part.pts, paint_rgb, fine, dx, dy)
            if pen.line is not None and part.rim:
                _stroke(rgb, part.pts, pen.line, pen.line_width * unit, True, fine, dx, dy)
    size = (x1 - x0, y1 - y0)
    return Layer(
        x0,
        y0,
        _u8(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)),
        _u8(cv2.resize(mask, size, interpolation=cv2.INTER_AREA)),
    )


def _u8(img: object) -> Image:
    return np.asarray(img, dtype=np.uint8)


def _f32(img: object) -> Floats:
    return np.asarray(img, dtype=np.float32)


def _put(img: Image, layer: Layer) -> None:
    h, w = layer.mask.shape
    box = img[layer.y : layer.y + h, layer.x : layer.x + w]
    a = layer.mask.astype(np.uint16)[:, :, None]
    box[...] = ((layer.rgb * a + box * (255 - a) + 127) // 255).astype(np.uint8)


def _noise(rng: np.random.Generator, width: int, height: int, cells: float) -> Floats:
    """Smooth noise between about -1 and 1 with this many cells along the shorter side."""
    s = min(width, height)
    grid = rng.uniform(-1, 1, (max(2, round(cells * height / s)) + 1, max(2, round(cells * width / s)) + 1))
    return _f32(cv2.resize(grid.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC))


def _behind(img: Image, figure: Figure) -> RGB:
    """The mean colour of the picture around the figure."""
    scale = min(img.shape[:2])
    r = figure.radius * scale
    cx, cy = figure.centre[0] * scale, figure.centre[1] * scale
    box = img[max(0, int(cy - r)) : int(cy + r), max(0, int(cx - r)) : int(cx + r)][::4, ::4]
    mean = box.reshape(-1, 3).mean(axis=0)
    return (int(mean[0]), int(mean[1]), int(mean[2]))


def _far(a: RGB, b: RGB) -> float:
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def _rim(img: Image, figure: Figure) -> RGB | None:
    """A pale rim when the figure would sink into what lies behind it."""
    behind, body, deep = _behind(img, figure), figure.paints["body"], figure.paints["deep"]
    if luma(body) > 190 and luma(behind) > 110:
        return None
    if luma(behind) < 105 and luma(body) < 120 or _far(behind, body) < 70 or _far(behind, deep) < 60:
        return (255, 250, 236)
    return None


def _flat(back: Backdrop, figures: Sequence[Figure], width: int, height: int, rng: np.random.Generator) -> Image:
    img = _background(back, width, height, _same)
    _shadows(img, figures, 0.22)
    for figure in figures:
        rim = _rim(img, figure)
        _put(
            img,
            _layer(
                figure, width, height, Pen(_same, figure.paints["deep"], 1.6, rim=rim, rim_width=2.0 if rim else 0.0)
            ),
        )
    return img


def _watercolor(back: Backdrop, figures: Sequence[Figure], width: int, height: int, rng: np.random.Generator) -> Image:
    def pale(rgb: RGB) -> RGB:
        return mix(_richer(rgb, 1.25), _PAPER, 0.22 + 0.22 * luma(rgb) / 255)

    def rich(rgb: RGB) -> RGB:
        return mix(rgb, _PAPER, 0.14)

    wash = _background(back, width, height, pale, lambda rgb: mix(scaled(rgb, 0.86), _PAPER, 0.38), 1.0 * width / 256)
    _shadows(wash, figures, 0.16)
    scale = min(width, height)
    edge_x = np.minimum(np.arange(width), np.arange(width)[::-1]).astype(np.float32) / scale
    edge_y = np.minimum(np.arange(height), np.arange(height)[::-1]).astype(np.float32) / scale
    distance = np.minimum(edge_x[None, :], edge_y[:, None]) + 0.026 * _noise(rng, width, height, 7)
    cover = np.clip((distance - 0.04) / 0.018, 0, 1)
    # Pigment gathers along the edge of the wash.
    rimmed = np.clip(1 - np.abs(distance - 0.062) / 0.02, 0, 1) * 0.16
    pigment = _noise(rng, width, height, 4) * 0.2 + _noise(rng, width, height, 11) * 0.1
    paper = np.array(_PAPER, np.float32)
    depth = (cover * (1 + pigment) + rimmed)[:, :, None]
    img = np.clip(paper - (paper - wash) * depth, 0, 255).astype(np.uint8)
    for figure in figures:
        edge = mix(scaled(figure.paints["body"], 0.66), _PAPER, 0.1)
        if figure.colour == "white":
            edge = (150, 160, 182)
        white = _layer(figure, width, height, Pen(rich, edge, 1.5, rim=(255, 254, 250), rim_width=1.2))
        h, w = white.mask.shape
        tint = pigment[white.y : white.y + h, white.x : white.x + w, None] * (1.0 if figure.colour != "black" else 0.5)
        rgb = np.clip(255 - (255 - white.rgb.astype(np.float32)) * (1 + 0.62 * tint), 0, 255).astype(np.uint8)
        _put(img, Layer(white.x, white.y, rgb, white.mask))
    return _u8(img)


def _pixels(back: Backdrop, figures: Sequence[Figure], width: int, height: int, rng: np.random.Generator) -> Image:
    block = 8 if min(width, height) >= 160 else 4
    cols, rows = -(-width // block), -(-height // block)
    sparks = [patch for patch in back.patches if _is_spark(patch)] if back.sparkling else []
    plain = replace(back, patches=tuple(p for p in back.patches if not _is_spark(p))) if sparks else back
    img = _u8(cv2.medianBlur(_background(plain, width, height, _same), block // 2 + 1))
    small = img[block // 2 :: block, block // 2 :: block]
    small = ((small.astype(np.int32) + 8) // 16 * 16).clip(0, 255).astype(np.uint8)
    small = _u8(cv2.copyMakeBorder(small, 0, rows - small.shape[0], 0, cols - small.shape[1], cv2.BORDER_REPLICATE))
    # The figures are drawn on a grid twice as fine as the background's.
    fine = _u8(cv2.resize(small, (cols * 2, rows * 2), interpolation=cv2.INTER_NEAREST))
    half = block // 2
    scale = min(width, height)
    for patch in sparks:
        sx, sy = (patch.pts.mean(axis=0) * scale / half).astype(int)
        fine[sy : sy + 1, sx : sx + 1] = patch.rgb
    for figure in figures:
        rim = _rim(img, figure)
        layer = _layer(figure, width, height, Pen(_same, figure.paints["deep"], 0.0))
        cover = np.zeros((rows * block, cols * block), np.uint8)
        colour = np.zeros((rows * block, cols * block, 3), np.uint8)
        h, w = layer.mask.shape
        cover[layer.y : layer.y + h, layer.x : layer.x + w] = layer.mask
        colour[layer.y : layer.y + h, layer.x : layer.x + w] = layer.rgb
        colour[:] = np.where(cover[:, :, None] > 127, colour, np.array(figure.paints["body"], np.uint8))
        mask = _u8(cv2.resize(cover, (cols * 2, rows * 2), interpolation=cv2.INTER_AREA)) > 110
        mean = colour[half // 2 :: half, half // 2 :: half].astype(np.int32)
        inks = np.array(sorted({figure.paints[p.role] for p in figure.parts}), np.int32)
        nearest = ((mean[:, :, None, :] - inks) ** 2).sum(axis=3).argmin(axis=2)
        cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
        around = cv2.dilate(mask.astype(np.uint8), cross) > 0
        if rim is not None:
            fine[cv2.dilate(around.astype(np.uint8), cross) > 0] = rim
        fine[around] = figure.paints["deep"] if figure.colour != "white" else (70, 78, 104)
        fine[mask] = inks[nearest[mask]].astype(np.uint8)
    big = _u8(cv2.resize(fine, (cols * block, rows * block), interpolation=cv2.INTER_NEAREST))
    return np.ascontiguousarray(big[:height, :width])


def _hatch(width: int, height: int, rng: np.random.Generator, slant: float) -> Floats:
    """Broad slanted pencil strokes, 0 to 1."""
    s = min(width, height)
    gx = np.arange(width, dtype=np.float32)[None, :] / s
    gy = np.arange(height, dtype=np.float32)[:, None] / s
    wander = _noise(rng, width, height, 5)
    return _f32(0.5 + 0.5 * np.sin((gx * slant + gy) * 2 * math.pi * 16 + 1.3 * wander))


def _pencil(back: Backdrop, figures: Sequence[Figure], width: int, height: int, rng: np.random.Generator) -> Image:
    paper: RGB = (250, 249, 245)
    unit = min(width, height) / 256

    def faint(rgb: RGB) -> RGB:
        return mix(rgb, paper, 0.68)

    def grey(rgb: RGB) -> RGB:
        return (128, 128, 132)

    img = _background(back, width, height, faint, grey, 1.3 * unit)
    hatch = _hatch(width, height, rng, -0.5)
    strokes = _hatch(width, height, rng, 0.9)
    base = np.array(paper, np.float32)
    img = np.clip(base - (base - img) * (1.04 - 0.24 * hatch[:, :, None]), 0, 255).astype(np.uint8)
    for figure in figures:
        soft = 0.06 if figure.colour in ("brown", "black", "orange") else 0.16

        def tint(rgb: RGB, soft: float = soft) -> RGB:
            return mix(rgb, paper, soft)

        hardness = 0.12 if figure.colour == "black" else 0.22
        dark: RGB = (52, 52, 58)
        layer = _layer(figure, width, height, Pen(tint, dark, 1.4, dark, 2.0, rim=paper, rim_width=1.6))
        h, w = layer.mask.shape
        part = strokes[layer.y : layer.y + h, layer.x : layer.x + w, None]
        rgb = np.clip(base - (base - layer.rgb) * (1.05 - hardness * part), 0, 255).astype(np.uint8)
        _put(img, Layer(layer.x, layer.y, rgb, layer.mask))
    return img


def _small_shapes(back: Backdrop, width: int, height: int) -> NDArray[np.bool_]:
    """Where small shapes of the backdrop lie uncovered."""
    scale = float(min(width, height))
    mask = np.zeros((height, width), np.uint8)
    for patch in back.patches:
        value = 255 if _is_small(patch) else 0
        if patch.width > 0:
            _stroke(mask, patch.pts, value, patch.width * scale, False, scale)
        else:
            _fill(mask, patch.pts, value, scale)
    return mask > 127


def _brush(width: int, height: int, rng: np.random.Generator) -> Floats:
    """Bristle marks: noise drawn out along a slanted direction, about -1 to 1."""
    s = min(width, height)
    side = int(math.hypot(width, height)) + 2
    cells = side / s
    grid = rng.uniform(-1, 1, (max(3, round(26 * cells)), max(3, round(5 * cells)))).astype(np.float32)
    field = cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), float(rng.uniform(24, 40)), 1.1)
    turn[0, 2] -= (side - width) / 2
    turn[1, 2] -= (side - height) / 2
    return _f32(cv2.warpAffine(field, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))


def _oil(back: Backdrop, figures: Sequence[Figure], width: int, height: int, rng: np.random.Generator) -> Image:
    def warm(rgb: RGB) -> RGB:
        r, g, b = _richer(rgb, 1.3)
        return (min(255, round(r * 0.93 + 8)), min(255, round(g * 0.88 + 4)), round(b * 0.85))

    # The strokes are laid over the large shapes; the small ones, which strokes would tear, are set on top.
    whole = _background(back, width, height, warm)
    large = replace(back, patches=tuple(patch for patch in back.patches if not _is_small(patch)))
    img = _background(large, width, height, warm)
    scale = min(width, height)
    source = img.copy()
    cols, rows = round(17 * width / scale), round(17 * height / scale)
    chance = rng.uniform(-1, 1, (rows * cols, 5))
    cell = np.arange(rows * cols)
    x = np.clip((cell % cols + 0.5 + 0.4 * chance[:, 0]) * width / cols, 0, width - 1)
    y = np.clip((cell // cols + 0.5 + 0.4 * chance[:, 1]) * height / rows, 0, height - 1)
    colours = np.clip(source[y.astype(int), x.astype(int)] * (1 + 0.07 * chance[:, 2:3]), 0, 255).tolist()
    # Neighbouring strokes run alike, in slow waves over the picture.
    angle = -0.3 + 0.5 * np.sin(3.1 * x / scale + 4.3 * y / scale + 3 * chance[0, 3]) + 0.15 * chance[:, 3]
    reach = (0.03 + 0.008 * chance[:, 4]) * scale
    ends = (
        np.rint(
            16
            * np.stack(
                [
                    x - reach * np.cos(angle),
                    y - reach * np.sin(angle),
                    x + reach * np.cos(angle),
                    y + reach * np.sin(angle),
                ],
                axis=1,
            )
        )
        .astype(int)
        .tolist()
    )
    thick = max(1, round(0.03 * scale))
    for k in rng.permutation(rows * cols).tolist():
        x0, y0, x1, y1 = ends[k]
        cv2.line(img, (x0, y0), (x1, y1), colours[k], thick, cv2.LINE_AA, _SHIFT)
    small = _small_shapes(back, width, height)
    img[small] = whole[small]
    _shadows(img, figures, 0.35)
    for figure in figures:
        rim = _rim(img, figure)

        def rich(rgb: RGB) -> RGB:
            return (int(rgb[0] * 0.97), int(rgb[1] * 0.94), int(rgb[2] * 0.92))

        _put(
            img,
            _layer(
                figure,
                width,
                height,
                Pen(
                    rich,
                    scaled(figure.paints["deep"], 0.8),
                    2.0,
                    rim=mix(rim, (230, 200, 140), 0.4) if rim else None,
                    rim_width=1.6 if rim else 0.0,
                ),
            ),
        )
    marks = 1 + 0.11 * _brush(width, height, rng)[:, :, None]
    return np.clip(img * marks, 0, 255).astype(np.uint8)


def _richer(rgb: RGB, factor: float) -> RGB:
    """The colour with its distance from grey multiplied."""
    grey = luma(rgb)
    r, g, b = (min(255, max(0, round(grey + (c - grey) * factor))) for c in rgb)
    return (r, g, b)


def _vivid(rgb: RGB) -> RGB:
    """The colour as a lamp: as bright as it goes, with its hue strengthened."""
    low = min(rgb) * 0.6
    top = max(max(rgb) - low, 1.0)
    return (round((rgb[0] - low) * 255 / top), round((rgb[1] - low) * 255 / top), round((rgb[2] - low) * 255 / top))


def _neon(back: Backdrop, figures: Sequence[Figure], width: int, height: int, rng: np.random.Generator) -> Image:
    unit = min(width, height) / 256

    def dim(rgb: RGB) -> RGB:
        return mix(scaled(_vivid(rgb) if max(rgb) - min(rgb) > 12 else rgb, 0.13), (10, 6, 26), 0.45)

    def lamp(rgb: RGB) -> RGB:
        return scaled(_vivid(rgb), 0.62)

    img = _background(back, width, height, dim, lamp, 1.7 * unit, lamp)
    size = (max(1, width // 4), max(1, height // 4))
    glow = cv2.GaussianBlur(cv2.resize(img, size, interpolation=cv2.INTER_AREA), (0, 0), 2.2 * unit)
    img = _u8(cv2.addWeighted(img, 1.0, cv2.resize(glow, (width, height), interpolation=cv2.INTER_LINEAR), 0.55, -4))
    halo = np.zeros_like(img)
    layers = []
    for figure in figures:
        body = figure.paints["body"]
        line = mix(body, _WHITE, 0.45)
        light = _vivid(body) if figure.colour not in ("gray", "white", "black") else body
        factor = 0.86
        if figure.colour == "black":
            line, light = (236, 238, 250), (130, 132, 150)
            factor = 0.5
        elif figure.colour == "brown":
            line, light = (196, 132, 84), (128, 76, 38)
        elif figure.colour == "gray":
            line, light = (190, 192, 198), (96, 98, 104)
        elif figure.colour == "white":
            line = (255, 255, 255)

        def tube(rgb: RGB, factor: float = factor) -> RGB:
            return scaled(rgb, factor)

        layer = _layer(figure, width, height, Pen(tube, line, 2.0, line, 1.6))
        layers.append(layer)
        h, w = layer.mask.shape
        spot = halo[layer.y : layer.y + h, layer.x : layer.x + w]
        np.maximum(spot, (layer.mask[:, :, None] > 127) * np.array(light, np.uint8), out=spot)
    blurred = cv2.GaussianBlur(cv2.resize(halo, size, interpolation=cv2.INTER_AREA), (0, 0), 3.2 * unit)
    img = _u8(cv2.addWeighted(img, 1.0, cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR), 0.75, 0))
    for layer in layers:
        _put(img, layer)
    return img


_MEDIA = {
    "flat illustration": _flat,
    "watercolor": _watercolor,
    "pixel art": _pixels,
    "pencil sketch": _pencil,
    "oil painting": _oil,
    "neon": _neon,
}
