"""Letters of many scripts: drawn where a font of the system has them, and no text is answered with a crash."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as some
from PIL import Image, ImageDraw

from modules import fonts, lettering
from modules.fonts import fonts_with
from modules.lettering import broken, draw_line, line_height, width_of

SIZE = 20


def drawn(line: str) -> bytes:
    image = Image.new("L", (900, line_height(SIZE)), 255)
    draw_line(ImageDraw.Draw(image), (0, 0), line, SIZE, "black")
    return image.tobytes()


@pytest.mark.parametrize("words", ["雪の中の狐", "שלום", "مرحبا", "дождь", "한국어", "Größe", "✓"])
def test_letters_that_some_font_has_are_no_boxes(words: str) -> None:
    letters = [letter for letter in words if letter.strip()]
    if not all(next(fonts_with(letter), None) for letter in letters):
        pytest.skip(f"no font of this system has {words}")
    shapes = {drawn(letter) for letter in letters}
    assert len(shapes) == len(set(letters)), "each letter has a shape of its own"
    assert drawn(words) != drawn("\uffff" * len(words))


def test_without_any_font_of_the_system_accents_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_folders", tuple)
    caches = (fonts._files, lettering._source_of)
    for each in caches:
        each.cache_clear()
    assert drawn("café ½") == drawn("cafe 1") and drawn("雪") != drawn("")
    for each in caches:
        each.cache_clear()


def test_what_only_controls_others_is_not_drawn() -> None:
    assert drawn("\u202eevil\u0007") == drawn("evil") and width_of("\u202e", SIZE) == 0


def test_long_words_are_broken_and_what_is_too_much_is_dotted() -> None:
    assert broken("a few short words", 900, SIZE, 4) == ["a few short words"]
    lines = broken("雪" * 300, 200, SIZE, 3)
    assert len(lines) == 3 and lines[-1].endswith("…") and max(width_of(line, SIZE) for line in lines) <= 200
    assert broken("", 100, SIZE, 3) == [] and len(broken("x " * 900, 10, SIZE, 2)) == 2


@pytest.mark.parametrize("data", [b"", b"\0\1\0\0", b"ttcf" + bytes(30), struct.pack(">4sH6x", b"\0\1\0\0", 9)])
def test_a_broken_font_has_no_letters(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.ttf").write_bytes(data)
    assert fonts._coverage(str(tmp_path / "a.ttf")) == ((), ())
    assert fonts._coverage(str(tmp_path / "gone.ttf")) == ((), ())


@hypothesis_settings(max_examples=200, deadline=None)
@given(words=some.text(max_size=60), wide=some.integers(1, 300))
def test_any_text_can_be_drawn(words: str, wide: int) -> None:
    lines = broken(words, wide, SIZE, 4)
    assert len(lines) <= 4
    for line in lines:
        drawn(line)


@hypothesis_settings(max_examples=200, deadline=None)
@given(table=some.binary(max_size=60), part=some.integers(0, 60))
def test_no_table_of_letters_is_answered_with_a_crash(table: bytes, part: int) -> None:
    for form in (4, 12):
        whole = struct.pack(">HHHHIH", 0, 1, 3, 10, 12 + part % 4, form) + table
        with suppress(struct.error, ValueError):
            assert all(len(each) == 2 for each in fonts._stretches(whole))
