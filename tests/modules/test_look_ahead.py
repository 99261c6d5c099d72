"""What the first picture would be told is what it is told."""

from __future__ import annotations

from typing import Any

import pytest

from ldm_patched.modules.tokenizer import FULL_ROWS
from modules.files import ModelFiles
from modules.look_ahead import LATER, NOTHING, LookAhead, look_ahead, vocabulary_rows
from modules.parameters import GenerationParameters
from modules.plan import ModelFacts, plan
from modules.prompts import Sources
from modules.styles import Shelf, Style
from tests.architecture import ROOT
from tests.modules.test_wildcards import lists

INK = Style("Ink", "ink drawing of {prompt}", "photo, blurry")
SOURCES = Sources(lists(color="red\ngreen\nblue"), lambda: Shelf({"Ink": INK}), lambda: ("a.safetensors",))
FACTS = ModelFacts(256)


def words(text: str, seed: int) -> tuple[str, str] | None:
    return f"{text}, soft light, seed {seed}", ""


def look(ask: Any = words, example: int = 9, **values: Any) -> LookAhead:
    given = {"prompt": "a __color__ cat <lora:a:0.5>", "style_selections": ("Ink", "Fooocus V2"), "image_seed": 5}
    parameters = GenerationParameters.from_mapping({**given, **values})
    return look_ahead(parameters, example, FACTS, FULL_ROWS, SOURCES, ask)


def test_it_shows_what_the_first_picture_is_told() -> None:
    seen = look(image_number=4)
    parameters = GenerationParameters(
        prompt="a __color__ cat <lora:a:0.5>", style_selections=("Ink", "Fooocus V2"), image_seed=5, image_number=4
    )
    first = plan(parameters, FACTS, SOURCES)[0]
    assert [line.text for line in seen.positive] == [*first.positive, f"{first.expand}, soft light, seed 5"]
    assert [line.text for line in seen.negative] == list(first.negative)
    assert (seen.seed, seen.example, seen.pictures, seen.added) == ("5", False, 4, "soft light, seed 5")
    assert (seen.styles, seen.loras) == (("Ink", "Fooocus V2"), ("a 0.5",))
    assert (seen.pending, seen.later, seen.notes) == ("", False, ())


def test_a_random_seed_shows_an_example() -> None:
    seen = look(image_seed=-1, example=2**63 + 7)
    assert (seen.seed, seen.example) == ("7", True)
    assert len({look(image_seed=-1, example=seed).positive[0].text for seed in range(30)}) == 3


@pytest.mark.parametrize(
    ("answer", "pending", "later"),
    [(None, LATER, True), (("", ""), NOTHING, False), (("", "It is broken."), "It is broken.", False)],
)
def test_where_there_are_no_words_it_says_why(answer: Any, pending: str, later: bool) -> None:
    seen = look(ask=lambda text, seed: answer)
    assert (seen.added, seen.pending, seen.later, len(seen.positive)) == ("", pending, later, 1)


def test_nobody_is_asked_for_words_that_are_not_wanted() -> None:
    seen = look(ask=None, style_selections=())
    assert (seen.added, seen.pending) == ("", "")


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [("", (0,)), ("a red cat", (3,)), ("(a red:1.3) cat", (3,)), ("dog " * 80, (75, 5)), ("a embedding:x cat", (2,))],
)
def test_tokens_are_counted_in_chunks(prompt: str, tokens: tuple[int, ...]) -> None:
    seen = look(prompt=prompt, style_selections=())
    assert [line.tokens for line in seen.positive] == [tokens]
    assert ("embedding" in prompt) == (seen.notes == ("The tokens of embeddings are not counted.",))


def test_what_is_left_out_and_what_cannot_be_is_said() -> None:
    assert "There is no list" in look(prompt="__flour__").notes[0]
    with pytest.raises(ValueError, match="Guidance begins"):
        look(advanced={"guidance_begin": 0.9, "guidance_end": 0.1})


def test_the_vocabulary_is_the_models_own() -> None:
    files = ModelFiles([ROOT / "models" / "checkpoints"])
    assert vocabulary_rows("pinhole-mini-base.safetensors", files) == 4096
    assert vocabulary_rows("nothing.safetensors", files) == FULL_ROWS
