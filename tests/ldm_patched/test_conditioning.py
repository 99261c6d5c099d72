"""Texts joined, and size vectors number by number."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ldm_patched.modules.conditioning import Conditioning, emphasised_at, join_texts, refiner_vector, size_vectors


def text(tokens: int, value: float, pooled: float | None) -> Conditioning:
    vector = None if pooled is None else torch.full((1, 5), pooled)
    return [(torch.full((1, tokens, 3), value), {"pooled_output": vector})]


def test_tokens_follow_each_other_and_pooled_vectors_of_the_first_texts_add_up() -> None:
    ((hidden, extras),) = join_texts([text(77, 1, 1.0), text(154, 2, 10.0), text(77, 3, 100.0)], top_k=2)
    assert hidden.shape == (1, 308, 3)
    assert [float(hidden[0, position, 0]) for position in (0, 76, 77, 230, 231)] == [1, 1, 2, 2, 3]
    assert torch.equal(extras["pooled_output"], torch.full((1, 5), 11.0))  # type: ignore[arg-type]


def test_texts_without_a_pooled_vector_have_none_together() -> None:
    assert join_texts([text(77, 1, None), text(77, 2, None)])[0][1]["pooled_output"] is None


def test_nothing_to_join_is_an_error() -> None:
    with pytest.raises(ValueError, match="no text"):
        join_texts([])
    with pytest.raises(ValueError, match="top_k is 0"):
        join_texts([text(77, 1, 1.0)], top_k=0)


def embedded(number: float) -> list[float]:
    frequencies = [math.exp(-math.log(10000) * index / 128) for index in range(128)]
    return [math.cos(number * f) for f in frequencies] + [math.sin(number * f) for f in frequencies]


def numbers_of(vector: Tensor, *numbers: float) -> bool:
    expected = torch.tensor([value for number in numbers for value in embedded(number)])
    return torch.allclose(vector, expected, atol=2e-4)


def test_the_emphasised_vector_claims_another_size_and_the_plain_one_the_rounded_size() -> None:
    pooled = torch.randn(1, 7)
    vectors = size_vectors(pooled, width=1144, height=904, scale=1.5)
    assert vectors.emphasised.shape == vectors.plain.shape == (1, 7 + 1536)
    assert torch.equal(vectors.emphasised[:, :7], pooled)
    assert torch.equal(vectors.plain[:, :7], pooled)
    # 904 * 1.5 = 1356, 1144 * 1.5 = 1716; to multiples of 64: 896, 1152.
    assert numbers_of(vectors.emphasised[0, 7:], 1356, 1716, 0, 0, 896, 1152)
    assert numbers_of(vectors.plain[0, 7:], 896, 1152, 0, 0, 896, 1152)


def test_the_claimed_size_is_cut_to_whole_pixels() -> None:
    vectors = size_vectors(torch.zeros(1, 1), width=1000, height=904, scale=0.8333)
    assert numbers_of(vectors.emphasised[0, 1:], 753, 833, 0, 0, 896, 1024)


def test_the_refiner_is_told_a_score_instead_of_a_target_size() -> None:
    vector = refiner_vector(torch.ones(1, 3), width=1152, height=896, score=2.5)
    assert vector.shape == (1, 3 + 1280)
    assert numbers_of(vector[0, 3:], 896, 1152, 0, 0, 2.5)


@pytest.mark.parametrize(
    ("timestep", "end", "early"),
    [(999, 0.3, True), (700, 0.3, True), (699.3, 0.3, False), (0, 0.3, False), (999, 0.0, False), (1, 1.0, True)],
)
def test_emphasis_ends_with_the_fraction_of_the_run(timestep: float, end: float, early: bool) -> None:
    vectors = size_vectors(torch.zeros(1, 1), 64, 64, 1.5)
    assert emphasised_at(timestep, end) is early
    assert vectors.at(timestep, end) is (vectors.emphasised if early else vectors.plain)
