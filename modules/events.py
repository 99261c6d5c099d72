"""What a task tells those who follow it, and the record of a finished picture; knows neither page nor engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

TaskState = Literal["waiting", "running", "done", "stopped", "failed"]
FinalState = Literal["done", "stopped", "failed"]


@dataclass(frozen=True)
class PictureRecord:
    """A finished picture. ``id`` is what the page serves it by; ``path`` never leaves the application.

    ``facts`` is what was really done (an ``ImageJob`` as a mapping, timings in seconds); ``width`` and ``height`` are
    in pixels, ``created`` is in seconds since 1970.
    """

    id: str
    task_id: str
    index: int
    path: Path
    seed: int
    width: int
    height: int
    created: float
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Preview:
    """How far a task is. ``percent`` 0..100 over the whole task; ``eta`` in seconds, None while it cannot be known.

    ``index`` is the picture that is being made, None before the first; ``image`` is a JPEG of it, None if there is no
    newer one than the last. ``note`` is a sentence the user should not miss (the engine was restarted, another model is
    used): it stays the same until there is something newer to say. ``why`` is one about why this takes long, or what
    will be short; it comes and goes.
    """

    percent: int
    text: str
    eta: float | None = None
    image: bytes | None = None
    note: str = ""
    index: int | None = None
    why: str = ""


@dataclass(frozen=True)
class Results:
    """All pictures finished so far, in order of their index."""

    pictures: tuple[PictureRecord, ...]


@dataclass(frozen=True)
class Finish:
    """The end of a task: its pictures and, where there is something to say, a sentence (always when it failed)."""

    pictures: tuple[PictureRecord, ...]
    state: FinalState
    message: str


Event = Preview | Results | Finish
