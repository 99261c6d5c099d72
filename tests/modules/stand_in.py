"""A second, tiny pipeline that keeps the engine's protocol: coloured pictures from a job's seed, at a given pace.

The tests of the queue run it in a real engine process. What the prompt says decides how it behaves, so that a test can
have an engine die, fail or take its time at a chosen picture:

    pace=0.05       seconds a step
    die=2           kill -9 itself in the middle of picture 2, each time
    die-once=2      likewise, but only if the file given by ``mark=`` is not there yet
    note=a-word     say so, and go on
    fail=1          raise an error fit for users at picture 1
    crash=1         raise an error that nobody has foreseen
    big=1           pictures of noise, which no format can make small
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modules.conditions import Computing
from modules.engine_messages import EngineConfig
from modules.observer import Observer
from modules.plan import ImageJob


class RefusedError(ValueError):
    """An error whose message is fit for users."""


@dataclass(frozen=True)
class StandIn:
    """The pipeline."""

    config: EngineConfig
    computing: Computing | None = None

    def run(self, jobs: Sequence[ImageJob], observer: Observer, lowered: int = 0) -> None:
        if lowered:
            observer.note(f"lowered={lowered}")
        for job in jobs:
            if not self._make(job, observer):
                return

    def expand(self, text: str, seed: int, note: Callable[[str], None]) -> str:
        return f"{text}, soft light, number {seed % 1000}"

    def _make(self, job: ImageJob, observer: Observer) -> bool:
        wishes = dict(word.partition("=")[::2] for word in job.positive[0].split())
        here = str(job.index + 1)
        if "note" in wishes:
            observer.note(wishes["note"])
        picture = paint(job, noise="big" in wishes)
        for step in range(1, job.steps + 1):
            time.sleep(float(wishes.get("pace", "0.01")))
            if step == 1 + job.steps // 2:
                _misbehave(wishes, here)
            text = f"Sampling step {step}/{job.steps}, picture {here}"
            observer.progress(job.index, step, job.steps, text, lambda: picture[::8, ::8])
            match observer.cancelled():
                case "skip":
                    return True
                case "stop":
                    return False
        observer.finished(job.index, picture, {"sampling": 0.0})
        return True


def paint(job: ImageJob, noise: bool = False) -> np.ndarray:
    """The picture of a job, uint8 [height, width, 3]: the same for the same seed."""
    random = np.random.default_rng(job.seed)
    if noise:
        return random.integers(0, 256, (job.height, job.width, 3), dtype=np.uint8)
    return np.broadcast_to(random.integers(0, 256, 3, dtype=np.uint8), (job.height, job.width, 3)).copy()


def build(config: EngineConfig) -> StandIn:
    """The factory that an engine process is given."""
    return StandIn(config)


def _misbehave(wishes: dict[str, str], here: str) -> None:
    if wishes.get("fail") == here:
        raise RefusedError("This picture is refused.")
    if wishes.get("crash") == here:
        raise RuntimeError("gears are broken")
    mark = Path(wishes["mark"]) if "mark" in wishes else None
    if wishes.get("die-once") == here and mark is not None and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    if wishes.get("die") == here:
        os.kill(os.getpid(), signal.SIGSEGV)
