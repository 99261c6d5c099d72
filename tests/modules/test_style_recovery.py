"""Styles taken off again: every one of ours, alone and in pairs; and texts that only look as if they had some."""

from __future__ import annotations

import os
import time
from itertools import permutations
from random import Random

import pytest

from modules.prompts import Sources, Wish, texts_of
from modules.style_recovery import Recovered, recover
from modules.styles import Shelf, Style, read_styles
from tests.architecture import ROOT

PROMPTS = (
    "a red fox in the snow",
    "a cat, sitting, (looking up:1.2)",
    "photo",
    "a",
    "of a, b, c",
    "",
    "cinematic still of a, b",
)
NEGATIVES = ("", "blurry", "watermark, text (x:1.3)")


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return read_styles([ROOT / "sdxl_styles"])


def told(prompt: str, negative: str, styles: tuple[str, ...], shelf: Shelf) -> tuple[str, str]:
    """What a picture is told, in the two lines that other programs read."""
    wish = Wish(prompt, negative, styles, in_order=False, loras=(), max_loras=0)
    texts = texts_of(wish, [0], Sources(styles=lambda: shelf), lambda sentence: None)[0]
    return ", ".join(texts.positive), ", ".join(texts.negative)


def check(prompt: str, negative: str, styles: tuple[str, ...], shelf: Shelf) -> None:
    positive, avoided = told(prompt, negative, styles, shelf)
    assert recover(positive, avoided, shelf) == Recovered(prompt, negative, styles)
    assert recover(positive, avoided, shelf, prompt, negative) == Recovered(prompt, negative, styles)
    expansion = f"{positive}, {prompt or 'x'}, soft light"
    found = recover(expansion, avoided, shelf, prompt, negative)
    assert found == (Recovered(prompt, negative, ("Fooocus V2", *styles)) if prompt else None)


def test_every_style_alone(shelf: Shelf) -> None:
    for number, name in enumerate(shelf.styles):
        check(PROMPTS[number % len(PROMPTS)], NEGATIVES[number % len(NEGATIVES)], (name,), shelf)


def test_styles_in_pairs(shelf: Shelf) -> None:
    """300 pairs; all 89,102 with ``STYLE_PAIRS=all``."""
    pairs = list(permutations(shelf.styles, 2))
    if os.environ.get("STYLE_PAIRS") != "all":
        pairs = Random(time.time_ns()).sample(pairs, 300)
    for number, pair in enumerate(pairs):
        check(PROMPTS[number % len(PROMPTS)], NEGATIVES[number % len(NEGATIVES)], pair, shelf)


def test_many_styles_at_once(shelf: Shelf) -> None:
    rng = Random(1)
    for count in range(3, 30):
        check(PROMPTS[count % 5], "blurry", tuple(rng.sample(sorted(shelf.styles), count)), shelf)


def test_what_was_drawn_is_found_and_what_was_typed_is_kept(shelf: Shelf) -> None:
    style = ("SAI Anime",)
    positive, avoided = told("a red fox", "blurry", style, shelf)
    raw = "a __color__ fox"
    assert recover(positive, avoided, shelf, raw, "blurry") == Recovered(raw, "blurry", style)
    expanded = f"{positive}, a red fox, soft light"
    assert recover(expanded, avoided, shelf, raw, "blurry") == Recovered(raw, "blurry", ("Fooocus V2", *style))
    more_lines = "a fox\nin the snow\n<lora:glow:0.5> at night"
    positive, avoided = told(more_lines, "bad\nworse", style, shelf)
    assert recover(positive, avoided, shelf, more_lines, "bad\nworse") == Recovered(more_lines, "bad\nworse", style)


def test_what_only_looks_like_a_style_stays_as_it_is(shelf: Shelf) -> None:
    positive, avoided = told("a fox", "blurry", ("SAI Anime",), shelf)
    assert recover("a fox", "blurry", shelf) is None
    assert recover("", "", shelf) is None
    assert recover(positive, "blurry", shelf) is None  # the negative does not match
    assert recover(positive[:-1], avoided, shelf) is None
    assert recover(f"{positive} and more", avoided, shelf) is None
    assert recover(f"{positive}, at night", avoided, shelf) is None  # whose words the last ones are cannot be known
    assert recover(positive, avoided, shelf, "a dog", "blurry") is None


def test_styles_of_other_shapes() -> None:
    styles = [
        Style("Before", "photo of {prompt}", ""),
        Style("Beside", "grainy, 35mm", "clean"),
        Style("Twice", "{prompt}\nmany of {prompt}", ""),
        Style("Around", "a {prompt}, b", "c"),
        Style("Longer", "a {prompt}, b, b", "c, c"),
        Style("Nothing", "", ""),
        Style("Only Prompt", "{prompt}", ""),
    ]
    shelf = Shelf({style.name: style for style in styles})
    for names in permutations(["Before", "Beside", "Twice", "Around", "Longer"], 2):
        positive, avoided = told("a fox, a hen", "bad", names, shelf)
        found = recover(positive, avoided, shelf, "a fox, a hen", "bad")
        assert found is not None
        assert told(found.prompt, found.negative_prompt, found.styles, shelf) == (positive, avoided)
        alone = recover(positive, avoided, shelf)
        assert alone is None or told(alone.prompt, alone.negative_prompt, alone.styles, shelf) == (positive, avoided)
    assert recover("a fox, grainy, 35mm", "clean, bad", shelf) == Recovered("a fox", "bad", ("Beside",))
    assert recover("photo of a fox", "", shelf) == Recovered("a fox", "", ("Before",))


def test_no_text_takes_long(shelf: Shelf) -> None:
    many = Shelf({f"{number}": Style(f"{number}", "{prompt}, a", "") for number in range(300)})
    began = time.monotonic()
    for found in (many, shelf):
        for text in ("a, " * 7000, ", ".join(["a"] * 30), "photograph of " * 1400):
            recover(text, text, found)
            recover(text, text, found, text)
    assert time.monotonic() - began < 20
