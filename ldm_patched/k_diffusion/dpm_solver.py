"""Samplers that choose their own levels: DPM-Solver, fast and adaptive. Know no network and no seed.

The contract of a sampler is that of `sampling`, but for the steps: these go from the first level of a schedule to its
last positive one by levels of their own, and then, where the schedule ends in 0, take the estimate that is there. The
step that `callback` is told is the one of the schedule that the run has come to; it never falls, and may come twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ldm_patched.k_diffusion.sampling import Callback, Model, nobody, slope

Noise = Callable[[Tensor, float], Tensor]  # (x, sigma) -> the predicted unit noise


def sample_dpm_fast(model: Model, x: Tensor, sigmas: Sequence[float], *, callback: Callback = nobody) -> Tensor:
    """DPM-Solver-fast (arXiv 2206.00927, section 3.4): as many evaluations as steps, and one for the step to 0.

    Steps of order 3, evenly spaced in -ln sigma; the last ones are of the order that uses up the evaluations.
    """
    steps, low = len(sigmas) - 1, _last_positive(sigmas)
    told = 0

    def estimate(x: Tensor, sigma: float) -> Tensor:
        nonlocal told
        x0 = model(x, sigma)
        callback(min(told, steps - 1), x0)
        told += 1
        return x0

    def noise(x: Tensor, sigma: float) -> Tensor:
        return slope(x, estimate(x, sigma), sigma)

    if low < sigmas[0]:
        orders = [3] * (steps // 3 - 1) + [2, 1] if steps % 3 == 0 else [3] * (steps // 3) + [steps % 3]
        ratio = low / sigmas[0]
        levels = [sigmas[0] * ratio ** (i / len(orders)) for i in range(len(orders))] + [low]
        for order, (sigma, sigma_next) in zip(orders, pairwise(levels), strict=True):
            x = _STEPS[order](noise, x, noise(x, sigma), sigma, sigma_next)
    return estimate(x, low) if sigmas[-1] == 0 else x


def sample_dpm_adaptive(
    model: Model,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    callback: Callback = nobody,
    rtol: float = 0.05,
    atol: float = 0.0078,
) -> Tensor:
    """DPM-Solver-23 with a step size from its own error (arXiv 2206.00927, algorithm in appendix C).

    Of a schedule only the ends count. rtol, atol: the error that a step may have, relative to x and in its units.
    Each attempt takes three evaluations, and the host waits for its error: the one sampler that cannot do without.
    Rows of a batch share their steps.
    """
    low = _last_positive(sigmas)
    sigma, length, previous = sigmas[0], 0.05, x
    while sigma > low * math.exp(1e-5):
        step = sum(level >= sigma for level in sigmas[1:-1])
        x0 = model(x, sigma)
        callback(step, x0)
        sigma_next = max(low, sigma * math.exp(-length))
        lower, higher = _pair(model, x, slope(x, x0, sigma), sigma, sigma_next)
        tolerance = torch.maximum(lower.abs(), previous.abs()).mul_(rtol).clamp_(min=atol)
        error = float(((lower - higher) / tolerance).square().mean().sqrt())
        if not math.isfinite(error):
            return higher  # whoever looks at the result says what is wrong with the network
        # An integral controller: the step that would just be allowed, approached smoothly.
        factor = 1 + math.atan((error + 1e-8) ** (-1 / 3) - 1)
        if factor >= _ACCEPTED:
            x, previous, sigma = higher, lower, sigma_next
        length *= factor
    if sigmas[-1] > 0:
        return x
    x0 = model(x, low)
    callback(len(sigmas) - 2, x0)
    return x0


_ACCEPTED = 0.81


def _last_positive(sigmas: Sequence[float]) -> float:
    return sigmas[-1] if sigmas[-1] > 0 else sigmas[-2]


# Steps from sigma to sigma_next with `eps`, the noise predicted at sigma (arXiv 2206.00927, algorithms 1, 2 and 4)


def _first_order(noise: Noise, x: Tensor, eps: Tensor, sigma: float, sigma_next: float) -> Tensor:
    return x.add(eps, alpha=sigma_next - sigma)


def _second_order(noise: Noise, x: Tensor, eps: Tensor, sigma: float, sigma_next: float) -> Tensor:
    middle = math.sqrt(sigma * sigma_next)
    return x.add(noise(x.add(eps, alpha=middle - sigma), middle), alpha=sigma_next - sigma)


def _third_order(noise: Noise, x: Tensor, eps: Tensor, sigma: float, sigma_next: float) -> Tensor:
    return _from_change(noise, x, eps, _change(noise, x, eps, sigma, sigma_next), sigma, sigma_next)


_STEPS = {1: _first_order, 2: _second_order, 3: _third_order}


def _pair(model: Model, x: Tensor, eps: Tensor, sigma: float, sigma_next: float) -> tuple[Tensor, Tensor]:
    """The step by order 2 (with its middle at a third) and by order 3, of the same first two evaluations."""

    def noise(x: Tensor, sigma: float) -> Tensor:
        return slope(x, model(x, sigma), sigma)

    change = _change(noise, x, eps, sigma, sigma_next)
    lower = x.add(eps.add(change, alpha=1.5), alpha=sigma_next - sigma)
    return lower, _from_change(noise, x, eps, change, sigma, sigma_next)


def _change(noise: Noise, x: Tensor, eps: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """How the noise changes in the first third of the step."""
    third = (sigma**2 * sigma_next) ** (1 / 3)
    return noise(x.add(eps, alpha=third - sigma), third).sub_(eps)


def _from_change(noise: Noise, x: Tensor, eps: Tensor, change: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """The step of order 3 by an evaluation at its second third."""
    length = math.log(sigma / sigma_next)
    second = (sigma * sigma_next**2) ** (1 / 3)
    trial = x.add(eps, alpha=second - sigma).add_(change, alpha=_curvature(sigma, second, length * 2 / 3) * 2)
    late_change = noise(trial, second).sub_(eps)
    return x.add(eps, alpha=sigma_next - sigma).add_(late_change, alpha=_curvature(sigma, sigma_next, length) * 1.5)


def _curvature(sigma: float, level: float, length: float) -> float:
    """Integral of a noise that changes by 1 over the way of `length` in -ln sigma from sigma to `level`."""
    return level - (sigma - level) / length
