"""FreeU against its definition with a Fourier transform, and where a UNet calls it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.networks import MINI
from ldm_patched.ldm.unet import UNet
from ldm_patched.modules.hooks import FreeU, scale_low_frequencies, strengthen


def by_fourier(x: Tensor, factor: float) -> Tensor:
    spectrum = torch.fft.fftshift(torch.fft.fftn(x.double(), dim=(-2, -1)), dim=(-2, -1))
    rows, columns = x.shape[2] // 2, x.shape[3] // 2
    mask = torch.ones_like(spectrum)
    mask[..., max(rows - 1, 0) : rows + 1, max(columns - 1, 0) : columns + 1] = factor
    back: Tensor = torch.fft.ifftn(torch.fft.ifftshift(spectrum * mask, dim=(-2, -1)), dim=(-2, -1))
    return back.real


@pytest.mark.parametrize("size", [(32, 32), (28, 36), (9, 14), (7, 7), (3, 5), (2, 2)], ids=str)
@pytest.mark.parametrize("factor", [0.0, 0.2, 0.95, 1.7])
def test_low_frequencies_are_those_of_the_centred_spectrum(size: tuple[int, int], factor: float) -> None:
    x = torch.randn(2, 5, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(scale_low_frequencies(x, factor).double(), by_fourier(x, factor), rtol=1e-5, atol=1e-6)


def test_features_are_strengthened_where_their_mean_is_high() -> None:
    h = torch.zeros(1, 4, 1, 3)
    h[0, :, 0] = torch.tensor([1.0, 2.0, 3.0])
    out = strengthen(h, 1.5)
    assert out[0, 0, 0].tolist() == [1.0, 2.5, 4.5] and out[0, 3, 0].tolist() == [1.0, 2.0, 3.0]
    assert torch.isfinite(strengthen(torch.ones(1, 4, 2, 2), 1.5)).all(), "features without any contrast"


def test_factors_of_one_change_nothing_and_widths_are_told_apart() -> None:
    h, skip = torch.randn(1, 256, 4, 4), torch.randn(1, 64, 4, 4)
    same = FreeU(64, 1.0, 1.0, 1.0, 1.0)(h, skip)
    assert torch.equal(same[0], h) and torch.equal(same[1], skip)
    wide = FreeU(64, b1=1.3, b2=1.0, s1=0.5, s2=1.0)
    assert not torch.equal(wide(h, skip)[0], h)
    narrow = h[:, :128]
    assert torch.equal(wide(narrow, skip)[0], narrow)
    assert wide(h[:, :64], skip)[1] is skip


def test_the_unet_hands_features_and_skips_over_before_they_meet() -> None:
    unet = UNet(MINI).eval()
    seen: list[tuple[int, int]] = []

    def watch(h: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        seen.append((h.shape[1], skip.shape[1]))
        return h, skip

    x, vector = torch.randn(1, 4, 8, 8), torch.randn(1, MINI.adm_channels)
    with torch.inference_mode():
        time = unet.project_time(torch.tensor([500.0]), vector)
        text = [unet.project_text(torch.randn(1, 77, MINI.context_dim))]
        plain, watched = unet(x, time, text), unet(x, time, text, watch)
        freed = unet(x, time, text, FreeU(MINI.model_channels))
    assert torch.equal(plain, watched) and not torch.equal(plain, freed)
    assert len(seen) == len(unet.output_blocks)
