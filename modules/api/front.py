"""The page's frame: Gradio's document with our head and the owner's cookie; knows nothing of what stands in it."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modules.api.guard import content_policy

OWNER_COOKIE = "pinhole_owner"
OWNER = re.compile(r"[A-Za-z0-9_-]{16,64}")
OWNER_SECONDS = 400 * 24 * 3600  # the longest that browsers keep a cookie

# Gradio's document advertises Gradio: link previews at an outside host, and an app manifest under its name.
_FOREIGN = re.compile(r'\s*<meta\s+(?:property|name)="(?:og|twitter):[^"]*"[^>]*>|\s*<link rel="manifest"[^>]*>')
# What the address of this machine is told by.
_CALLED = ("host", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-gradio-server")
_PLACE = "\ufdd0nonce\ufdd1"  # characters that no text has
MOST_NAMES = 16  # by which this machine is called
_FIRST_SCRIPT = '<script type="module"'
_SCRIPT_IN_TEXT = re.compile(r"<script(?![^>]*\bsrc=)")


def owner_of(cookies: Mapping[str, str]) -> str:
    """The id under which a browser's tasks are kept; empty when it keeps no cookies."""
    value = cookies.get(OWNER_COOKIE, "")
    return value if OWNER.fullmatch(value) else ""


def framed(document: str, head: str, nonce: str) -> str:
    """Gradio's document with ``head`` before its scripts, so that the page has its colours from the first moment.

    Its scripts carry the ``nonce`` by which the browser knows them from one that somebody else has smuggled in.
    """
    document = _SCRIPT_IN_TEXT.sub(f'<script nonce="{nonce}"', _FOREIGN.sub("", document))
    head = head.replace("<script ", f'<script nonce="{nonce}" ')
    before, script, after = document.partition(_FIRST_SCRIPT)
    return f"{before}{head}\n{script}{after}" if script else document.replace("</head>", f"{head}</head>", 1)


class Front:
    """ASGI middleware: frames what the app answers to GET / and gives every browser an owner's id.

    Gradio writes the same document for everybody who calls this machine by the same name, and takes its time for it:
    it is written once for each name.
    """

    def __init__(self, app: ASGIApp, head: str) -> None:
        self.app = app
        self.head = head
        self._turn = asyncio.Lock()
        self._pieces: dict[tuple[str, ...], list[str]] = {}  # what stands between the nonces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        asked = Headers(scope=scope)
        called = (scope["scheme"], *(asked.get(name, "") for name in _CALLED))
        async with self._turn:
            if called not in self._pieces:
                status, headers, body = await self._answer(scope, receive)
                if status != 200:
                    await Response(body, status, media_type=headers.get("content-type"))(scope, receive, send)
                    return
                while len(self._pieces) >= MOST_NAMES:
                    del self._pieces[next(iter(self._pieces))]
                self._pieces[called] = framed(body.decode("utf-8"), self.head, _PLACE).split(_PLACE)
        nonce = secrets.token_urlsafe(18)
        response = Response(nonce.join(self._pieces[called]), media_type="text/html")
        response.headers["cache-control"] = "no-store"
        response.headers["content-security-policy"] = content_policy(nonce)
        if not owner_of(cookie_parser(asked.get("cookie", ""))):
            response.set_cookie(
                OWNER_COOKIE, secrets.token_urlsafe(24), max_age=OWNER_SECONDS, httponly=True, samesite="lax"
            )
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, Headers, bytes]:
        """Status, headers and whole body of the app's uncompressed answer."""
        status, headers, body = 500, Headers(), bytearray()

        async def collect(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], Headers(raw=message["headers"])
            elif message["type"] == "http.response.body":
                body.extend(message.get("body", b""))

        plain = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
        await self.app({**scope, "headers": plain}, receive, collect)
        return status, headers, bytes(body)
