"""Our own routes: the page's scripts and styles, pictures by their id, a sign of life; knows no task."""

from __future__ import annotations

import hashlib
import mimetypes
import re
import secrets
from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, PlainTextResponse
from starlette.responses import Response

from modules.api import metadata_routes, prompt_list_routes
from modules.events import PictureRecord
from modules.style_pictures import SPECIAL_STYLES, style_picture
from modules.styles import Shelf

ASSETS = Path(__file__).parents[1] / "ui" / "assets"
FOR_EVER = "private, max-age=31536000, immutable"
MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}
_ASSET_NAME = re.compile(r"[a-z]+\.(?:js|css|svg|png|webmanifest)")
_YES_NO = ("no", "yes")
_TYPES = {".webmanifest": "application/manifest+json"}


def assets_address() -> str:
    """The path under which the page's files are served; it changes with their content, so they may be kept for ever."""
    digest = hashlib.sha256()
    for path in sorted(ASSETS.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return f"/pinhole/{digest.hexdigest()[:16]}"


def head(address: str, theme: str = "", kept: bool = True) -> str:
    """What stands in the document's head. ``kept``: whether browsers may remember the form longer than their tab."""
    return (
        f'<meta name="pinhole" data-theme="{theme}" data-kept="{_YES_NO[kept]}">\n'
        f'<link rel="manifest" href="{address}/manifest.webmanifest" crossorigin="use-credentials">\n'
        f'<link rel="apple-touch-icon" href="{address}/small.png">\n'
        f'<meta name="theme-color" content="#2f6b5a">\n'
        f'<link rel="icon" type="image/svg+xml" href="{address}/icon.svg">\n'
        f'<link rel="stylesheet" href="{address}/page.css">\n'
        f'<link rel="stylesheet" href="{address}/downloads.css">\n'
        f'<link rel="stylesheet" href="{address}/metadata.css">\n'
        f'<link rel="stylesheet" href="{address}/history.css">\n'
        f'<link rel="stylesheet" href="{address}/queue.css">\n'
        f'<link rel="stylesheet" href="{address}/lists.css">\n'
        f'<link rel="stylesheet" href="{address}/timings.css">\n'
        f'<link rel="stylesheet" href="{address}/owner.css">\n'
        f'<script type="module" src="{address}/page.js"></script>'
    )


def router(find_picture: Callable[[str], PictureRecord | None], read_shelf: Callable[[], Shelf] = Shelf) -> APIRouter:
    """The routes. ``find_picture`` looks a picture up by its id: no path ever comes from the browser.

    ``read_shelf`` gives the styles.
    """
    routes = APIRouter()
    routes.include_router(metadata_routes.router())
    routes.include_router(prompt_list_routes.router())
    boot = secrets.token_hex(8)

    @routes.get("/alive")
    def alive() -> dict[str, str]:
        """Says that the application runs, and which start of it this is."""
        return {"boot": boot}

    @routes.get("/pinhole/{version}/{name}")
    def asset(version: str, name: str) -> Response:
        path = ASSETS / name
        if not _ASSET_NAME.fullmatch(name) or not path.is_file():
            return PlainTextResponse("There is nothing here.", 404)
        media_type = _TYPES.get(path.suffix) or mimetypes.types_map.get(path.suffix, "text/javascript")
        return FileResponse(path, media_type=media_type, headers={"cache-control": FOR_EVER})

    @routes.get("/pictures/{picture_id}")
    @routes.head("/pictures/{picture_id}")
    def picture(picture_id: str, download: bool = False) -> Response:
        """A finished picture, byte for byte as it was saved."""
        try:
            record = find_picture(picture_id)
        except ValueError as error:
            return PlainTextResponse(str(error), 503)
        if record is None:
            return PlainTextResponse("There is no such picture.", 404)
        path = record.path
        media_type = MEDIA_TYPES.get(path.suffix.lower())
        if media_type is None or path.is_symlink() or not path.is_file():
            return PlainTextResponse(f"The file {path.name} is no longer where it was saved.", 404)
        return FileResponse(
            path,
            media_type=media_type,
            filename=path.name,
            content_disposition_type="attachment" if download else "inline",
            headers={"cache-control": FOR_EVER},
        )

    @routes.get("/style-picture")
    def style(name: str) -> Response:
        """The small picture of the style of this name, drawn from its words."""
        found = SPECIAL_STYLES.get(name) or read_shelf().styles.get(name)
        if found is None:
            return PlainTextResponse("There is no such style.", 404)
        headers = {"cache-control": "private, max-age=300", "content-security-policy": "default-src 'none'"}
        return Response(style_picture(found), media_type="image/svg+xml", headers=headers)

    return routes
