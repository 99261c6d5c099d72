"""Denoisers whose every value is known, and what tests of samplers compare their runs by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from ldm_patched.modules.model_sampling import EpsSampling, ModelSampling
from ldm_patched.modules.samplers import SAMPLERS


def two_hills(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """Ideal denoiser, value by value, of an even mixture of N(-1, 0.5^2) and N(1, 0.5^2)."""
    variance = 0.5**2 + sigma**2
    hill = torch.tanh(x / variance)
    return hill + (x - hill) * (0.5**2 / variance)


class Known:
    """A denoiser made of a function, with a parametrisation beside it; keeps what it was called with."""

    def __init__(
        self,
        function: Callable[[torch.Tensor, float], torch.Tensor] = two_hills,
        model_sampling: ModelSampling | None = None,
    ) -> None:
        self.model_sampling: ModelSampling = model_sampling or EpsSampling()
        self.inputs: list[tuple[torch.Tensor, float]] = []
        self._function = function

    def __call__(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        self.inputs.append((x, sigma))
        return self._function(x, sigma)


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


def run(sampler: str, sigmas: Sequence[float], denoiser: Known | None = None) -> torch.Tensor:
    """A sampler from `start`, with recorded noise."""
    spec, denoiser = SAMPLERS[sampler], denoiser or Known()
    arguments = spec.from_model(denoiser.model_sampling) if spec.from_model is not None else {}
    if spec.noise is not None:
        arguments["noise_sampler"] = Recorded(2 * len(sigmas))
    return spec.function(denoiser, start(sigmas[0]), sigmas, **arguments)
