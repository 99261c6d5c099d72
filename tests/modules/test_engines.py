"""Asking an engine for words: only when it has time, and never in the way of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Thread

import pytest

from modules.async_worker import AsyncWorker
from modules.engine_messages import EngineConfig, Expanded
from modules.engines import LocalEngine
from modules.events import Finish, Preview
from modules.parameters import GenerationParameters
from modules.settings import Settings
from tests.modules.stand_in import build


@pytest.fixture
def engine(settings: Settings) -> Iterator[LocalEngine]:
    """An engine that has not been started."""
    found = LocalEngine(EngineConfig(settings.models), build)
    yield found
    found.close()


def test_only_an_engine_that_is_there_is_asked(engine: LocalEngine) -> None:
    assert engine.expand("a cat", 5) is None
    engine.warm_up()
    answer = None
    while answer is None:  # it gets ready meanwhile
        answer = engine.expand("a cat", 5)
    assert (answer.text, answer.note) == ("a cat, soft light, number 5", "")
    engine.close()
    assert engine.expand("a cat", 5) is None


def test_a_busy_engine_is_not_asked_and_its_pictures_carry_the_words(worker: AsyncWorker) -> None:
    parameters = GenerationParameters(
        prompt="pace=0.05 a cat", style_selections=("Fooocus V2",), image_seed=7, image_number=2
    )
    task = worker.submit(parameters, "me")
    events = worker.follow(task)
    assert any(isinstance(event, Preview) and event.index == 0 for event in events)
    begin = time.monotonic()
    assert worker.expand("a cat", 1) is None and time.monotonic() - begin < 1
    *_, end = events
    assert isinstance(end, Finish) and (end.state, end.message) == ("done", "")
    jobs = [picture.facts["job"] for picture in end.pictures]
    assert [job["expansion"] for job in jobs] == [f"pace=0.05 a cat, soft light, number {seed}" for seed in (7, 8)]
    assert [job["positive"] for job in jobs] == [["pace=0.05 a cat", job["expansion"]] for job in jobs]
    assert getattr(worker.expand("a cat", 1), "text", "") == "a cat, soft light, number 1"


def test_a_run_does_not_wait_for_words_and_an_answer_that_comes_too_late_is_dropped(worker: AsyncWorker) -> None:
    parameters = GenerationParameters(prompt="pace=0 a cat", style_selections=(), image_number=1)
    answers: list[Expanded | None] = []
    asking = [Thread(target=lambda: answers.append(worker.expand("a cat", 1))) for _ in range(8)]
    tasks = []
    for thread in asking:
        thread.start()
        tasks.append(worker.submit(parameters, "me"))
    for thread in asking:
        thread.join()
    for task in tasks:
        *_, end = worker.follow(task)
        assert isinstance(end, Finish) and end.state == "done" and len(end.pictures) == 1
    assert {answer.text for answer in answers if answer is not None} <= {"a cat, soft light, number 1"}
