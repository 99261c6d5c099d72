"""The tokenizer against transformers' own, short vocabularies, and texts that nobody should type."""

from __future__ import annotations

import itertools
import re
import time

import pytest
from hypothesis import given, settings, strategies as st
from transformers import CLIPTokenizer

from ldm_patched.modules import tokenizer as module
from ldm_patched.modules.tokenizer import FULL_ROWS, Tokenizer, clean

FULL = Tokenizer(FULL_ROWS)


def flat(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(itertools.chain.from_iterable(tokenizer.encode(text)))


@pytest.fixture(scope="module")
def oracle() -> CLIPTokenizer:
    merges = module._merges(48_894)
    symbols = module._byte_symbols()
    names = [*symbols, *(s + "</w>" for s in symbols), *(a + b for a, b in merges), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={name: index for index, name in enumerate(names)}, merges=merges)


def test_the_known_sentence() -> None:
    assert flat(FULL, "a photo of a cat") == [320, 1125, 539, 320, 2368]
    assert (FULL.start, FULL.end) == (49406, 49407)


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]) | st.sampled_from("\t\n\r"), max_size=60))
def test_any_text_is_tokenized_as_transformers_does(oracle: CLIPTokenizer, text: str) -> None:
    text = re.sub(r"&|<\||[\u206a-\u206f\ufeff\ufff9-\ufffc]", "", text)  # entities and the like: see below
    assert flat(FULL, text) == oracle(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    "text",
    [
        "It's the dog's 2nd birthday, they'll've cake!!!",
        "ÀÉÎÕÜ straße ǅ İstanbul",
        "漢字かな交じり文、Привет мир",
        "👩‍👩‍👧‍👦 👍🏽 e\u0301 ﬁ",
        "a\tb\nc\u3000d\u00a0e",
        "1girl, (best_quality:1.2), 4k -- v5.2",
    ],
)
def test_tricky_texts_are_tokenized_as_transformers_does(oracle: CLIPTokenizer, text: str) -> None:
    assert flat(FULL, text) == oracle(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("rows", [514, 515, 1000, 4096, 49_407])
def test_a_shorter_table_has_the_first_merges_and_its_own_last_two_ids(rows: int) -> None:
    short = Tokenizer(rows)
    assert (short.start, short.end) == (rows - 2, rows - 1)
    tokens = flat(short, "A photograph of a cat, 3 o'clock 漢 👍")
    assert max(tokens) < rows - 2
    assert len(tokens) >= len(flat(FULL, "A photograph of a cat, 3 o'clock 漢 👍"))
    common = flat(short, "a")
    assert common == [320]


def test_a_word_that_a_short_table_has_is_spelt_as_in_the_full_one() -> None:
    assert flat(Tokenizer(3000), "a photo of a cat") == [320, 1125, 539, 320, 2368]


@pytest.mark.parametrize("rows", [0, 513, 49_409])
def test_a_table_of_an_impossible_length_is_refused_with_both_limits(rows: int) -> None:
    with pytest.raises(ValueError, match=r"514 to 49,408"):
        Tokenizer(rows)


def test_words_are_what_white_space_separates() -> None:
    assert len(FULL.encode(" a  photo\r\nof\u2003cats ")) == 4
    assert FULL.encode("") == FULL.encode(" \n\t ") == []


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("salt &amp; pepper", "salt & pepper"),
        ("salt &amp;amp; pepper", "salt & pepper"),
        ("I &lt;3 you &#x1F600;&#33;", "I <3 you 😀!"),
        ("sun&regular &notanentity; a&b;", "sun&regular &notanentity; a&b;"),
        ("a\x00b\x07c\ufeff\x9f", "abc"),
        ("a\ud800b", "ab"),
        ("a\x85b\x1cc", "a b c"),
        ("&#99999999; &#0;", "&#99999999; \ufffd"),
    ],
)
def test_entities_are_resolved_and_invisible_characters_dropped(typed: str, read: str) -> None:
    assert clean(typed) == read
    assert flat(FULL, typed) == flat(FULL, read)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=40))
def test_no_text_fails_and_no_text_gives_a_special_token(text: str) -> None:
    tokens = flat(FULL, text)
    assert not {FULL.start, FULL.end} & set(tokens)


def test_a_prompt_cannot_spell_the_end_token() -> None:
    assert FULL.end not in flat(FULL, "cat <|endoftext|> dog <|startoftext|>")


@pytest.mark.parametrize("text", ["word " * 20_000, "x" * 100_000, "😀" * 100_000, "((" * 50_000])
def test_a_hundred_thousand_characters_take_no_time(text: str) -> None:
    begin = time.process_time()
    assert FULL.encode(text)
    assert time.process_time() - begin < 3
