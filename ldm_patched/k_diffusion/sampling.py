"""Samplers that need one level at a time, in k-diffusion's form. Know no network, no guidance and no seed.

A sampler is one function that owns its loop. `model(x, sigma)` returns the denoised x0; `sigmas` are host floats
that fall from the first noise level to the last, normally 0. Every coefficient is computed on the host in double
precision, so the loop never waits for the device (`sample_dpm_adaptive` excepted, which has to). `callback(step, x0)`
is told of every step once its first estimate is there; what it raises ends the run.

They share one exact step. With D the (extrapolated) estimate of x0, the linear part of the ODE
dx/dsigma = (x - D) / sigma is solved in closed form: x' = D + (sigma' / sigma) (x - D), an interpolation that ends
in D itself when sigma' is 0. What adds noise steps further down first, and then returns to sigma' with fresh noise.

Samplers that remember earlier steps are in `multistep`, those that choose their own levels in `dpm_solver`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ldm_patched.k_diffusion.schedules import restart_levels

Model = Callable[[Tensor, float], Tensor]
NoiseSampler = Callable[[float, float], Tensor]
Callback = Callable[[int, Tensor], None]


def nobody(step: int, x0: Tensor) -> None:
    """The callback of a run that nobody watches."""


def ancestral_split(sigma: float, sigma_next: float, eta: float = 1.0) -> tuple[float, float]:
    """How a step is divided into one to a lower level, and noise that leads back up: (down, up).

    eta 1 gives the deviation of DDPM's posterior (arXiv 2010.02502, eq. 16), eta 0 no noise.
    """
    up = min(sigma_next, eta * sigma_next * math.sqrt(1 - (sigma_next / sigma) ** 2))
    return math.sqrt(sigma_next**2 - up**2), up


# First order


def sample_euler(model: Model, x: Tensor, sigmas: Sequence[float], *, callback: Callback = nobody) -> Tensor:
    """Euler's method (arXiv 2206.00364, algorithm 1 without its correction); DDIM without noise is the same."""
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = model(x, sigma)
        callback(step, x0)
        x = torch.lerp(x0, x, sigma_next / sigma)
    return x


def sample_euler_ancestral(
    model: Model,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise_sampler: NoiseSampler,
    callback: Callback = nobody,
    eta: float = 1.0,
) -> Tensor:
    """Euler's method with fresh noise at every step.

    eta 1 samples DDPM's posterior (arXiv 2006.11239, eq. 7): written for the variance-exploding latent it is this step.
    """
    return _down_and_up(model, x, sigmas, lambda a, b: ancestral_split(a, b, eta), noise_sampler, callback)


def sample_lcm(
    model: Model, x: Tensor, sigmas: Sequence[float], *, noise_sampler: NoiseSampler, callback: Callback = nobody
) -> Tensor:
    """Multistep consistency sampling (arXiv 2310.04378, algorithm 3): all the way down, and up with fresh noise."""
    return _down_and_up(model, x, sigmas, lambda sigma, sigma_next: (0.0, sigma_next), noise_sampler, callback)


def sample_tcd(
    model: Model,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise_sampler: NoiseSampler,
    level_below: Callable[[float], float],
    callback: Callback = nobody,
) -> Tensor:
    """Strategic stochastic sampling (arXiv 2402.19159, algorithm 4).

    level_below: how deep a step to a level goes before noise leads it up again.
    """

    def split(sigma: float, sigma_next: float) -> tuple[float, float]:
        down = min(level_below(sigma_next), sigma_next) if sigma_next > 0 else 0.0
        return down, math.sqrt(sigma_next**2 - down**2)

    return _down_and_up(model, x, sigmas, split, noise_sampler, callback)


def _down_and_up(
    model: Model,
    x: Tensor,
    sigmas: Sequence[float],
    split: Callable[[float, float], tuple[float, float]],
    noise_sampler: NoiseSampler,
    callback: Callback,
) -> Tensor:
    """Euler's method down to the first level of `split`, and noise of its second number."""
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = model(x, sigma)
        callback(step, x0)
        down, up = split(sigma, sigma_next)
        x = torch.lerp(x0, x, down / sigma)
        if up > 0:
            x = x.add(noise_sampler(sigma, sigma_next), alpha=up)
    return x


# Second order, by a second evaluation


def slope(x: Tensor, x0: Tensor, sigma: float) -> Tensor:
    """dx/dsigma; for an estimate x0, the predicted unit noise."""
    return (x - x0).div_(sigma)


def sample_heun(model: Model, x: Tensor, sigmas: Sequence[float], *, callback: Callback = nobody) -> Tensor:
    """Heun's method (arXiv 2206.00364, algorithm 1); the step to 0 is Euler's."""
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = model(x, sigma)
        callback(step, x0)
        x = _heun_step(model, x, x0, sigma, sigma_next)
    return x


def sample_restart(
    model: Model, x: Tensor, sigmas: Sequence[float], *, noise_sampler: NoiseSampler, callback: Callback = nobody
) -> Tensor:
    """Heun's method on `restart_levels`; the way back up is noise (arXiv 2306.14878, algorithm 1)."""
    step = 0
    for sigma, sigma_next in pairwise(restart_levels(sigmas)):
        if sigma_next > sigma:
            x = x.add(noise_sampler(sigma, sigma_next), alpha=math.sqrt(sigma_next**2 - sigma**2))
            continue
        x0 = model(x, sigma)
        callback(step, x0)
        x = _heun_step(model, x, x0, sigma, sigma_next)
        step += 1
    return x


def _heun_step(model: Model, x: Tensor, x0: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """By the mean of the slopes at both ends, the second one found by Euler's method."""
    euler = torch.lerp(x0, x, sigma_next / sigma)
    if sigma_next == 0:
        return euler
    slopes = slope(x, x0, sigma).add_(slope(euler, model(euler, sigma_next), sigma_next))
    return x.add(slopes, alpha=(sigma_next - sigma) / 2)


def sample_heunpp2(model: Model, x: Tensor, sigmas: Sequence[float], *, callback: Callback = nobody) -> Tensor:
    """Heun++: the slopes at up to three levels, weighted by their share of the first level of the run.

    The weight of a level ahead is its sigma / (number of slopes * first sigma); the present one has the rest. The
    last step is Euler's, the one before it has two slopes.
    """
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = model(x, sigma)
        callback(step, x0)
        ahead = sigmas[step + 1 : -1][:2]
        if not ahead:
            x = torch.lerp(x0, x, sigma_next / sigma)
            continue
        weights = [level / ((len(ahead) + 1) * sigmas[0]) for level in ahead]
        trial, at, latest = x, sigma, slope(x, x0, sigma)
        mean = latest * (1 - sum(weights))
        for level, weight in zip(ahead, weights, strict=True):
            trial, at = trial.add(latest, alpha=level - at), level
            latest = slope(trial, model(trial, level), level)
            mean.add_(latest, alpha=weight)
        x = x.add(mean, alpha=sigma_next - sigma)
    return x


def sample_dpm_2(model: Model, x: Tensor, sigmas: Sequence[float], *, callback: Callback = nobody) -> Tensor:
    """DPM-Solver-2 in Karras's form: by the slope at the geometric middle of the step; the step to 0 is Euler's."""
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = model(x, sigma)
        callback(step, x0)
        x = _midpoint_step(model, x, x0, sigma, sigma_next)
    return x


def sample_dpm_2_ancestral(
    model: Model, x: Tensor, sigmas: Sequence[float], *, noise_sampler: NoiseSampler, callback: Callback = nobody
) -> Tensor:
    """`sample_dpm_2` down to a lower level, and fresh noise at every step."""
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = model(x, sigma)
        callback(step, x0)
        down, up = ancestral_split(sigma, sigma_next)
        x = _midpoint_step(model, x, x0, sigma, down)
        if up > 0:
            x = x.add(noise_sampler(sigma, sigma_next), alpha=up)
    return x


def _midpoint_step(model: Model, x: Tensor, x0: Tensor, sigma: float, down: float) -> Tensor:
    if down == 0:
        return x0
    middle = math.sqrt(sigma * down)
    trial = torch.lerp(x0, x, middle / sigma)
    return x.add(slope(trial, model(trial, middle), middle), alpha=down - sigma)


def sample_dpmpp_2s_ancestral(
    model: Model, x: Tensor, sigmas: Sequence[float], *, noise_sampler: NoiseSampler, callback: Callback = nobody
) -> Tensor:
    """DPM-Solver++(2S), with r = 1/2 (arXiv 2211.01095, algorithm 1), down to a lower level, and fresh noise."""
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = model(x, sigma)
        callback(step, x0)
        down, up = ancestral_split(sigma, sigma_next)
        if down > 0:
            middle = math.sqrt(sigma * down)
            x0 = model(torch.lerp(x0, x, middle / sigma), middle)
        x = torch.lerp(x0, x, down / sigma)
        if up > 0:
            x = x.add(noise_sampler(sigma, sigma_next), alpha=up)
    return x


def sample_dpmpp_sde(
    model: Model, x: Tensor, sigmas: Sequence[float], *, noise_sampler: NoiseSampler, callback: Callback = nobody
) -> Tensor:
    """DPM-Solver++ for the SDE, with r = 1/2 (k-diffusion): noise also on the way to the middle of each step."""
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = model(x, sigma)
        callback(step, x0)
        if sigma_next == 0:
            x = x0
            continue
        middle = math.sqrt(sigma * sigma_next)
        down, up = ancestral_split(sigma, middle)
        trial = torch.lerp(x0, x, down / sigma).add_(noise_sampler(sigma, middle), alpha=up)
        down, up = ancestral_split(sigma, sigma_next)
        x = torch.lerp(model(trial, middle), x, down / sigma).add_(noise_sampler(sigma, sigma_next), alpha=up)
    return x
