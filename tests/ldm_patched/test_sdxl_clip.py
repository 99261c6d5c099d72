"""Weights of words, chunks of tokens, and what the towers make of them."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from ldm_patched.ldm.clip import ClipText, ClipTextParams
from ldm_patched.modules.sdxl_clip import (
    MAX_CHUNKS,
    MAX_WEIGHT,
    ROOM,
    Chunk,
    PromptTooLong,
    SDXLClip,
    Tower,
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


# Towers


def tower(width: int, projection: int, vocabulary: int = 1000, pad: int | None = None, norm: bool = False) -> Tower:
    params = ClipTextParams(
        width=width,
        layers=3,
        heads=width // 64,
        inner=width,
        vocabulary=vocabulary,
        positions=77,
        projection_dim=projection,
        activation="gelu" if projection else "quick_gelu",
    )
    model = ClipText(params)
    generator = torch.Generator().manual_seed(width)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return Tower(model.requires_grad_(False).eval(), vocabulary - 1 if pad is None else pad, norm)


SMALL = tower(64, 0)
LARGE = tower(128, 32, pad=0)
CLIP = SDXLClip([SMALL, LARGE])


def hidden_and_pooled(clip: SDXLClip, text: str, clip_skip: int = 2) -> tuple[Tensor, Tensor | None]:
    ((hidden, extras),) = clip.encode(text, clip_skip)
    return hidden, extras["pooled_output"]


def test_both_towers_side_by_side_and_the_larger_ones_pooled_vector() -> None:
    hidden, pooled = hidden_and_pooled(CLIP, "a photo of a cat")
    assert hidden.shape == (1, 77, 192)
    assert hidden.dtype == torch.float32
    assert pooled is not None
    assert pooled.shape == (1, 32)
    assert torch.equal(hidden[..., :64], hidden_and_pooled(SDXLClip([SMALL]), "a photo of a cat")[0])
    assert torch.equal(hidden[..., 64:], hidden_and_pooled(SDXLClip([LARGE]), "a photo of a cat")[0])
    assert hidden_and_pooled(SDXLClip([SMALL]), "a photo of a cat")[1] is None


def reference(tower_: Tower, tokens: list[int], clip_skip: int) -> tuple[Tensor, Tensor | None]:
    """What a tower gives for a padded row, straight from the network."""
    start, end = CLIP.tokenizer.start, CLIP.tokenizer.end
    row = [start, *tokens, end] + [tower_.pad] * (75 - len(tokens))
    ids = torch.tensor([row])
    states, pooled = tower_.model(tower_.model.embed(ids), torch.tensor([len(tokens) + 1]), clip_skip)
    assert isinstance(states, Tensor)
    return states, pooled


@pytest.mark.parametrize("clip_skip", [1, 2, 3])
def test_the_states_are_the_networks_own_with_each_towers_padding(clip_skip: int) -> None:
    tokens = [token for word in CLIP.tokenizer.encode("a red cat") for token in word]
    hidden, pooled = hidden_and_pooled(CLIP, "a red cat", clip_skip)
    small, large = reference(SMALL, tokens, clip_skip), reference(LARGE, tokens, clip_skip)
    assert torch.equal(hidden[..., :64], small[0])
    assert torch.equal(hidden[..., 64:], large[0])
    assert pooled is not None and large[1] is not None
    assert torch.equal(pooled, large[1])


def test_a_weighted_token_moves_away_from_the_empty_text() -> None:
    plain, _ = hidden_and_pooled(CLIP, "red cat")
    empty, _ = hidden_and_pooled(CLIP, "")
    weighted, pooled = hidden_and_pooled(CLIP, "red (cat:1.5)")
    red = 1 + len(CLIP.tokenizer.encode("red")[0])
    cat = slice(red, red + len(CLIP.tokenizer.encode("cat")[0]))
    expected = plain.clone()
    expected[:, cat] = (plain[:, cat] - empty[:, cat]) * 1.5 + empty[:, cat]
    torch.testing.assert_close(weighted, expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(weighted, plain, atol=1e-3)
    plain_pooled = hidden_and_pooled(CLIP, "red cat")[1]
    assert pooled is not None and plain_pooled is not None
    torch.testing.assert_close(pooled, plain_pooled)


def test_weight_zero_is_the_empty_text_and_weight_one_changes_nothing() -> None:
    empty, _ = hidden_and_pooled(CLIP, "")
    zero, _ = hidden_and_pooled(CLIP, "(cat:0)")
    cat = slice(1, 1 + len(CLIP.tokenizer.encode("cat")[0]))
    torch.testing.assert_close(zero[:, cat], empty[:, cat])
    assert torch.equal(hidden_and_pooled(CLIP, "(cat:1.0)")[0], hidden_and_pooled(CLIP, "cat")[0])


def test_a_long_text_is_encoded_chunk_by_chunk() -> None:
    many, pooled = hidden_and_pooled(CLIP, "a " * 75 * 2 + "cat")
    first, first_pooled = hidden_and_pooled(CLIP, "a " * 75)
    last, _ = hidden_and_pooled(CLIP, "cat")
    assert many.shape == (1, 3 * 77, 192)
    torch.testing.assert_close(many[:, :77], first)
    torch.testing.assert_close(many[:, 77 : 2 * 77], first)
    torch.testing.assert_close(many[:, 2 * 77 :], last)
    assert pooled is not None and first_pooled is not None
    torch.testing.assert_close(pooled, first_pooled)


def test_more_chunks_than_a_batch_come_out_in_order() -> None:
    texts = [letter + " a" * 74 + " " for letter in "bcdefghijklmnopqrstu"]
    together, _ = hidden_and_pooled(CLIP, "".join(texts))
    for index in (0, 1, 15, 16, 19):
        alone, _ = hidden_and_pooled(CLIP, texts[index])
        torch.testing.assert_close(together[:, 77 * index : 77 * (index + 1)], alone[:, :77], rtol=1e-4, atol=1e-5)


def test_sd15_states_go_through_the_last_norm() -> None:
    normed = SDXLClip([Tower(SMALL.model, SMALL.pad, final_norm=True)])
    hidden, _ = hidden_and_pooled(normed, "cat")
    torch.testing.assert_close(hidden, SMALL.model.ln_final(hidden_and_pooled(SDXLClip([SMALL]), "cat")[0]))


def test_towers_must_share_a_vocabulary() -> None:
    with pytest.raises(ValueError, match="one vocabulary"):
        SDXLClip([SMALL, tower(128, 32, vocabulary=1001)])


def test_a_clip_skip_that_no_layer_has_is_refused() -> None:
    with pytest.raises(ValueError, match="CLIP skip is 4"):
        CLIP.encode("cat", 4)


@pytest.mark.parametrize("text", ["(a b c:1.2) d, " * 6_000, "(" * 100_000, "(x:-3)" * 16_000, "\x00" * 100_000])
def test_a_hundred_thousand_characters_are_encoded(text: str) -> None:
    hidden, pooled = hidden_and_pooled(CLIP, text)
    assert hidden.shape[1] % 77 == 0
    assert pooled is not None
    assert bool(torch.isfinite(hidden).all()) and bool(torch.isfinite(pooled).all())
