"""What the canvas shows of one task, as plain JSON that grows with the task's events; knows no HTML and no Gradio."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from secrets import token_hex
from typing import Any, Literal

from modules.events import Event, Finish, PictureRecord, Preview, Results
from modules.expansion import added_words
from modules.timings import told

ViewState = Literal["idle", "waiting", "running", "done", "stopped", "failed"]


@dataclass(frozen=True)
class Shown:
    """A finished picture as the page knows it: by its id, never by its path. The seed is text: it has 63 bits.

    A grid of pictures has no seed of its own, and an empty one here.
    ``added`` are the words that the expansion added to the prompt, ``seconds`` how long it took, stage by stage.
    """

    id: str
    index: int
    seed: str
    width: int
    height: int
    name: str
    added: str = ""
    seconds: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class View:
    """The canvas. ``stage.js`` draws exactly this.

    ``count`` pictures of ``width`` by ``height`` pixels are expected; ``percent`` is 0..100, ``eta`` in seconds;
    ``preview`` is a JPEG as a data address, of picture ``working`` (None: none is begun); ``note`` is a sentence to
    keep in sight while the task runs, ``why`` one about why that takes long, ``message`` one about how it ended, of
    ``level`` info or error. ``beat`` changes with every view of a live task, so that the page can tell a quiet task
    from a broken connection; ``stream`` tells one following of a task from the next.
    """

    task: str = ""
    state: ViewState = "idle"
    prompt: str = ""
    count: int = 0
    width: int = 1
    height: int = 1
    percent: int = 0
    text: str = ""
    eta: float | None = None
    preview: str | None = None
    working: int | None = None
    note: str = ""
    why: str = ""
    message: str = ""
    level: Literal["info", "error"] = "info"
    pictures: tuple[Shown, ...] = ()
    beat: int = 0
    stream: str = ""

    def after(self, event: Event) -> View:
        """The canvas after this event."""
        beat = self.beat + 1
        match event:
            case Preview():
                kept = self.preview if event.index == self.working else None
                frame = kept if event.image is None else _data_address(event.image)
                return replace(
                    self, state="running", percent=event.percent, text=event.text, eta=event.eta, note=event.note,
                    why=event.why, preview=frame, working=event.index, beat=beat,
                )  # fmt: skip
            case Results():
                pictures = _shown(event.pictures)
                finished = self.working in {picture.index for picture in pictures}
                return replace(self, pictures=pictures, preview=None if finished else self.preview, beat=beat)
            case Finish():
                pictures = _shown(event.pictures)
                failed = event.state == "failed"
                ending = _ending(event.state, sum(each.index < self.count for each in pictures))  # a grid is none
                text = {
                    "done": f"{ending} {event.message}".strip(), "stopped": event.message or ending, "failed": ending
                }[event.state]  # fmt: skip
                return replace(
                    self, state=event.state, percent=100, text=text, eta=None, preview=None, working=None, note="",
                    why="", message=event.message if failed else "",
                    level="error" if failed else "info", pictures=pictures, beat=beat,
                )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The view as ``stage.js`` reads it."""
        return {**asdict(self), "pictures": [asdict(picture) for picture in self.pictures]}


def refused(message: str) -> dict[str, Any]:
    """What the page is told when no task came about: only why. ``stage.js`` keeps everything else as it was.

    The same refusal twice must be two different values: the page notices changes only.
    """
    return {"state": "refused", "message": message, "stream": token_hex(4)}


def _shown(records: Iterable[PictureRecord]) -> tuple[Shown, ...]:
    return tuple(
        Shown(
            record.id,
            record.index,
            "" if "grid" in record.facts else str(record.seed),
            record.width,
            record.height,
            record.path.name,
            _added(record),
            tuple(told(record.facts)),
        )  # fmt: skip
        for record in records
    )


def _added(record: PictureRecord) -> str:
    job = record.facts.get("job", {})
    return added_words(job.get("expand", ""), job.get("expansion", ""))


def _data_address(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _ending(state: str, count: int) -> str:
    pictures = "1 picture" if count == 1 else f"{count} pictures"
    match state:
        case "stopped":
            return f"Stopped. {pictures} kept." if count else "Stopped."
        case "failed":
            return f"{pictures} finished before that." if count else ""
        case _:
            return f"{pictures}, finished."
