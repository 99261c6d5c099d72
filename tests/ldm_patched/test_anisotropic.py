"""The bilateral filter against its definition, written as loops."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ldm_patched.modules.anisotropic import bilateral_filter


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_definition(x: torch.Tensor, guide: torch.Tensor) -> torch.Tensor:
    """One picture [channels, h, w], both sides above 6."""
    channels, height, width = x.shape
    guide = (guide - guide.mean()) / (guide.std() + 1e-5)
    x_padded, guide_padded = (F.pad(t[None], (6, 6, 6, 6), mode="reflect")[0].double() for t in (x, guide))
    out = torch.zeros(channels, height, width, dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            window = guide_padded[:, row : row + 13, column : column + 13]
            distance = (window - guide_padded[:, row + 6, column + 6, None, None]).abs().sum(0)
            offsets = torch.arange(-6, 7, dtype=torch.float64)
            spatial = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 3.0**2))
            weight = spatial * torch.exp(-(distance**2) / (2 * 3.0**2))
            values = x_padded[:, row : row + 13, column : column + 13]
            out[:, row, column] = (values * weight / weight.sum()).sum((1, 2))
    return out


def test_equals_the_definition_picture_by_picture() -> None:
    x, guide = noise(2, 4, 9, 14, seed=1), noise(2, 4, 9, 14, seed=2) * 3 + 1
    guide[1] *= 20
    expected = torch.stack([by_definition(*pair) for pair in zip(x, guide, strict=True)])
    assert torch.allclose(bilateral_filter(x, guide).double(), expected, atol=1e-5)


def test_blurs_within_a_flat_guide_and_not_across_its_edge() -> None:
    step = torch.zeros(1, 4, 32, 32)
    step[..., 16:] = 1000.0
    x = step / 1000 + 0.1 * noise(1, 4, 32, 32)
    filtered = bilateral_filter(x, guide=step)
    assert float(filtered[..., :16].std()) < 0.05
    assert float(filtered[..., 16:].mean() - filtered[..., :16].mean()) > 0.7
    flat = bilateral_filter(x, guide=torch.zeros_like(x))
    assert float(flat[..., 12:20].amax() - flat[..., 12:20].amin()) > 0.2  # the step is smeared over the middle


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (6, 7), (7, 6)])
def test_small_latents(size: tuple[int, int]) -> None:
    x = noise(1, 4, *size)
    constant = torch.full_like(x, 2.5)
    assert torch.isfinite(bilateral_filter(x, x)).all()
    assert torch.allclose(bilateral_filter(constant, x), constant)


def test_leaves_its_arguments_alone() -> None:
    x, guide = noise(1, 4, 8, 8, seed=1), noise(1, 4, 8, 8, seed=2)
    bilateral_filter(x, guide)
    assert torch.equal(x, noise(1, 4, 8, 8, seed=1))
    assert torch.equal(guide, noise(1, 4, 8, 8, seed=2))
