"""Samplers against the closed form, diffusers' schedulers and their own definitions."""

from __future__ import annotations

import math
from typing import Any

import diffusers
import pytest
import torch

from benchmarks.samplers import ORDERS, convergence_order, deviation_error
from ldm_patched.k_diffusion import sampling
from ldm_patched.modules.samplers import SAMPLERS

STEPS = 30


def two_hills(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """Ideal denoiser, value by value, of an even mixture of N(-1, 0.5^2) and N(1, 0.5^2)."""
    variance = 0.5**2 + sigma**2
    hill = torch.tanh(x / variance)
    return hill + (x - hill) * (0.5**2 / variance)


def start(sigma: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(1, 4, 16, 16, generator=generator, dtype=torch.float64) * math.sqrt(1 + sigma**2)


def relative_error(x: torch.Tensor, reference: torch.Tensor) -> float:
    return float((x - reference).norm() / reference.norm())


class Recorded:
    """Unit noise that is handed out in order, and again from the first on."""

    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(11)
        self.noises = torch.randn(count, 1, 4, 16, 16, generator=generator, dtype=torch.float64)

    def __call__(self, sigma: float, sigma_next: float) -> torch.Tensor:
        self.noises = self.noises.roll(-1, dims=0)
        return self.noises[-1]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_error_against_the_closed_form_falls_with_the_order(sampler: str) -> None:
    for steps in (64, 128):
        assert convergence_order(sampler, steps) == pytest.approx(ORDERS[sampler], abs=0.1)
    assert deviation_error(sampler, 30) < (0.1 if ORDERS[sampler] == 1 else 0.01)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_real_noise_gives_the_data_s_deviation(sampler: str) -> None:
    x = torch.randn(1, 4, 128, 128, generator=torch.Generator().manual_seed(5)) * 14.6
    sigmas = sampling.get_sigmas_karras(60, 0.03, 14.6)
    result = SAMPLERS[sampler].run(lambda x, sigma: x * (0.25 / (0.25 + sigma**2)), x, sigmas, seed=9)
    assert float(result.std()) == pytest.approx(0.5, rel=0.06 if ORDERS[sampler] == 1 else 0.015)
    assert abs(float(result.mean())) < 0.01


def scheduler_of_diffusers(name: str, **settings: Any) -> Any:
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
    return getattr(diffusers, name)(**betas, **settings)


def diffusers_run(scheduler: Any, x: torch.Tensor, **step_arguments: Any) -> tuple[torch.Tensor, list[float]]:
    """Final latent, in sigma's scale, and the schedule's sigmas."""
    scheduler.set_timesteps(STEPS)
    sigmas = scheduler.sigmas.double().tolist()
    preserving = isinstance(scheduler, diffusers.DPMSolverMultistepScheduler)  # works on x / sqrt(1 + sigma^2)
    x = x / math.sqrt(1 + sigmas[0] ** 2) if preserving else x
    for t, sigma in zip(scheduler.timesteps, sigmas, strict=False):
        exploding = x * math.sqrt(1 + sigma**2) if preserving else x
        scheduler.scale_model_input(x, t)
        eps = (exploding - two_hills(exploding, sigma)) / sigma
        arguments = {name: value() if callable(value) else value for name, value in step_arguments.items()}
        x = scheduler.step(eps, t, x, **arguments).prev_sample
    return x, sigmas


# numpy 2.4 warns of how diffusers turns torch tensors into arrays.
against_diffusers = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@against_diffusers
@pytest.mark.parametrize("use_karras", [False, True])
def test_euler_equals_diffusers(use_karras: bool) -> None:
    scheduler = scheduler_of_diffusers("EulerDiscreteScheduler", use_karras_sigmas=use_karras)
    reference, sigmas = diffusers_run(scheduler, start(14.6))
    assert relative_error(sampling.sample_euler(two_hills, start(14.6), sigmas), reference) < 1e-5


@against_diffusers
def test_euler_ancestral_equals_diffusers() -> None:
    generator = torch.Generator().manual_seed(4)
    reference, sigmas = diffusers_run(
        scheduler_of_diffusers("EulerAncestralDiscreteScheduler"), start(14.6), generator=generator
    )
    generator.manual_seed(4)
    result = sampling.sample_euler_ancestral(
        two_hills,
        start(14.6),
        sigmas,
        noise_sampler=lambda sigma, sigma_next: torch.randn(1, 4, 16, 16, generator=generator, dtype=torch.float64),
    )
    assert relative_error(result, reference) < 1e-5


@against_diffusers
@pytest.mark.parametrize("sampler", ["dpmpp_2m", "dpmpp_2m_sde_gpu"])
@pytest.mark.parametrize("use_karras", [False, True])
def test_dpmpp_2m_equals_diffusers(sampler: str, use_karras: bool) -> None:
    stochastic = sampler != "dpmpp_2m"
    scheduler = scheduler_of_diffusers(
        "DPMSolverMultistepScheduler",
        algorithm_type="sde-dpmsolver++" if stochastic else "dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        use_karras_sigmas=use_karras,
        final_sigmas_type="zero",
    )
    if not stochastic:
        reference, sigmas = diffusers_run(scheduler, start(14.6))
        result = sampling.sample_dpmpp_2m(two_hills, start(14.6), sigmas)
    else:
        # The last noise meets a sigma of 0: diffusers draws it, we do not.
        noise = Recorded(STEPS)
        reference, sigmas = diffusers_run(scheduler, start(14.6), variance_noise=lambda: noise(0, 0))
        result = sampling.sample_dpmpp_2m_sde(two_hills, start(14.6), sigmas, noise_sampler=Recorded(STEPS))
    assert relative_error(result, reference) < 1e-5


def test_without_noise_the_stochastic_samplers_are_their_deterministic_twins() -> None:
    sigmas = sampling.get_sigmas_karras(12, 0.03, 14.6)

    def no_noise(sigma: float, sigma_next: float) -> torch.Tensor:
        raise AssertionError("noise was asked for")

    ancestral = sampling.sample_euler_ancestral(two_hills, start(14.6), sigmas, noise_sampler=no_noise, eta=0)
    assert torch.equal(ancestral, sampling.sample_euler(two_hills, start(14.6), sigmas))
    sde = sampling.sample_dpmpp_2m_sde(two_hills, start(14.6), sigmas, noise_sampler=no_noise, eta=0)
    assert torch.equal(sde, sampling.sample_dpmpp_2m(two_hills, start(14.6), sigmas))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_step_ends_in_the_estimate_and_the_input_is_left_alone(sampler: str) -> None:
    x = start(14.6)
    result = SAMPLERS[sampler].run(two_hills, x, [14.6, 0.0], seed=1)
    assert torch.equal(result, two_hills(start(14.6), 14.6))
    assert torch.equal(x, start(14.6))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_callback_is_told_every_step_and_may_end_the_run(sampler: str) -> None:
    told: list[tuple[int, torch.Tensor]] = []

    def callback(step: int, x0: torch.Tensor) -> None:
        told.append((step, x0))
        if step == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        SAMPLERS[sampler].run(two_hills, start(14.6), sampling.get_sigmas_karras(10, 0.03, 14.6), 1, callback)
    assert [step for step, _ in told] == [0, 1, 2, 3]
    assert torch.allclose(told[0][1], two_hills(start(14.6), 14.6))


def test_karras_is_the_formula() -> None:
    low, high, n = 0.0291671582, 14.6146412, 20
    u = torch.linspace(0, 1, n, dtype=torch.float64)
    expected = (high ** (1 / 7) + u * (low ** (1 / 7) - high ** (1 / 7))) ** 7
    assert sampling.get_sigmas_karras(n, low, high) == pytest.approx([*expected.tolist(), 0.0], rel=1e-12)
    assert sampling.get_sigmas_karras(1, low, high) == pytest.approx([high, 0.0])
