"""The labelled grid of an X/Y/Z plot; knows no task and no parameter."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image, ImageDraw

from modules.lettering import broken, draw_line, line_height, width_of
from modules.outputs import OutputError

PAPER, INK, QUIET, WELL = "#fbf9f6", "#302c28", "#6d6558", "#ebe5da"
GAP = 8  # pixels between cells
MOST_SIDE = 16_383  # pixels: what every format takes
MOST_LINES = 4  # of a label
MOST_PIXELS = 80_000_000  # more than that, and readers of pictures take it for an attack
SMALLEST = 16  # pixels that a side of a cell is scaled down to
UNREADABLE = (OSError, ValueError, Image.DecompressionBombError)


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


@dataclass(frozen=True)
class _Layout:
    """Where things lie when cells are so ``wide`` and ``high``, in pixels. ``letters`` is their size."""

    labels: Labels
    wide: int
    high: int

    @property
    def letters(self) -> int:
        return max(12, min(self.wide, self.high) // 14)

    @cached_property
    def side(self) -> int:
        """The width of what stands beside rows."""
        return max(6 * self.letters, min(self.wide, 14 * self.letters)) if any(self.labels.rows) else 0

    @cached_property
    def top(self) -> int:
        """The height of what stands above columns."""
        return _height(self.labels.columns, self.wide, self.letters)

    @cached_property
    def title(self) -> int:
        """The height of what stands above a grid."""
        return _height(self.labels.grids, self.size_across - 2 * GAP, self.letters)

    @property
    def section(self) -> int:
        """The height of a grid."""
        return self.title + self.top + len(self.labels.rows) * (self.high + GAP) + GAP

    @property
    def size_across(self) -> int:
        return self.side + len(self.labels.columns) * (self.wide + GAP) + GAP

    @property
    def size(self) -> tuple[int, int]:
        return self.size_across, len(self.labels.grids) * self.section


def draw_plot(cells: Sequence[Cell], labels: Labels) -> Image.Image:
    """All cells, row by row and grid by grid, with their labels. Pictures of several sizes get a place each.

    Pictures are made smaller where the whole would be larger than files can be. Raises ``OutputError``.
    """
    layout = _fitting(labels, *_cell_size(cells))
    letters, wide, high = layout.letters, layout.wide, layout.high
    sheet = Image.new("RGB", layout.size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for grid, words in enumerate(labels.grids):
        y = grid * layout.section
        _write(pen, words, (GAP, y, sheet.width - 2 * GAP, layout.title), letters, INK)
        for column, label in enumerate(labels.columns):
            x = layout.side + GAP + column * (wide + GAP)
            _write(pen, label, (x, y + layout.title, wide, layout.top), letters, INK)
        for row, label in enumerate(labels.rows):
            place = y + layout.title + layout.top + GAP + row * (high + GAP)
            _write(pen, label, (GAP, place, layout.side - GAP, high), letters, INK)
            for column in range(len(labels.columns)):
                cell = cells[(grid * len(labels.rows) + row) * len(labels.columns) + column]
                _paste(sheet, pen, cell, (layout.side + GAP + column * (wide + GAP), place, wide, high), letters)
    return sheet


def _fitting(labels: Labels, wide: int, high: int) -> _Layout:
    """The layout with the largest cells, up to these, with which the whole is no larger than pictures may be."""
    layout, scale = _Layout(labels, wide, high), 1.0
    while max(layout.size) > MOST_SIDE or layout.size[0] * layout.size[1] > MOST_PIXELS:
        scale *= 0.97
        if scale * min(wide, high) < SMALLEST:
            counts = "×".join(str(len(each)) for each in (labels.columns, labels.rows, labels.grids))
            raise OutputError(f"The grid was not made: {counts} cells do not go into one picture.")
        layout = _Layout(labels, int(scale * wide), int(scale * high))
    return layout


def _cell_size(cells: Sequence[Cell]) -> tuple[int, int]:
    """The width and height that every picture fits into."""
    sizes = []
    for cell in cells:
        if cell.path is not None:
            with suppress(*UNREADABLE), Image.open(cell.path) as picture:
                sizes.append(picture.size)
    if not sizes:
        raise OutputError("The grid was not made: there is no picture to put into it.")
    return max(width for width, _ in sizes), max(height for _, height in sizes)


def _paste(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, cell: Cell, box: tuple[int, int, int, int], letters: int
) -> None:
    x, y, wide, high = box
    picture = None if cell.path is None else _picture(cell.path, (wide, high))
    if picture is None:
        pen.rectangle((x, y, x + wide - 1, y + high - 1), fill=WELL)
        reason = cell.reason if cell.path is None else f"{cell.path.name} cannot be read any more."
        _write(pen, reason, (x + GAP, y, wide - 2 * GAP, high), letters, QUIET)
    else:
        sheet.paste(picture, (x + (wide - picture.width) // 2, y + (high - picture.height) // 2))


def _picture(path: Path, size: tuple[int, int]) -> Image.Image | None:
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except UNREADABLE:
        return None
    picture.thumbnail(size, Image.Resampling.LANCZOS)
    return picture


def _height(labels: Sequence[str], wide: int, letters: int) -> int:
    """What labels of this width need, and a little air."""
    most = max((len(broken(label, wide, letters, MOST_LINES)) for label in labels), default=0)
    return most * line_height(letters) + GAP if most else 0


def _write(pen: ImageDraw.ImageDraw, words: str, box: tuple[int, int, int, int], letters: int, colour: str) -> None:
    """Words in the middle of a box (x, y, width, height)."""
    x, y, wide, high = box
    lines = broken(words, wide, letters, min(MOST_LINES, max(1, high // line_height(letters))))
    top = y + (high - len(lines) * line_height(letters)) / 2
    for place, line in enumerate(lines):
        left = x + (wide - width_of(line, letters)) / 2
        draw_line(pen, (left, top + place * line_height(letters)), line, letters, colour)
