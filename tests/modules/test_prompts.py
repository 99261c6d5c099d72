"""From what a user writes to the texts of each picture: pairs written from the stated rules, and what always holds."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from modules.prompts import (
    Sources,
    Texts,
    Wish,
    choose_from_arrays,
    clean,
    lines_of,
    merged_loras,
    take_lora_tags,
    texts_of,
    tidy,
)
from modules.styles import Shelf, Style
from tests.modules.test_wildcards import lists

FILES = ("a.safetensors", "people/b.safetensors", "b.safetensors", "my__c__v1.safetensors")
LISTS = lists(
    color="red\ngreen\nblue", flower="__color__ rose", look="<lora:a:0.5>", both="[[dawn, dusk]]", comma="x,, y ,"
)
STYLES = {
    each.name: each
    for each in (
        Style("Ink", "ink drawing of {prompt}, fine lines", "photo, blurry"),
        Style("Oil", "oil painting of {prompt}\nthick brush", "photo"),
        Style("Clean", "", "watermark"),
        Style("Bright", "bright light", ""),
    )
}


def wish(prompt: str = "", **changes: Any) -> Wish:
    plain: dict[str, Any] = {
        "prompt": prompt, "negative_prompt": "", "styles": (), "in_order": False, "loras": (), "max_loras": 5,
    }  # fmt: skip
    return Wish(**{**plain, **changes})


def told(wanted: Wish, seeds: Sequence[int] = (1,), notes: list[str] | None = None) -> list[Texts]:
    """The texts of a task; where no notes are expected, there are none."""
    said: list[str] = []
    sources = Sources(LISTS, lambda: Shelf(STYLES), lambda: FILES)
    texts = texts_of(wanted, seeds, sources, (said if notes is None else notes).append)
    assert said == []
    return texts


@pytest.mark.parametrize(
    ("prompt", "positive"),
    [
        # cleaning and lines
        ("", [""]),
        (" \n,\n . ", [""]),
        ("a cat", ["a cat"]),
        ("  ,. a   cat,, ", ["a cat"]),
        ("a\tcat\x00here", ["a cat here"]),
        ("a cat.\nin the snow\n\nat night", ["a cat", "in the snow", "at night"]),
        ("\n\na\r\nb", ["a", "b"]),
        ("a,b ,  c,,d", ["a, b, c, d"]),
        ("one\na,b ,  c", ["one", "a,b , c"]),
        ("(a, b:1.2), c", ["(a, b:1.2), c"]),
        ("a\\(b\\)", ["a\\(b\\)"]),
        # arrays, in the first picture
        ("[[red, green]] cat", ["red cat"]),
        ("a [[big, small]] [[red, green]] cat", ["a big red cat"]),
        ("a [[big, small] cat", ["a [[big, small] cat"]),
        ("a ]] cat [[", ["a ]] cat [["]),
        ("a [[]] cat", ["a cat"]),
        ("a [[red]] cat", ["a red cat"]),
        ("a [red, green] cat", ["a [red, green] cat"]),
        ("a [[x, [[y]] cat", ["a x cat"]),
        ("cat\n[[red, green]]", ["cat", "[[red, green]]"]),
        # LoRA tags
        ("a cat <lora:a:0.8>", ["a cat"]),
        ("a cat, <lora:a:0.8>, red", ["a cat, red"]),
        ("<lora:a:1><lora:b:1>cat", ["cat"]),
        ("<lora:a:1>", [""]),
        ("cat <lora:a>", ["cat <lora:a>"]),
        ("cat <lora:a:x>", ["cat <lora:a:x>"]),
        ("cat <lora::1>", ["cat <lora::1>"]),
        ("cat <LORA:a:1>", ["cat <LORA:a:1>"]),
        ("cat\nred <lora:a:1>", ["cat", "red"]),
        ("cat <lora:my__c__v1:1>", ["cat"]),
        # wildcards: Random(1).choice(["red", "green", "blue"]) is "red"; the second draw of that generator is "blue"
        ("a __color__ cat", ["a red cat"]),
        ("a __flower__", ["a blue rose"]),
        ("cat\na __color__ sky", ["cat", "a red sky"]),
        ("cat __look__", ["cat"]),
        ("at __both__", ["at dawn"]),
        ("a __comma__ b", ["a x, y, b"]),
        ("[[__color__, black]] cat", ["red cat"]),
        # what is none of these
        ("{a|b} [c] <d> :) __", ["{a|b} [c] <d> :) __"]),
        ("embedding:x, a", ["embedding:x, a"]),
        ("猫、雪 🐈", ["猫、雪 🐈"]),
        ("{prompt}", ["{prompt}"]),
        ("1.5, a", ["1.5, a"]),
        ("(__color__:1.3)", ["(red:1.3)"]),
    ],
)
def test_a_prompt_becomes_texts(prompt: str, positive: list[str]) -> None:
    assert list(told(wish(prompt))[0].positive) == positive


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[a,b]] [[1,2,3]]", ["a 1", "b 1", "a 2", "b 2", "a 3", "b 3", "a 1"]),
        ("[[a,b]]", ["a", "b", "a"]),
        ("[[a, b ]]", ["a", " b ", "a"]),
        ("x[[a,b]]y[[c]]z", ["xaycz", "xbycz"]),
        ("none", ["none", "none"]),
        ("[[a,a,b]]", ["a", "a", "b"]),
    ],
)
def test_the_first_array_changes_fastest(text: str, expected: list[str]) -> None:
    assert [choose_from_arrays(text, index) for index in range(len(expected))] == expected


def test_an_array_that_a_list_brings_goes_on_where_the_prompt_s_have_come_to() -> None:
    texts = told(wish("[[red, blue]] cat at __both__"), range(4))
    wanted = ["red cat at dawn", "blue cat at dawn", "red cat at dusk", "blue cat at dusk"]
    assert [" ".join(each.positive[0].split()) for each in texts] == wanted


def test_arrays_and_the_loras_in_them_go_through_a_task() -> None:
    texts = told(wish("[[<lora:a:1>, <lora:b:1>]] [[red, green]] cat"), range(4))
    assert [each.positive[0] for each in texts] == ["red cat", "red cat", "green cat", "green cat"]
    assert [[name for name, _ in each.loras] for each in texts] == [["a.safetensors"], ["people/b.safetensors"]] * 2


@pytest.mark.parametrize(
    ("text", "rest", "tags"),
    [
        ("a <lora:x:1> b", "a b", [("x", 1.0)]),
        ("a, <lora:x:1>, <lora:y:-.5>", "a", [("x", 1.0), ("y", -0.5)]),
        ("<lora:x:1.><lora:x:+2.50>", "", [("x", 1.0), ("x", 2.5)]),
        ("<lora:x y/z.v2:0.8>", "", [("x y/z.v2", 0.8)]),
        ("<lora:x:1e3> <lora:x:nan>", "<lora:x:1e3> <lora:x:nan>", []),
        ("<lora:a> <lora:b:1>", "<lora:a>", [("b", 1.0)]),
        ("no ,, change", "no ,, change", []),
    ],
)
def test_tags(text: str, rest: str, tags: list[tuple[str, float]]) -> None:
    assert take_lora_tags(text) == (rest, tags)


A, B, C = "a.safetensors", "people/b.safetensors", "my__c__v1.safetensors"


@pytest.mark.parametrize(
    ("chosen", "tags", "expected", "words"),
    [
        ([], [("a", 0.8)], [(A, 0.8)], ""),
        ([(C, 1.0)], [("b", 1.0), ("a", 1.0)], [(C, 1.0), (B, 1.0), (A, 1.0)], ""),
        ([(A, 0.3)], [("a", 0.8)], [(A, 0.3)], ""),
        ([], [("a", 0.8), ("a", 0.8)], [(A, 0.8)], ""),
        ([], [("a", 0.8), ("a", 0.5)], [(A, 0.8), (A, 0.5)], ""),
        ([], [("people/b", 1.0)], [(B, 1.0)], ""),
        ([], [("a", 0.0)], [], ""),
        ([], [("z", 1.0), ("a", 1.0)], [(A, 1.0)], "There is no LoRA z in the LoRA folder: its tag was left out."),
        ([], [("../a", 1.0)], [], "There is no LoRA ../a in"),
        (
            [(str(number), 1.0) for number in range(4)],
            [("a", 1.0), ("b", 1.0)],
            [*((str(number), 1.0) for number in range(4)), (A, 1.0)],
            "More than 5 LoRAs at once: left out were those of the prompt that came last (b).",
        ),
    ],
)
def test_loras_of_tags_join_the_chosen_ones(
    chosen: list[Any], tags: list[Any], expected: list[Any], words: str
) -> None:
    notes: list[str] = []
    assert list(merged_loras(chosen, tags, lambda: FILES, 5, notes.append)) == expected
    assert len(notes) == bool(words) and all(words in note for note in notes)


@pytest.mark.parametrize(
    ("styles", "positive", "negative"),
    [
        ((), ["cat", "extra"], ["ugly", "dark"]),
        (("Ink",), ["ink drawing of cat, fine lines", "extra"], ["photo, blurry", "ugly", "dark"]),
        (
            ("Oil", "Ink"),
            ["oil painting of cat", "thick brush", "ink drawing of cat, fine lines", "extra"],
            ["photo", "photo, blurry", "ugly", "dark"],
        ),
        (("Clean",), ["cat", "extra"], ["watermark", "ugly", "dark"]),
        (("Bright", "Clean"), ["cat", "bright light", "extra"], ["watermark", "ugly", "dark"]),
        (
            ("Bright", "Ink"),
            ["bright light", "ink drawing of cat, fine lines", "extra"],
            ["photo, blurry", "ugly", "dark"],
        ),
    ],
)
def test_each_style_is_a_text_of_its_own(styles: tuple[str, ...], positive: list[str], negative: list[str]) -> None:
    (texts,) = told(wish("cat\nextra", negative_prompt="ugly\ndark", styles=styles))
    assert (list(texts.positive), list(texts.negative)) == (positive, negative)
    assert texts.styles == styles


def test_nothing_at_all_is_still_a_text() -> None:
    (texts,) = told(wish("", styles=("Clean",)))
    assert (texts.positive, texts.negative) == (("",), ("watermark",))


def test_a_style_that_is_not_there_is_said_once_and_the_rest_holds() -> None:
    notes: list[str] = []
    texts = told(wish("cat", styles=("Inky", "Clean")), (1, 2, 3), notes)
    assert notes == ["There is no style 'Inky': the picture is made without it. Did you mean Ink?"]
    assert all(each.styles == ("Clean",) and each.positive == ("cat",) for each in texts)


def test_the_random_style_is_another_one_by_seed() -> None:
    texts = told(wish("cat", styles=("Clean", "Random Style")), range(60))
    assert {each.styles[1] for each in texts} == set(STYLES)
    assert all(each.styles[0] == "Clean" for each in texts)
    assert texts == told(wish("cat", styles=("Clean", "Random Style")), range(60))


def test_draws_come_in_the_field_s_order() -> None:
    # main prompt, negative prompt, extra lines, extra lines of the negative, random style: one generator for all
    rng = Random(9)
    word = rng.choice(["red", "green", "blue"])
    wanted = wish("__color__\nsky", negative_prompt="dull", styles=("Random Style",))
    (texts,) = told(wanted, (9,))
    assert texts.styles == (rng.choice(list(STYLES)),) and word in " ".join(texts.positive)


def test_in_order_each_picture_gets_the_next_line() -> None:
    texts = told(wish("__color__ cat", in_order=True), [5] * 4)
    assert [each.positive[0] for each in texts] == ["red cat", "green cat", "blue cat", "red cat"]


def test_the_same_seed_gives_the_same_texts_alone_and_first_of_many() -> None:
    many = told(wish("__color__ __flower__"), range(8, 12))
    assert many == told(wish("__color__ __flower__"), range(8, 12)) and many[:1] == told(
        wish("__color__ __flower__"), [8]
    )


def test_what_is_expanded_is_the_main_line_without_any_style() -> None:
    prompt = "[[red,blue]] cat <lora:a:0.5>, __look__,\nsecond line"
    texts = told(wish(prompt, styles=("Ink", "Fooocus V2", "Clean")), (1, 2))
    assert [each.expand for each in texts] == ["red cat", "blue cat"]
    assert texts[0].positive == ("ink drawing of red cat, fine lines", "second line")
    assert texts[0].styles == ("Ink", "Fooocus V2", "Clean")
    (alone,) = told(wish("cat", styles=("Fooocus V2",)))
    assert (alone.positive, alone.expand) == (("cat",), "cat")
    assert told(wish("cat", styles=("Ink",)))[0].expand == told(wish("", styles=("Fooocus V2",)))[0].expand == ""


def test_each_complaint_is_made_once() -> None:
    notes: list[str] = []
    told(wish("__flour__ <lora:x:1> __flour__"), range(5), notes)
    assert notes == ["There is no list flour.", "There is no LoRA x in the LoRA folder: its tag was left out."]


def test_what_is_not_asked_for_is_not_looked_up() -> None:
    def never(*_: object) -> Any:
        raise AssertionError

    assert texts_of(wish("a cat"), (1,), Sources(never, never, never), print)[0].positive == ("a cat",)


SYNTAX = st.text(st.sampled_from("ab,.[]_<>:() \n10lora{}|-é\t"), max_size=80)


@hypothesis_settings(max_examples=300, deadline=None)
@given(st.one_of(SYNTAX, st.text(max_size=80)), SYNTAX, st.integers(0, 2**63 - 1))
def test_any_text_is_taken_and_what_is_no_syntax_survives(prompt: str, negative: str, seed: int) -> None:
    (texts,) = told(wish(prompt, negative_prompt=negative, styles=("Oil", "Clean")), (seed,), [])
    everything = " ".join(texts.positive)
    for word in re.findall(r"[^\W_]+", re.sub(r"\[\[.*?\]\]|<lora:.*?>|__.*?__", " ", prompt)):
        assert word in everything
    assert all(not re.search(r"[\n\x00]", text) for text in (*texts.positive, *texts.negative))


@pytest.mark.parametrize(
    "text", ["[[" * 10_000, "[[a,b]]" * 2_800, "<lora:" * 3_300, "__a" * 6_600, "_" * 20_000, ",a" * 9_000]
)
def test_the_longest_prompts_take_no_time(text: str) -> None:
    begin = time.process_time()
    told(wish(text), (1, 2), [])
    assert time.process_time() - begin < 2


def test_cleaning() -> None:
    assert clean("  ,. a   cat,, ") == "a cat"
    assert lines_of("\n,\n") == ("",)
    assert lines_of("a\r\nb\u2028c") == ("a", "b", "c")
    assert tidy(" a ,,b  c, ") == "a, b c"
