"""Tasks for programs: an order becomes a picture, what is wrong is named, nobody sees another's task."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as some
from starlette.testclient import TestClient

from modules.api import task_routes
from modules.api.front import OWNER_COOKIE
from modules.async_worker import AsyncWorker
from modules.parameters import GenerationParameters, leaves
from modules.settings import Settings
from modules.workplace import create_worker
from tests.modules.conftest import settings
from tests.modules.stand_in import build

__all__ = ["settings"]  # fixtures
START = GenerationParameters(prompt="", image_number=1, base_model="pinhole-mini-base.safetensors")


@pytest.fixture
def worker(settings: Settings) -> Iterator[AsyncWorker]:
    """A worker at work."""
    made = create_worker(settings, factory=build)
    made.start()
    yield made
    made.close()


def same(parameters: GenerationParameters) -> GenerationParameters:
    if parameters.prompt == "impossible":
        raise ValueError("This cannot be made.")
    return parameters


def client(worker: AsyncWorker, owner: str = "") -> TestClient:
    app = FastAPI()
    app.include_router(task_routes.router(worker, lambda: START, same))
    return TestClient(app, cookies={OWNER_COOKIE: owner} if owner else {}, raise_server_exceptions=False)


def ended(program: TestClient, task: str) -> dict[str, object]:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        told: dict[str, object] = program.get(f"/tasks/{task}").json()
        if told["state"] not in ("waiting", "running"):
            return told
        time.sleep(0.05)
    raise AssertionError(f"{task} does not end")


def test_an_order_becomes_pictures(worker: AsyncWorker) -> None:
    program = client(worker)
    order = {"prompt": "pace=0.01 a cat", "image_number": 2, "image_seed": 7, "sampler_name": "euler"}
    answer = program.post("/tasks", json=order)
    assert answer.status_code == 201 and answer.json()["seed"] == 7
    task = answer.json()["id"]
    told = ended(program, task)
    pictures = told["pictures"]
    assert isinstance(pictures, list) and (told["state"], told["percent"]) == ("done", 100)
    assert [each["seed"] for each in pictures] == [7, 8]
    assert all(worker.picture(each["address"].removeprefix("/pictures/")) is not None for each in pictures)
    record = worker.task(task)
    assert record is not None
    assert GenerationParameters.from_json(record.parameters).get("advanced.sampler_name") == "euler"


def test_what_an_order_need_not_name(worker: AsyncWorker) -> None:
    defaults = client(worker).get("/parameters").json()
    assert list(defaults) == [leaf.path for leaf in leaves()]
    assert defaults["base_model"] == START.base_model
    assert client(worker).post("/tasks", json=defaults).status_code == 201, "they are an order themselves"


def test_stop_and_skip_are_for_the_owner(worker: AsyncWorker) -> None:
    me, you = client(worker, "m" * 24), client(worker, "y" * 24)
    task = me.post("/tasks", json={"prompt": "pace=1 a cat", "image_number": 3}).json()["id"]
    for stranger in (you, client(worker)):
        assert stranger.get(f"/tasks/{task}").status_code == 404
        assert stranger.post(f"/tasks/{task}/stop").status_code == 404
    assert me.get(f"/tasks/{task}").json()["state"] in ("waiting", "running")
    assert me.post(f"/tasks/{task}/burn").status_code == 404
    assert me.post(f"/tasks/{task}/skip").status_code == 200
    assert me.post(f"/tasks/{task}/stop").status_code == 200
    assert ended(me, task)["state"] == "stopped"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"[1]", "JSON object"),
        (b"[" * 50_000, "too deeply"),
        (b'{"promt": "a cat"}', "promt"),
        (b'{"image_number": 1000}', "1 to 32"),
        (b'{"guidance_scale": NaN}', "NaN"),
        (b'{"guidance_scale": "inf"}', "finite"),
        (b'{"prompt": {"a": 1}}', "prompt"),
        (b'{"prompt": "impossible"}', "cannot be made"),
        (b"\x80\x80\x80\x80", "not JSON"),
    ],
)
def test_what_is_wrong_is_named(worker: AsyncWorker, body: bytes, words: str) -> None:
    answer = client(worker).post("/tasks", content=body)
    assert answer.status_code == 422 and words in answer.json()["error"]
    assert worker.waiting() == []


def test_an_order_has_a_limit(worker: AsyncWorker) -> None:
    answer = client(worker).post("/tasks", content=b" " * (task_routes.MAX_BYTES + 1))
    assert answer.status_code == 413 and "1024 KB" in answer.json()["error"]


JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=20),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = some.sampled_from([leaf.path for leaf in leaves()]) | some.text(max_size=12)


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=some.dictionaries(KEYS, JSON, max_size=4))
def test_no_order_is_answered_with_a_crash(settings: Settings, order: dict[str, object]) -> None:
    worker = create_worker(settings, factory=build)  # which has not begun to work
    try:
        answer = client(worker).post("/tasks", json=order | {"nothing": 0})
        assert answer.status_code == 422, answer.text
        answer = client(worker).post("/tasks", json=order)
        assert answer.status_code in (201, 422), answer.text
    except ValueError:  # what JSON has no words for, such as infinity, cannot be sent
        pass
    finally:
        worker.close()
