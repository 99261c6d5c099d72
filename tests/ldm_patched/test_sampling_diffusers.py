"""Samplers and parametrisations against diffusers' schedulers, on the same levels and with the same noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import diffusers
import pytest
import torch

from ldm_patched.k_diffusion import sampling
from ldm_patched.k_diffusion.noise import BrownianTreeNoiseSampler
from ldm_patched.modules.model_sampling import EpsConsistencySampling, EpsSampling, VSampling, zero_snr_sigmas
from ldm_patched.modules.samplers import SAMPLERS
from tests.ldm_patched.denoisers import Known, Recorded, relative_error, run, start, two_hills

STEPS = 30

# numpy 2.4 warns of how diffusers turns torch tensors into arrays.
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")


def scheduler_of_diffusers(name: str, steps: int = STEPS, **settings: Any) -> Any:
    """With its tables in double precision, as far as that is left to do."""
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
    scheduler = getattr(diffusers, name)(**betas, **settings)
    scheduler.set_timesteps(steps)
    for field, value in vars(scheduler).copy().items():
        if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
            setattr(scheduler, field, value.double())
    return scheduler


def levels_of(scheduler: Any) -> list[float]:
    """The noise levels of a run, each once."""
    return [level for level, _ in groupby(scheduler.sigmas.tolist())]


def exploding_run(scheduler: Any, **step_arguments: Any) -> torch.Tensor:
    """With a scheduler that works on x, as k-diffusion does."""
    x = start(float(scheduler.sigmas[0]))
    for t in scheduler.timesteps:
        scale = float(scheduler.scale_model_input(torch.ones((), dtype=torch.float64), t))
        sigma = math.sqrt(1 / scale**2 - 1)
        x = scheduler.step((x - two_hills(x, sigma)) / sigma, t, x, **step_arguments).prev_sample
    return x


def preserving_run(
    scheduler: Any, sigmas: Sequence[float], inputs: list[torch.Tensor] | None = None, **step_arguments: Any
) -> torch.Tensor:
    """With a scheduler that works on x / sqrt(1 + sigma^2); `inputs` gets the x of every step."""
    x = start(sigmas[0]) / math.sqrt(1 + sigmas[0] ** 2)
    for t, sigma in zip(scheduler.timesteps, sigmas, strict=False):
        exploding = x * math.sqrt(1 + sigma**2)
        if inputs is not None:
            inputs.append(exploding)
        eps = (exploding - two_hills(exploding, sigma)) / sigma
        arguments = {name: value() if callable(value) else value for name, value in step_arguments.items()}
        x = scheduler.step(eps, t, x, **arguments).prev_sample
    return x


@pytest.mark.parametrize("use_karras", [False, True])
@pytest.mark.parametrize(
    ("sampler", "name"),
    [
        ("euler", "EulerDiscreteScheduler"),
        ("heun", "HeunDiscreteScheduler"),
        ("dpm_2", "KDPM2DiscreteScheduler"),
    ],
)
def test_samplers_without_noise_equal_diffusers(sampler: str, name: str, use_karras: bool) -> None:
    scheduler = scheduler_of_diffusers(name, use_karras_sigmas=use_karras)
    sigmas = levels_of(scheduler)
    assert len(sigmas) == STEPS + 1
    assert relative_error(run(sampler, sigmas), exploding_run(scheduler)) < 1e-5


def test_lms_equals_diffusers_numeric_integration() -> None:
    scheduler = scheduler_of_diffusers("LMSDiscreteScheduler")
    assert relative_error(run("lms", levels_of(scheduler)), exploding_run(scheduler)) < 1e-4


@pytest.mark.parametrize(
    ("sampler", "name"),
    [
        ("euler_ancestral", "EulerAncestralDiscreteScheduler"),
        ("dpm_2_ancestral", "KDPM2AncestralDiscreteScheduler"),
    ],
)
def test_ancestral_samplers_equal_diffusers(sampler: str, name: str) -> None:
    generator = torch.Generator().manual_seed(4)
    scheduler = scheduler_of_diffusers(name)
    reference = exploding_run(scheduler, generator=generator)
    generator.manual_seed(4)
    result = SAMPLERS[sampler].function(
        two_hills,
        start(float(scheduler.sigmas[0])),
        levels_of(scheduler),
        noise_sampler=lambda a, b: torch.randn(1, 4, 16, 16, generator=generator, dtype=torch.float64),
    )
    assert relative_error(result, reference) < 1e-5


def test_dpmpp_sde_equals_diffusers() -> None:
    scheduler = scheduler_of_diffusers("DPMSolverSDEScheduler", use_karras_sigmas=True)
    sigmas = levels_of(scheduler)
    tree = BrownianTreeNoiseSampler(start(1.0), sigmas[-2], sigmas[0], seed=5)
    scheduler.noise_sampler = lambda a, b: tree(float(a), float(b))
    reference = exploding_run(scheduler)
    result = sampling.sample_dpmpp_sde(two_hills, start(sigmas[0]), sigmas, noise_sampler=tree)
    assert relative_error(result, reference) < 1e-5


@pytest.mark.parametrize("use_karras", [False, True])
@pytest.mark.parametrize("sampler", ["dpmpp_2m", "dpmpp_2m_sde"])
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
    noise = Recorded(2 * (STEPS + 1))
    sigmas = levels_of(scheduler)
    noises: dict[str, Any] = {"variance_noise": lambda: noise(0, 0)} if stochastic else {}
    reference = preserving_run(scheduler, sigmas, **noises)
    assert relative_error(run(sampler, sigmas), reference) < 1e-5


@pytest.mark.parametrize("steps", [1, 2, 3, 5, STEPS])
@pytest.mark.parametrize(("sampler", "solver"), [("uni_pc", "bh1"), ("uni_pc_bh2", "bh2")])
def test_uni_pc_equals_diffusers(sampler: str, solver: str, steps: int) -> None:
    scheduler = scheduler_of_diffusers(
        "UniPCMultistepScheduler",
        steps,
        solver_type=solver,
        solver_order=min(3, max(steps - 1, 1)),
        use_karras_sigmas=steps > 1,
        final_sigmas_type="zero",
    )
    sigmas = levels_of(scheduler)
    scheduler.sigmas[-1] = 1e-9  # at 0 its B(h) is infinite
    assert relative_error(run(sampler, sigmas), preserving_run(scheduler, sigmas)) < 1e-5


def test_ddim_equals_diffusers() -> None:
    scheduler = scheduler_of_diffusers("DDIMScheduler", clip_sample=False, set_alpha_to_one=True)
    sigmas = [*levels_at(scheduler), 0.0]
    assert relative_error(run("ddim", sigmas), preserving_run(scheduler, sigmas)) < 1e-5


def test_ddpm_equals_diffusers() -> None:
    generator = torch.Generator().manual_seed(4)
    scheduler = scheduler_of_diffusers("DDPMScheduler", clip_sample=False)
    sigmas = [*levels_at(scheduler), 0.0]
    reference = preserving_run(scheduler, sigmas, generator=generator)
    generator.manual_seed(4)
    result = SAMPLERS["ddpm"].function(
        two_hills,
        start(sigmas[0]),
        sigmas,
        noise_sampler=lambda a, b: torch.randn(1, 4, 16, 16, generator=generator, dtype=torch.float64),
    )
    assert relative_error(result, reference) < 1e-5


def levels_at(scheduler: Any) -> list[float]:
    kept = scheduler.alphas_cumprod.double()[scheduler.timesteps]
    levels: list[float] = ((1 - kept) / kept).sqrt().tolist()
    return levels


@pytest.mark.parametrize("sampler", ["lcm", "tcd"])
def test_few_step_samplers_equal_diffusers(sampler: str) -> None:
    """Up to the last level: from there diffusers' TCD goes to the first timestep, and ours to x0."""
    name = {"lcm": "LCMScheduler", "tcd": "TCDScheduler"}[sampler]
    scheduler = scheduler_of_diffusers(name, 8, original_inference_steps=50)
    sigmas = [*levels_at(scheduler), 0.0]
    generator = torch.Generator().manual_seed(4)
    inputs: list[torch.Tensor] = []
    preserving_run(scheduler, sigmas, inputs, generator=generator)
    table = EpsConsistencySampling(stride=20) if sampler == "lcm" else EpsSampling(stride=20)
    generator.manual_seed(4)

    def model(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return table.denoised((x - two_hills(x, sigma)) / sigma, x, sigma)

    spec, denoiser = SAMPLERS[sampler], Known(model, table)
    spec.function(
        denoiser,
        start(sigmas[0]),
        sigmas,
        noise_sampler=lambda a, b: torch.randn(1, 4, 16, 16, generator=generator, dtype=torch.float64),
        **(spec.from_model(table) if spec.from_model is not None else {}),
    )
    assert len(inputs) == len(denoiser.inputs) == 8
    for (ours, _), theirs in zip(denoiser.inputs, inputs, strict=True):
        assert relative_error(ours, theirs) < 1e-5


def v_of_two_hills(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """What a network would say that predicts v."""
    x0 = two_hills(x, sigma)
    return ((x - x0) / sigma - sigma * x0) / math.sqrt(1 + sigma**2)


def test_a_run_from_pure_noise_equals_diffusers() -> None:
    """v-prediction with zero terminal SNR: diffusers starts at an infinite noise level, we at 4096."""
    scheduler = scheduler_of_diffusers(
        "DDIMScheduler",
        25,  # its steps are of a whole number of timesteps
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )
    scheduler.alphas_cumprod = rescaled_in_double()
    table = VSampling(zero_snr_sigmas())
    sigmas = [*(table.sigmas[t] for t in scheduler.timesteps), 0.0]
    preserving = start(sigmas[0]) / math.sqrt(1 + sigmas[0] ** 2)
    for t, sigma in zip(scheduler.timesteps, sigmas, strict=False):
        output = v_of_two_hills(preserving * math.sqrt(1 + sigma**2), sigma)
        preserving = scheduler.step(output, t, preserving).prev_sample

    def model(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return table.denoised(v_of_two_hills(x, sigma), x, sigma)

    assert relative_error(run("euler", sigmas, Known(model, table)), preserving) < 1e-3


def rescaled_in_double() -> torch.Tensor:
    """alpha-bar by arXiv 2305.08891, algorithm 1. diffusers has it in single precision, which leaves little of it."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    roots = (1 - betas).cumprod(0).sqrt()
    first, last = roots[0].clone(), roots[-1].clone()
    roots -= last
    roots *= first / (first - last)
    return roots**2


def test_the_table_of_zero_terminal_snr() -> None:
    expected = rescaled_in_double()
    assert expected[-1] == 0
    ours = torch.tensor(zero_snr_sigmas(), dtype=torch.float64)
    assert torch.allclose(1 / (1 + ours**2), expected.clamp(min=2**-24), rtol=1e-6)
    scheduler = scheduler_of_diffusers("DDIMScheduler", rescale_betas_zero_snr=True)
    assert torch.allclose(1 / (1 + ours**2), scheduler.alphas_cumprod.double(), rtol=5e-3, atol=1e-6)
