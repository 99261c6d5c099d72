"""Noise levels as formulas of their ends, in k-diffusion's form. Know no model and no sampler.

Every schedule is a list of host floats that falls strictly, and ends with 0.
"""

from __future__ import annotations

from collections.abc import Sequence


def get_sigmas_karras(n: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> list[float]:
    """`n` noise levels evenly spaced in sigma^(1/rho), then 0 (arXiv 2206.00364, eq. 5)."""
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return [(high + i / max(n - 1, 1) * (low - high)) ** rho for i in range(n)] + [0.0]


def get_sigmas_exponential(n: int, sigma_min: float, sigma_max: float) -> list[float]:
    """`n` noise levels evenly spaced in ln sigma, then 0."""
    return [sigma_max * (sigma_min / sigma_max) ** (i / max(n - 1, 1)) for i in range(n)] + [0.0]


def get_sigmas_interpolated(n: int, levels: Sequence[float]) -> list[float]:
    """`levels`, which fall, stretched to `n` steps, linearly in ln sigma; 0 takes the place of the last one."""
    stretched = [_between(levels, i * (len(levels) - 1) / n) for i in range(n)]
    return [*stretched, 0.0]


def _between(levels: Sequence[float], place: float) -> float:
    low = min(int(place), len(levels) - 2)
    return float(levels[low] ** (low + 1 - place) * levels[low + 1] ** (place - low))


def restart_levels(sigmas: Sequence[float]) -> list[float]:
    """The levels of a run with restarts (arXiv 2306.14878), as many falling steps as `sigmas` has.

    From 20 steps on, Karras's levels take the place of the schedule's own; once a run is down at the level nearest to
    0.1 it goes back up to the one nearest to 2, and comes down again in 9 steps; from 36 steps on it does so twice, in
    a quarter of the steps each. A shorter run, or one that is cut off above 0.1, is left as it is.
    """
    steps = len(sigmas) - 1
    if steps < 20 or sigmas[-1] > _RESTART_FROM:
        return list(sigmas)
    length, times = (steps // 4, 2) if steps >= 36 else (9, 1)
    base = [*get_sigmas_karras(steps - length * times, sigmas[-2], sigmas[0])[:-1], sigmas[-1]]
    low, high = (min(base[:-1], key=lambda level: abs(level - near)) for near in (_RESTART_FROM, _RESTART_TO))
    if high <= low:
        return list(sigmas)
    turn = base.index(low) + 1
    again = get_sigmas_karras(length + 1, low, high)[:-1]
    return base[:turn] + again * times + base[turn:]


_RESTART_FROM, _RESTART_TO = 0.1, 2.0
