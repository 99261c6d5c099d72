"""Weights of words, and chunks of tokens."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings, strategies as st

from ldm_patched.modules.token_chunks import (
    MAX_CHUNKS,
    MAX_WEIGHT,
    ROOM,
    Chunk,
    PromptTooLong,
    token_weights,
    tokenize_with_weights,
)
from ldm_patched.modules.tokenizer import FULL_ROWS, Tokenizer

FULL = Tokenizer(FULL_ROWS)


# Weights of words


def test_the_worked_example() -> None:
    text = "This is a sample string with (parentheses) and (some other:1.5) special characters."
    assert token_weights(text) == [
        ("This is a sample string with ", 1.0),
        ("parentheses", 1.1),
        (" and ", 1.0),
        ("some other", 1.5),
        (" special characters.", 1.0),
    ]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("()", []),
        ("(())a", [("a", 1.0)]),
        ("a (b) c", [("a ", 1.0), ("b", 1.1), (" c", 1.0)]),
        ("((b))", [("b", 1.1 * 1.1)]),
        ("(a (b) c)", [("a ", 1.1), ("b", 1.1 * 1.1), (" c", 1.1)]),
        # A number sets the weight: what is outside does not count, what is inside multiplies it.
        ("((b:1.5))", [("b", 1.5)]),
        ("((b:0.5) c:2)", [("b", 0.5), (" c", 2.0)]),
        ("((b) c:2)", [("b", 2.0 * 1.1), (" c", 2.0)]),
        ("(a:b:0.7)", [("a:b", 0.7)]),
        ("(a: 0.7 )", [("a", 0.7)]),
        ("(a:.5)(b:1.)(c:-1)(d:+2)", [("a", 0.5), ("b", 1.0), ("c", -1.0), ("d", 2.0)]),
        ("(a:0)", [("a", 0.0)]),
        # What is no number is text.
        ("(a:b)", [("a:b", 1.1)]),
        ("(:1.5)", [(":1.5", 1.1)]),
        ("(a:)", [("a:", 1.1)]),
        ("(a:nan)(b:inf)(c:1e5)(d:1_0)(e:٣)", [(t, 1.1) for t in ("a:nan", "b:inf", "c:1e5", "d:1_0", "e:٣")]),
        ("a:1.5", [("a:1.5", 1.0)]),
        # Brackets of the text itself.
        (r"\(a\) (b)", [("(a) ", 1.0), ("b", 1.1)]),
        (r"(a \(b\):1.3)", [("a (b)", 1.3)]),
        (r"(\(:2)", [("(", 2.0)]),
        (r"a\\(b\n", [(r"a\(b\n", 1.0)]),
        (r"(a\)", [("(a)", 1.0)]),
        # Unbalanced brackets.
        ("(a", [("(a", 1.0)]),
        ("a (b (c) d", [("a (b (c) d", 1.0)]),
        ("(a) (b", [("a", 1.1), (" (b", 1.0)]),
        ("a) (b)", [("a) ", 1.0), ("b", 1.1)]),
        (":) (b) :)", [(":) ", 1.0), ("b", 1.1), (" :)", 1.0)]),
        (")(", [(")(", 1.0)]),
        ("[a] {b}", [("[a] {b}", 1.0)]),
    ],
)
def test_brackets(text: str, pieces: list[tuple[str, float]]) -> None:
    assert token_weights(text) == pieces


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet="()\\:1.5ab ", max_size=40))
def test_no_character_but_syntax_is_lost_and_weights_stay_within_their_limit(text: str) -> None:
    pieces = token_weights(text)
    joined = "".join(piece for piece, _ in pieces)
    assert [c for c in joined if c in "ab"] == [c for c in text if c in "ab"]
    assert all(piece for piece, _ in pieces)
    assert all(abs(weight) <= MAX_WEIGHT for _, weight in pieces)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_text_without_brackets_is_one_piece(text: str) -> None:
    text = text.replace("(", "").replace(")", "")
    assert token_weights(text) == ([(text, 1.0)] if text else [])


@pytest.mark.parametrize(
    "text", ["(" * 50_000 + ")" * 50_000, "(" * 100_000, ")" * 100_000, "(a)" * 33_000, "(a:1)" * 20_000, ":" * 100_000]
)
def test_a_hundred_thousand_brackets_take_no_time(text: str) -> None:
    begin = time.process_time()
    token_weights(text)
    assert time.process_time() - begin < 3


# Chunks


def words(count: int) -> str:
    return "cat " * count


def test_a_text_has_at_least_one_chunk() -> None:
    assert tokenize_with_weights(FULL, "") == tokenize_with_weights(FULL, " \n ") == [Chunk()]


def test_seventy_five_tokens_fill_a_chunk() -> None:
    assert [len(chunk.tokens) for chunk in tokenize_with_weights(FULL, words(75))] == [75]
    assert [len(chunk.tokens) for chunk in tokenize_with_weights(FULL, words(76))] == [75, 1]
    assert [len(chunk.tokens) for chunk in tokenize_with_weights(FULL, words(151))] == [75, 75, 1]


def test_a_short_word_moves_to_the_next_chunk_as_a_whole() -> None:
    seven = "1234567"
    assert len(FULL.encode(seven)[0]) == 7
    chunks = tokenize_with_weights(FULL, words(70) + f"({seven}:1.3) dog")
    assert [len(chunk.tokens) for chunk in chunks] == [70, 8]
    assert chunks[1].weights == (1.3,) * 7 + (1.0,)


def test_a_long_word_is_split() -> None:
    eight = "12345678"
    assert len(FULL.encode(eight)[0]) == 8
    chunks = tokenize_with_weights(FULL, words(70) + f"({eight}:1.3) dog")
    assert [len(chunk.tokens) for chunk in chunks] == [75, 4]
    assert chunks[0].weights == (1.0,) * 70 + (1.3,) * 5
    assert chunks[1].weights == (1.3,) * 3 + (1.0,)
    assert chunks[0].tokens[70:] + chunks[1].tokens[:3] == tuple(FULL.encode(eight)[0])


def test_a_word_longer_than_a_chunk_fills_several() -> None:
    assert [len(chunk.tokens) for chunk in tokenize_with_weights(FULL, "dog " + "1" * 200)] == [75, 75, 51]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["cat", "(dog:1.4)", "1234567", "1234567890", "photographically", "😀"]), max_size=120))
def test_chunks_hold_all_tokens_in_order(parts: list[str]) -> None:
    text = " ".join(parts)
    chunks = tokenize_with_weights(FULL, text)
    expected = [
        (token, weight) for piece, weight in token_weights(text) for word in FULL.encode(piece) for token in word
    ]
    found = [pair for chunk in chunks for pair in zip(chunk.tokens, chunk.weights, strict=True)]
    assert found == expected
    assert all(len(chunk.tokens) <= ROOM for chunk in chunks)
    assert all(chunk.tokens for chunk in chunks[1:])


def test_words_end_where_brackets_and_lines_do() -> None:
    tokens = tokenize_with_weights(FULL, "red\ncat(dog)bird")[0]
    assert tokens.tokens == tuple(token for word in FULL.encode("red cat dog bird") for token in word)
    assert tokens.weights == (1.0, 1.0, 1.1, 1.0)


def test_a_text_beyond_the_limit_is_refused_with_its_length() -> None:
    with pytest.raises(PromptTooLong, match=r"300,000 tokens long; the limit is 105,000"):
        tokenize_with_weights(FULL, "1" * 300_000)
    assert len(tokenize_with_weights(FULL, "1" * 100_000)) < MAX_CHUNKS
