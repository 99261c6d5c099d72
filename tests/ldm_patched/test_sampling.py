"""What holds for every sampler: the closed form, the order, the noise, the callback, the ends."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from benchmarks.samplers import ORDERS, adaptive_error, convergence_order, deviation_error
from ldm_patched.k_diffusion import multistep, sampling
from ldm_patched.k_diffusion.schedules import get_sigmas_exponential, get_sigmas_karras, restart_levels
from ldm_patched.modules.samplers import SAMPLERS, brownian_noise
from tests.ldm_patched.denoisers import Known, relative_error, run, start, two_hills

GREEDY = {"lcm", "tcd"}  # take every estimate as the end of its trajectory: not solvers, no order
# Solvers of their own levels: evaluations and steps are not the schedule's.
OWN_LEVELS = {"dpm_fast", "dpm_adaptive"}


def gaussian(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """Ideal denoiser of N(0, 0.5^2)."""
    return x * (0.25 / (0.25 + sigma**2))


def test_every_sampler_has_its_order_or_a_reason() -> None:
    assert ORDERS.keys() | GREEDY | {"dpm_adaptive"} == SAMPLERS.keys()


@pytest.mark.parametrize("sampler", sorted(ORDERS.keys() - {"lms", "restart"}))
def test_error_against_the_closed_form_falls_with_the_order(sampler: str) -> None:
    for steps in (71, 143):
        assert convergence_order(sampler, steps) == pytest.approx(ORDERS[sampler], abs=0.2)
    assert deviation_error(sampler, 30) < (0.1 if ORDERS[sampler] == 1 else 0.01)


def test_orders_that_show_in_another_way() -> None:
    # Exact from the fourth step on; what is left is the error of the first one, and small.
    assert convergence_order("lms", 512) == pytest.approx(2, abs=0.2)
    assert deviation_error("lms", 30) < 0.001
    # A part of the steps are taken twice.
    assert convergence_order("restart", 128) == pytest.approx(2, abs=0.2)


def test_the_adaptive_sampler_keeps_its_tolerance() -> None:
    errors = [adaptive_error(rtol)[0] for rtol in (0.05, 0.005, 0.0005)]
    assert errors[0] < 0.05 and errors[1] < 0.01 and errors[2] < 0.001


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_real_noise_gives_the_datas_deviation(sampler: str) -> None:
    x = torch.randn(1, 4, 80, 80, generator=torch.Generator().manual_seed(5)) * 14.6
    sigmas = get_sigmas_karras(60, 0.03, 14.6)
    result = SAMPLERS[sampler].run(Known(gaussian), x, sigmas, seed=9)
    expected = deviation_of_greedy(sampler, sigmas) if sampler in GREEDY else 0.5
    tolerance = 0.07 if ORDERS.get(sampler) == 1 or sampler == "dpm_adaptive" else 0.015
    assert float(result.std()) == pytest.approx(expected, rel=tolerance)
    assert abs(float(result.mean())) < 0.015


def deviation_of_greedy(sampler: str, sigmas: list[float]) -> float:
    """Variances through the linear steps of LCM and TCD."""
    spec, variance = SAMPLERS[sampler], 14.6**2
    below = (lambda level: 0.0) if spec.from_model is None else spec.from_model(Known().model_sampling)["level_below"]
    for sigma, sigma_next in zip(sigmas, sigmas[1:], strict=False):
        down = below(sigma_next) if sigma_next > 0 else 0.0
        kept = 0.25 / (0.25 + sigma**2)
        variance = variance * (kept + (1 - kept) * down / sigma) ** 2 + sigma_next**2 - down**2
    return math.sqrt(variance)


def test_lcm_is_exact_for_a_consistency_function() -> None:
    def consistent(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return x * (0.5 / math.hypot(0.5, sigma))

    x = torch.randn(1, 4, 128, 128, generator=torch.Generator().manual_seed(5)) * math.hypot(0.5, 14.6)
    result = SAMPLERS["lcm"].run(Known(consistent), x, get_sigmas_karras(4, 0.03, 14.6), seed=9)
    assert float(result.std()) == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_lms_is_exact_for_polynomial_slopes(order: int) -> None:
    """Once it has its history: from the level where it does, the integral is that of the polynomial."""
    coefficients = [0.3, -0.2, 0.05, 0.01][:order]
    levels = get_sigmas_karras(9, 0.1, 5.0)

    def polynomial(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return x - sigma * sum(c * sigma**k for k, c in enumerate(coefficients))

    denoiser = Known(polynomial)
    result = multistep.sample_lms(denoiser, torch.zeros(1, dtype=torch.float64), levels, order=order)
    x, sigma = denoiser.inputs[order - 1]
    assert float(x - result) == pytest.approx(sum(c * sigma ** (k + 1) / (k + 1) for k, c in enumerate(coefficients)))


@pytest.mark.parametrize("sampler", [multistep.sample_dpmpp_3m_sde, multistep.sample_uni_pc])
def test_3m_and_uni_pc_are_exact_for_straight_lines(sampler: Callable[..., torch.Tensor]) -> None:
    """Without noise, D = a + b l in l = -ln sigma has the solution D - D' + const * e^-l, from the second step on."""
    a, b = 0.4, -0.3

    def particular(sigma: float) -> float:
        return a - b * math.log(sigma) - b

    denoiser = Known(lambda x, sigma: torch.full_like(x, a - b * math.log(sigma)))
    levels = get_sigmas_karras(9, 0.1, 5.0)[:-1]
    x = torch.ones(1, dtype=torch.float64)
    noise = {"noise_sampler": lambda a, b: x, "eta": 0} if sampler is multistep.sample_dpmpp_3m_sde else {}
    sampler(denoiser, x, levels, **noise)
    (x, sigma), (after, level) = denoiser.inputs[4], denoiser.inputs[5]
    expected = particular(level) + (float(x) - particular(sigma)) * level / sigma
    assert float(after) == pytest.approx(expected, rel=1e-12)


def test_without_noise_the_stochastic_samplers_are_their_deterministic_twins() -> None:
    sigmas = get_sigmas_karras(12, 0.03, 14.6)

    def no_noise(sigma: float, sigma_next: float) -> torch.Tensor:
        raise AssertionError("noise was asked for")

    ancestral = sampling.sample_euler_ancestral(two_hills, start(14.6), sigmas, noise_sampler=no_noise, eta=0)
    assert torch.equal(ancestral, sampling.sample_euler(two_hills, start(14.6), sigmas))
    sde = multistep.sample_dpmpp_2m_sde(two_hills, start(14.6), sigmas, noise_sampler=no_noise, eta=0)
    assert torch.equal(sde, multistep.sample_dpmpp_2m(two_hills, start(14.6), sigmas))
    tcd = sampling.sample_tcd(two_hills, start(14.6), sigmas, noise_sampler=no_noise, level_below=lambda level: level)
    assert torch.equal(tcd, sampling.sample_euler(two_hills, start(14.6), sigmas))


@pytest.mark.parametrize("sampler", [name for name, spec in SAMPLERS.items() if spec.noise is brownian_noise])
def test_noise_of_a_path_comes_to_similar_pictures_with_more_steps(sampler: str) -> None:
    """One seed is one path over sigma, so 60 steps refine what 30 began; fresh noise would give another picture."""

    def picture(steps: int, seed: int) -> torch.Tensor:
        sigmas = get_sigmas_karras(steps, 0.03, 14.6)
        return SAMPLERS[sampler].run(Known(gaussian), start(14.6), sigmas, seed)

    few, many, other = picture(40, 9), picture(80, 9), picture(80, 10)
    assert relative_error(few, many) < 0.3 < 1 < relative_error(other, many)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_step_ends_in_the_estimate_and_the_input_is_left_alone(sampler: str) -> None:
    x = start(14.6)
    result = SAMPLERS[sampler].run(Known(), x, [14.6, 0.0], seed=1)
    assert torch.allclose(result, two_hills(start(14.6), 14.6), rtol=1e-9, atol=1e-12)
    assert torch.equal(x, start(14.6))


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 10, 21, 37])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_callback_is_told_every_step(sampler: str, steps: int) -> None:
    told: list[tuple[int, torch.Tensor]] = []
    sigmas = get_sigmas_karras(steps, 0.03, 14.6)
    SAMPLERS[sampler].run(Known(), start(14.6), sigmas, 1, lambda step, x0: told.append((step, x0)))
    assert torch.allclose(told[0][1], two_hills(start(14.6), 14.6))
    numbers = [step for step, _ in told]
    if sampler not in OWN_LEVELS:
        assert numbers == list(range(steps))
    else:
        assert numbers == sorted(numbers)
        assert numbers[0] == 0 and numbers[-1] == steps - 1
        assert sampler == "dpm_adaptive" or set(numbers) == set(range(steps))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_callback_may_end_the_run(sampler: str) -> None:
    denoiser = Known()

    def callback(step: int, x0: torch.Tensor) -> None:
        if step >= 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        SAMPLERS[sampler].run(denoiser, start(14.6), get_sigmas_karras(10, 0.03, 14.6), 1, callback)
    assert len(denoiser.inputs) <= (3 * 4 if sampler != "dpm_adaptive" else 30)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_run_may_end_above_zero(sampler: str) -> None:
    """As it does where another model takes over: the result still has the noise of its last level."""
    x = torch.randn(1, 4, 128, 128, generator=torch.Generator().manual_seed(5)) * 14.6
    sigmas = get_sigmas_karras(61, 0.03, 14.6)
    cut = sigmas[: next(i for i, sigma in enumerate(sigmas) if sigma < 1)]
    result = SAMPLERS[sampler].run(Known(gaussian), x, cut, seed=9)
    if sampler not in GREEDY:
        assert float(result.std()) == pytest.approx(math.hypot(0.5, cut[-1]), rel=0.03)
    assert torch.isfinite(result).all()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_network_without_numbers_does_not_hang(sampler: str) -> None:
    def broken(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return torch.full_like(x, math.nan)

    assert torch.isnan(run(sampler, get_sigmas_karras(10, 0.03, 14.6), Known(broken))).all()


def test_schedules_are_their_formulas() -> None:
    low, high, n = 0.0291671582, 14.6146412, 20
    u = torch.linspace(0, 1, n, dtype=torch.float64)
    expected = (high ** (1 / 7) + u * (low ** (1 / 7) - high ** (1 / 7))) ** 7
    assert get_sigmas_karras(n, low, high) == pytest.approx([*expected.tolist(), 0.0], rel=1e-12)
    assert get_sigmas_karras(1, low, high) == pytest.approx([high, 0.0])
    expected = torch.linspace(math.log(high), math.log(low), n, dtype=torch.float64).exp()
    assert get_sigmas_exponential(n, low, high) == pytest.approx([*expected.tolist(), 0.0], rel=1e-12)
    assert get_sigmas_exponential(1, low, high) == pytest.approx([high, 0.0])


@pytest.mark.parametrize("steps", [1, 19, 20, 35, 36, 60, 200])
@pytest.mark.parametrize("ends", [(14.6, 0.0), (1.5, 0.0), (0.05, 0.0), (14.6, 0.7)])
def test_restarts_keep_the_number_of_steps(steps: int, ends: tuple[float, float]) -> None:
    sigmas = [*get_sigmas_karras(steps, max(0.03, ends[1] + 0.01), ends[0])[:-1], ends[1]]
    levels = restart_levels(sigmas)
    pairs = list(zip(levels, levels[1:], strict=False))
    ups = [pair for pair in pairs if pair[1] > pair[0]]
    assert len(pairs) - len(ups) == steps
    assert levels[0] == pytest.approx(ends[0])
    assert levels[-1] == ends[1]
    assert all(a != b for a, b in pairs)
    wanted = 0 if steps < 20 or ends[1] > 0 or ends[0] < 0.1 else 1 if steps < 36 else 2
    assert len(ups) == wanted
