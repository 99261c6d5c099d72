"""Noise levels, timesteps and predictions against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ldm_patched.modules.model_sampling import EpsSampling, ModelSampling, VSampling, scaled_linear_sigmas

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
