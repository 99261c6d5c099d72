"""Where a task's events meet those who follow it, any number of them; knows neither the engine nor the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from threading import Condition

from modules.events import Event, Finish, PictureRecord, Preview, Results


class TaskChannel:
    """The present state of one task. Followers see the newest state, not every one: a slow one holds nobody up."""

    def __init__(self, text: str, pictures: tuple[PictureRecord, ...] = ()) -> None:
        self._changed = Condition()
        self._preview = Preview(0, text)
        self._image: bytes | None = None
        self._pictures = pictures
        self._finish: Finish | None = None
        self._closed = False
        self._preview_number = 1
        self._image_number = 0

    def tell(
        self, percent: int, text: str, eta: float | None = None, image: bytes = b"", index: int | None = None
    ) -> None:
        """A new state of the work on picture ``index``; ``image`` is a JPEG of it, empty if there is no new one."""
        with self._changed:
            if index != self._preview.index:
                self._image = None
            self._preview = Preview(percent, text, eta, None, self._preview.note, index, self._preview.why)
            if image:
                self._image = image
                self._image_number += 1
            self._wake()

    def note(self, sentence: str) -> None:
        """A sentence the user should not miss; it stays until there is a newer one."""
        with self._changed:
            self._preview = replace(self._preview, note=sentence)
            self._wake()

    def because(self, sentence: str) -> None:
        """Why the work takes long, or what is short; empty where there is nothing to say any more."""
        with self._changed:
            if sentence != self._preview.why:
                self._preview = replace(self._preview, why=sentence)
                self._wake()

    def show(self, pictures: tuple[PictureRecord, ...]) -> None:
        """All pictures finished so far."""
        with self._changed:
            self._pictures = pictures
            self._wake()

    def end(self, finish: Finish) -> None:
        """The task is over."""
        with self._changed:
            self._finish = finish
            self._wake()

    def close(self) -> None:
        """The application ends before the task: followers are let go without an end."""
        with self._changed:
            self._closed = True
            self._wake()

    @property
    def last_note(self) -> str:
        """The sentence that stands at present, or nothing."""
        return self._preview.note

    @property
    def state(self) -> tuple[Preview, tuple[PictureRecord, ...]]:
        """How the task stands, with the newest image of the picture that is being made, and its finished pictures."""
        with self._changed:
            return replace(self._preview, image=self._image), self._pictures

    def follow(self, poll: float | None = None) -> Iterator[Event]:
        """The present state, then each change until the task ends.

        After ``poll`` seconds without a change the last ``Preview`` comes again, without its image, so that whoever
        follows gets a chance to notice that its own reader has left.
        """
        number, image_number, shown = 0, 0, ()  # type: int, int, tuple[PictureRecord, ...]
        while True:
            with self._changed:
                if number == self._preview_number and self._finish is None and not self._closed:
                    self._changed.wait(poll)
                image = self._image if image_number != self._image_number else None
                preview, pictures, finish, closed = self._preview, self._pictures, self._finish, self._closed
                number, image_number = self._preview_number, self._image_number
            if finish is None:
                yield replace(preview, image=image)
            if pictures != shown:
                shown = pictures
                yield Results(pictures)
            if finish is not None:
                yield finish
            if finish is not None or closed:
                return

    def _wake(self) -> None:
        """The caller holds the condition."""
        self._preview_number += 1
        self._changed.notify_all()
