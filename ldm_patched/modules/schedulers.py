"""The table of noise schedules, and which parametrisation a run with one of them has. Knows no sampler and no network.

A schedule is a list of host floats that falls strictly from the first noise level of a run, and ends with 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ldm_patched.k_diffusion.schedules import get_sigmas_exponential, get_sigmas_interpolated, get_sigmas_karras
from ldm_patched.modules.checkpoint_layout import Kind, Prediction
from ldm_patched.modules.model_sampling import (
    ALIGNED_SD15,
    ALIGNED_SDXL,
    DiscreteSampling,
    EDMSampling,
    EpsConsistencySampling,
    EpsSampling,
    ModelSampling,
    VConsistencySampling,
    VSampling,
    scaled_linear_sigmas,
    zero_snr_sigmas,
)

# Levels: of (parametrisation, number of steps).


def karras(model_sampling: ModelSampling, n: int) -> list[float]:
    """`get_sigmas_karras` over all the model's noise levels."""
    return get_sigmas_karras(n, model_sampling.sigma_min, model_sampling.sigma_max)


def exponential(model_sampling: ModelSampling, n: int) -> list[float]:
    """`get_sigmas_exponential` over all the model's noise levels."""
    return get_sigmas_exponential(n, model_sampling.sigma_min, model_sampling.sigma_max)


def normal(model_sampling: ModelSampling, n: int) -> list[float]:
    """`n` timesteps evenly spaced from the last to the first, then 0."""
    return [*_uniform_timesteps(model_sampling, n, intervals=n - 1), 0.0]


def sgm_uniform(model_sampling: ModelSampling, n: int) -> list[float]:
    """`n` timesteps evenly spaced from the last, one interval short of the first, then 0."""
    return [*_uniform_timesteps(model_sampling, n, intervals=n), 0.0]


def simple(model_sampling: ModelSampling, n: int) -> list[float]:
    """Every (levels / n)-th of the model's levels from the last on, then 0; between them where n is more."""
    sigmas = model_sampling.sigmas
    if n > len(sigmas):
        return normal(model_sampling, n)
    return [*(sigmas[-1 - i * len(sigmas) // n] for i in range(n)), 0.0]


def ddim_uniform(model_sampling: ModelSampling, n: int) -> list[float]:
    """Every (levels // n)-th of the model's levels from the second on, falling, then 0 (arXiv 2010.02502).

    Where n does not divide the number of levels this gives some levels more than n, as DDIM has it. Counted from the
    lowest level, fewer than 4 would begin far below the highest, at half the noise or none: those are counted from the
    highest one (arXiv 2305.08891, section 3.3).
    """
    sigmas = model_sampling.sigmas
    if n > len(sigmas):
        return normal(model_sampling, n)
    if n < 4:
        return [*(sigmas[round(len(sigmas) * (n - i) / n) - 1] for i in range(n)), 0.0]
    return [*reversed(sigmas[1 :: len(sigmas) // n]), 0.0]


def turbo(model_sampling: ModelSampling, n: int) -> list[float]:
    """The last timestep of each tenth of the training, from the last tenth on, then 0 (arXiv 2311.17042).

    More than ten steps are `sgm_uniform`'s.
    """
    if n > 10:
        return sgm_uniform(model_sampling, n)
    return [*_uniform_timesteps(model_sampling, n, intervals=999 / 100), 0.0]  # of 0..999, steps of 100


def align_your_steps(model_sampling: ModelSampling, n: int) -> list[float]:
    """The ten steps found best for the model, stretched to n (arXiv 2404.14507)."""
    return get_sigmas_interpolated(n, model_sampling.aligned_sigmas)


def _uniform_timesteps(model_sampling: ModelSampling, n: int, intervals: float) -> list[float]:
    last, first = (model_sampling.timestep(s) for s in (model_sampling.sigma_max, model_sampling.sigma_min))
    return [model_sampling.sigma(last + i / max(intervals, 1) * (first - last)) for i in range(n)]


# Parametrisations: of a network as it was trained.


def as_trained(trained: DiscreteSampling) -> ModelSampling:
    """Nothing is changed."""
    return trained


def distilled(trained: DiscreteSampling) -> ModelSampling:
    """A network with a few-step LoRA: every 20th timestep is left."""
    return replace(trained, stride=20)


def consistency(trained: DiscreteSampling) -> ModelSampling:
    """A distilled network that gives a consistency function."""
    kind = VConsistencySampling if isinstance(trained, VSampling) else EpsConsistencySampling
    return kind(trained.training_sigmas, stride=20, aligned_sigmas=trained.aligned_sigmas)


def playground(trained: DiscreteSampling) -> ModelSampling:
    """Playground v2.5, which looks like any SDXL network."""
    return EDMSampling()


@dataclass(frozen=True)
class SchedulerSpec:
    """A schedule's levels, and what choosing it says about the network."""

    levels: Callable[[ModelSampling, int], list[float]]
    parametrisation: Callable[[DiscreteSampling], ModelSampling] = as_trained


SCHEDULERS: dict[str, SchedulerSpec] = {
    "normal": SchedulerSpec(normal),
    "karras": SchedulerSpec(karras),
    "exponential": SchedulerSpec(exponential),
    "sgm_uniform": SchedulerSpec(sgm_uniform),
    "simple": SchedulerSpec(simple),
    "ddim_uniform": SchedulerSpec(ddim_uniform),
    "lcm": SchedulerSpec(sgm_uniform, consistency),
    "turbo": SchedulerSpec(turbo),
    "align_your_steps": SchedulerSpec(align_your_steps),
    "tcd": SchedulerSpec(sgm_uniform, distilled),
    "edm_playground_v2.5": SchedulerSpec(karras, playground),
}

LEAST_DENOISE = 0.001
"""A partial run below this changes nothing: its schedule would be its whole length in vanishing steps."""


def find_scheduler(name: str) -> SchedulerSpec:
    """The row of a name. Raises ValueError for one that is not there."""
    if name not in SCHEDULERS:
        raise ValueError(f"scheduler: {name!r} is unknown; there are {', '.join(SCHEDULERS)}")
    return SCHEDULERS[name]


def choose_model_sampling(kind: Kind, prediction: Prediction, zero_terminal_snr: bool, scheduler: str) -> ModelSampling:
    """The parametrisation of a run: what the checkpoint says of itself, and what its schedule says about it.

    kind, prediction, zero_terminal_snr: as in `Checkpoint`. Zero terminal SNR is only heeded for a prediction of v: in
    pure noise there is nothing to learn from a prediction of that noise (arXiv 2305.08891, section 3.2). Raises
    ValueError for a schedule that says what cannot be of this network: the rest of a sentence about the model.
    """
    spec = find_scheduler(scheduler)
    if prediction == "edm":
        if spec.parametrisation not in (as_trained, playground):
            raise ValueError(
                f"is in EDM's preconditioning, and the scheduler {scheduler} is for models that were distilled on "
                "Stable Diffusion's noise levels. Choose another scheduler"
            )
        return EDMSampling()
    if spec.parametrisation is playground and (kind != "sdxl" or prediction == "v"):
        what = "predicts v" if prediction == "v" else "is no SDXL model"
        raise ValueError(f"{what}, and the scheduler {scheduler} is for Playground v2.5. Choose another scheduler")
    rescaled = zero_terminal_snr and prediction == "v"
    trained = (VSampling if prediction == "v" else EpsSampling)(
        zero_snr_sigmas() if rescaled else scaled_linear_sigmas(),
        aligned_sigmas=ALIGNED_SD15 if kind == "sd15" else ALIGNED_SDXL,
    )
    return spec.parametrisation(trained)


def is_for_others(prediction: Prediction, scheduler: str) -> bool:
    """Whether a schedule is made for networks that say of themselves what this one does not."""
    return find_scheduler(scheduler).parametrisation is playground and prediction != "edm"


def calculate_sigmas(
    model_sampling: ModelSampling, scheduler: str, steps: int, denoise: float = 1.0, skip_lowest: bool = False
) -> list[float]:
    """The noise levels of a run: `steps` of them and 0.

    scheduler: a key of SCHEDULERS. denoise, 0..1: less than 1 starts lower, with the end of a schedule of
    steps / denoise steps, and of one more at least; the list is [0.0] where nothing is to be changed. skip_lowest:
    whether the lowest level of a schedule of one step more is left out (`SamplerSpec.skips_lowest`).
    """
    spec = find_scheduler(scheduler)
    if steps < 1:
        raise ValueError(f"steps: {steps} is less than 1")
    if not 0 <= denoise <= 1:
        raise ValueError(f"denoise: {denoise} is outside [0, 1]")
    if denoise < LEAST_DENOISE:
        return [0.0]
    total = steps if denoise > 0.9999 else max(steps + 1, int(steps / denoise))
    sigmas = spec.levels(model_sampling, total + skip_lowest)
    if skip_lowest:
        del sigmas[-2]
    return sigmas if total == steps else sigmas[-steps - 1 :]
