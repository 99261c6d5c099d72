"""What a network predicts and at which noise levels: sigma <-> timestep, scalings, prediction -> x0. Knows no network.

Noise levels and timesteps are host floats: nothing here waits for the device.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import cache, cached_property

import torch
from torch import Tensor

from ldm_patched.modules.latent_format import AS_THE_VAE_S, PLAYGROUND_V2_5, LatentFormat

ALIGNED_SDXL = (
    14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769, 1.3405244945, 0.8620721141, 0.5550693289, 0.3798540708,
    0.2332364134, 0.1114188177, 0.0291671582,
)  # fmt: skip
"""The levels of ten steps that suit SDXL best (Align Your Steps, arXiv 2404.14507, appendix)."""

ALIGNED_SD15 = (
    14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092, 0.9642583904, 0.6523686016,
    0.3977456272, 0.1515232662, 0.0291671582,
)  # fmt: skip
"""Those that suit Stable Diffusion 1.5 best."""


class ModelSampling(ABC):
    """The parametrisation of a network over noise levels sigma_min .. sigma_max."""

    latent_format: LatentFormat = AS_THE_VAE_S
    """How the network's latents differ from the autoencoder's."""

    aligned_sigmas: tuple[float, ...] = ALIGNED_SDXL
    """The levels that were found to suit the network best, falling."""

    data_deviation: float = 1.0
    """The deviation of the latents without noise."""

    @property
    @abstractmethod
    def sigmas(self) -> tuple[float, ...]:
        """The noise levels that the network knows, or a fine grid of them, rising."""

    @property
    def sigma_min(self) -> float:
        """The lowest noise level that the network was trained on."""
        return self.sigmas[0]

    @property
    def sigma_max(self) -> float:
        """The highest noise level that the network was trained on."""
        return self.sigmas[-1]

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
    def level_at_share(self, sigma: float, share: float) -> float:
        """The noise level whose time from the lowest one is `share` (0..1) of that of `sigma`."""

    def input_scale(self, sigma: float) -> float:
        """What a noisy latent is multiplied by before the network sees it: 1 / its deviation."""
        return 1 / math.sqrt(sigma**2 + self.data_deviation**2)

    @abstractmethod
    def denoised(self, output: Tensor, x: Tensor, sigma: float) -> Tensor:
        """x0 from the network's output for the (unscaled) noisy latent x. All of one shape."""

    def noise_scaling(self, sigma: float, noise: Tensor, latent: Tensor) -> Tensor:
        """The noisy latent in which a run at `sigma` begins, from unit noise and the latent to start from.

        At sigma_max the network has only seen latents that are a picture and noise; there the noise, which stands for
        both, is given the variance of both.
        """
        whole = sigma >= self.sigma_max * (1 - 1e-5)
        return torch.add(latent, noise, alpha=math.sqrt(sigma**2 + self.data_deviation**2) if whole else sigma)


@cache
def scaled_linear_sigmas() -> tuple[float, ...]:
    """The 1000 noise levels of Stable Diffusion: beta from 0.00085 to 0.012, linear in its root (arXiv 2112.10752).

    Computed in double precision and rounded to single precision, in which the published models hold them.
    """
    return _sigmas(_kept())


@cache
def zero_snr_sigmas() -> tuple[float, ...]:
    """The same levels rescaled to end in pure noise, the first one kept (arXiv 2305.08891, algorithm 1).

    The last one, which would be infinite, is 4096: a signal of half precision's smallest number, 2^-24, is left.
    """
    roots = _kept().sqrt()
    kept = ((roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))) ** 2
    return _sigmas(kept.clamp(min=2.0**-24))


def _kept() -> Tensor:
    """What is left of the signal's variance at each timestep: alpha-bar, double precision [1000]."""
    betas = torch.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0)


def _sigmas(kept: Tensor) -> tuple[float, ...]:
    sigmas: list[float] = ((1 - kept) / kept).sqrt().float().tolist()
    return tuple(sigmas)


@dataclass(frozen=True)
class DiscreteSampling(ModelSampling):
    """A network trained on the noise levels of a table, one a timestep, from 0.

    stride: of how many timesteps one is left, the last, if the network was distilled to some of them.
    """

    training_sigmas: tuple[float, ...] = field(default_factory=scaled_linear_sigmas, repr=False)
    stride: int = 1
    aligned_sigmas: tuple[float, ...] = field(default=ALIGNED_SDXL, repr=False)

    @cached_property
    def sigmas(self) -> tuple[float, ...]:
        """The table, without what the stride leaves out."""
        return self.training_sigmas[self.stride - 1 :: self.stride]

    def sigma(self, timestep: float) -> float:
        """Interpolated linearly in ln sigma between the table's values."""
        place = min(max((timestep - (self.stride - 1)) / self.stride, 0.0), len(self.sigmas) - 1.0)
        low, high = math.floor(place), math.ceil(place)
        return float(self.sigmas[low] ** (low + 1 - place) * self.sigmas[high] ** (place - low))

    def timestep(self, sigma: float) -> float:
        """That of the table's nearest level, measured in ln sigma."""
        above = min(max(bisect_left(self.sigmas, sigma), 1), len(self.sigmas) - 1)
        middle_squared = self.sigmas[above - 1] * self.sigmas[above]
        place = above if sigma**2 > middle_squared else above - 1
        return float(self.stride * (place + 1) - 1)

    def progress(self, sigma: float) -> float:
        """1 - timestep / last timestep."""
        return 1 - self.timestep(sigma) / (len(self.training_sigmas) - 1)

    def percent_to_sigma(self, percent: float) -> float:
        """The noise level of the timestep (1 - percent) * last timestep."""
        if percent <= 0:
            return math.inf
        return self.sigma((1 - percent) * (len(self.training_sigmas) - 1)) if percent < 1 else 0.0

    def level_at_share(self, sigma: float, share: float) -> float:
        """That of a whole timestep of the training, rounded down."""
        return self.training_sigmas[math.floor(share * self.timestep(sigma))]


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


@dataclass(frozen=True)
class EpsConsistencySampling(EpsSampling):
    """A consistency model distilled from one that predicts the noise."""

    def denoised(self, output: Tensor, x: Tensor, sigma: float) -> Tensor:
        """See `_consistent`."""
        return _consistent(super().denoised(output, x, sigma), x * self.input_scale(sigma), self.timestep(sigma))


@dataclass(frozen=True)
class VConsistencySampling(VSampling):
    """A consistency model distilled from one that predicts v."""

    def denoised(self, output: Tensor, x: Tensor, sigma: float) -> Tensor:
        """See `_consistent`."""
        return _consistent(super().denoised(output, x, sigma), x * self.input_scale(sigma), self.timestep(sigma))


def _consistent(x0: Tensor, model_input: Tensor, timestep: float) -> Tensor:
    """A function that is its input at time 0: c_out * x0 + c_skip * input (arXiv 2310.04378, section 3).

    The data's deviation is taken as 0.5, and the timestep tenfold.
    """
    time = 10 * timestep
    return torch.add(x0 * (time / math.sqrt(time**2 + 0.25)), model_input, alpha=0.25 / (time**2 + 0.25))


@dataclass(frozen=True)
class EDMSampling(ModelSampling):
    """A network in EDM's preconditioning, over all noise levels of a range (arXiv 2206.00364, table 1).

    The defaults are those of Playground v2.5.
    """

    lowest: float = 0.002
    highest: float = 120.0
    data_deviation: float = 0.5
    latent_format: LatentFormat = PLAYGROUND_V2_5

    @cached_property
    def sigmas(self) -> tuple[float, ...]:
        """1000 levels, evenly spaced in ln sigma."""
        ratio = self.highest / self.lowest
        return (*(self.lowest * ratio ** (i / 999) for i in range(999)), self.highest)

    def sigma(self, timestep: float) -> float:
        """exp(4 * timestep), within the range."""
        return min(max(math.exp(4 * timestep), self.lowest), self.highest)

    def timestep(self, sigma: float) -> float:
        """ln sigma / 4."""
        return 0.25 * math.log(sigma)

    def progress(self, sigma: float) -> float:
        """The part of the range, in ln sigma, that lies behind."""
        part = math.log(self.highest / sigma) / math.log(self.highest / self.lowest)
        return min(max(part, 0.0), 1.0)

    def percent_to_sigma(self, percent: float) -> float:
        """Evenly in ln sigma."""
        if percent <= 0:
            return math.inf
        return self.level_at_share(self.highest, 1 - percent) if percent < 1 else 0.0

    def level_at_share(self, sigma: float, share: float) -> float:
        """Evenly in ln sigma."""
        return math.exp((1 - share) * math.log(self.lowest) + share * math.log(sigma))

    def denoised(self, output: Tensor, x: Tensor, sigma: float) -> Tensor:
        """x * s^2 / (sigma^2 + s^2) + output * sigma * s / sqrt(sigma^2 + s^2), with s the data's deviation."""
        scale = self.data_deviation * self.input_scale(sigma)
        return torch.add(x * scale**2, output, alpha=sigma * scale)
