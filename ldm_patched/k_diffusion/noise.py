"""Where a sampler's noise comes from: the seed and nothing else. Knows no sampler.

A source is called with two noise levels and returns unit Gaussian noise for the step between them. It depends on
the seed, the shape and the kind of device; never on the global generators, other pictures or the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor


class IndependentNoiseSampler:
    """Fresh noise at every call, whatever the noise levels."""

    def __init__(self, x: Tensor, seed: int) -> None:
        """Noise like `x`; seed: 0 .. 2^64 - 1."""
        self._x = x
        self._generator = torch.Generator(x.device).manual_seed(seed)
        if x.device.type == "cpu":
            # The CPU's generator has made the run's first noise with this seed (prepare_noise): go on from there.
            self(0.0, 0.0)

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        return torch.randn(self._x.shape, dtype=self._x.dtype, device=self._x.device, generator=self._generator)


@dataclass(slots=True)
class _Interval:
    """A dyadic piece of the tree's time, with the path's values at its ends and, once asked for, in its middle."""

    start: float
    end: float
    at_start: Tensor
    at_end: Tensor
    index: int  # among the 2^depth intervals of its depth
    depth: int
    at_middle: Tensor | None = None


class BrownianTreeNoiseSampler:
    """Increments of one Brownian path W over sigma: (W(sigma') - W(sigma)) / sqrt|sigma' - sigma|.

    The path does not depend on where it is looked at, so runs of 20 and of 60 steps with one seed see the same noise
    and come to similar pictures. W is found by halving [sigma_min, sigma_max] down to the time asked for, each middle
    drawn from the Brownian bridge between its ends (arXiv 2001.01328, section 4). Times are rounded to 1e-6, which
    ends the halving. The numbers are those of `torchsde.BrownianTree` with entropy = seed, at a fraction of its cost
    because each middle on the way to the last time is kept: noise levels asked for in order share most of the way.
    What is known to be asked for is drawn at once, before a network's evaluations empty the caches in between.
    """

    _DIGITS = 6
    _POOL_SIZE = 24

    def __init__(
        self, x: Tensor, sigma_min: float, sigma_max: float, seed: int, expected: Sequence[float] = ()
    ) -> None:
        """Noise like `x`, for levels in sigma_min .. sigma_max (those outside count as the nearest); seed: >= 0.

        expected: levels between which steps will be asked for, one after the other.
        """
        self._seed = seed
        self._generator = torch.Generator(x.device)
        start, end = self._round(sigma_min), self._round(sigma_max)
        self._noise = torch.empty_like(x, memory_format=torch.contiguous_format)
        at_end = self._normal() * math.sqrt(sigma_max - sigma_min)
        self._way = [_Interval(start, end, torch.zeros_like(x), at_end, index=0, depth=0)]
        self._drawn = {step: self._increment(*step) for step in pairwise(expected)}

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        """Unit noise for the step; zero where the two levels round to one."""
        drawn = self._drawn.pop((sigma, sigma_next), None)
        return self._increment(sigma, sigma_next) if drawn is None else drawn

    def _increment(self, sigma: float, sigma_next: float) -> Tensor:
        start, end = (self._clamp(self._round(level)) for level in (sigma, sigma_next))
        at_start = self._value(start)  # asked for first: after a step in order, the way still leads there
        increment = self._value(end) - at_start
        return increment / math.sqrt(abs(end - start)) if start != end else increment

    def _round(self, level: float) -> float:
        return round(level, self._DIGITS)

    def _clamp(self, time: float) -> float:
        return min(max(time, self._way[0].start), self._way[0].end)

    def _value(self, time: float) -> Tensor:
        """W(time), for a rounded time within the tree."""
        while not self._way[-1].start <= time <= self._way[-1].end:
            self._way.pop()
        while True:
            interval = self._way[-1]
            if time == interval.start:
                return interval.at_start
            if time == interval.end:
                return interval.at_end
            self._way.append(self._half(interval, time))

    def _half(self, interval: _Interval, time: float) -> _Interval:
        """The half of `interval` in which `time` lies (the left one when it is the middle)."""
        start, end = interval.start, interval.end
        middle = self._round(0.5 * (start + end))
        if interval.at_middle is None:
            left, right, length = middle - start, end - middle, end - start
            mean = torch.lerp(interval.at_start, interval.at_end, left / length)
            noise = self._normal(interval.index, interval.depth)
            interval.at_middle = mean.add_(noise, alpha=math.sqrt(left * right / length))
        index, depth = 2 * interval.index, interval.depth + 1
        if time <= middle:
            return _Interval(start, middle, interval.at_start, interval.at_middle, index, depth)
        return _Interval(middle, end, interval.at_middle, interval.at_end, index + 1, depth)

    def _normal(self, *key: int) -> Tensor:
        """The unit noise that belongs to one interval, by its place in the tree; gone with the next call."""
        words = np.random.SeedSequence(self._seed, spawn_key=key, pool_size=self._POOL_SIZE).generate_state(1)
        self._generator.manual_seed(int(words[0]))
        return self._noise.normal_(generator=self._generator)
