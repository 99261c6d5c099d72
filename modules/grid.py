"""All pictures of a task side by side on one more; knows no task and no parameter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

from modules.outputs import OutputError, OutputExists, picture_path, write_once

QUALITY = 95


def grid_path(folder: Path, task_id: str, output_format: str) -> Path:
    """Where the grid of a task lies: beside its pictures, and like them named by the task alone."""
    first = picture_path(folder, task_id, 0, output_format)
    return first.with_name(f"{first.stem.rpartition('_')[0]}_grid{first.suffix}")


def save_grid(paths: Sequence[Path], path: Path) -> tuple[int, int] | None:
    """Writes the grid of these pictures and returns its width and height; None where there is nothing to lay out.

    Two pictures or more, all of one size, row by row in the order given: as many columns as make it about square, black
    where the last row is not full. A grid that lies there already is kept. Raises ``OutputError``.
    """
    if len(paths) < 2:
        return None
    try:
        pictures = [Image.open(each).convert("RGB") for each in paths]
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise OutputError(f"The grid was not made, a picture of it cannot be read: {error}") from None
    width, height = pictures[0].size
    if any(each.size != (width, height) for each in pictures):
        return None
    columns = math.ceil(math.sqrt(len(pictures)))
    grid = Image.new("RGB", (columns * width, math.ceil(len(pictures) / columns) * height))
    for place, each in enumerate(pictures):
        grid.paste(each, (place % columns * width, place // columns * height))
    buffer = BytesIO()
    try:
        grid.save(buffer, {".jpg": "JPEG", ".webp": "WEBP"}.get(path.suffix, "PNG"), quality=QUALITY)
        write_once(path, buffer.getvalue())
    except OutputExists:
        pass  # made by a run of this task that was killed before it could record it
    except (OSError, ValueError) as error:
        raise error if isinstance(error, OutputError) else OutputError(f"The grid was not made: {error}") from None
    return grid.size
