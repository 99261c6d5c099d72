"""The labelled grid of an X/Y/Z plot; knows no task and no parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from modules.outputs import OutputError

PAPER, INK, QUIET, WELL = "#fbf9f6", "#302c28", "#6d6558", "#ebe5da"
GAP = 8  # pixels between cells
MOST_SIDE = 16_383  # pixels: what every format takes
MOST_LINES = 4  # of a label
# Letters beyond those of the built-in font: what systems have, the first that is there.
FONTS = (
    "NotoSansCJK-Regular.ttc", "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc", "msyh.ttc", "meiryo.ttc", "malgun.ttf",
    "/System/Library/Fonts/PingFang.ttc", "/System/Library/Fonts/Hiragino Sans GB.ttc", "Arial Unicode.ttf",
    "DejaVuSans.ttf", "arial.ttf",
)  # fmt: skip

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Cell:
    """A picture, or why there is none."""

    path: Path | None
    reason: str = ""


@dataclass(frozen=True)
class Labels:
    """What stands above columns, beside rows, and above each of the grids; one empty label where there is no axis."""

    columns: Sequence[str]
    rows: Sequence[str]
    grids: Sequence[str]


def draw_plot(cells: Sequence[Cell], labels: Labels) -> Image.Image:
    """All cells, row by row and grid by grid, with their labels. Pictures of several sizes get a place each.

    Pictures are made smaller where the whole would be larger than files can be. Raises ``OutputError``.
    """
    wide, high = _cell_size(cells)
    columns, rows, grids = len(labels.columns), len(labels.rows), len(labels.grids)
    letters = max(12, min(wide, high) // 14)
    side = min(wide, 14 * letters) if any(labels.rows) else 0
    top = _height(labels.columns, wide, letters)
    title = _height(labels.grids, wide * columns, letters)
    shrink = min(
        1.0,
        (MOST_SIDE - side - GAP * (columns + 1)) / (columns * wide),
        (MOST_SIDE - grids * (title + top + GAP * (rows + 2))) / (grids * rows * high),
    )
    if shrink * min(wide, high) < 16:
        raise OutputError(f"The grid was not made: {columns}×{rows}×{grids} cells do not go into one picture.")
    wide, high = max(1, int(wide * shrink)), max(1, int(high * shrink))
    section = title + top + rows * (high + GAP) + GAP
    sheet = Image.new("RGB", (side + columns * (wide + GAP) + GAP, grids * section), PAPER)
    pen = ImageDraw.Draw(sheet)
    for grid, words in enumerate(labels.grids):
        y = grid * section
        _write(pen, words, (GAP, y, sheet.width - 2 * GAP, title), letters, INK)
        for column, label in enumerate(labels.columns):
            _write(pen, label, (side + GAP + column * (wide + GAP), y + title, wide, top), letters, INK)
        for row, label in enumerate(labels.rows):
            place = y + title + top + GAP + row * (high + GAP)
            _write(pen, label, (GAP, place, side - GAP, high), letters, INK)
            for column in range(columns):
                cell = cells[(grid * rows + row) * columns + column]
                _paste(sheet, pen, cell, (side + GAP + column * (wide + GAP), place, wide, high), letters)
    return sheet


def _cell_size(cells: Sequence[Cell]) -> tuple[int, int]:
    """The width and height that every picture fits into."""
    sizes = []
    for cell in cells:
        if cell.path is not None:
            try:
                with Image.open(cell.path) as picture:
                    sizes.append(picture.size)
            except (OSError, ValueError, Image.DecompressionBombError) as error:
                raise OutputError(f"The grid was not made, {cell.path.name} cannot be read: {error}") from None
    if not sizes:
        raise OutputError("The grid was not made: there is no picture to put into it.")
    return max(width for width, _ in sizes), max(height for _, height in sizes)


def _paste(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, cell: Cell, box: tuple[int, int, int, int], letters: int
) -> None:
    x, y, wide, high = box
    if cell.path is None:
        pen.rectangle((x, y, x + wide - 1, y + high - 1), fill=WELL)
        _write(pen, cell.reason, (x + GAP, y, wide - 2 * GAP, high), letters, QUIET)
        return
    with Image.open(cell.path) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((wide, high), Image.Resampling.LANCZOS)
    sheet.paste(picture, (x + (wide - picture.width) // 2, y + (high - picture.height) // 2))


def _height(labels: Sequence[str], wide: int, letters: int) -> int:
    """What labels of this width need, and a little air."""
    most = max((len(_lines(label, wide, letters)) for label in labels), default=0)
    return most * int(letters * 1.3) + GAP if most else 0


def _write(pen: ImageDraw.ImageDraw, words: str, box: tuple[int, int, int, int], letters: int, colour: str) -> None:
    """Words in the middle of a box (x, y, width, height)."""
    x, y, wide, high = box
    lines = _lines(words, wide, letters)
    line_height = int(letters * 1.3)
    for place, line in enumerate(lines):
        font = _font(letters, line.isascii())
        left = x + (wide - font.getlength(line)) / 2
        pen.text((left, y + (high - len(lines) * line_height) / 2 + place * line_height), line, colour, font=font)


def _lines(words: str, wide: int, letters: int) -> list[str]:
    """The words, broken where they do not fit; what is too much ends in dots."""
    lines: list[str] = []
    for word in words.split():
        font = _font(letters, word.isascii() and all(line.isascii() for line in lines[-1:]))
        if lines and font.getlength(f"{lines[-1]} {word}") <= wide:
            lines[-1] += f" {word}"
            continue
        lines.append("")
        for letter in word:  # a word that is wider than the box is broken too
            if lines[-1] and font.getlength(lines[-1] + letter) > wide:
                lines.append("")
            lines[-1] += letter
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], f"{lines[MOST_LINES - 1][:-1]}…"]
    return lines


@cache
def _font(size: int, plain: bool) -> Font:
    """The built-in letters, or for other scripts the first font of the system that is there."""
    for name in () if plain else FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)
