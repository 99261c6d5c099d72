"""Tasks for programs: parameters in, the state of a task out, all of it JSON; knows no page and no engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from modules.api.bodies import TooLarge, body_of
from modules.api.front import owner_of
from modules.async_worker import AsyncWorker
from modules.parameters import GenerationParameters, full_path, leaves
from modules.store import StoreError, TaskRecord

MAX_BYTES = 2**20
NO_STORE = {"cache-control": "no-store"}

Check = Callable[[GenerationParameters], GenerationParameters]


def router(worker: AsyncWorker, start: Callable[[], GenerationParameters], check: Check) -> APIRouter:
    """The routes. A caller without cookies shares the tasks of all who have none; others have their browser's.

    start: the parameters that an order need not name. check: raises ``ValueError`` with a sentence for what cannot be
    made. What is wrong is told as ``{"error": sentence}`` with status 404, 413, 422 or 503.
    """
    counter = _Counter(worker, start, check)
    routes = APIRouter()
    routes.add_api_route("/parameters", counter.defaults, methods=["GET"])
    routes.add_api_route("/tasks", counter.submit, methods=["POST"])
    routes.add_api_route("/tasks/{task}", counter.look, methods=["GET"])
    routes.add_api_route("/tasks/{task}/{deed}", counter.act, methods=["POST"])
    return routes


@dataclass(frozen=True)
class _Counter:
    worker: AsyncWorker
    start: Callable[[], GenerationParameters]
    check: Check

    def defaults(self) -> JSONResponse:
        """Every parameter by its key, with the value that it has when an order does not name it."""
        start = self.start()
        return JSONResponse({leaf.path: start.get(leaf.path) for leaf in leaves()}, headers=NO_STORE)

    async def submit(self, request: Request) -> JSONResponse:
        """Takes ``{key: value, ...}``, keys as in ``--set``, and answers with the state of the new task."""
        try:
            body = await body_of(request, MAX_BYTES)
        except TooLarge:
            return _refused(f"This order is larger than {MAX_BYTES // 1024} KB.", 413)
        return await run_in_threadpool(self._submit, body, owner_of(request.cookies))

    def _submit(self, body: bytes, owner: str) -> JSONResponse:
        try:
            order = json.loads(body, parse_constant=_no_number)
            if not isinstance(order, dict):
                raise ValueError("An order is a JSON object of parameters.")
            asked = self.start().with_values({full_path(key): value for key, value in order.items()})
            return self._state(self.worker.submit(self.check(asked), owner), owner, 201)
        except StoreError as error:
            return _refused(str(error), 503)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            return _refused(f"This order is not JSON: {error}", 422)
        except RecursionError:
            return _refused("This order is nested too deeply.", 422)
        except ValueError as error:
            return _refused(str(error), 422)

    def look(self, request: Request, task: str) -> JSONResponse:
        """How a task stands."""
        return self._state(task, owner_of(request.cookies))

    def act(self, request: Request, task: str, deed: str) -> JSONResponse:
        """Stops a task, or leaves the picture that is being made."""
        owner = owner_of(request.cookies)
        deeds = {"stop": self.worker.stop, "skip": self.worker.skip}
        try:
            if deed in deeds and self._own(task, owner) is not None:
                deeds[deed](task)
        except StoreError as error:
            return _refused(str(error), 503)
        return self._state(task, owner) if deed in deeds else _refused("There is nothing here.", 404)

    def _own(self, task: str, owner: str) -> TaskRecord | None:
        record = self.worker.task(task)
        return record if record is not None and record.owner == owner else None

    def _state(self, task: str, owner: str, status: int = 200) -> JSONResponse:
        try:
            record = self._own(task, owner)
            if record is None:
                return _refused("There is no such task.", 404)
            place = next((each for each in self.worker.places(owner) if each.task.id == task), None)
            pictures = self.worker.pictures(task)
        except StoreError as error:
            return _refused(str(error), 503)
        parameters = GenerationParameters.from_json(record.parameters)
        told: dict[str, Any] = {
            "id": task,
            "state": record.state,
            "text": record.message if place is None else place.preview.text,
            "percent": place.preview.percent if place is not None else 100 * (record.state == "done"),
            "ready_in": None if place is None else place.ready_in,
            "seed": parameters.image_seed,
            "pictures": [
                {"address": f"/pictures/{each.id}", "seed": each.seed, "width": each.width, "height": each.height}
                for each in pictures
            ],
        }
        return JSONResponse(told, status, headers=NO_STORE)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number that a parameter can have.")


def _refused(words: str, status: int) -> JSONResponse:
    # Half characters, which an order may hold, have no place in an answer.
    return JSONResponse({"error": words.encode("utf-8", "replace").decode("utf-8")}, status, headers=NO_STORE)
