"""Which font of the system has a letter, by the tables in the files; draws nothing."""

from __future__ import annotations

import struct
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO

MOST_FONTS = 4000  # files that are looked at
MOST_BYTES = 4_000_000  # of a table
SUFFIXES = (".ttf", ".ttc", ".otf")
# Of several fonts that have a letter, the plainest is meant.
FIRST = (
    "dejavusans.",
    "notosans-regular",
    "notosanscjk-regular",
    "arial.",
    "segoeui.",
    "msyh.",
    "pingfang",
    "helvetica",
)
LATER = ("bold", "italic", "oblique", "mono", "serif", "condensed", "light", "thin", "black", "emoji")

Ranges = tuple[tuple[int, ...], tuple[int, ...]]
"""First and last characters of stretches, in order."""


def fonts_with(letter: str) -> Iterator[str]:
    """The files of fonts that say that they have this letter, the plainest first."""
    code = ord(letter)
    for file in _files():
        first, last = _coverage(file)
        place = bisect_right(first, code) - 1
        if place >= 0 and code <= last[place]:
            yield file


@cache
def _files() -> tuple[str, ...]:
    found = [
        path
        for folder in _folders()
        if folder.is_dir()
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES
    ]
    return tuple(str(path) for path in sorted(found[:MOST_FONTS], key=lambda path: _fancy(path.name.lower())))


def _fancy(name: str) -> int:
    for place, start in enumerate(FIRST):
        if name.startswith(start):
            return place - len(FIRST)
    return sum(word in name for word in LATER)


def _folders() -> tuple[Path, ...]:
    home = Path("~").expanduser()
    if sys.platform == "win32":
        return (Path("C:/Windows/Fonts"), home / "AppData/Local/Microsoft/Windows/Fonts")
    if sys.platform == "darwin":
        return (Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts")
    return (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".local/share/fonts", home / ".fonts")


@cache
def _coverage(file: str) -> Ranges:
    """The characters of a font file (of a collection: of its first font); none of a file that cannot be read."""
    try:
        with Path(file).open("rb") as opened:
            found = _merged(sorted(_stretches(_table(opened, b"cmap"))))
    except (OSError, struct.error, ValueError, RuntimeError):
        return (), ()
    return tuple(first for first, _ in found), tuple(last for _, last in found)


def _merged(stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for first, last in stretches:
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


def _table(file: BinaryIO, wanted: bytes) -> bytes:
    head = file.read(16)
    if head[:4] == b"ttcf":
        file.seek(struct.unpack(">I", head[12:16])[0])
    else:
        file.seek(0)
    (count,) = struct.unpack(">4xH6x", file.read(12))
    for _ in range(count):
        tag, offset, length = struct.unpack(">4s4xII", file.read(16))
        if tag == wanted:
            file.seek(offset)
            return file.read(min(length, MOST_BYTES))
    return b""


def _stretches(table: bytes) -> Iterator[tuple[int, int]]:
    """(first, last) of the stretches of characters in a table ``cmap``, by its parts of the formats 4 and 12."""
    if not table:
        return
    (count,) = struct.unpack_from(">2xH", table)
    for part in range(count):
        platform, _, offset = struct.unpack_from(">HHI", table, 4 + 8 * part)
        (form,) = struct.unpack_from(">H", table, offset)
        if platform not in (0, 3):
            continue
        if form == 12:
            (groups,) = struct.unpack_from(">I", table, offset + 12)
            for first, last, _ in struct.iter_unpack(">III", table[offset + 16 : offset + 16 + 12 * groups]):
                yield first, last
        elif form == 4:
            (doubled,) = struct.unpack_from(">H", table, offset + 6)
            lasts = struct.unpack_from(f">{doubled // 2}H", table, offset + 14)
            firsts = struct.unpack_from(f">{doubled // 2}H", table, offset + 16 + doubled)
            yield from zip(firsts, lasts, strict=True)
