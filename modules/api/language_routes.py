"""The routes of languages: which there are, and the texts of one; knows no page."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from modules.localization import LanguageError, Languages


def router(languages: Languages, first: str) -> APIRouter:
    """``first`` is the language for a browser that has chosen none; empty: as that browser is set."""
    routes = APIRouter()

    @routes.get("/languages")
    def names() -> dict[str, Any]:
        """The languages there are now, and a sentence for each file that cannot be used."""
        return {"first": first, "names": languages.names(), "notes": languages.notes()}

    @routes.get("/languages/{name}")
    def texts(name: str) -> JSONResponse:
        """English text -> translated text, and the direction of writing."""
        try:
            found = languages.language(name)
        except LanguageError as error:
            return JSONResponse({"error": str(error)}, 404)
        answer = {"name": found.name, "rtl": found.right_to_left, "texts": dict(found.texts)}
        return JSONResponse(answer, headers={"cache-control": "no-cache"})

    return routes
