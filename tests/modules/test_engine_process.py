"""What an engine process tells: messages over a real pipe, wishes at awkward moments, previews in measure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from modules.engine_messages import (
    Ended,
    EngineMessage,
    Progress,
    RunRequest,
    Saved,
    Skipped,
    pack_message,
    unpack_message,
)
from modules.engine_process import Courier, RunObserver, Saver, Wishes, in_words
from modules.metadata import picture_facts
from modules.parameters import GenerationParameters
from modules.plan import ModelFacts, plan

PREVIEW = np.zeros((8, 8, 3), np.uint8)


@dataclass
class Parts:
    """The parts of an engine process, and the end of the pipe at which the application listens."""

    request: RunRequest
    courier: Courier
    saver: Saver
    wishes: Wishes
    ours: Connection

    def observer(self) -> RunObserver:
        return RunObserver(self.request, self.courier, self.wishes, self.saver, {})

    def heard(self) -> list[EngineMessage]:
        """All that was said so far."""
        self.courier.send(Ended("t"))
        said: list[EngineMessage] = []
        while not isinstance(message := unpack_message(self.ours.recv_bytes()), Ended):
            said.append(message)
        return said


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    parameters = GenerationParameters(image_number=3, image_seed=1)
    ours, theirs = Pipe()
    courier = Courier(theirs)
    jobs = tuple(plan(parameters, ModelFacts(64)))
    request = RunRequest("20261122-181907-3f9c2a1b77aa", jobs, tmp_path, "png", parameters.to_json())
    yield Parts(request, courier, Saver(courier), Wishes(), ours)
    courier.close()
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    "message",
    [
        Progress("t", 1, 2, 3, "größer \U0001f600", b"\xff\xd8\x00"),
        Saved("t", 1, "/a/ö.png", 8, 16, {"job": {"seed": 2**63 - 1}}),
        Skipped("t", 1),
        Ended("t", "It broke.", True),
    ],
)
def test_messages_travel_unchanged(message: EngineMessage) -> None:
    assert unpack_message(pack_message(message)) == message


def test_a_skip_between_two_pictures_leaves_the_next_one(parts: Parts) -> None:
    observer = parts.observer()
    observer.progress(0, 30, 30, "painting", None)
    observer.finished(0, PREVIEW, {})
    parts.wishes.add(parts.request.task_id, "skip")
    assert (observer.cancelled(), observer.cancelled()) == ("skip", "")
    observer.progress(2, 1, 30, "sampling", None)
    parts.wishes.add(parts.request.task_id, "skip")
    assert observer.cancelled() == "skip"
    assert parts.saver.drain() == ""
    said = parts.heard()
    assert [message.index for message in said if isinstance(message, Skipped)] == [1, 2]
    assert [message.index for message in said if isinstance(message, Saved)] == [0]


def test_stop_stays_and_outweighs_skip(parts: Parts) -> None:
    observer = parts.observer()
    for wish in ("skip", "stop", "skip"):
        parts.wishes.add(parts.request.task_id, wish)
    parts.wishes.add("another task", "skip")
    assert (observer.cancelled(), observer.cancelled()) == ("stop", "stop")
    parts.wishes.forget(parts.request.task_id)
    assert observer.cancelled() == ""
    assert parts.wishes.take("another task") == "skip"


def test_a_stop_can_be_seen_without_taking_a_skip() -> None:
    wishes = Wishes()
    wishes.add("t", "skip")
    assert not wishes.stopping("t") and wishes.take("t") == "skip"
    wishes.add("t", "stop")
    assert wishes.stopping("t") and not wishes.stopping("other")


def test_previews_are_made_a_few_times_a_second(parts: Parts) -> None:
    observer = parts.observer()
    made = []

    def preview() -> np.ndarray:
        made.append(1)
        return PREVIEW

    for step in range(200):
        observer.progress(0, step, 200, "sampling", preview)
    said = parts.heard()
    assert len(said) == 200 and 1 <= len(made) < 100
    assert sum(bool(message.image) for message in said if isinstance(message, Progress)) == len(made)


def test_a_picture_that_is_there_already_is_reported_not_written(parts: Parts) -> None:
    for _ in range(2):
        parts.saver.put(parts.request, parts.request.jobs[0], PREVIEW, {"sample": 1.0})
        assert parts.saver.drain() == ""
    first, second = parts.heard()
    assert isinstance(first, Saved) and isinstance(second, Saved)
    written = picture_facts(Path(first.path), parts.request.task_id, 0)
    assert written is not None and written["seconds"] == {"sample": 1.0}
    for told in (first, second):  # how long writing took is told, but cannot stand in the file
        assert told.facts == {
            **written, "seconds": {"sample": 1.0, "save": told.facts["seconds"]["save"]},
        }  # fmt: skip
    assert picture_facts(Path(first.path), parts.request.task_id, 1) is None


def test_a_file_of_somebody_else_is_left_alone(parts: Parts, tmp_path: Path) -> None:
    parts.saver.put(parts.request, parts.request.jobs[0], PREVIEW, {})
    parts.saver.drain()
    (saved,) = parts.heard()
    assert isinstance(saved, Saved)
    Path(saved.path).write_bytes(b"mine")
    parts.saver.put(parts.request, parts.request.jobs[0], PREVIEW, {})
    assert "was not overwritten" in parts.saver.drain()
    assert Path(saved.path).read_bytes() == b"mine"


def test_errors_in_words() -> None:
    class Refused(ValueError):
        pass

    assert in_words(Refused("No.")) == ("No.", False)
    assert in_words(MemoryError()) == (
        "There is not enough memory for this picture. A smaller size needs less.", True
    )  # fmt: skip
    assert in_words(RuntimeError("DefaultCPUAllocator: can't allocate memory"))[0].startswith("There is not enough")
    words, broken = in_words(ValueError("odd\n  File 1\n" + "x" * 999))
    assert words.startswith("Something went wrong that should not have (ValueError: odd). Finished pictures are kept")
    assert broken and "File 1" not in words
