"""The routes of downloads: how they stand, and the buttons of their panel; knows neither network nor page."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from modules.api.owner_routes import NOT_YOURS, is_owner
from modules.downloads import Downloads


class Wish(BaseModel):
    """What a button of the panel sends. ``path`` is a file of the machine that Pinhole runs on."""

    model_config = ConfigDict(extra="forbid")

    preset: str = Field("", max_length=200)
    file: str = Field("", max_length=500)
    path: str = Field("", max_length=4000)


def router(downloads: Downloads) -> APIRouter:
    """The routes. Every answer is the state after it; what cannot be is told in words with status 409."""
    routes = APIRouter(prefix="/downloads")

    def state(preset: str) -> JSONResponse:
        try:
            return JSONResponse(downloads.state(preset), headers={"cache-control": "no-store"})
        except (ValueError, OSError) as error:
            return _refused(error)

    @routes.get("")
    def look(preset: str = "") -> JSONResponse:
        return state(preset)

    @routes.post("/{deed}")
    def act(request: Request, deed: str, wish: Wish) -> JSONResponse:
        deeds: dict[str, Any] = {
            "sizes": lambda: downloads.look_up(wish.preset),
            "start": lambda: downloads.start(wish.preset),
            "cancel": lambda: downloads.cancel(wish.file),
            "own": lambda: downloads.use_own(wish.preset, wish.file, wish.path),
        }
        if deed not in deeds:
            return JSONResponse({"error": "There is nothing here."}, 404)
        if deed == "own" and not is_owner(request):  # it names a file of this machine
            return JSONResponse({"error": NOT_YOURS}, 403)
        try:
            deeds[deed]()
        except (ValueError, OSError) as error:
            return _refused(error)
        return state(wish.preset)

    return routes


def _refused(error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, 409, headers={"cache-control": "no-store"})
