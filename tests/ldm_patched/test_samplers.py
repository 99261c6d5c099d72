"""Guidance, the guided denoiser and the schedules."""

from __future__ import annotations

import math

import pytest
import torch

from ldm_patched.ldm.unet import UNet, UNetParams
from ldm_patched.modules.anisotropic import bilateral_filter
from ldm_patched.modules.conditioning import SizeVectors
from ldm_patched.modules.model_sampling import EDMSampling, EpsSampling, VSampling
from ldm_patched.modules.samplers import (
    Guidance,
    GuidedDenoiser,
    SwitchingDenoiser,
    TextCondition,
)
from ldm_patched.modules.schedulers import calculate_sigmas

EPS = EpsSampling()
PARAMS = UNetParams(
    in_channels=4,
    out_channels=4,
    model_channels=32,
    channel_mult=(1, 2),
    num_res_blocks=1,
    transformer_depth=(0, 1),
    middle_depth=1,
    context_dim=24,
    adm_channels=20,
    linear_projections=True,
    head_channels=16,
    heads=0,
)
SIGMAS = calculate_sigmas(EPS, "karras", 6)


def noise(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def condition(seed: int, tokens: int = 7, batch: int = 1) -> TextCondition:
    sizes = SizeVectors(noise(batch, 20, seed=seed + 100), noise(batch, 20, seed=seed + 200))
    return TextCondition(noise(batch, tokens, 24, seed=seed), sizes)


@pytest.fixture(scope="module")
def unet() -> UNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet(PARAMS).eval()


X, COND, UNCOND = (noise(1, 4, 8, 8, seed=seed) for seed in (1, 2, 3))


def by_definition(guidance: Guidance, progress: float) -> torch.Tensor:
    """Guidance in terms of the predicted noise, term by term."""
    positive, negative = X - COND, X - UNCOND
    alpha = 0.001 * guidance.sharpness * progress
    sharp = alpha * bilateral_filter(positive, COND) + (1 - alpha) * positive
    real = negative + guidance.scale * (sharp - negative)
    if guidance.scale <= guidance.adaptive_cfg:
        return X - real
    mimic = negative + guidance.adaptive_cfg * (sharp - negative)
    return X - (progress * real + (1 - progress) * mimic)


@pytest.mark.parametrize("progress", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("guidance", [Guidance(4.0), Guidance(5.0, 30.0), Guidance(12.0, 2.0, 7.0), Guidance(0.5, 2.0)])
def test_guidance_is_its_definition(guidance: Guidance, progress: float) -> None:
    assert torch.allclose(guidance(X, COND, UNCOND, progress), by_definition(guidance, progress), atol=1e-5)


def test_guidance_identities() -> None:
    assert torch.equal(Guidance(1.0, 30.0, 0.5)(X, COND, UNCOND, 0.5), COND)
    plain = UNCOND + 4 * (COND - UNCOND)
    assert torch.allclose(Guidance(4.0)(X, COND, UNCOND, 0.5), plain, atol=1e-5)
    assert torch.equal(Guidance(4.0, 30.0)(X, COND, UNCOND, 0.0), Guidance(4.0)(X, COND, UNCOND, 0.0))
    assert Guidance(6.0, adaptive_cfg=7.0).scale_at(0.3) == pytest.approx(6.0)
    assert Guidance(7.0, adaptive_cfg=7.0).scale_at(0.3) == pytest.approx(7.0)
    assert Guidance(9.0, adaptive_cfg=7.0).scale_at(0.0) == 7.0
    assert Guidance(9.0, adaptive_cfg=7.0).scale_at(1.0) == 9.0


def test_sharpness_keeps_texture_in_the_picture() -> None:
    sharp, plain = (Guidance(4.0, sharpness)(X, COND, COND, 1.0) for sharpness in (30.0, 0.0))
    lost = (X - COND) - bilateral_filter(X - COND, COND)
    assert torch.allclose(sharp - plain, 4 * 0.03 * lost, atol=1e-5)


def test_rescaling_gives_the_deviation_of_the_prompts_side() -> None:
    plain, full, half = (Guidance(8.0, adaptive_cfg=30.0, rescale=share)(X, COND, UNCOND, 0.5) for share in (0, 1, 0.5))
    assert plain.std() > 2 * COND.std()
    assert full.std().item() == pytest.approx(COND.std().item(), rel=1e-5)
    assert torch.allclose(half, (plain + full) / 2, atol=1e-5)


def test_outside_its_interval_there_is_no_guidance(unet: UNet) -> None:
    sides = condition(1), condition(2, tokens=14)
    guidance = Guidance(4.0, begin=0.2, end=0.6)
    part = GuidedDenoiser(unet, EPS, *sides, guidance, SIGMAS, 0.3)
    full = GuidedDenoiser(unet, EPS, *sides, Guidance(4.0), SIGMAS, 0.3)
    none = GuidedDenoiser(unet, EPS, *sides, Guidance(1.0), SIGMAS, 0.3)
    acted = []
    for sigma in SIGMAS[:-1]:
        inside = 0.2 <= EPS.progress(sigma) <= 0.6
        acted.append(inside)
        assert torch.allclose(part(X, sigma), (full if inside else none)(X, sigma), atol=1e-5)
    assert set(acted) == {True, False}
    assert not Guidance(4.0, begin=0.7, end=0.3).needs_uncond, "an empty interval costs no second side"


def test_the_noise_level_decides_which_network_answers(unet: UNet) -> None:
    high = GuidedDenoiser(unet, EPS, condition(1), condition(2), Guidance(4.0), SIGMAS, 0.3)
    low = GuidedDenoiser(unet, EPS, condition(3), condition(2), Guidance(4.0), SIGMAS, 0.3)
    both = SwitchingDenoiser(high, low, SIGMAS[3])
    for step, sigma in enumerate(SIGMAS[:-1]):
        assert torch.equal(both(X, sigma), (high if step < 3 else low)(X, sigma))
    between = (SIGMAS[2] + SIGMAS[3]) / 2
    assert torch.equal(both(X, between), high(X, between))


@torch.inference_mode()
def one_side(unet: UNet, side: TextCondition, x: torch.Tensor, sigma: float, emphasised: bool) -> torch.Tensor:
    """x0 by a call of its own."""
    assert side.sizes is not None
    vector = side.sizes.emphasised if emphasised else side.sizes.plain
    time = unet.project_time(torch.tensor([EPS.timestep(sigma)]), vector)
    output: torch.Tensor = unet(x / math.sqrt(sigma**2 + 1), time, [unet.project_text(side.hidden)])
    return x - sigma * output


@pytest.mark.parametrize("tokens", [7, 14])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_one_batch_is_both_sides_alone(unet: UNet, tokens: int, scale: float) -> None:
    sides = condition(1), condition(2, tokens)
    denoiser = GuidedDenoiser(unet, EPS, *sides, Guidance(scale), SIGMAS, 0.3)
    for sigma in (*SIGMAS[:-1], 1.2345):
        emphasised = EPS.timestep(sigma) > 999 * (1 - 0.3)
        cond, uncond = (one_side(unet, side, X, sigma, emphasised) for side in sides)
        expected = uncond + scale * (cond - uncond)
        assert torch.allclose(denoiser(X, sigma), expected, rtol=1e-4, atol=1e-4 * sigma)


@pytest.mark.parametrize("end", [0.0, 0.5, 1.0])
def test_emphasised_sizes_end_where_they_should(unet: UNet, end: float) -> None:
    side = condition(1)
    denoiser = GuidedDenoiser(unet, EPS, side, side, Guidance(1.0), SIGMAS, end)
    for sigma in SIGMAS[:-1]:
        emphasised = EPS.timestep(sigma) > 999 * (1 - end)
        assert torch.allclose(denoiser(X, sigma), one_side(unet, side, X, sigma, emphasised), atol=1e-5 * (1 + sigma))
        assert not torch.allclose(denoiser(X, sigma), one_side(unet, side, X, sigma, not emphasised), rtol=1e-7, atol=0)


def test_emphasised_sizes_follow_the_run_whatever_the_timesteps_are(unet: UNet) -> None:
    """EDM's timesteps are -1.6..1.2: how far a run has come decides, not they."""
    edm, side = EDMSampling(), condition(1)
    part, always, never = (
        GuidedDenoiser(unet, edm, side, side, Guidance(1.0), [120.0, 0.1], end) for end in (0.3, 1.0, 0.0)
    )
    for sigma in (120.0, 10.0, 0.1, 0.01):
        expected = always if edm.progress(sigma) < 0.3 else never
        assert torch.equal(part(X, sigma), expected(X, sigma))
        assert not torch.equal(always(X, sigma), never(X, sigma))


def test_one_unet_call_per_step_and_nothing_projected_again(unet: UNet) -> None:
    calls: list[int] = []
    linears: list[str] = []
    handles = [unet.register_forward_pre_hook(lambda module, inputs: calls.append(inputs[0].shape[0]))]
    for name, module in unet.named_modules():
        if isinstance(module, torch.nn.Linear) and ("emb" in name or name.endswith(("attn2.to_k", "attn2.to_v"))):
            handles.append(module.register_forward_pre_hook(lambda module, inputs, name=name: linears.append(name)))
    denoiser = GuidedDenoiser(unet, EPS, condition(1), condition(2), Guidance(4.0), SIGMAS, 0.3)
    projected = list(linears)
    assert len(projected) == len(set(projected)) > 0
    for sigma in SIGMAS[:-1]:
        denoiser(X, sigma)
    assert calls == [2] * 6
    assert linears == projected
    GuidedDenoiser(unet, EPS, condition(1), condition(2), Guidance(1.0), SIGMAS, 0.3)(X, SIGMAS[0])
    assert calls[-1] == 1
    for handle in handles:
        handle.remove()


def test_a_batch_of_pictures(unet: UNet) -> None:
    sides = condition(1, batch=3), condition(2, batch=3)
    x = noise(3, 4, 8, 8, seed=5)
    together = GuidedDenoiser(unet, EPS, *sides, Guidance(4.0, 2.0), SIGMAS, 0.3)(x, 2.0)
    for row in range(3):
        one = [
            TextCondition(
                s.hidden[row : row + 1], SizeVectors(s.sizes.emphasised[row : row + 1], s.sizes.plain[row : row + 1])
            )
            for s in sides
            if s.sizes is not None
        ]
        alone = GuidedDenoiser(unet, EPS, one[0], one[1], Guidance(4.0, 2.0), SIGMAS, 0.3)(x[row : row + 1], 2.0)
        assert torch.allclose(together[row : row + 1], alone, atol=1e-4)


def test_network_in_bf16_keeps_the_state_in_single_precision() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        narrow = UNet(PARAMS).eval().to(torch.bfloat16)
    full = UNet(PARAMS).eval()
    full.load_state_dict(narrow.state_dict())
    sides = condition(1), condition(2)
    result = GuidedDenoiser(narrow, EPS, *sides, Guidance(4.0), SIGMAS, 0.3)(X, 2.0)
    expected = GuidedDenoiser(full, EPS, *sides, Guidance(4.0), SIGMAS, 0.3)(X, 2.0)
    assert result.dtype == torch.float32
    assert float((result - expected).norm() / expected.norm()) < 0.03


def test_a_network_without_sizes() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet(UNetParams(**{**vars(PARAMS), "adm_channels": 0})).eval()
    cond, uncond = (TextCondition(noise(1, 7, 24, seed=seed), None) for seed in (1, 2))
    result = GuidedDenoiser(unet, VSampling(), cond, uncond, Guidance(4.0), SIGMAS, 0.3)(X, 2.0)
    assert torch.isfinite(result).all()
