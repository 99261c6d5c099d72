"""Which addresses are asked and which are not, redirects, and that nobody is reached by a detour."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from modules.https import FetchError, Interrupted, Reach, Stop, ask, checked_url, mirrored
from tests.modules.model_server import REACH, ModelServer, Way, serving


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with serving() as opened:
        opened.files["/here"] = b"hello"
        yield opened


def body(url: str, reach: Reach = REACH) -> bytes:
    with ask(url, {}, reach, Stop(), "a test") as answer:
        return answer.body.read()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/a",
        "http://192.168.1.1/a",
        "ftp://example.com/a",
        "file:///etc/passwd",
        "https:///a",
        "https://",
        "//example.com/a",
        "",
        "https://user:secret@example.com/a",
        "https://user@example.com/a",
        "https://example.com/a b",
        "https://example.com/a\r\nHost: x",
        "https://example.com:99999/a",
        "https://example.com:0/a",
        "https://exa mple.com/",
        "https://[::1/a",
        f"https://{'a' * 300}.com/",
        f"https://example.com/{'a' * 4001}",
    ],
)
def test_what_is_no_https_address_is_not_asked(url: str) -> None:
    for reach in (Reach(), REACH):
        with pytest.raises(FetchError):
            checked_url(url, reach)


@pytest.mark.parametrize("url", ["http://127.0.0.1/a", "http://localhost/a"])
def test_plain_http_is_for_this_machine_where_that_is_allowed(url: str) -> None:
    assert checked_url(url, REACH).path == "/a"
    with pytest.raises(FetchError, match="only https"):
        checked_url(url, Reach())


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    ],
)  # fmt: skip
def test_private_addresses_are_not_reached(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def found(*_: Any, **__: Any) -> list[Any]:
        return [(family, socket.SOCK_STREAM, 6, "", (address, 443))]

    def connected(*_: Any) -> None:
        raise AssertionError("connected")

    monkeypatch.setattr(socket, "getaddrinfo", found)
    monkeypatch.setattr(socket.socket, "connect", connected)
    with pytest.raises(FetchError, match="private network"):
        body("https://models.example.com/a", Reach())


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    connected: list[Any] = []

    def found(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        names = ["10.0.0.1", "93.184.216.34"]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in names]

    def connect(_: socket.socket, address: Any) -> None:
        connected.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "getaddrinfo", found)
    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(Interrupted, match="cannot be reached: Connection refused"):
        body("https://models.example.com/a", Reach())
    assert asked == ["models.example.com"], "a name is looked up once: it cannot change in between"
    assert connected == [("93.184.216.34", 443)]


def test_redirects_are_followed_a_few_times_and_to_safe_places_only(server: ModelServer) -> None:
    def to(place: str) -> Way:
        return Way(status=302, headers={"Location": place})

    server.ways = [to("/other"), to(server.url("/here"))]
    assert body(server.url("/start")) == b"hello"
    server.ways = [to("/here")] * 5
    assert body(server.url("/start")) == b"hello"
    server.ways = [to("/here")] * 6
    with pytest.raises(FetchError, match="redirects more than 5 times"):
        body(server.url("/start"))
    for place in (
        "https://[half/a",
        "http://example.com/a",
        "file:///etc/passwd",
        "ftp://127.0.0.1/a",
        "https://a:b@127.0.0.1/",
    ):
        server.ways = [to(place)]
        server.seen.clear()
        with pytest.raises(FetchError):
            body(server.url("/start"))
        assert len(server.seen) == 1


def test_a_public_server_cannot_redirect_into_the_house(server: ModelServer) -> None:
    with pytest.raises(FetchError, match="only https"):
        body(server.url("/here"), Reach())
    with pytest.raises(FetchError, match="private network"):
        body(f"https://127.0.0.1:{server.server_port}/here", Reach())
    assert server.seen == []


def test_a_server_without_a_certificate_is_not_believed(server: ModelServer) -> None:
    with pytest.raises((FetchError, Interrupted)):
        body(f"https://127.0.0.1:{server.server_port}/here")


def test_a_name_that_nobody_knows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", lost)
    with pytest.raises(Interrupted, match=r"models.example.com cannot be found: is this machine online\?"):
        body("https://models.example.com/a", Reach())


def test_the_mirror_stands_for_the_hub_and_nobody_else(server: ModelServer) -> None:
    mirror = "https://mirror.example.com"
    assert mirrored("https://huggingface.co/a/b", mirror) == f"{mirror}/a/b"
    assert mirrored("https://huggingface.co/a/b", f"{mirror}/hf/") == f"{mirror}/hf/a/b"
    assert mirrored("https://huggingface.co.evil.com/a", mirror) == "https://huggingface.co.evil.com/a"
    assert (
        mirrored("https://other.com/https://huggingface.co/a", mirror) == "https://other.com/https://huggingface.co/a"
    )
    assert mirrored("https://huggingface.co/a", "") == "https://huggingface.co/a"
    assert body("https://huggingface.co/here", Reach(mirror=server.url(""), private=True)) == b"hello"


def test_nothing_that_tells_of_the_user_is_sent(server: ModelServer) -> None:
    body(server.url("/here"))
    sent = server.seen[0][1]
    assert set(sent) == {"host", "user-agent", "accept", "accept-encoding", "connection"}
    assert sent["user-agent"] == "Pinhole" and sent["accept-encoding"] == "identity"


def test_addresses_are_sent_as_they_must_be(server: ModelServer) -> None:
    server.files["/%C3%A4/b%20c"] = b"x"
    assert body(server.url("/ä/b%20c")) == b"x"
