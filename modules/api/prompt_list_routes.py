"""A file with a list of prompts -> lines for the prompt; keeps nothing and knows no parameter."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from modules.api.bodies import TooLarge, body_of
from modules.prompt_list import MAX_CHARACTERS, MAX_LINES, lines_of_table, lines_of_text


def router() -> APIRouter:
    """The route. What cannot be is told in words with status 413 or 422."""
    routes = APIRouter()

    @routes.post("/prompt-list")
    async def lines(request: Request, table: bool = False) -> JSONResponse:
        try:
            text = (await body_of(request, MAX_CHARACTERS)).decode("utf-8-sig")
            found = lines_of_table(text) if table else lines_of_text(text)
        except TooLarge:
            return _refused("it is larger than 1 MB.", 413)
        except UnicodeDecodeError:
            return _refused("it is not a text in UTF-8.", 422)
        except ValueError as error:
            return _refused(str(error), 422)
        if not found:
            return _refused("there is no prompt in it.", 422)
        if len(found) > MAX_LINES:
            return _refused(f"it has {len(found):,} prompts; {MAX_LINES:,} is the most.", 422)
        return JSONResponse({"lines": found}, headers={"cache-control": "no-store"})

    return routes


def _refused(words: str, status: int) -> JSONResponse:
    return JSONResponse({"error": words}, status, headers={"cache-control": "no-store"})
