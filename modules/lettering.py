"""Words drawn into a picture, in letters of any script that the system has; knows nothing of what they say.

Pillow's own letters are plain Latin ones. What they lack is looked for in the fonts of the system: each piece of a line
is drawn in the first font that has its letters. Where none has, accents are left out, and what remains is a box.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from PIL import ImageDraw, ImageFont

from modules.fonts import fonts_with

LINE_HEIGHT = 1.3  # in letters
PROBE = 24  # pixels
NOWHERE = "\U0010ffff"  # no character: a font draws for it what it draws for all that it lacks
JOINERS = "\u200c\u200d"  # they change the form of letters
MOST_LETTERS = 1000  # of words that are broken into lines

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def line_height(size: int) -> int:
    """Pixels from one line to the next, of letters of this size."""
    return int(size * LINE_HEIGHT)


def width_of(line: str, size: int) -> float:
    """Pixels that a line takes."""
    return sum(font.getlength(piece) for piece, font in _pieces(line, size))


def draw_line(pen: ImageDraw.ImageDraw, place: tuple[float, float], line: str, size: int, colour: str) -> None:
    """Draws a line whose upper left corner is at ``place``."""
    x, y = place
    for piece, font in _pieces(line, size):
        pen.text((x, y + size), piece, colour, font=font, anchor="ls")
        x += font.getlength(piece)


def broken(words: str, wide: int, size: int, most: int) -> list[str]:
    """The words in at most so many lines of this width; what is too much ends in dots."""
    lines: list[str] = []
    for word in words[:MOST_LETTERS].split():
        if lines and width_of(f"{lines[-1]} {word}", size) <= wide:
            lines[-1] += f" {word}"
        else:
            lines += _chopped(word, wide, size)
        if len(lines) > most:
            return [*lines[: most - 1], _dotted(lines[most - 1], wide, size)]
    return lines


def _chopped(word: str, wide: int, size: int) -> list[str]:
    """A word that is wider than the line is broken too."""
    lines = [""]
    for letter in word:
        if lines[-1] and width_of(lines[-1] + letter, size) > wide:
            lines.append("")
        lines[-1] += letter
    return lines


def _dotted(line: str, wide: int, size: int) -> str:
    while line and width_of(f"{line}…", size) > wide:
        line = line[:-1]
    return f"{line}…"


def _pieces(line: str, size: int) -> Iterator[tuple[str, Font]]:
    """The line in pieces, each with a font that has its letters."""
    piece, source = "", ""
    for word in re.findall(r"\s+|\S+", line):
        for letter, wanted in _sources_of(word):
            wanted = source if _joins(letter) and piece else wanted
            if piece and wanted != source:
                yield piece, _font(source, size)
                piece = ""
            piece, source = piece + letter, wanted
    if piece:
        yield piece, _font(source, size)


def _sources_of(word: str) -> list[tuple[str, str]]:
    """The letters of a word as they can be drawn, each with its font: one for all of them where there is one."""
    found = [(letter, source) for letter, source in map(_source_of, word) if letter]
    others = dict.fromkeys(source for _, source in found if source)
    for source in others:
        if all(_joins(letter) or _has(source, letter) for letter, _ in found):
            return [(letter, source) for letter, _ in found]
    return found


def _joins(letter: str) -> bool:
    """Whether a character goes with what is before it: spaces and signs over and under letters."""
    return letter.isspace() or unicodedata.category(letter) in ("Mn", "Mc", "Cf")


@lru_cache(maxsize=4096)
def _source_of(letter: str) -> tuple[str, str]:
    """The letter as it can be drawn, and the file of a font that has it; none for Pillow's own.

    Nothing is drawn for what only controls others, such as the direction in which they are written.
    """
    if letter.isspace() or letter in JOINERS:
        return letter, ""
    if unicodedata.category(letter) in ("Cc", "Cf", "Cn", "Co", "Cs"):
        return "", ""
    if _has("", letter):
        return letter, ""
    source = next((file for file in fonts_with(letter) if _has(file, letter)), None)
    if source is not None:
        return letter, source
    plain = unicodedata.normalize("NFKD", letter)[:1]
    return (plain, "") if plain != letter and _has("", plain) else (letter, "")


@lru_cache(maxsize=4096)
def _has(file: str, letter: str) -> bool:
    """Whether a font has a letter of its own for this, and not only the sign for what it lacks."""
    font = _opened(file, PROBE)
    return font is not None and _drawn(font, letter) not in (b"", _drawn(font, NOWHERE), _drawn(font, "\uffff"))


def _drawn(font: Font, letter: str) -> bytes:
    try:
        mask = font.getmask(letter)
    except (OSError, ValueError):
        return b""
    return bytes(mask)


def _font(file: str, size: int) -> Font:
    return _opened(file, size) or ImageFont.load_default(size)


@lru_cache(maxsize=32)
def _opened(file: str, size: int) -> Font | None:
    try:
        return ImageFont.truetype(file, size) if file else ImageFont.load_default(size)
    except (OSError, ValueError):
        return None
