"""Noise levels, timesteps and predictions against their definitions."""

from __future__ import annotations

import math

import diffusers
import numpy as np
import pytest
import torch

from ldm_patched.modules.latent_format import AS_THE_VAE_S, PLAYGROUND_V2_5
from ldm_patched.modules.model_sampling import (
    EDMSampling,
    EpsConsistencySampling,
    EpsSampling,
    ModelSampling,
    VConsistencySampling,
    VSampling,
    scaled_linear_sigmas,
    zero_snr_sigmas,
)

EPS = EpsSampling()


def test_table_is_stable_diffusion_s() -> None:
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = np.cumprod(1 - betas)
    assert scaled_linear_sigmas() == pytest.approx(np.sqrt((1 - kept) / kept).tolist(), rel=1e-6)
    assert EPS.sigma_min == pytest.approx(0.0291671582)
    assert EPS.sigma_max == pytest.approx(14.6146412293)
    assert all(sigma == float(np.float32(sigma)) for sigma in EPS.sigmas)


def test_timesteps_and_sigmas_are_inverse() -> None:
    assert [EPS.timestep(EPS.sigma(t)) for t in range(1000)] == list(range(1000))
    assert [EPS.sigma(t) for t in range(1000)] == list(EPS.sigmas)


def test_sigma_interpolates_the_logarithm_and_stops_at_the_ends() -> None:
    expected = 0.25 * math.log(EPS.sigmas[500]) + 0.75 * math.log(EPS.sigmas[501])
    assert math.log(EPS.sigma(500.75)) == pytest.approx(expected, rel=1e-12)
    assert EPS.sigma(-3) == EPS.sigma_min
    assert EPS.sigma(2000) == EPS.sigma_max


def test_timestep_is_the_nearest_in_the_logarithm() -> None:
    logs = np.log(np.array(EPS.sigmas))
    for sigma in np.exp(np.linspace(-5, 4, 997)):
        assert EPS.timestep(float(sigma)) == np.abs(logs - np.log(sigma)).argmin()
    assert EPS.timestep(0.0) == 0


def test_progress_and_percent() -> None:
    assert EPS.progress(EPS.sigma_max) == 0
    assert EPS.progress(EPS.sigma_min) == 1
    assert EPS.progress(EPS.sigmas[333]) == pytest.approx(1 - 333 / 999)
    assert EPS.percent_to_sigma(0) == math.inf
    assert EPS.percent_to_sigma(1) == 0
    assert EPS.percent_to_sigma(0.5) == EPS.sigma(499.5)


@pytest.mark.parametrize("sigma", [0.03, 1.0, 14.6])
@pytest.mark.parametrize("model_sampling", [EPS, VSampling()])
def test_a_perfect_prediction_gives_the_picture(model_sampling: ModelSampling, sigma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 1, 4, 8, 8, generator=generator, dtype=torch.float64)
    alpha, deviation = 1 / math.sqrt(1 + sigma**2), sigma / math.sqrt(1 + sigma**2)
    output = noise if isinstance(model_sampling, EpsSampling) else alpha * noise - deviation * x0
    assert torch.allclose(model_sampling.denoised(output, x0 + sigma * noise, sigma), x0)
    assert model_sampling.input_scale(sigma) == pytest.approx(alpha)


def test_start_of_a_run() -> None:
    latent, noise = torch.full((1, 4, 2, 2), 3.0), torch.ones(1, 4, 2, 2)
    whole = EPS.noise_scaling(EPS.sigma_max * (1 - 1e-6), noise, latent)
    assert torch.allclose(whole, torch.tensor(3 + math.sqrt(1 + EPS.sigma_max**2)))
    assert torch.allclose(EPS.noise_scaling(2.0, noise, latent), torch.tensor(5.0))
    assert torch.equal(EPS.noise_scaling(0.0, noise, latent), latent)


ALL = [EPS, VSampling(), VSampling(zero_snr_sigmas()), EpsSampling(stride=20), EDMSampling()]


@pytest.mark.parametrize("model_sampling", ALL)
def test_every_parametrisation_goes_from_its_highest_level_to_its_lowest(model_sampling: ModelSampling) -> None:
    sigmas = model_sampling.sigmas
    assert all(a < b for a, b in zip(sigmas, sigmas[1:], strict=False))
    assert math.isfinite(model_sampling.sigma_max)
    assert model_sampling.progress(model_sampling.sigma_max) == 0
    assert model_sampling.progress(model_sampling.sigma_min) == pytest.approx(1, abs=0.02)
    progress = [model_sampling.progress(sigma) for sigma in sigmas]
    assert progress == sorted(progress, reverse=True)
    for sigma in sigmas[:: len(sigmas) // 25]:
        assert model_sampling.sigma(model_sampling.timestep(sigma)) == pytest.approx(sigma, rel=1e-9)
        percent = model_sampling.progress(sigma)
        if 0 < percent < 1:
            assert model_sampling.percent_to_sigma(percent) == pytest.approx(sigma, rel=1e-9)
    assert model_sampling.percent_to_sigma(0) == math.inf
    assert model_sampling.percent_to_sigma(1) == 0


@pytest.mark.parametrize("model_sampling", ALL)
def test_a_share_of_a_level_lies_below_it(model_sampling: ModelSampling) -> None:
    for sigma in model_sampling.sigmas[:: len(model_sampling.sigmas) // 25]:
        levels = [model_sampling.level_at_share(sigma, share) for share in (0.0, 0.3, 0.7, 1.0)]
        assert levels == sorted(levels)
        assert levels[-1] == pytest.approx(sigma)
        # The lowest that was trained, which a distilled network no longer knows itself.
        assert levels[0] == pytest.approx(min(model_sampling.sigma_min, EPS.sigma_min))


def test_distilled_networks_know_every_twentieth_level() -> None:
    distilled = EpsSampling(stride=20)
    assert distilled.sigmas == tuple(EPS.sigmas[999 - 20 * x] for x in reversed(range(50)))
    assert [distilled.timestep(sigma) for sigma in distilled.sigmas] == [20 * place + 19 for place in range(50)]
    between = math.exp(0.25 * math.log(EPS.sigmas[99]) + 0.75 * math.log(EPS.sigmas[119]))
    assert distilled.sigma(114) == pytest.approx(between, rel=1e-12)
    assert distilled.sigma(0) == distilled.sigma_min == EPS.sigmas[19]


@pytest.mark.parametrize("place", [0, 7, 49])
def test_consistency_is_the_papers(place: int) -> None:
    """On the latent that the network sees, with the scalings of arXiv 2310.04378."""
    model_sampling = EpsConsistencySampling(stride=20)
    sigma, time = model_sampling.sigmas[place], 10 * (20 * place + 19)
    x0, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x0 + sigma * noise
    expected = 0.25 / (time**2 + 0.25) * x / math.sqrt(1 + sigma**2) + time / math.sqrt(time**2 + 0.25) * x0
    assert torch.allclose(model_sampling.denoised(noise, x, sigma), expected, rtol=1e-9)
    v = (noise - sigma * x0) / math.sqrt(1 + sigma**2)
    assert torch.allclose(VConsistencySampling(stride=20).denoised(v, x, sigma), expected, rtol=1e-9)


@pytest.mark.parametrize("sigma", [0.002, 0.5, 120.0])
def test_edm_is_diffusers(sigma: float) -> None:
    reference = diffusers.EDMEulerScheduler(sigma_min=0.002, sigma_max=120.0, sigma_data=0.5)
    edm = EDMSampling()
    x, output = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    level = torch.tensor(sigma, dtype=torch.float64)
    assert torch.allclose(edm.denoised(output, x, sigma), reference.precondition_outputs(x, output, level))
    assert torch.allclose(x * edm.input_scale(sigma), reference.precondition_inputs(x, level))
    assert edm.timestep(sigma) == pytest.approx(float(reference.precondition_noise(level)))
    assert edm.sigmas == pytest.approx(np.geomspace(0.002, 120, 1000).tolist())
    assert edm.latent_format == PLAYGROUND_V2_5 and EPS.latent_format == AS_THE_VAE_S


def test_edm_starts_with_its_own_variance() -> None:
    noise = torch.ones(1, 4, 2, 2)
    start = EDMSampling().noise_scaling(120.0, noise, torch.zeros_like(noise))
    assert torch.allclose(start, torch.tensor(math.hypot(120, 0.5)))


def test_progress_of_edm_is_even_in_the_logarithm() -> None:
    edm = EDMSampling()
    middle = math.sqrt(0.002 * 120)
    assert edm.progress(middle) == pytest.approx(0.5)
    assert edm.percent_to_sigma(0.5) == pytest.approx(middle)
    assert (edm.progress(1e9), edm.progress(1e-9)) == (0, 1)
    assert (edm.sigma(9.0), edm.sigma(-9.0)) == (120.0, 0.002)
