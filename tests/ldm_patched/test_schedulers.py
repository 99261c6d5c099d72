"""The schedules against their definitions, and which parametrisation a run gets."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from diffusers import DDIMScheduler

from ldm_patched.modules.checkpoint_layout import Kind, Prediction
from ldm_patched.modules.model_sampling import (
    ALIGNED_SD15,
    ALIGNED_SDXL,
    EDMSampling,
    EpsConsistencySampling,
    EpsSampling,
    ModelSampling,
    VConsistencySampling,
    VSampling,
    zero_snr_sigmas,
)
from ldm_patched.modules.samplers import SAMPLERS, find_sampler
from ldm_patched.modules.schedulers import SCHEDULERS, calculate_sigmas, choose_model_sampling
from modules import choices

EPS = EpsSampling()
TABLE = EPS.sigmas


def model_of(scheduler: str, prediction: Prediction = "eps", zero_snr: bool = False) -> ModelSampling:
    return choose_model_sampling("sdxl", prediction, zero_snr, scheduler)


def levels(scheduler: str, n: int) -> list[float]:
    return SCHEDULERS[scheduler].levels(model_of(scheduler), n)


def test_the_page_offers_exactly_the_rows() -> None:
    assert tuple(SAMPLERS) == choices.SAMPLERS
    assert tuple(SCHEDULERS) == choices.SCHEDULERS
    assert (len(SAMPLERS), len(SCHEDULERS)) == (24, 11)


def at_timesteps(times: np.ndarray) -> list[float]:
    return [float(each) for each in np.exp(np.interp(times, np.arange(1000), np.log(TABLE)))] + [0.0]


@pytest.mark.parametrize("n", [1, 2, 8, 10, 30])
def test_schedules_are_their_formulas(n: int) -> None:
    assert levels("normal", n) == pytest.approx(at_timesteps(np.linspace(999, 0, n)), rel=1e-9)
    assert levels("sgm_uniform", n) == pytest.approx(at_timesteps(np.linspace(999, 0, n + 1)[:-1]), rel=1e-9)
    assert levels("simple", n) == [*(TABLE[-(1 + int(x * 1000 / n))] for x in range(n)), 0.0]
    assert n < 4 or levels("ddim_uniform", n) == [*(TABLE[i] for i in range(1, 1000, 1000 // n))][::-1] + [0.0]
    ends = (EPS.sigma_max, EPS.sigma_min)
    roots = np.linspace(ends[0] ** (1 / 7), ends[1] ** (1 / 7), n) ** 7
    assert levels("karras", n) == pytest.approx([*roots, 0.0], rel=1e-12)
    assert levels("exponential", n) == pytest.approx([*np.geomspace(*ends, n), 0.0], rel=1e-12)
    distilled = np.interp(np.linspace(999, 19, n + 1)[:-1], np.arange(19, 1000, 20), np.log(TABLE[19::20]))
    for scheduler in ("lcm", "tcd"):
        assert levels(scheduler, n) == pytest.approx([*np.exp(distilled), 0.0], rel=1e-9)
    edm = (120 ** (1 / 7) + np.linspace(0, 1, n) * (0.002 ** (1 / 7) - 120 ** (1 / 7))) ** 7
    assert levels("edm_playground_v2.5", n) == pytest.approx([*edm, 0.0], rel=1e-9)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 10, 20, 50])
def test_ddim_s_steps_are_those_of_diffusers(n: int) -> None:
    """Where 1000 / n is whole, and n is not so small that DDIM's own steps would begin at half the noise or none."""
    spacing, offset = ("trailing", 0) if n < 4 else ("leading", 1)
    ddim = DDIMScheduler(num_train_timesteps=1000, timestep_spacing=spacing, steps_offset=offset)
    ddim.set_timesteps(n)
    found = levels("ddim_uniform", n)
    assert found == [*(TABLE[int(time)] for time in ddim.timesteps), 0.0]
    assert found[0] > 0.2 * EPS.sigma_max, "a run that begins lower cannot make a picture of nothing but noise"


def test_turbo_takes_the_last_of_each_hundred() -> None:
    for n in range(1, 11):
        assert levels("turbo", n) == pytest.approx([*(TABLE[999 - 100 * i] for i in range(n)), 0.0], rel=1e-9)
    assert levels("turbo", 30) == levels("sgm_uniform", 30)


@pytest.mark.parametrize(
    ("kind", "table"), [("sdxl", ALIGNED_SDXL), ("sdxl_refiner", ALIGNED_SDXL), ("sd15", ALIGNED_SD15)]
)
def test_aligned_steps_are_the_table_or_between_it(kind: Kind, table: tuple[float, ...]) -> None:
    model_sampling = choose_model_sampling(kind, "eps", False, "align_your_steps")
    assert calculate_sigmas(model_sampling, "align_your_steps", 10) == [*table[:-1], 0.0]
    for n in (1, 4, 7, 30):
        between = np.exp(np.interp(np.linspace(0, 1, n + 1), np.linspace(0, 1, 11), np.log(table)))
        assert calculate_sigmas(model_sampling, "align_your_steps", n) == pytest.approx([*between[:-1], 0.0], rel=1e-9)


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("denoise", [1.0, 0.99995, 0.99, 0.7, 0.05, 0.001])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_schedules_fall_to_zero(scheduler: str, denoise: float, zero_snr: bool) -> None:
    model_sampling = model_of(scheduler, "v" if zero_snr and scheduler != "edm_playground_v2.5" else "eps", zero_snr)
    for steps, skip_lowest in ((1, False), (1, True), (12, False), (12, True), (50, True)):
        sigmas = calculate_sigmas(model_sampling, scheduler, steps, denoise, skip_lowest)
        assert len(sigmas) == steps + 1 or (scheduler == "ddim_uniform" and denoise > 0.9999)
        assert sigmas[-1] == 0 and sigmas[0] <= model_sampling.sigma_max * (1 + 1e-8)
        assert all(a > b for a, b in pairwise(sigmas))
        assert all(type(sigma) is float for sigma in sigmas)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_partial_run_is_the_end_of_a_longer_schedule(scheduler: str) -> None:
    model_sampling = model_of(scheduler)
    whole = calculate_sigmas(model_sampling, scheduler, 30)
    assert calculate_sigmas(model_sampling, scheduler, 15, 0.5) == whole[-16:]
    assert calculate_sigmas(model_sampling, scheduler, 30, 0.0) == [0.0]
    starts = [calculate_sigmas(model_sampling, scheduler, 12, denoise)[0] for denoise in (1.0, 0.8, 0.5, 0.2, 0.02)]
    assert starts == sorted(set(starts), reverse=True)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_a_partial_run_never_starts_from_nothing_but_noise(steps: int) -> None:
    for scheduler in SCHEDULERS:
        model_sampling = model_of(scheduler)
        assert calculate_sigmas(model_sampling, scheduler, steps, 0.95)[0] < 0.999 * model_sampling.sigma_max


def test_samplers_that_evaluate_half_way_leave_out_the_lowest_level() -> None:
    assert {name for name, spec in SAMPLERS.items() if spec.skips_lowest} == {
        *("dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2")
    }
    longer = calculate_sigmas(EPS, "karras", 13)
    assert calculate_sigmas(EPS, "karras", 12, skip_lowest=True) == [*longer[:-2], 0.0]


@pytest.mark.parametrize(
    ("prediction", "zero_snr", "scheduler", "expected"),
    [
        ("eps", False, "karras", EpsSampling()),
        ("eps", False, "turbo", EpsSampling()),
        ("v", False, "karras", VSampling()),
        ("v", True, "normal", VSampling(zero_snr_sigmas())),
        # A prediction of the noise says nothing where there is only noise.
        ("eps", True, "karras", EpsSampling()),
        ("eps", False, "lcm", EpsConsistencySampling(stride=20)),
        ("eps", False, "tcd", EpsSampling(stride=20)),
        ("v", False, "lcm", VConsistencySampling(stride=20)),
        ("v", True, "tcd", VSampling(zero_snr_sigmas(), stride=20)),
        ("eps", False, "edm_playground_v2.5", EDMSampling()),
        # What a file says of itself counts with every schedule that says nothing else.
        ("edm", False, "edm_playground_v2.5", EDMSampling()),
        ("edm", False, "karras", EDMSampling()),
        ("edm", False, "align_your_steps", EDMSampling()),
    ],
)
def test_parametrisation_of_a_run(
    prediction: Prediction, zero_snr: bool, scheduler: str, expected: ModelSampling
) -> None:
    assert choose_model_sampling("sdxl", prediction, zero_snr, scheduler) == expected


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: calculate_sigmas(EPS, "sideways", 30), "scheduler: 'sideways' is unknown; there are normal, karras"),
        (lambda: model_of("sideways"), "scheduler: 'sideways' is unknown; there are normal, karras"),
        (lambda: find_sampler("sideways"), "sampler: 'sideways' is unknown; there are euler, euler_ancestral"),
        (
            lambda: model_of("edm_playground_v2.5", "v"),
            r"predicts v, and the scheduler edm_playground_v2.5 is for Play",
        ),
        (lambda: choose_model_sampling("sd15", "eps", False, "edm_playground_v2.5"), "is no SDXL model, and the sched"),
        (lambda: model_of("lcm", "edm"), "EDM's preconditioning, and the scheduler lcm is for models"),
        (lambda: model_of("tcd", "edm"), "EDM's preconditioning, and the scheduler tcd is for models"),
        (lambda: calculate_sigmas(EPS, "karras", 0), "steps: 0 is less than 1"),
        (lambda: calculate_sigmas(EPS, "karras", 30, 1.5), r"denoise: 1.5 is outside \[0, 1\]"),
        (lambda: calculate_sigmas(EPS, "karras", 30, math.nan), r"denoise: nan is outside \[0, 1\]"),
    ],
)
def test_what_cannot_be_is_refused_in_words(call: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
