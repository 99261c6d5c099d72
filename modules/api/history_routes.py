"""The routes of the history: pages of it, small pictures, what its buttons do, and a zip of a choice; knows no page."""

from __future__ import annotations

import secrets
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from io import RawIOBase
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING, cast

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from modules.api.front import owner_of
from modules.history import Entry, History, Place, Query
from modules.thumbnails import ThumbnailError, thumbnail

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

FOR_EVER = "private, max-age=31536000, immutable"
MAX_IDS = 2000
MAX_CHOSEN = 32
MAX_WORDS = 1000


class Choice(BaseModel):
    """Pictures that something is to happen to."""

    model_config = ConfigDict(extra="forbid")

    ids: list[str] = Field(max_length=MAX_IDS)


def router(history: History, kept: Path, everybody: bool, opened: Callable[[], None] = lambda: None) -> APIRouter:
    """The routes. What cannot be is told in words with status 409.

    kept: the folder of small pictures. opened: is called when somebody begins to look. everybody: whoever asks sees all
    pictures, because the page is for this machine alone; else each browser sees its own.
    """
    desk = _Desk(history, kept, everybody, opened)
    routes = APIRouter()
    routes.add_api_route("/history", desk.page, methods=["GET"])
    routes.add_api_route("/history/choices", desk.choices, methods=["GET"])
    routes.add_api_route("/history/zip", desk.choose, methods=["POST"])
    routes.add_api_route("/history/zip/{token}", desk.zip, methods=["GET"])
    routes.add_api_route("/history/{deed}", desk.act, methods=["POST"])
    routes.add_api_route("/thumbnails/{identity}", desk.thumbnail, methods=["GET"])
    return routes


@dataclass(frozen=True)
class _Desk:
    history: History
    kept: Path
    everybody: bool
    opened: Callable[[], None]
    chosen: OrderedDict[str, list[Path]] = field(default_factory=OrderedDict)
    lock: Lock = field(default_factory=Lock)

    def page(
        self,
        request: Request,
        words: str = "",
        model: str = "",
        style: str = "",
        favourites: bool = False,
        after: str = "",
    ) -> JSONResponse:
        query = Query(words[:MAX_WORDS], model, style, favourites)
        return _told(lambda: _page(*self.history.page(self._owner(request), query, Place.parse(after))))

    def choices(self, request: Request) -> JSONResponse:
        self.opened()

        def both() -> dict[str, list[str]]:
            models, styles = self.history.choices(self._owner(request))
            return {"models": models, "styles": styles}

        return _told(both)

    def choose(self, choice: Choice, request: Request) -> JSONResponse:
        """The address under which these pictures are one file for a while; a browser saves only what it goes to."""
        files = self.history.files(self._owner(request), choice.ids)
        if not files:
            return _told_error("None of these pictures is there any more.")
        token = secrets.token_hex(16)
        with self.lock:
            self.chosen[token] = files
            while len(self.chosen) > MAX_CHOSEN:
                self.chosen.popitem(last=False)
        return JSONResponse({"address": f"/history/zip/{token}"}, headers={"cache-control": "no-store"})

    def zip(self, token: str) -> Response:
        with self.lock:
            files = self.chosen.get(token)
        if files is None:
            return PlainTextResponse("Please choose the pictures once more.", 404)
        name = f"pinhole-{datetime.now():%Y-%m-%d}-{len(files)}-pictures.zip"
        headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
        return StreamingResponse(zip_of(files), media_type="application/zip", headers=headers)

    def act(self, deed: str, choice: Choice, request: Request) -> JSONResponse:
        owner, history = self._owner(request), self.history
        deeds: dict[str, Callable[[], int]] = {
            "favourite": lambda: history.mark(owner, choice.ids, True),
            "ordinary": lambda: history.mark(owner, choice.ids, False),
            "delete": lambda: history.delete(owner, choice.ids),
            "restore": lambda: history.restore(owner, choice.ids),
        }
        if deed not in deeds:
            return JSONResponse({"error": "There is nothing here."}, 404)
        return _told(lambda: {"done": deeds[deed]()})

    def thumbnail(self, identity: str, request: Request) -> Response:
        files = self.history.files(self._owner(request), [identity])
        if not files:
            return PlainTextResponse("There is no such picture.", 404)
        try:
            made = thumbnail(files[0], self.kept / f"{files[0].stem}.webp")
        except ThumbnailError as error:
            return PlainTextResponse(str(error), 404)
        return Response(made, media_type="image/webp", headers={"cache-control": FOR_EVER})

    def _owner(self, request: Request) -> str | None:
        return None if self.everybody else owner_of(request.cookies)


def zip_of(files: Sequence[Path]) -> Iterator[bytes]:
    """A zip file of pictures, piece by piece: it is never whole in memory. A file that is gone by then is left out."""
    pipe = _Pipe()
    with zipfile.ZipFile(
        cast("IO[bytes]", pipe), "w", zipfile.ZIP_STORED
    ) as archive:  # pictures are compressed already
        for path in files:
            with suppress(OSError):
                data = path.read_bytes()
                stamp = time.localtime(max(path.stat().st_mtime, 315619200.0))[:6]  # a zip knows no time before 1980
                archive.writestr(zipfile.ZipInfo(path.name, stamp), data)
                yield pipe.taken()
    yield pipe.taken()


class _Pipe(RawIOBase):
    """What a zip is written to; it cannot go back."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def taken(self) -> bytes:
        """What was written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _page(entries: Sequence[Entry], after: Place | None) -> dict[str, object]:
    return {"pictures": [_shown(entry) for entry in entries], "after": "" if after is None else str(after)}


def _shown(entry: Entry) -> dict[str, object]:
    return {
        "id": entry.id, "name": entry.path.name, "created": entry.created, "width": entry.width,
        "height": entry.height, "seed": str(entry.seed), "prompt": entry.prompt, "model": entry.model,
        "styles": list(entry.styles), "favourite": entry.favourite, "seconds": entry.seconds,
    }  # fmt: skip


def _told(answer: Callable[[], Mapping[str, object]]) -> JSONResponse:
    headers = {"cache-control": "no-store"}
    try:
        return JSONResponse(answer(), headers=headers)
    except (ValueError, OSError) as error:
        return _told_error(str(error))


def _told_error(words: str) -> JSONResponse:
    return JSONResponse({"error": words}, 409, headers={"cache-control": "no-store"})
