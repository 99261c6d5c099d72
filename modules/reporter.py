"""Tells, while an engine makes pictures, under which conditions; knows neither what computes nor who listens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace

from modules.conditions import Computing, Readings
from modules.disk import free_bytes
from modules.engine_messages import Conditions, RunRequest
from modules.machine import Machine
from modules.preflight import room

EVERY = 3.0  # seconds from one telling to the next
GLANCE = 0.1  # seconds until a change is noticed


@contextmanager
def reporting(
    request: RunRequest, computing: Callable[[], Computing | None], tell: Callable[[Conditions], None]
) -> Iterator[None]:
    """While inside, tells what computes whenever that changes, and how busy the machine is every few seconds.

    What the disk is short of stands before all else that is to be said ahead.
    """
    over = threading.Event()
    short = _short_of_room(request)

    def work() -> None:
        machine, told, waited = Machine(), None, 0.0
        while not over.wait(GLANCE):
            waited += GLANCE
            now = computing()
            if now is None or (now == told and waited < EVERY):
                continue
            readings = Readings()
            if waited >= EVERY:
                readings, waited = machine.look(), 0.0
            told = now
            said = replace(now, ahead=(*short, *now.ahead))
            tell(Conditions(request.task_id, asdict(said), asdict(readings)))

    thread = threading.Thread(target=work, name="report", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _short_of_room(request: RunRequest) -> tuple[str, ...]:
    largest = max((job.width * job.height for job in request.jobs), default=0)
    with suppress(OSError):
        said = room(len(request.jobs), largest, free_bytes(request.folder), str(request.folder.parent))
        return (said,) if said else ()
    return ()
