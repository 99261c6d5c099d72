"""The networks against diffusers and transformers with the same random weights, at the miniature's widths."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.networks import MINI, MINI_G, MINI_L, MINI_VAE, text_error, unet_error, vae_errors
from ldm_patched.ldm.attention import SelfAttention, add_linear, fuse_qkv, split_qkv
from ldm_patched.ldm.preview import PreviewDecoder
from ldm_patched.ldm.unet import UNet

LIMIT = 1e-4


@pytest.mark.parametrize("size", [(32, 32), (28, 36), (11, 22)], ids=str)
def test_unet_equals_diffusers(size: tuple[int, int]) -> None:
    assert unet_error(MINI, size) < LIMIT


def test_a_deeper_unet_equals_diffusers() -> None:
    deeper = replace(MINI, num_res_blocks=2, transformer_depth=(0, 0, 1, 3), middle_depth=3)
    assert unet_error(deeper, (16, 16)) < LIMIT


def test_a_wrong_unet_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = SelfAttention.forward
    monkeypatch.setattr(SelfAttention, "forward", lambda self, x, onto: 1.01 * plain(self, x, onto))
    assert unet_error(MINI, (16, 16)) > LIMIT


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_residual_is_the_sum_rounded(dtype: torch.dtype) -> None:
    """In bfloat16 a fused sum is rounded once: never further from the exact one than two roundings are."""
    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(48, 32).to(dtype).requires_grad_(False)
    inputs, x = (torch.randn(2, 5, width, generator=generator).to(dtype) for width in (48, 32))
    exact = x.double() + torch.nn.functional.linear(inputs.double(), layer.weight.double(), layer.bias.double())
    with torch.inference_mode():
        fused = add_linear(x, layer, inputs)
    with torch.enable_grad():
        plain = add_linear(x, layer, inputs)
    assert fused.dtype == plain.dtype == dtype
    assert (fused - exact).abs().max() <= (plain - exact).abs().max() * 1.01
    assert torch.equal(plain, x + layer(inputs))


def test_vae_equals_diffusers() -> None:
    assert max(vae_errors(MINI_VAE)) < LIMIT


@pytest.mark.parametrize("clip_skip", [1, 2, 3])
def test_text_towers_equal_transformers(clip_skip: int) -> None:
    assert text_error(MINI_L, clip_skip) < LIMIT
    assert text_error(MINI_G, clip_skip) < LIMIT


def test_texts_of_unequal_length_in_one_batch() -> None:
    torch.manual_seed(0)
    unet = UNet(MINI).eval()
    x = torch.randn(2, 4, 8, 8)
    short, long = torch.randn(1, 77, MINI.context_dim), torch.randn(1, 154, MINI.context_dim)
    vector = torch.randn(2, MINI.adm_channels)
    with torch.inference_mode():
        time = unet.project_time(torch.tensor([500.0, 500.0]), vector)
        together = unet(x, time, [unet.project_text(short), unet.project_text(long)])
        for row, text in enumerate((short, long)):
            alone = unet(x[row : row + 1], [part[row : row + 1] for part in time], [unet.project_text(text)])
            torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-5)


def test_a_missing_size_vector_is_named() -> None:
    unet = UNet(MINI)
    with pytest.raises(ValueError, match="1664"):
        unet.project_time(torch.tensor([1.0]), None)


def test_fused_projections_go_back() -> None:
    names = [f"block.attn1.to_{part}.weight" for part in "qkv"] + ["block.attn2.to_q.weight"]
    tensors = {name: torch.randn(4, 4) for name in names}
    fused = fuse_qkv(tensors)
    assert sorted(fused) == ["block.attn1.to_qkv.weight", "block.attn2.to_q.weight"]
    back = split_qkv(fused)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in names)


def test_preview_is_twice_the_latent() -> None:
    assert PreviewDecoder()(torch.randn(1, 4, 28, 36)).shape == (1, 3, 56, 72)
