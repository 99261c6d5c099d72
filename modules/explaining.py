"""What is said about how long a run takes while it goes on: ahead of loading what is short, then why it is slow."""

from __future__ import annotations

import time
from collections.abc import Callable

from modules.conditions import Computing, Readings
from modules.engine_messages import Conditions
from modules.pace import Pace
from modules.slowness import Situation, why_slow


class Explaining:
    """Hears of the conditions of one run of an engine."""

    def __init__(self, pace: Pace, pixels: int, trained: int, clock: Callable[[], float] = time.monotonic) -> None:
        """pixels: of the pictures; trained: of those that the model has learned from. clock: gives seconds."""
        self._pace = pace
        self._pixels = pixels
        self._trained = trained
        self._clock = clock
        self._ready_at: float | None = None
        self._has_loaded = False
        self._ahead: tuple[str, ...] = ()

    def hear(self, message: Conditions) -> str:
        """The sentence to show from now on; empty where there is nothing to say."""
        computing = Computing(**{**message.computing, "ahead": tuple(message.computing["ahead"])})
        if computing.loading:
            self._has_loaded, self._ready_at = True, None
            return " ".join(computing.ahead)
        if self._ready_at is None:
            self._ready_at = self._clock()
        seconds = max(self._pace.picture_seconds, min(self._pace.silence, self._clock() - self._ready_at))
        first = self._has_loaded and computing.device != "cpu" and not self._pace.made
        readings = Readings(**message.readings)
        why = why_slow(Situation(computing, readings, seconds, self._pixels, self._trained, first))
        # A full disk, say, is worth saying until the first step is done, however little there was to load.
        return why or ("" if self._pace.moving else " ".join(computing.ahead))
