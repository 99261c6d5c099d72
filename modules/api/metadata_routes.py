"""A picture's bytes -> the text in its header; keeps nothing, decodes no pixel and knows no parameter."""

from __future__ import annotations

from io import BytesIO

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from modules.api.bodies import TooLarge, body_of
from modules.metadata import MetadataError, read_text

MAX_BYTES = 64 * 2**20


def router(max_bytes: int = MAX_BYTES) -> APIRouter:
    """The route. What cannot be is told in words with status 413 or 422."""
    routes = APIRouter()

    @routes.post("/metadata")
    async def told(request: Request) -> JSONResponse:
        try:
            body = await body_of(request, max_bytes)
            return _answer("text", await run_in_threadpool(read_text, BytesIO(body)))
        except TooLarge:
            return _answer("error", f"This file is larger than {max_bytes / 2**20:g} MB.", 413)
        except MetadataError as error:
            return _answer("error", str(error), 422)

    return routes


def _answer(key: str, words: str, status: int = 200) -> JSONResponse:
    # Half characters, which a file may hold, have no place in an answer.
    sound = words.encode("utf-8", "replace").decode("utf-8")
    return JSONResponse({key: sound}, status, headers={"cache-control": "no-store"})
