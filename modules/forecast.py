"""How long a task will take, from those that were done on this machine; knows no queue and no clock.

What a picture takes is a fixed part (texts, decoding, writing) and a part that grows with its work: megapixels times
steps times evaluations of the network per step. Both are fitted by Theil and Sen's method (Sen 1968,
doi:10.1080/01621459.1968.10480934): the median of the slopes between all pairs, then the median of what is left. Up to
29 % of the tasks may have been disturbed by anything without moving it far. The pictures that count are the most
similar of which there are enough.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median, median_low

from modules.choices import NO_MODEL
from modules.parameters import GenerationParameters
from modules.performance import MODES
from modules.plan import ModelFacts, picture_size

RECENT = 24  # tasks; what was before that may have been another driver, or another machine
ENOUGH = 3  # tasks as similar as this, or less similar ones are asked as well


@dataclass(frozen=True)
class Work:
    """What decides over the time that one picture takes. ``megapixels`` of the picture; ``passes`` of the network."""

    model: str
    refiner: str
    sampler: str
    megapixels: float
    steps: int
    passes: int

    @property
    def amount(self) -> float:
        """Megapixels times evaluations."""
        return self.megapixels * self.steps * self.passes


@dataclass(frozen=True)
class Timing:
    """``seconds`` that each picture of a task took, which had so many ``pictures``."""

    work: Work
    seconds: float
    pictures: int = 1


@dataclass(frozen=True)
class Expectation:
    """What tasks will take in all, learned from so many ``pictures``; no seconds where nothing is known."""

    seconds: float | None
    pictures: int = 0

    @property
    def words(self) -> str:
        """About how long, and how that is known."""
        if self.seconds is None:
            return "how long that takes is not known yet: nothing like it was made on this machine"
        source = "the last picture" if self.pictures == 1 else f"the last {self.pictures:,} pictures"
        return f"about {duration(self.seconds)}, learned from {source} on this machine"


# Who is asked, the nearest first. Another model says nothing: it may be of another size.
KINSHIPS: tuple[Callable[[Work], object], ...] = (
    lambda work: work,
    lambda work: (work.model, work.refiner, work.sampler, work.megapixels),
    lambda work: (work.model, work.refiner, work.sampler),
    lambda work: work.model,
)


def work_of(parameters: GenerationParameters, facts: ModelFacts) -> Work:
    """The work of one picture; ``facts`` are those of its model."""
    mode = MODES[parameters.performance_selection]
    parameters = parameters.with_values(mode.overrides) if mode.overrides else parameters
    width, height = picture_size(parameters, facts)
    return Work(
        model=parameters.base_model,
        refiner="" if parameters.refiner_model == NO_MODEL else parameters.refiner_model,
        sampler=parameters.advanced.sampler_name,
        megapixels=width * height / 1e6,
        steps=parameters.advanced.overwrite_step if parameters.advanced.overwrite_step > 0 else mode.steps,
        passes=1 if parameters.guidance_scale == 1.0 else 2,
    )


def similar(work: Work, history: Sequence[Timing]) -> list[Timing]:
    """The tasks that say how long a picture of this work takes, by a history that is newest first."""
    near: list[Timing] = []
    for kinship in KINSHIPS:
        near = [timing for timing in history if kinship(timing.work) == kinship(work)][:RECENT]
        if len(near) >= ENOUGH:
            break
    return near


def expected(work: Work, history: Sequence[Timing]) -> float | None:
    """Seconds that a picture will take, by a history that is newest first; None if it says nothing about this model."""
    near = similar(work, history)
    if not near:
        return None
    fixed, slope = _line([(timing.work.amount, timing.seconds) for timing in near])
    return fixed + slope * work.amount


def duration(seconds: float) -> str:
    """A time in words, as finely as it can be foretold."""
    whole = max(1, round(seconds))
    if whole < 90:
        return "1 second" if whole == 1 else f"{whole} seconds"
    minutes = round(whole / 60)
    return f"{minutes} minutes" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def ends(durations: Iterable[float | None], engines: int = 1) -> list[float | None]:
    """When each of these tasks will be done, in seconds from now, if ``engines`` engines take them in this order.

    None for a task whose time is not known, and for all that begin after it.
    """
    free = [0.0] * max(1, engines)
    done: list[float | None] = []
    for duration in durations:
        known = duration is not None and None not in done
        if known and duration is not None:
            end = heapq.heappop(free) + duration
            heapq.heappush(free, end)
            done.append(end)
        else:
            done.append(None)
    return done


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(fixed, slope) through (amount, seconds), neither negative; a proportion where the amounts are all the same."""
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2) if x1 != x2]
    if slopes:
        slope = max(0.0, median(slopes))
        fixed = median(y - slope * x for x, y in points)
        if fixed >= 0:
            return fixed, slope
    return 0.0, median_low(y / x for x, y in points)  # of two the quicker: the slower had to load a model, say
