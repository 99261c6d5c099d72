"""Wildcards: fair draws, weights, order, nesting, sub-folders, and what is said where a list is missing or endless."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from modules.wildcards import (
    MAX_CHARACTERS,
    Drawer,
    Entry,
    WildcardError,
    WildcardFolder,
    Wildcards,
    entries_of,
    no_wildcards,
)

DRAWS = 20_000
WORDS = [f"word {number}" for number in range(20)]
LIMIT = {19: 36.191, 3: 11.345, 399: 468.724}
"""The 99th percentile of chi-square by degrees of freedom (tables; the last by Wilson and Hilferty, to 0.1 %)."""


def lists(**texts: str) -> Wildcards:
    """Lists in memory."""
    found: Mapping[str, Sequence[Entry]] = {name: entries_of(text) for name, text in texts.items()}

    def entries(name: str) -> Sequence[Entry]:
        if name not in found:
            raise WildcardError(f"There is no list {name}.")
        return found[name]

    return entries


def drawn(text: str, wildcards: Wildcards, seed: int = 1, index: int = 0, in_order: bool = False) -> str:
    """What one picture alone is given."""
    notes: list[str] = []
    filled = Drawer(wildcards, in_order, notes.append).fill(text, Random(seed), index)
    assert notes == []
    return filled


def chi_square(counts: Mapping[str, int], shares: Mapping[str, float]) -> float:
    assert set(counts) <= set(shares)
    total = sum(counts.values())
    return sum((counts.get(word, 0) - total * share) ** 2 / (total * share) for word, share in shares.items())


def test_twenty_thousand_draws_are_fair() -> None:
    source = lists(a="\n".join(WORDS))
    counts = Counter(drawn("__a__", source, seed) for seed in range(DRAWS))
    assert chi_square(counts, dict.fromkeys(WORDS, 1 / 20)) < LIMIT[19]


def test_two_lists_are_drawn_independently() -> None:
    source = lists(a="\n".join(WORDS), b="\n".join(WORDS))
    counts = Counter(drawn("__a__, __b__", source, seed) for seed in range(DRAWS))
    shares = {f"{one}, {other}": 1 / 400 for one in WORDS for other in WORDS}
    assert chi_square(counts, shares) < LIMIT[399]


def test_weights_are_kept_over_twenty_thousand_draws() -> None:
    source = lists(a="3::red rose\nlily\n0.5::0.5::tulip\n.5::iris\n0::never")
    counts = Counter(drawn("__a__", source, seed) for seed in range(DRAWS))
    shares = {"red rose": 3 / 5, "lily": 1 / 5, "0.5::tulip": 0.5 / 5, "iris": 0.5 / 5}
    assert chi_square(counts, shares) < LIMIT[3]


def test_draws_of_later_pictures_of_a_task_are_fair_too() -> None:
    source = lists(a="\n".join(WORDS))
    counts: Counter[str] = Counter()
    for seed in range(0, DRAWS, 4):
        drawer = Drawer(source, False, print)
        counts[[drawer.fill("__a__", Random(seed + index), index) for index in range(4)][3]] += 1
    assert chi_square(counts, dict.fromkeys(WORDS, 1 / 20)) < LIMIT[19]


@pytest.mark.parametrize("seed", range(20))
def test_nothing_comes_twice_in_a_task_before_everything_has_come(seed: int) -> None:
    drawer = Drawer(lists(a="\n".join(WORDS)), False, print)
    came = [drawer.fill("__a__", Random(seed + index), index) for index in range(40)]
    assert sorted(came[:20]) == sorted(WORDS) == sorted(came[20:])
    assert came[0] == drawn("__a__", lists(a="\n".join(WORDS)), seed)


def test_nothing_comes_twice_in_one_picture_either() -> None:
    assert set(drawn("__a__ __a__ __a__", lists(a="x\ny\nz"), 3).split()) == {"x", "y", "z"}


def test_the_draw_is_the_field_s() -> None:
    # behaviour of the field: Random(seed).choice(lines), one draw for each wildcard in its order
    rng = Random(77)
    expected = f"{rng.choice(WORDS)} and {rng.choice(['x', 'y', 'z'])}"
    assert drawn("__a__ and __b__", lists(a="\n".join(WORDS), b="x\ny\nz"), 77) == expected


def test_in_order_picture_i_gets_line_i_of_every_list() -> None:
    source = lists(a="a0\n\na1\na2", b="5::b0\nb1")
    came = [drawn("__a__ __b__ __a__", source, 9, index, in_order=True) for index in range(5)]
    assert came == ["a0 b0 a0", "a1 b1 a1", "a2 b0 a2", "a0 b1 a0", "a1 b0 a1"]


@pytest.mark.parametrize("depth", [1, 2, 63, 64])
def test_lists_are_nested_64_deep(depth: int) -> None:
    source = lists(**{f"n{level}": f"__n{level + 1}__" for level in range(1, depth)}, **{f"n{depth}": "end"})
    assert drawn("__n1__", source) == "end"


def test_deeper_than_64_is_left_as_it_is_and_said() -> None:
    notes: list[str] = []
    source = lists(**{f"n{level}": f"__n{level + 1}__" for level in range(1, 65)}, n65="end")
    filled = Drawer(source, False, notes.append).fill("a __n1__ b", Random(1), 0)
    assert filled == "a __n65__ b"
    assert notes == ["The lists for __n65__ name one another more than 64 deep: they stay as they are."]


@pytest.mark.parametrize("in_order", [False, True])
def test_a_cycle_is_said_and_the_rest_is_kept(in_order: bool) -> None:
    notes: list[str] = []
    filled = Drawer(lists(a="one __b__", b="two __a__"), in_order, notes.append).fill("a fox, __a__", Random(1), 0)
    assert filled.startswith("a fox, one two one") and "64 deep" in notes[0] and len(notes) == 1


def test_lists_that_grow_without_an_end_fill_no_memory() -> None:
    notes: list[str] = []
    filled = Drawer(lists(a="__a__ __a__ leaf"), False, notes.append).fill("a tree, __a__", Random(1), 0)
    assert filled == "a tree, __a__"
    assert notes == [
        f"What the lists for __a__ hold makes the prompt longer than {MAX_CHARACTERS} characters: the prompt stays as "
        "it is."
    ]


def test_a_list_that_is_missing_is_said_and_its_name_stays() -> None:
    notes: list[str] = []
    filled = Drawer(lists(a="x"), False, notes.append).fill("__flowr__ and __a__", Random(1), 0)
    assert (filled, notes) == ("flowr and x", ["There is no list flowr."])
    with pytest.raises(WildcardError, match="no list for __a__"):
        no_wildcards("a")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("__a____b__", "xy"),
        ("__a__b__", "xb__"),
        ("___a__", "_a"),
        ("__ a__", "__ a__"),
        ("____", "____"),
        ("__a", "__a"),
        ("snake_case_name", "snake_case_name"),
        ("__b-c__", "z"),
        ("__größe__", "big"),
        ("(__a__:1.3)", "(x:1.3)"),
    ],
)
def test_what_is_a_wildcard(text: str, expected: str) -> None:
    notes: list[str] = []
    source = lists(a="x", b="y", größe="big", **{"b-c": "z"})
    assert Drawer(source, False, notes.append).fill(text, Random(1), 0) == expected


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("", []),
        ("red\r\n\n  blue \n", [("red", 1), ("blue", 1)]),
        ("3::red rose", [("red rose", 3)]),
        ("2.5:: x", [("x", 2.5)]),
        ("::x", [("::x", 1)]),
        ("std::vector", [("std::vector", 1)]),
        ("-1::x", [("-1::x", 1)]),
        ("0::x\n3::", []),
        ("1::2::x", [("2::x", 1)]),
    ],
)
def test_lines_become_entries(text: str, entries: list[tuple[str, float]]) -> None:
    assert [(entry.text, entry.weight) for entry in entries_of(text)] == entries


def test_files_in_sub_folders_are_found_by_their_name_and_by_their_path(tmp_path: Path) -> None:
    for name, text in {"color": "red", "B/flower": "rose", "b/more/flower": "lily", ".hidden": "x"}.items():
        path = tmp_path / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"\ufeff{text}\n", encoding="utf-8")
    folder = WildcardFolder(tmp_path)
    assert folder.names() == ["B/flower", "b/more/flower", "color"]
    assert [drawn(f"__{name}__", folder) for name in ("color", "flower", "b/more/flower")] == ["red", "rose", "lily"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("colour", b"red", "There is no list color.txt in the folder {} for __color__. Did you mean __colour__?"),
        ("color", b"\n\n", "The list color.txt is empty."),
        ("color", b"\xff\xfe", "The list color.txt is not a text file in UTF-8."),
    ],
)
def test_files_that_cannot_be_used_are_said(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / f"{name}.txt").write_bytes(content)
    with pytest.raises(WildcardError) as caught:
        WildcardFolder(tmp_path)("color")
    assert str(caught.value) == words.format(tmp_path.name)
    with pytest.raises(WildcardError, match="There is no list passwd"):
        WildcardFolder(tmp_path)("../../etc/passwd".rpartition("/")[2])


def test_no_folder_is_a_sentence_too(tmp_path: Path) -> None:
    assert WildcardFolder(tmp_path / "none").names() == []


@hypothesis_settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("ab_- ,\n[(é"), max_size=60), st.integers(0, 2**63 - 1), st.booleans())
def test_any_text_is_filled_in_and_the_rest_of_it_survives(text: str, seed: int, in_order: bool) -> None:
    filled = Drawer(lists(a="1 __b__", b="2"), in_order, lambda note: None).fill(text, Random(seed), 3)
    kept = "".join(each for each in filled if each not in "12_ab- ")
    assert kept == "".join(each for each in text if each not in "12_ab- ")


def test_the_table_of_chi_square_is_right() -> None:
    for freedom, limit in LIMIT.items():
        part = 2 / (9 * freedom)
        assert limit == pytest.approx(freedom * (1 - part + 2.326348 * math.sqrt(part)) ** 3, rel=6e-3)
