"""The web server: our routes and Gradio's behind one guard, on a socket that is already bound; knows no page."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
import gradio as gr
import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp

from modules.api.front import Front
from modules.api.guard import Door, Guard, host_check
from modules.api.public import Public
from modules.flags import address_of, addresses_elsewhere

log = logging.getLogger(__name__)

# Everybody who watches a task keeps a thread waiting for its next event; the usual 40 would be shared with Stop.
THREADS = 400
FAREWELL_SECONDS = 1
MOST_WORDS = 200  # characters of the names of what was not understood


def application(
    page: gr.Blocks,
    look: gr.themes.Base,
    routes: APIRouter,
    head: str,
    host: str,
    login: Callable[[ASGIApp], ASGIApp],
    public: Public,
) -> ASGIApp:
    """The whole server as one ASGI app, answering to the names that mean ``host``; ``login`` goes around all of it.

    Where there is a ``public`` address it answers to that as well, at a door of its own.
    """
    app = application_of(routes)
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        allowed_paths=[],
        show_error=False,
        max_file_size=0,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        theme=look,
    )
    inside = login(Door(Front(app, head)))
    return public.beside(Guard(inside, host_check(host)), inside)


def application_of(routes: APIRouter) -> FastAPI:
    """Our own routes alone. A request that says something else than they take is refused without repeating it."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=_lifespan)
    app.include_router(routes)

    @app.exception_handler(RequestValidationError)
    def refuse(request: Request, error: RequestValidationError) -> JSONResponse:
        """FastAPI's own answer holds what was sent, and fails where that is no text."""
        places = sorted({".".join(map(str, each["loc"])) for each in error.errors()})
        return JSONResponse({"error": f"This was not understood: {', '.join(places)[:MOST_WORDS]}."}, 422)

    return app


def tell_ready(door: socket.socket, in_browser: bool) -> None:
    """Say where the page is, and show it in a browser if that is wanted."""
    address = address_of(door)
    log.info("answering on %s", address)
    sys.stdout.write(f"Pinhole is ready at {address}   (Ctrl+C ends it)\n")
    for other in addresses_elsewhere(door):
        sys.stdout.write(f"On other machines: {other}\n")
    sys.stdout.flush()
    if in_browser:
        threading.Thread(target=webbrowser.open, args=(address,), name="browser", daemon=True).start()


def end_in_order() -> None:
    """Lets a request to end, and a terminal that is closed, end the application in order, as Ctrl+C does."""
    for name in ("SIGTERM", "SIGHUP"):
        kind = getattr(signal, name, None)
        if kind is not None and signal.getsignal(kind) == signal.SIG_DFL:
            signal.signal(kind, signal.default_int_handler)


def give_gradio_a_folder(folder: Path) -> None:
    """Gradio serves whatever lies in its folder for temporary files; ours is its own and stays empty."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"


class Server(uvicorn.Server):
    """Serves until it is interrupted; ``ready`` is called once it answers."""

    def __init__(self, app: ASGIApp, ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="error",
                access_log=False,
                ws="none",
                server_header=False,
                timeout_graceful_shutdown=FAREWELL_SECONDS,
            )
        )
        self._ready = ready
        logging.getLogger("uvicorn.error").addFilter(_is_news)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, and then ``ready``."""
        await super().startup(sockets)
        if self.started:
            self._ready()


def _is_news(record: logging.LogRecord) -> bool:
    """Pages that follow a task keep a stream open, and uvicorn takes it for an error to cut those when it ends."""
    cut = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cut and "graceful shutdown" not in record.getMessage()


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield
