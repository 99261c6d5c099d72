"""The routes of the machine's owner: its settings, and every connection to elsewhere; knows no page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from modules.api.guard import is_loopback
from modules.connections import Connections
from modules.owner_settings import ROWS, OwnerSettings

NO_STORE = {"cache-control": "no-store"}
NOT_YOURS = "Only whoever sits at the machine that Pinhole runs on can see and change this."
Folder = Annotated[str, Field(max_length=1000)]


class Changes(BaseModel):
    """What the page sends: keys of config.txt with their new values; null for the built-in one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    values: dict[str, bool | str | list[Folder] | None] = Field(max_length=len(ROWS))


def is_owner(request: Request) -> bool:
    """Whether a request comes from the owner of the machine: from the machine itself, and not through a proxy there."""
    passed_on = any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip", "via"))
    return request.client is not None and is_loopback(request.client.host) and not passed_on


def router(
    settings: OwnerSettings,
    connections: Connections,
    offline: bool,
    owner: Callable[[Request], bool] = is_owner,
) -> APIRouter:
    """The routes. ``owner`` tells who may; what cannot be is told in words with status 403 or 409."""
    desk = _Desk(settings, connections, offline, owner)
    routes = APIRouter(prefix="/owner")
    routes.add_api_route("/connections", desk.told, methods=["GET"])
    routes.add_api_route("/settings", desk.look, methods=["GET"])
    routes.add_api_route("/settings", desk.save, methods=["POST"])
    return routes


@dataclass(frozen=True)
class _Desk:
    settings: OwnerSettings
    connections: Connections
    offline: bool
    owner: Callable[[Request], bool]

    def told(self, request: Request) -> JSONResponse:
        """Every request to a server elsewhere since the start."""
        if not self.owner(request):
            return _refused(NOT_YOURS, 403)
        told: dict[str, Any] = {"offline": self.offline, "count": self.connections.count}
        return JSONResponse({**told, "requests": self.connections.told()}, headers=NO_STORE)

    def look(self, request: Request) -> JSONResponse:
        if not self.owner(request):
            return _refused(NOT_YOURS, 403)
        try:
            return JSONResponse({"file": str(self.settings.path), "rows": self.settings.rows()}, headers=NO_STORE)
        except ValueError as error:
            return _refused(str(error), 409)

    def save(self, request: Request, changes: Changes) -> JSONResponse:
        if not self.owner(request):
            return _refused(NOT_YOURS, 403)
        try:
            self.settings.save(changes.values)
        except ValueError as error:
            return _refused(str(error), 409)
        return self.look(request)


def _refused(words: str, status: int) -> JSONResponse:
    return JSONResponse({"error": words}, status, headers=NO_STORE)
