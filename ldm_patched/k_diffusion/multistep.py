"""Samplers that remember the estimates of earlier steps, one evaluation a step. Know no network and no seed.

The contract of a sampler is that of `sampling`. All but LMS are exponential integrators over lambda = -ln sigma: the
history gives an extrapolated estimate of x0, and the exact step of `sampling` leads to it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.polynomial import polynomial
from torch import Tensor

from ldm_patched.k_diffusion.sampling import Callback, Model, NoiseSampler, nobody, slope


def sample_lms(
    model: Model, x: Tensor, sigmas: Sequence[float], *, callback: Callback = nobody, order: int = 4
) -> Tensor:
    """Linear multistep: the polynomial through the last `order` slopes, integrated over the step."""
    slopes: deque[Tensor] = deque(maxlen=order)
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = model(x, sigma)
        callback(step, x0)
        slopes.appendleft(slope(x, x0, sigma))
        levels = [sigmas[step - back] for back in range(len(slopes))]
        for each, weight in zip(slopes, _lagrange_integrals(levels, sigma, sigma_next), strict=True):
            x = x.add(each, alpha=weight)
    return x


def _lagrange_integrals(nodes: Sequence[float], start: float, end: float) -> list[float]:
    """The integral from `start` to `end` of each of the Lagrange polynomials of the nodes, exactly."""
    integrals = []
    for own in nodes:
        roots = [other - start for other in nodes if other != own]  # counted from `start`, for the sake of precision
        antiderivative = polynomial.polyint(polynomial.polyfromroots(roots))
        scale = math.prod(own - start - root for root in roots)
        integrals.append(float(polynomial.polyval(end - start, antiderivative)) / scale)
    return integrals


def sample_dpmpp_2m(model: Model, x: Tensor, sigmas: Sequence[float], *, callback: Callback = nobody) -> Tensor:
    """DPM-Solver++(2M), second order (arXiv 2211.01095, algorithm 2)."""
    extrapolate = _Extrapolation()
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = model(x, sigma)
        callback(step, x0)
        x = torch.lerp(extrapolate(x0, sigma, sigma_next), x, sigma_next / sigma)
    return x


def sample_dpmpp_2m_sde(
    model: Model,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise_sampler: NoiseSampler,
    callback: Callback = nobody,
    eta: float = 1.0,
) -> Tensor:
    """SDE-DPM-Solver++(2M) in its midpoint form (arXiv 2211.01095); eta 0 is `sample_dpmpp_2m`."""
    return _sde(model, x, sigmas, _Extrapolation(), noise_sampler, callback, eta)


def sample_dpmpp_3m_sde(
    model: Model,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise_sampler: NoiseSampler,
    callback: Callback = nobody,
    eta: float = 1.0,
) -> Tensor:
    """DPM-Solver++(3M) for the SDE as k-diffusion has it: towards a parabola through the last three estimates."""
    return _sde(model, x, sigmas, _Parabola(eta), noise_sampler, callback, eta)


def _sde(
    model: Model,
    x: Tensor,
    sigmas: Sequence[float],
    extrapolate: Callable[[Tensor, float, float], Tensor],
    noise_sampler: NoiseSampler,
    callback: Callback,
    eta: float,
) -> Tensor:
    """The SDE's exact step from level to level, towards the extrapolated estimate; eta 0 leaves the ODE's."""
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = model(x, sigma)
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


class _Parabola:
    """Remembers two estimates and gives a mean of the parabola through all three over the step to come.

    The step weighs what it passes by e^-u, u up to (1 + eta) times its length in -ln sigma. A slope counts by its mean
    under this weight; the curvature by half of it, as in k-diffusion, whose pictures these are: straight lines are
    exact. The first step and the step to 0 use x0 as it is, the second has the line.
    """

    def __init__(self, eta: float) -> None:
        self._eta = eta
        self._history: deque[tuple[Tensor, float]] = deque(maxlen=3)

    def __call__(self, x0: Tensor, sigma: float, sigma_next: float) -> Tensor:
        self._history.appendleft((x0, sigma))
        if len(self._history) == 1 or sigma_next == 0:
            return x0
        length = math.log(sigma / sigma_next)
        kernel = length * (1 + self._eta)
        phi_2 = math.expm1(-kernel) / kernel + 1
        phi_3 = phi_2 / kernel - 0.5
        whole = -math.expm1(-kernel)
        x0s = [x0 for x0, _ in self._history]
        back, *earlier = (math.log(b / a) / length for (_, a), (_, b) in pairwise(self._history))
        if not earlier:
            return torch.lerp(x0s[1], x0, 1 + phi_2 / (whole * back))
        # Divided differences: the slopes between the estimates, and how they change.
        recent, old, both = 1 / back, 1 / earlier[0], back + earlier[0]
        first, second = phi_2 / whole, (phi_2 * back - phi_3) / (whole * both)
        return _towards(x0s, (-recent * (first + second) - old * second, old * second))


def _towards(x0s: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The first estimate, and of each other one its difference from the first, times a weight."""
    result = x0s[0] * (1 - sum(weights))
    for x0, weight in zip(x0s[1:], weights, strict=True):
        result.add_(x0, alpha=weight)
    return result


def sample_uni_pc(model: Model, x: Tensor, sigmas: Sequence[float], *, callback: Callback = nobody) -> Tensor:
    """UniPC of order 3 with B(h) = h (arXiv 2302.04867)."""
    return _uni_pc(model, x, sigmas, callback, lambda h: h)


def sample_uni_pc_bh2(model: Model, x: Tensor, sigmas: Sequence[float], *, callback: Callback = nobody) -> Tensor:
    """UniPC of order 3 with B(h) = e^h - 1."""
    return _uni_pc(model, x, sigmas, callback, math.expm1)


def _uni_pc(
    model: Model, x: Tensor, sigmas: Sequence[float], callback: Callback, kernel: Callable[[float], float]
) -> Tensor:
    """UniPC on the data prediction: every estimate first corrects the step that led to it (UniC), then leads on (UniP).

    The order rises with the history and falls to 1 at the end, which has no estimate to correct it. kernel: B of -h.
    """
    steps = len(sigmas) - 1
    history: list[tuple[Tensor, float]] = []  # estimates and their levels, the latest first
    before, order = x, 0
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = model(x, sigma)
        callback(step, x0)
        if history:
            x = _uni_step(before, [*history[:order], (x0, sigma)], sigma, kernel)
        history = [(x0, sigma), *history[:2]]
        order = min(3, max(steps - 1, 1), step + 1, steps - step)
        before, x = x, _uni_step(x, history[:order], sigma_next, kernel)
    return x


def _uni_step(
    x: Tensor, estimates: Sequence[tuple[Tensor, float]], target: float, kernel: Callable[[float], float]
) -> Tensor:
    """From the level of the first estimate to `target`, with all of them; one may be of `target` itself."""
    x0s, levels = [x0 for x0, _ in estimates], [level for _, level in estimates]
    ratio = target / levels[0]
    if len(levels) == 1:
        return torch.lerp(x0s[0], x, ratio)
    length = math.log(levels[0] / target)
    places = [math.log(levels[0] / level) / length for level in levels[1:]]
    share = kernel(-length) / math.expm1(-length)
    weights = [share * w / place for w, place in zip(_uni_weights(places, length, kernel), places, strict=True)]
    return torch.lerp(_towards(x0s, weights), x, ratio)


def _uni_weights(places: Sequence[float], length: float, kernel: Callable[[float], float]) -> list[float]:
    """The weights of the differences at `places`, which are in units of the step (arXiv 2302.04867, theorem 3.1).

    A single difference has 1/2, as the method's authors decided.
    """
    if len(places) == 1:
        return [0.5]
    moments, phi = [], math.expm1(-length) / -length - 1
    for k in range(1, len(places) + 1):
        moments.append(phi * math.factorial(k) / kernel(-length))
        phi = phi / -length - 1 / math.factorial(k + 1)
    powers = np.vander(np.array(places), increasing=True).T
    weights: list[float] = np.linalg.solve(powers, np.array(moments)).tolist()
    return weights
