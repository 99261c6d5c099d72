"""A real HTTP server on this machine that gives files, and misbehaves as it is told."""

from __future__ import annotations

import hashlib
import json
import random
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from modules.https import Reach

REACH = Reach(private=True, stall=0.4)


@dataclass(frozen=True, kw_only=True)
class Way:
    """How one request is answered. ``cut``: bytes of the body after which the connection ends; ``stall``: after which
    nothing more comes; ``slow``: seconds between pieces of 64 kB; ``headers`` with None as a value take one away."""

    status: int | None = None
    body: bytes | None = None
    cut: int | None = None
    stall: int | None = None
    slow: float = 0.0
    ranges: bool = True
    shift: int = 0  # of the beginning of a range, against what it says
    headers: dict[str, str | None] = field(default_factory=dict)


class ModelServer(ThreadingHTTPServer):
    """``files`` by path; ``ways`` for the next requests of any path, then the proper one; ``seen`` requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.ways: list[Way] = []
        self.always = Way()
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.released = threading.Event()
        self.lock = threading.Lock()

    def url(self, path: str = "/model.safetensors") -> str:
        """The address of a path."""
        return f"http://127.0.0.1:{self.server_port}{path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    server: ModelServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        with server.lock:
            server.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            way = server.ways.pop(0) if server.ways else server.always
        self._answer(way)

    def _answer(self, way: Way) -> None:
        whole = self.server.files.get(self.path, b"") if way.body is None else way.body
        status = way.status or (200 if self.path in self.server.files or way.body is not None else 404)
        mark = f'"{hashlib.md5(whole).hexdigest()}"'
        headers: dict[str, str | None] = {"ETag": mark, "Connection": "close"}
        begin, end = 0, len(whole)
        wish = self.headers.get("range", "")
        mark_here = way.headers.get("ETag", mark)
        if status == 200 and wish and way.ranges and self.headers.get("if-range") in (None, mark_here):
            first, _, last = wish.removeprefix("bytes=").partition("-")
            begin, end = int(first) + way.shift, int(last) + 1 if last else end
            status = 206 if begin < len(whole) else 416
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(whole)}"
        body = whole[begin:end] if status in (200, 206) else b"<html>sorry</html>"
        headers |= {"Content-Length": str(len(body)), **way.headers}
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        stop = min(each for each in (way.cut, way.stall, len(body)) if each is not None)
        for start in range(0, stop, 65536):
            self.wfile.write(body[start : min(start + 65536, stop)])
            self.wfile.flush()
            if way.slow and self.server.released.wait(way.slow):
                return
        if way.stall is not None:
            self.server.released.wait(10)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextmanager
def serving() -> Iterator[ModelServer]:
    """A server while inside."""
    server = ModelServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def model_bytes(size: int = 1_500_000, seed: int = 1) -> bytes:
    """A safetensors file of about this size; its tensor's bytes differ everywhere."""
    data = random.Random(seed).randbytes(size)
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + data
