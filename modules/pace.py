"""How far a task is and how long it will still take, from the steps as they come; knows nothing of what a step is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

SMOOTHING = 0.15  # weight of the newest step once there are enough of them
MEASURED_STEPS = 2  # before this many nothing is foretold
PREVIEW_PAUSES = 0.25, 1.0  # seconds between two previews, at the least and at the most
PREVIEW_SHARE = 0.03  # of the time that previews may take within these bounds

P = TypeVar("P")


class Pace:
    """The progress of one task of ``total`` pictures, ``settled`` of which need no more work.

    ``overhead`` is what earlier tasks of this kind took per picture on top of their steps, in seconds; ``clock`` gives
    seconds.
    """

    def __init__(
        self, total: int, settled: int, overhead: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._total = total
        self._settled = settled
        self._expected_overhead = overhead
        self._clock = clock
        self._began = clock()
        self._last: tuple[int, int, float] | None = None
        self._fractions: dict[int, float] = {}
        self._steps = 0
        self._seconds_per_step = 0.0
        self._measured = 0
        self._steps_done = 0
        self._made = 0

    def step(self, index: int, step: int, steps: int) -> None:
        """Picture ``index`` has done ``step`` of ``steps`` steps; 0 while it is being prepared."""
        now = self._clock()
        before = self._fractions.get(index, 0.0) * self._steps
        self._steps = steps
        self._fractions[index] = step / steps if steps else 1.0
        if step < 1:
            return
        if self._last is None:
            self._began = now  # loading what the first picture needs is not part of what a picture takes
        else:
            self._steps_done += step - round(before)
            if self._last[0] == index and step > self._last[1]:
                self._measure((now - self._last[2]) / (step - self._last[1]), step - self._last[1])
        if self._last is None or (index, step) != self._last[:2]:
            self._last = (index, step, now)

    def settle(self, index: int) -> None:
        """Picture ``index`` is saved or skipped."""
        self._fractions.pop(index, None)
        self._settled += 1
        self._made += 1

    @property
    def percent(self) -> int:
        """0..99: the whole is only complete when the task says so."""
        done = self._settled + sum(self._fractions.values())
        return max(0, min(99, int(100 * done / self._total)))

    @property
    def eta(self) -> float | None:
        """Seconds until the last picture is saved; None while that cannot be known."""
        left = self._total - self._settled
        steps_left = (left - sum(self._fractions.values())) * self._steps
        if self._measured < MEASURED_STEPS or (steps_left < 0.5 and not self._expected_overhead):
            return None
        return max(0.0, steps_left * self._seconds_per_step + left * self._expected_overhead)

    @property
    def picture_seconds(self) -> float:
        """Seconds that the steps of a picture take; 0 while that cannot be known."""
        return self._seconds_per_step * self._steps if self._measured >= MEASURED_STEPS else 0.0

    @property
    def silence(self) -> float:
        """Seconds since the last step, or since the beginning."""
        return self._clock() - (self._began if self._last is None else self._last[2])

    @property
    def moving(self) -> bool:
        """Whether a step is done."""
        return self._last is not None

    @property
    def made(self) -> int:
        """How many pictures have been settled by this run."""
        return self._made

    @property
    def overhead(self) -> float:
        """Seconds that a picture of this task took on top of its steps; what was expected while none is finished."""
        if not self._made:
            return self._expected_overhead
        spent = self._clock() - self._began - self._steps_done * self._seconds_per_step
        return max(0.0, spent / self._made)

    def _measure(self, seconds: float, steps: int) -> None:
        self._measured += steps
        weight = max(SMOOTHING, min(1.0, steps / self._measured))
        self._seconds_per_step += weight * (seconds - self._seconds_per_step)


class PreviewPace:
    """When the next preview is due: a few times a second, less often where previews are dear."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: gives seconds."""
        self._clock = clock
        self._due = 0.0

    def take(self, preview: Callable[[], P]) -> P | None:
        """The preview, if one is due."""
        began = self._clock()
        if began < self._due:
            return None
        made = preview()
        ended = self._clock()
        shortest, longest = PREVIEW_PAUSES
        self._due = ended + min(longest, max(shortest, (ended - began) / PREVIEW_SHARE))
        return made
