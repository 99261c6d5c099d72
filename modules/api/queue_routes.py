"""The routes of the queue: how a browser's own tasks stand, and the buttons of their panel; knows no page."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from modules.api.front import owner_of
from modules.async_worker import AsyncWorker
from modules.line import FIRST
from modules.outlook import Place

NO_STORE = {"cache-control": "no-store"}
TOO_LATE = "This task does not wait any more."
MAX_TASKS = 1000
TaskId = Annotated[str, Field(max_length=100)]
Deed = Callable[[str, str, int], object]


class Order(BaseModel):
    """What a button of the panel sends; ``places`` is how far a task moves, negative ones towards the head."""

    model_config = ConfigDict(extra="forbid")

    tasks: list[TaskId] = Field(min_length=1, max_length=MAX_TASKS)
    places: int = Field(0, ge=-MAX_TASKS, le=MAX_TASKS)


def router(worker: AsyncWorker) -> APIRouter:
    """The routes. Every answer is the state after it; what cannot be is told in words with status 409.

    A browser sees and moves the tasks of its own cookie only; one that keeps no cookies has none.
    """
    desk = _Desk(worker)
    routes = APIRouter(prefix="/queue")
    routes.add_api_route("", desk.look, methods=["GET"])
    routes.add_api_route("/{deed}", desk.act, methods=["POST"])
    return routes


@dataclass(frozen=True)
class _Desk:
    worker: AsyncWorker

    @cached_property
    def deeds(self) -> Mapping[str, Deed]:
        """What can be done with a task, for its owner only; false where it is too late."""
        worker = self.worker
        return {
            "next": lambda task, owner, _: worker.hold(task, owner, held=False) and worker.shift(task, owner, FIRST),
            "move": worker.shift,
            "hold": lambda task, owner, _: worker.hold(task, owner, held=True),
            "release": lambda task, owner, _: worker.hold(task, owner, held=False),
            "duplicate": lambda task, owner, _: worker.duplicate(task, owner),
            "cancel": self._cancel,
            "back": lambda task, owner, _: worker.put_back(task, owner),
        }

    def look(self, request: Request, images: bool = False) -> JSONResponse:
        """The unfinished tasks of this browser; with ``images`` the pictures that are being made as well."""
        try:
            return self._state(owner_of(request.cookies), images)
        except ValueError as error:
            return _refused(str(error))

    def act(self, request: Request, deed: str, order: Order) -> JSONResponse:
        if deed not in self.deeds:
            return JSONResponse({"error": "There is nothing here."}, 404)
        owner = owner_of(request.cookies)
        try:
            done = owner and [task for task in order.tasks if self.deeds[deed](task, owner, order.places)]
            return self._state(owner, images=True) if done else _refused(TOO_LATE)
        except ValueError as error:
            return _refused(str(error))

    def _cancel(self, task: str, owner: str, _: int) -> bool:
        record = self.worker.task(task)
        if record is None or record.owner != owner or record.state not in ("waiting", "running"):
            return False
        self.worker.stop(task)
        return True

    def _state(self, owner: str, images: bool) -> JSONResponse:
        places = self.worker.places(owner) if owner else []
        shown = [_shown(place, images) for place in places]
        newest = self.worker.latest(owner, 1) if owner and not places else ()
        told = {"tasks": shown, "newest": newest[0].task_id if newest else None}
        return JSONResponse(told, headers=NO_STORE)


def _shown(place: Place, images: bool) -> dict[str, Any]:
    """A task as ``queue.js`` reads it; ``picture`` is the id of its newest one, ``preview`` a data address."""
    task, preview = place.task, place.preview
    image = base64.b64encode(preview.image).decode("ascii") if images and preview.image else ""
    return {
        "id": task.id,
        "state": task.state,
        "held": task.held,
        "prompt": place.parameters.prompt,
        "count": place.parameters.image_number,
        "done": len(place.pictures),
        "percent": preview.percent,
        "text": preview.text,
        "picture": place.pictures[-1].id if place.pictures else None,
        "preview": f"data:image/jpeg;base64,{image}" if image else None,
        "lasting": place.lasting,
        "ready_in": place.ready_in,
    }


def _refused(words: str) -> JSONResponse:
    return JSONResponse({"error": words}, 409, headers=NO_STORE)
