"""Who is let in: hosts, origins and paths."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from modules.api.guard import PATHS, Door, Guard, host_check, host_name, is_loopback, refusal


@pytest.mark.parametrize(
    ("header", "name"),
    [("localhost:7865", "localhost"), ("127.0.0.1", "127.0.0.1"), ("[::1]:7865", "::1"), ("LOCALHOST", "localhost")],
)
def test_host_names(header: str, name: str) -> None:
    assert host_name(header) == name
    assert is_loopback(name)


@pytest.mark.parametrize("name", ["evil.example", "localhost.evil.example", "192.168.1.5", "127.0.0.1.nip.io", ""])
def test_a_page_for_this_machine_answers_to_no_other_name(name: str) -> None:
    assert not host_check("127.0.0.1")(name)


def test_a_page_for_the_network_answers_to_addresses_and_own_names_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Den.lan")
    check = host_check("0.0.0.0")
    assert all(map(check, ("192.168.1.5", "fe80::1", "den", "den.lan", "den.local", "localhost")))
    assert not any(map(check, ("evil.example", "den.evil.example", "")))


OWN = {"host": "127.0.0.1:7865"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://127.0.0.1:7865", "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},  # a link on another page
    ],
)
def test_own_requests_pass(headers: dict[str, str]) -> None:
    assert refusal(Headers({**OWN, **headers}), is_loopback, "http") == ""


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "null"},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:8000"},
        {"origin": "http://localhost:7865"},
        {"origin": ""},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
        {"host": "evil.example:7865"},
        {"host": ""},
    ],
)
def test_foreign_requests_are_refused_in_words(headers: dict[str, str]) -> None:
    assert "Pinhole" in refusal(Headers({**OWN, **headers}), is_loopback, "http")


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd", "/file=/etc/passwd", "/gradio_api/file/x", "/gradio_api/upload",
        "/gradio_api/proxy=http://evil.example", "/gradio_api/info", "/gradio_api/openapi.json", "/monitoring",
        "/gradio_api/vibe-edit", "/gradio_api/stream/a/b/c/playlist.m3u8", "/gradio_api/runs", "/docs", "/openapi.json",
        "/gradio_api/deep_link", "/gradio_api/component_server", "/gradio_api/custom_component/a/b/c/d", "/login",
        "/pictures/a/b", "/queue/cancel/a", "/gradio_api/call/x",
    ],
)  # fmt: skip
def test_what_the_page_does_not_need_does_not_exist(path: str) -> None:
    assert not PATHS.fullmatch(path)


async def _greet(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def _ask(scope: dict[str, Any]) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(Guard(Door(_greet), is_loopback)(scope, receive, send))
    return sent


def _scope(kind: str, path: str, headers: dict[str, str]) -> dict[str, Any]:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": kind, "scheme": "http", "path": path, "method": "GET", "headers": raw}


def test_answers_carry_the_security_headers() -> None:
    start = _ask(_scope("http", "/alive", OWN))[0]
    assert start["status"] == 200
    headers = dict(start["headers"])
    assert b"default-src 'self'" in headers[b"content-security-policy"]
    assert headers[b"x-content-type-options"] == b"nosniff"


def test_refusals_by_http() -> None:
    assert _ask(_scope("http", "/alive", {**OWN, "origin": "null"}))[0]["status"] == 403
    assert _ask(_scope("http", "/docs", OWN))[0]["status"] == 404


@pytest.mark.parametrize("headers", [{**OWN, "origin": "null"}, {"host": "evil.example"}, OWN])
def test_web_sockets_are_closed(headers: dict[str, str]) -> None:
    messages = _ask(_scope("websocket", "/", headers))
    assert [message["type"] for message in messages] == ["websocket.close"]
