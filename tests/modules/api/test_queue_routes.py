"""The queue's routes: own tasks only, every button, and words where it is too late."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from modules.api import queue_routes
from modules.api.front import OWNER_COOKIE
from modules.async_worker import AsyncWorker
from modules.parameters import GenerationParameters
from modules.settings import Settings
from modules.workplace import create_worker
from tests.modules.conftest import settings
from tests.modules.stand_in import build

__all__ = ["settings"]  # fixtures
ME, YOU = "m" * 24, "y" * 24


@pytest.fixture
def worker(settings: Settings) -> AsyncWorker:
    """A worker that has not begun to work: what waits goes on waiting."""

    return create_worker(settings, factory=build)


class Panel:
    """The buttons of one person's panel. Each answers with the ids that are there after it."""

    def __init__(self, worker: AsyncWorker, owner: str) -> None:
        app = FastAPI()
        app.include_router(queue_routes.router(worker))
        self.client = TestClient(app, cookies={OWNER_COOKIE: owner} if owner else {})

    def __call__(self, deed: str, *tasks: str, **order: object) -> list[str]:
        answer = self.client.post(f"/queue/{deed}", json={"tasks": tasks, **order})
        assert answer.status_code == 200, answer.text
        return [each["id"] for each in answer.json()["tasks"]]

    def tasks(self) -> list[dict[str, object]]:
        return list(self.client.get("/queue").json()["tasks"])


def submit(worker: AsyncWorker, *prompts: str, owner: str = ME) -> list[str]:
    return [worker.submit(GenerationParameters(prompt=prompt), owner) for prompt in prompts]


def test_the_buttons_do_what_they_say_to_own_tasks_only(worker: AsyncWorker) -> None:
    a, b, c = submit(worker, "<b>a", "b", "c")
    (theirs,) = submit(worker, "secret", owner=YOU)
    me, you = Panel(worker, ME), Panel(worker, YOU)
    first = me.tasks()[0]
    assert (first["prompt"], first["state"], first["lasting"], first["preview"]) == ("<b>a", "waiting", None, None)
    assert me("move", a, places=1) == [b, a, c] and me("move", c, places=-1) == [b, c, a]
    me("hold", a)
    assert me("next", a) == [a, b, c] and not me.tasks()[0]["held"], "it is to run"
    *_, copy = me("duplicate", b)
    assert "secret" not in me.client.get("/queue").text and me.client.get("/queue").json()["newest"] is None
    for stranger in (you, Panel(worker, "")):
        for deed in ("next", "move", "hold", "release", "duplicate", "cancel", "back"):
            answer = stranger.client.post(f"/queue/{deed}", json={"tasks": [a]})
            assert (answer.status_code, answer.json()["error"]) == (409, queue_routes.TOO_LATE)
    assert [each["id"] for each in me.tasks()] == [a, b, c, copy]
    assert [each["id"] for each in you.tasks()] == [theirs] and Panel(worker, "").tasks() == []


def test_what_is_cancelled_comes_back_to_its_place_and_held_as_it_was(worker: AsyncWorker) -> None:
    a, b, c = submit(worker, "a", "b", "c")
    me = Panel(worker, ME)
    me("hold", b)
    assert me("cancel", b) == [a, c] and me("move", c, places=-1) == [c, a]
    assert me("back", b) == [c, b, a] and me.tasks()[1]["held"], "between the places that the others have"
    assert me("cancel", a, b, c) == [] and me("back", a, b, c) == [c, b, a]
    assert me.client.post("/queue/back", json={"tasks": [a]}).status_code == 409, "it waits already"


def test_a_restart_keeps_order_and_what_is_held(worker: AsyncWorker, settings: Settings) -> None:
    a, b, c, gone = submit(worker, "a", "b", "c", "d")
    before = Panel(worker, ME)
    before("hold", a)
    before("cancel", gone)
    before("next", c)
    worker.close()
    after = Panel(create_worker(settings, factory=build), ME)
    assert [(each["id"], each["held"]) for each in after.tasks()] == [(c, False), (a, True), (b, False)]
    assert after("back", gone) == [c, a, b, gone]


def test_a_clear_of_everything_tells_nobody_else_s(worker: AsyncWorker) -> None:
    mine, theirs = submit(worker, "a", "b"), submit(worker, "c", owner=YOU)
    assert Panel(worker, ME)("cancel", *mine, *theirs, "missing") == []
    assert [task.id for task in worker.waiting()] == theirs


@pytest.mark.parametrize(
    "order",
    [
        {}, {"tasks": "a"}, {"tasks": []}, {"tasks": [1]}, {"tasks": ["x" * 101]}, {"tasks": ["a"] * 1001},
        {"tasks": ["a"], "owner": YOU}, {"tasks": ["a"], "places": 1001}, {"tasks": ["a"], "places": "first"},
    ],
)  # fmt: skip
def test_a_wrong_order_is_refused(worker: AsyncWorker, order: dict[str, object]) -> None:
    me = Panel(worker, ME).client
    assert me.post("/queue/move", json=order).status_code == 422
    assert me.post("/queue/delete", json={"tasks": ["a"]}).status_code == 404
