"""Small pictures of finished ones, made when they are first looked at and kept; knows no store and no page."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from modules.outputs import OutputError, write_once

SIDE = 320
MAX_PIXELS = 120_000_000
_FORMATS = ("PNG", "JPEG", "WEBP")


class ThumbnailError(ValueError):
    """There can be no small picture; the message says why."""


def thumbnail(path: Path, kept: Path) -> bytes:
    """A WebP of at most SIDE pixels a side of the picture at ``path``; ``kept`` is the file that spares the work."""
    try:
        return kept.read_bytes()
    except OSError:
        made = _made(path)
    with suppress(OutputError):  # the disk is full, or somebody else was faster
        write_once(kept, made)
    return made


def _made(path: Path) -> bytes:
    buffer = BytesIO()
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ThumbnailError(f"{path.name} has too many pixels to be shown small.")
            image.draft("RGB", (SIDE, SIDE))
            small = image.convert("RGB")
        small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
        small.save(buffer, "WEBP", quality=80)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, ThumbnailError):
            raise
        raise ThumbnailError(f"{path.name} cannot be read: {error}") from None
    return buffer.getvalue()
