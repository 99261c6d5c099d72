"""Samplers and noise schedules in k-diffusion's form. Knows no network, no guidance and no seed.

A sampler is one function that owns its loop. `model(x, sigma)` returns the denoised x0; `sigmas` are host floats
that fall from the first noise level to the last, normally 0. Every coefficient is computed on the host in double
precision, so the loop never waits for the device. After each evaluation `callback(step, x0)` is told; what it raises
ends the run.

All four samplers share one exact step. With D the (extrapolated) estimate of x0, the linear part of the ODE
dx/dsigma = (x - D) / sigma is solved in closed form: x' = D + (sigma' / sigma) (x - D), an interpolation that ends
in D itself when sigma' is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

Model = Callable[[Tensor, float], Tensor]
NoiseSampler = Callable[[float, float], Tensor]
Callback = Callable[[int, Tensor], None]


def get_sigmas_karras(n: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> list[float]:
    """`n` noise levels evenly spaced in sigma^(1/rho), then 0 (arXiv 2206.00364, eq. 5)."""
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return [(high + i / max(n - 1, 1) * (low - high)) ** rho for i in range(n)] + [0.0]


def sample_euler(model: Model, x: Tensor, sigmas: Sequence[float], *, callback: Callback | None = None) -> Tensor:
    """Euler's method, first order (arXiv 2206.00364, algorithm 1 without its correction)."""
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = model(x, sigma)
        if callback is not None:
            callback(step, x0)
        x = torch.lerp(x0, x, sigma_next / sigma)
    return x


def sample_euler_ancestral(
    model: Model,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise_sampler: NoiseSampler,
    callback: Callback | None = None,
    eta: float = 1.0,
) -> Tensor:
    """Euler's method with fresh noise at every step: DDPM's posterior for eta 1 (arXiv 2010.02502, eq. 16)."""
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = model(x, sigma)
        if callback is not None:
            callback(step, x0)
        ratio = sigma_next / sigma
        up = min(sigma_next, eta * sigma_next * math.sqrt(1 - ratio**2))
        down = math.sqrt(sigma_next**2 - up**2)
        x = torch.lerp(x0, x, down / sigma)
        if up > 0:
            x = x.add(noise_sampler(sigma, sigma_next), alpha=up)
    return x


def sample_dpmpp_2m(model: Model, x: Tensor, sigmas: Sequence[float], *, callback: Callback | None = None) -> Tensor:
    """DPM-Solver++(2M), second order (arXiv 2211.01095, algorithm 2)."""
    extrapolate = _Extrapolation()
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = model(x, sigma)
        if callback is not None:
            callback(step, x0)
        x = torch.lerp(extrapolate(x0, sigma, sigma_next), x, sigma_next / sigma)
    return x


def sample_dpmpp_2m_sde(
    model: Model,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise_sampler: NoiseSampler,
    callback: Callback | None = None,
    eta: float = 1.0,
) -> Tensor:
    """SDE-DPM-Solver++(2M) in its midpoint form (arXiv 2211.01095); eta 0 is `sample_dpmpp_2m`."""
    extrapolate = _Extrapolation()
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = model(x, sigma)
        if callback is not None:
            callback(step, x0)
        ratio = sigma_next / sigma
        x = torch.lerp(extrapolate(x0, sigma, sigma_next), x, ratio ** (1 + eta))
        noise = sigma_next * math.sqrt(1 - ratio ** (2 * eta))
        if noise > 0:
            x = x.add(noise_sampler(sigma, sigma_next), alpha=noise)
    return x


class _Extrapolation:
    """Remembers the last x0 and carries it on, linearly in -ln sigma, to the middle of the step to come.

    The first step has nothing to extrapolate from and the step to 0 is infinitely long: both use x0 as it is.
    """

    def __init__(self) -> None:
        self._previous: tuple[Tensor, float] | None = None

    def __call__(self, x0: Tensor, sigma: float, sigma_next: float) -> Tensor:
        previous, self._previous = self._previous, (x0, sigma)
        if previous is None or sigma_next == 0:
            return x0
        old_x0, old_sigma = previous
        length, old_length = math.log(sigma / sigma_next), math.log(old_sigma / sigma)
        return torch.lerp(old_x0, x0, 1 + length / (2 * old_length))
