"""Samplers against their formulas, written out here number by number, with noise handed to both sides."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ldm_patched.k_diffusion.schedules import get_sigmas_karras
from ldm_patched.modules.model_sampling import EpsSampling
from tests.ldm_patched.denoisers import Recorded, relative_error, run, start, two_hills

Array = NDArray[np.float64]
Noise = Callable[[], Array]


def model(x: Array, sigma: float) -> Array:
    result: Array = two_hills(torch.from_numpy(x), sigma).numpy()
    return result


def ancestral(s: float, t: float, eta: float = 1.0) -> tuple[float, float]:
    up = min(t, eta * (t**2 * (s**2 - t**2) / s**2) ** 0.5)
    return (t**2 - up**2) ** 0.5, up


def heunpp2(x: Array, sigmas: Sequence[float], noise: Noise) -> Array:
    last = len(sigmas) - 2
    for i, (s, t) in enumerate(pairwise(sigmas)):
        d = (x - model(x, s)) / s
        if i == last:
            x = x + d * (t - s)
        elif i == last - 1:
            x2 = x + d * (t - s)
            d2 = (x2 - model(x2, t)) / t
            w2 = t / (2 * sigmas[0])
            x = x + ((1 - w2) * d + w2 * d2) * (t - s)
        else:
            u = sigmas[i + 2]
            x2 = x + d * (t - s)
            d2 = (x2 - model(x2, t)) / t
            x3 = x2 + d2 * (u - t)
            d3 = (x3 - model(x3, u)) / u
            w2, w3 = t / (3 * sigmas[0]), u / (3 * sigmas[0])
            x = x + ((1 - w2 - w3) * d + w2 * d2 + w3 * d3) * (t - s)
    return x


def lms(x: Array, sigmas: Sequence[float], noise: Noise) -> Array:
    """With Gauss-Legendre's rule, which is exact for these polynomials."""
    nodes, weights = np.polynomial.legendre.leggauss(4)
    history: list[Array] = []
    for i, (s, t) in enumerate(pairwise(sigmas)):
        history = [(x - model(x, s)) / s, *history[:3]]
        for j, d in enumerate(history):
            at = (s + t) / 2 + nodes * (t - s) / 2
            values = np.ones(4)
            for k in range(len(history)):
                if k != j:
                    values *= (at - sigmas[i - k]) / (sigmas[i - j] - sigmas[i - k])
            x = x + d * float((weights * values).sum() * (t - s) / 2)
    return x


def dpm_fast(x: Array, sigmas: Sequence[float], noise: Noise) -> Array:
    evaluations = len(sigmas) - 1
    groups = evaluations // 3 + 1
    orders = [3] * (groups - 2) + [2, 1] if evaluations % 3 == 0 else [3] * (groups - 1) + [evaluations % 3]
    times = np.linspace(-math.log(sigmas[0]), -math.log(sigmas[-2]), groups + 1)
    for order, t, u in zip(orders, times, times[1:], strict=False):
        x = dpm_solver(x, float(t), float(u), order)[0]
    return model(x, sigmas[-2])


def dpm_solver(x: Array, t: float, u: float, order: int, r1: float = 0.5) -> tuple[Array, float]:
    h = u - t

    def eps(x: Array, t: float) -> Array:
        return (x - model(x, math.exp(-t))) / math.exp(-t)

    e = eps(x, t)
    if order == 1:
        return x - math.exp(-u) * math.expm1(h) * e, h
    if order == 2:
        u1 = x - math.exp(-t - r1 * h) * math.expm1(r1 * h) * e
        e1 = eps(u1, t + r1 * h)
        return x - math.exp(-u) * math.expm1(h) * e - math.exp(-u) / (2 * r1) * math.expm1(h) * (e1 - e), h
    r1, r2 = 1 / 3, 2 / 3
    u1 = x - math.exp(-t - r1 * h) * math.expm1(r1 * h) * e
    e1 = eps(u1, t + r1 * h)
    s2 = math.exp(-t - r2 * h)
    u2 = x - s2 * math.expm1(r2 * h) * e - s2 * (r2 / r1) * (math.expm1(r2 * h) / (r2 * h) - 1) * (e1 - e)
    e2 = eps(u2, t + r2 * h)
    return x - math.exp(-u) * math.expm1(h) * e - math.exp(-u) / r2 * (math.expm1(h) / h - 1) * (e2 - e), h


def dpm_adaptive(x: Array, sigmas: Sequence[float], noise: Noise) -> Array:
    t, end, h, previous = -math.log(sigmas[0]), -math.log(sigmas[-2]), 0.05, x
    while t < end - 1e-5:
        u = min(end, t + h)
        low, high = dpm_solver(x, t, u, 2, 1 / 3)[0], dpm_solver(x, t, u, 3)[0]
        delta = np.maximum(0.0078, 0.05 * np.maximum(np.abs(low), np.abs(previous)))
        error = np.linalg.norm((low - high) / delta) / x.size**0.5
        factor = 1 + math.atan((1 / (error + 1e-8)) ** (1 / 3) - 1)
        if factor >= 0.81:
            previous, x, t = low, high, u
        h *= factor
    return model(x, sigmas[-2])


def dpmpp_2s_ancestral(x: Array, sigmas: Sequence[float], noise: Noise) -> Array:
    for s, t in pairwise(sigmas):
        d = model(x, s)
        down, up = ancestral(s, t)
        if down == 0:
            x = d
            continue
        h = math.log(s) - math.log(down)
        middle = math.exp(math.log(s) - h / 2)
        d2 = model(middle / s * x - math.expm1(-h / 2) * d, middle)
        x = down / s * x - math.expm1(-h) * d2 + noise() * up
    return x


def dpmpp_3m_sde(x: Array, sigmas: Sequence[float], noise: Noise) -> Array:
    eta = 1.0
    d1 = d2 = h1 = h2 = None
    for s, t in pairwise(sigmas):
        d = model(x, s)
        if t == 0:
            return d
        h = math.log(s / t)
        h_eta = h * (eta + 1)
        x = math.exp(-h_eta) * x - math.expm1(-h_eta) * d
        phi2 = math.expm1(-h_eta) / h_eta + 1
        phi3 = phi2 / h_eta - 0.5
        if d2 is not None and h2 is not None and d1 is not None and h1 is not None:
            r0, r1 = h1 / h, h2 / h
            first, second = (d - d1) / r0, (d1 - d2) / r1
            x = x + phi2 * (first + (first - second) * r0 / (r0 + r1)) - phi3 * (first - second) / (r0 + r1)
        elif d1 is not None and h1 is not None:
            x = x + phi2 * (d - d1) / (h1 / h)
        x = x + noise() * t * math.sqrt(-math.expm1(-2 * h * eta))
        d1, d2, h1, h2 = d, d1, h, h1
    return x


def ddpm(x: Array, sigmas: Sequence[float], noise: Noise) -> Array:
    for s, t in pairwise(sigmas):
        eps = (x - model(x, s)) / s
        bar, bar_next = 1 / (1 + s**2), 1 / (1 + t**2)
        alpha = bar / bar_next
        x = (x / math.sqrt(1 + s**2) - (1 - alpha) * eps / math.sqrt(1 - bar)) / math.sqrt(alpha)
        if t > 0:
            x = x + math.sqrt((1 - alpha) * (1 - bar_next) / (1 - bar)) * noise()
            x = x * math.sqrt(1 + t**2)
    return x


def lcm(x: Array, sigmas: Sequence[float], noise: Noise) -> Array:
    for s, t in pairwise(sigmas):
        x = model(x, s)
        if t > 0:
            x = x + t * noise()
    return x


def tcd(x: Array, sigmas: Sequence[float], noise: Noise) -> Array:
    """The last step goes to x0, not to the table's first level."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    bars = np.cumprod(1 - betas)
    logs = np.log(np.sqrt((1 - bars) / bars))
    for s, t in pairwise(sigmas):
        d = model(x, s)
        if t == 0:
            return d
        bar = bars[math.floor(0.7 * float(np.abs(logs - math.log(t)).argmin()))]
        x = math.sqrt(bar) * d + math.sqrt(1 - bar) * (x - d) / s
        x = x / math.sqrt(bar) + noise() * math.sqrt(t**2 + 1 - 1 / bar)
    return x


def restart(x: Array, sigmas: Sequence[float], noise: Noise) -> Array:
    n = len(sigmas) - 1
    length, times = (9, 1) if n < 36 else (n // 4, 2)

    def karras(count: int, low: float, high: float) -> list[float]:
        return [float(a) for a in (np.linspace(high ** (1 / 7), low ** (1 / 7), count)) ** 7]

    def heun(x: Array, s: float, t: float) -> Array:
        d = (x - model(x, s)) / s
        x2 = x + d * (t - s)
        if t == 0:
            return x2
        return x + (d + (x2 - model(x2, t)) / t) / 2 * (t - s)

    base = karras(n - length * times, sigmas[-2], sigmas[0])
    low, high = (int(np.abs(np.array(base) - near).argmin()) for near in (0.1, 2.0))
    for i, (s, t) in enumerate(pairwise([*base, 0.0])):
        if i == low:
            for _ in range(times):
                x = x + noise() * math.sqrt(base[high] ** 2 - s**2)
                for a, b in pairwise(karras(length + 1, base[low], base[high])):
                    x = heun(x, a, b)
        x = heun(x, s, t)
    return x


FORMULAS: dict[str, Callable[[Array, Sequence[float], Noise], Array]] = {
    "heunpp2": heunpp2,
    "lms": lms,
    "dpm_fast": dpm_fast,
    "dpm_adaptive": dpm_adaptive,
    "dpmpp_2s_ancestral": dpmpp_2s_ancestral,
    "dpmpp_3m_sde": dpmpp_3m_sde,
    "dpmpp_3m_sde_gpu": dpmpp_3m_sde,
    "ddpm": ddpm,
    "lcm": lcm,
    "tcd": tcd,
    "restart": restart,
}


@pytest.mark.parametrize("steps", [24, 25, 26, 40])
@pytest.mark.parametrize("sampler", FORMULAS)
def test_samplers_are_their_formulas(sampler: str, steps: int) -> None:
    sigmas = get_sigmas_karras(steps, 0.03, EpsSampling().sigma_max)
    recorded = Recorded(2 * (steps + 1))
    reference = FORMULAS[sampler](start(sigmas[0]).numpy(), sigmas, lambda: recorded(0, 0).numpy())
    assert relative_error(run(sampler, sigmas), torch.from_numpy(reference)) < 1e-6
