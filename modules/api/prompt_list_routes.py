"""A file with a list of prompts -> lines for the prompt; keeps nothing and knows no parameter."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from modules.api.bodies import TooLarge, body_of
from modules.prompt_list import MAX_CHARACTERS, read_file


def router() -> APIRouter:
    """The route. What cannot be is told in words with status 413 or 422."""
    routes = APIRouter()

    @routes.post("/prompt-list")
    async def lines(request: Request, table: bool = False) -> JSONResponse:
        try:
            found = await run_in_threadpool(read_file, await body_of(request, MAX_CHARACTERS), table)
        except TooLarge:
            return _refused("it is larger than 1 MB.", 413)
        except ValueError as error:
            return _refused(str(error), 422)
        told = {"lines": [line.text for line in found.lines], "problems": list(found.problems)}
        return JSONResponse(told, headers={"cache-control": "no-store"})

    return routes


def _refused(words: str, status: int) -> JSONResponse:
    return JSONResponse({"error": words}, status, headers={"cache-control": "no-store"})
