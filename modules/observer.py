"""Whom a pipeline reports to while it makes pictures: the protocol alone; knows no pipeline and no engine process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np

    Picture = np.ndarray[Any, np.dtype[np.uint8]]  # [height, width, 3], RGB


class Observer(Protocol):
    """Told of every step. ``job`` is the index of an ``ImageJob``."""

    def progress(self, job: int, step: int, steps: int, text: str, preview: Callable[[], Picture] | None) -> None:
        """Called at least once a step; ``preview`` makes a small picture of the present state if it is called."""

    def note(self, text: str) -> None:
        """A sentence that the user should not miss: something was left out, and the picture is made all the same."""

    def cancelled(self) -> Literal["", "skip", "stop"]:
        """Asked every step."""

    def finished(self, job: int, picture: Picture, timings: dict[str, float]) -> None:
        """Called with each picture; ``timings`` in seconds, by stage."""
