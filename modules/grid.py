"""All pictures of a task side by side on one more; knows no task and no parameter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

from PIL import Image

from modules.outputs import OutputError, OutputExists, picture_path, write_once

QUALITY = 95
MOST_PIXELS = {"JPEG": 65535, "WEBP": 16383}  # a side, as the formats have it


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
    with ExitStack() as opened:
        try:
            pictures = [opened.enter_context(Image.open(each)) for each in paths]
            width, height = pictures[0].size
            if any(each.size != (width, height) for each in pictures):
                return None
            columns = math.ceil(math.sqrt(len(pictures)))
            grid = _empty(columns * width, math.ceil(len(pictures) / columns) * height, path)
            for place, each in enumerate(pictures):  # decoded one at a time: all of them can be hundreds of megabytes
                grid.paste(each.convert("RGB"), (place % columns * width, place // columns * height))
        except OutputError:
            raise
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise OutputError(f"The grid was not made, a picture of it cannot be read: {error}") from None
        except MemoryError:
            raise OutputError("The grid was not made: there is not enough memory for it.") from None
    buffer = BytesIO()
    try:
        grid.save(buffer, _format(path), quality=QUALITY)
        write_once(path, buffer.getvalue())
    except OutputExists:
        pass  # made by a run of this task that was killed before it could record it
    except (OSError, ValueError) as error:
        raise error if isinstance(error, OutputError) else OutputError(f"The grid was not made: {error}") from None
    return grid.size


def _empty(width: int, height: int, path: Path) -> Image.Image:
    """A black picture; raises ``OutputError`` where the format of ``path`` cannot hold as many pixels a side."""
    kind = _format(path)
    if max(width, height) > (most := MOST_PIXELS.get(kind, max(width, height))):
        raise OutputError(f"The grid was not made: it has {width}×{height} pixels, and {kind} takes {most} a side.")
    return Image.new("RGB", (width, height))


def _format(path: Path) -> str:
    return {".jpg": "JPEG", ".webp": "WEBP"}.get(path.suffix, "PNG")
