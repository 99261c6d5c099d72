"""What the application and an engine process say to each other, and how it travels; knows neither of the two.

A message is one frame: 4 bytes big-endian length of a header, the header as JSON, and bytes that belong to it (a JPEG).
Nothing is pickled, so that neither side can make the other run anything.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ldm_patched.modules.memory import AUTOMATIC, Policy
from modules.model_folders import ModelFolders
from modules.plan import ImageJob

Wish = Literal["skip", "stop"]


@dataclass(frozen=True)
class EngineConfig:
    """What an engine must know of the machine's settings."""

    models: ModelFolders
    texts: Path | None = None  # the folder of encoded texts
    memory: Policy = AUTOMATIC
    hashes: Path | None = None  # the file in which those of models are remembered
    created_by: str = ""  # the name that pictures carry


@dataclass(frozen=True)
class RunRequest:
    """The jobs of a task that are to be done now, and where and how their pictures are saved."""

    task_id: str
    jobs: tuple[ImageJob, ...]
    folder: Path
    output_format: str
    parameters: str  # JSON, to be saved in the pictures
    lowered: int = 0  # how many memory modes below the usual one to begin


@dataclass(frozen=True)
class ExpandRequest:
    """A text whose expansion somebody would like to see, with the seed of its draws."""

    id: str
    text: str
    seed: int


@dataclass(frozen=True)
class Progress:
    """A step of the job with this ``index`` has begun or ended; ``image`` is a JPEG, empty if there is no new one."""

    task_id: str
    index: int
    step: int
    steps: int
    text: str
    image: bytes = b""


@dataclass(frozen=True)
class Note:
    """A sentence that the user should not miss, about a run that goes on."""

    task_id: str
    text: str


@dataclass(frozen=True)
class Conditions:
    """Under which conditions a run goes on: ``Computing`` and ``Readings`` of ``modules.conditions`` as mappings."""

    task_id: str
    computing: Mapping[str, Any]
    readings: Mapping[str, float]


@dataclass(frozen=True)
class Saved:
    """The picture of the job with this ``index`` lies on the disk."""

    task_id: str
    index: int
    path: str
    width: int
    height: int
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Skipped:
    """The job with this ``index`` was left at the user's wish."""

    task_id: str
    index: int


@dataclass(frozen=True)
class Ended:
    """The run is over. ``message`` is a sentence for the user if it failed, else empty.

    ``broken``: the failure was not foreseen, and the engine had better be started afresh.
    """

    task_id: str
    message: str = ""
    broken: bool = False


@dataclass(frozen=True)
class Expanded:
    """The answer to the ``ExpandRequest`` of this id. ``text`` is empty when nothing is added; ``note`` may say why."""

    id: str
    text: str
    note: str = ""


TaskMessage = Progress | Note | Conditions | Saved | Skipped | Ended
EngineMessage = TaskMessage | Expanded
_KINDS: tuple[type[EngineMessage], ...] = (Progress, Note, Conditions, Saved, Skipped, Ended, Expanded)
_BY_NAME: Mapping[str, type[EngineMessage]] = {kind.__name__: kind for kind in _KINDS}


def pack(header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """A header and the bytes that belong to it as one frame."""
    text = json.dumps(header, allow_nan=False).encode()
    return struct.pack(">I", len(text)) + text + payload


def unpack(frame: bytes) -> tuple[dict[str, Any], bytes]:
    """The inverse of ``pack``."""
    (length,) = struct.unpack_from(">I", frame)
    header = json.loads(frame[4 : 4 + length])
    if not isinstance(header, dict):
        raise ValueError("the header of a message must be a JSON object")
    return header, frame[4 + length :]


def pack_message(message: EngineMessage) -> bytes:
    """An engine's message as a frame."""
    header = asdict(message)
    image = header.pop("image", b"")
    return pack({"is": type(message).__name__, **header}, image)


def unpack_message(frame: bytes) -> EngineMessage:
    """The inverse of ``pack_message``."""
    header, payload = unpack(frame)
    kind = _BY_NAME[header.pop("is")]
    if kind is Progress:
        header["image"] = payload
    return kind(**header)


def pack_run(request: RunRequest) -> bytes:
    """A request as a frame."""
    return pack({"do": "run", **asdict(request), "folder": str(request.folder)})


def pack_expand(request: ExpandRequest) -> bytes:
    """A request as a frame; its header, without ``do``, are the fields of the request."""
    return pack({"do": "expand", **asdict(request)})


def unpack_run(header: Mapping[str, Any]) -> RunRequest:
    """The inverse of ``pack_run``, from the frame's header."""
    return RunRequest(
        task_id=header["task_id"],
        jobs=tuple(_job(values) for values in header["jobs"]),
        folder=Path(header["folder"]),
        output_format=header["output_format"],
        parameters=header["parameters"],
        lowered=header["lowered"],
    )


def _job(values: Mapping[str, Any]) -> ImageJob:
    """A job from its JSON, in which tuples have become lists."""
    return ImageJob(**{name: _immutable(value) for name, value in values.items()})


def _immutable(value: Any) -> Any:
    return tuple(map(_immutable, value)) if isinstance(value, list) else value
