"""What a network predicts and at which noise levels: sigma <-> timestep, scalings, prediction -> x0. Knows no network.

Noise levels and timesteps are host floats: nothing here waits for the device.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor


class ModelSampling(ABC):
    """The parametrisation of a network over noise levels sigma_min .. sigma_max."""

    @property
    @abstractmethod
    def sigma_min(self) -> float:
        """The lowest noise level that the network was trained on."""

    @property
    @abstractmethod
    def sigma_max(self) -> float:
        """The highest noise level that the network was trained on."""

    @abstractmethod
    def sigma(self, timestep: float) -> float:
        """The noise level of a timestep; one beyond the ends counts as the nearest."""

    @abstractmethod
    def timestep(self, sigma: float) -> float:
        """What the network is told for a noise level."""

    @abstractmethod
    def progress(self, sigma: float) -> float:
        """How far a run has come: 0 at sigma_max, 1 at sigma_min."""

    @abstractmethod
    def percent_to_sigma(self, percent: float) -> float:
        """The noise level at which a run has come `percent` (0..1) of its way; infinite at 0, and 0 at 1."""

    @abstractmethod
    def input_scale(self, sigma: float) -> float:
        """What a noisy latent is multiplied by before the network sees it."""

    @abstractmethod
    def denoised(self, output: Tensor, x: Tensor, sigma: float) -> Tensor:
        """x0 from the network's output for the (unscaled) noisy latent x. All of one shape."""

    def noise_scaling(self, sigma: float, noise: Tensor, latent: Tensor) -> Tensor:
        """The noisy latent in which a run at `sigma` begins, from unit noise and the latent to start from.

        At sigma_max the network has only seen latents of variance 1 + sigma^2, a picture and noise; there the noise,
        which stands for both, is given that variance.
        """
        whole = sigma >= self.sigma_max * (1 - 1e-5)
        return torch.add(latent, noise, alpha=math.sqrt(1 + sigma**2) if whole else sigma)


@cache
def scaled_linear_sigmas() -> tuple[float, ...]:
    """The 1000 noise levels of Stable Diffusion: beta from 0.00085 to 0.012, linear in its root (arXiv 2112.10752).

    Computed in double precision and rounded to single precision, in which the published models hold them.
    """
    betas = torch.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, dim=0)
    sigmas: list[float] = ((1 - kept) / kept).sqrt().float().tolist()
    return tuple(sigmas)


@dataclass(frozen=True)
class DiscreteSampling(ModelSampling):
    """A network trained on the noise levels of a table; a timestep is a place in it, from 0."""

    sigmas: tuple[float, ...] = field(default_factory=scaled_linear_sigmas, repr=False)

    @property
    def sigma_min(self) -> float:
        """The table's first value."""
        return self.sigmas[0]

    @property
    def sigma_max(self) -> float:
        """The table's last value."""
        return self.sigmas[-1]

    def sigma(self, timestep: float) -> float:
        """Interpolated linearly in ln sigma between the table's values."""
        place = min(max(timestep, 0.0), len(self.sigmas) - 1.0)
        low, high = math.floor(place), math.ceil(place)
        return float(self.sigmas[low] ** (low + 1 - place) * self.sigmas[high] ** (place - low))

    def timestep(self, sigma: float) -> float:
        """The table's nearest place, measured in ln sigma."""
        above = min(max(bisect_left(self.sigmas, sigma), 1), len(self.sigmas) - 1)
        middle_squared = self.sigmas[above - 1] * self.sigmas[above]
        return float(above if sigma**2 > middle_squared else above - 1)

    def progress(self, sigma: float) -> float:
        """1 - timestep / last timestep."""
        return 1 - self.timestep(sigma) / (len(self.sigmas) - 1)

    def percent_to_sigma(self, percent: float) -> float:
        """The noise level of the timestep (1 - percent) * last timestep."""
        if percent <= 0:
            return math.inf
        return self.sigma((1 - percent) * (len(self.sigmas) - 1)) if percent < 1 else 0.0

    def input_scale(self, sigma: float) -> float:
        """1 / sqrt(sigma^2 + 1): from the variance-exploding latent to the network's variance-preserving one."""
        return 1 / math.sqrt(sigma**2 + 1)


@dataclass(frozen=True)
class EpsSampling(DiscreteSampling):
    """A network that predicts the noise (arXiv 2006.11239)."""

    def denoised(self, output: Tensor, x: Tensor, sigma: float) -> Tensor:
        """x - sigma * output."""
        return torch.sub(x, output, alpha=sigma)


@dataclass(frozen=True)
class VSampling(DiscreteSampling):
    """A network that predicts v = alpha * noise - sigma * x0 of the variance-preserving latent (arXiv 2202.00512)."""

    def denoised(self, output: Tensor, x: Tensor, sigma: float) -> Tensor:
        """x / (sigma^2 + 1) - output * sigma / sqrt(sigma^2 + 1)."""
        scale = self.input_scale(sigma)
        return torch.sub(x * scale**2, output, alpha=sigma * scale)
