"""What the text towers make of weighted tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ldm_patched.ldm.clip import ClipText, ClipTextParams
from ldm_patched.modules.sdxl_clip import SDXLClip, Tower


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
