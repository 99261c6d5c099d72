"""The login: what a stranger sees of the server, which is its form, and what changes once somebody is signed in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from modules.api.front import OWNER_COOKIE, owner_of
from modules.api.guard import Door, Guard
from modules.api.login import LANGUAGE_COOKIE, SESSION_COOKIE, Gate, owner_name
from modules.sessions import FREE_TRIES
from modules.settings import Settings, built_in_settings
from tests.modules.conftest import ROOT

BROWSER = {"accept": "text/html,*/*"}


def home(folder: Path) -> Settings:
    """Settings of an application whose files lie in this folder, sessions beside the accounts."""
    return replace(built_in_settings(ROOT), root=folder, data=folder)


class House:
    """A server behind a login, and its first account."""

    def __init__(self, folder: Path) -> None:
        self.told: list[str] = []
        self.gate = Gate.of(home(folder), False, self.told.append)
        words = self.told[0].split()
        self.password = words[words.index("Password") + 1]
        app = FastAPI()

        @app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "DELETE"])
        def inside(request: Request) -> dict[str, object]:
            return {"owner": owner_of(request.cookies), "cookies": sorted(request.cookies)}

        self.app = Guard(self.gate.around(Door(app)), lambda name: True)

    def client(self) -> TestClient:
        return TestClient(self.app, follow_redirects=False)

    def sign_in(self, client: TestClient, password: str = "", user: str = "pinhole") -> int:
        told = {"user": user, "password": password or self.password}
        return client.post("/login", data=told).status_code


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_a_page_for_this_machine_alone_has_no_login(tmp_path: Path) -> None:
    told: list[str] = []
    gate = Gate.of(home(tmp_path), True, told.append)
    app = FastAPI()
    assert not gate.closed and gate.around(app) is app and not told and not list(tmp_path.iterdir())


def test_an_account_is_told_once(house: House, tmp_path: Path) -> None:
    told: list[str] = []
    again = Gate.of(home(tmp_path), False, told.append)
    assert again.closed and not told and house.password not in (tmp_path / "auth.json").read_text()


PATHS = (
    "/", "/alive", "/config", "/theme.css", "/assets/index.js", "/static/x", "/pinhole/1/page.css", "/pictures/1",
    "/thumbnails/1", "/history", "/history/zip/ab", "/queue", "/tasks/1", "/tasks", "/parameters", "/metadata",
    "/prompt-list", "/downloads", "/style-picture", "/gradio_api/queue/join", "/gradio_api/queue/data",
    "/gradio_api/run/x", "/gradio_api/heartbeat/x", "/gradio_api/file=/etc/passwd", "/login/", "//login", "/login/x",
    "/logout/x", "/LOGIN",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_a_stranger_sees_nothing(house: House, path: str) -> None:
    client = house.client()
    for cookies in ({}, {OWNER_COOKIE: owner_name("pinhole")}, {SESSION_COOKIE: "x" * 43}, {SESSION_COOKIE: ""}):
        client.cookies.clear()
        client.cookies.update(cookies)
        for method in ("GET", "POST", "PUT", "DELETE"):
            answer = client.request(method, path)
            assert answer.status_code == 401 and answer.text == "Please sign in.", (method, cookies)
    assert client.get("/", headers=BROWSER).headers["location"] == "/login"
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(path):
        pass


def test_somebody_signs_in_and_out(house: House) -> None:
    client = house.client()
    form = client.get("/login")
    assert form.status_code == 200 and 'type="password"' in form.text and "no-store" in form.headers["cache-control"]
    assert "<script" not in form.text and "http" not in form.text.replace("http-equiv", "")
    assert house.sign_in(client, "wrong") == 401
    assert house.sign_in(client, user="nobody") == 401
    assert house.sign_in(client) == 303
    answer = client.get("/").json()
    assert answer == {"owner": owner_name("pinhole"), "cookies": [OWNER_COOKIE]}, "the session stays outside"
    client.cookies.set(OWNER_COOKIE, "somebody-elses-id")
    assert client.get("/queue").json()["owner"] == owner_name("pinhole"), "nobody chooses whose tasks are theirs"
    assert client.get("/login").headers["location"] == "/"
    token = client.cookies[SESSION_COOKIE]
    assert client.get("/logout").status_code == 303 and client.get("/logout").status_code == 303
    client.cookies.clear()
    client.cookies.set(SESSION_COOKIE, token)
    assert client.get("/queue").status_code == 200, "a link does not sign anybody out"
    assert client.post("/logout").headers["location"] == "/login"
    client.cookies.clear()
    client.cookies.set(SESSION_COOKIE, token)
    assert client.get("/queue").status_code == 401


def test_the_cookie_is_for_the_server_only(house: House) -> None:
    client = house.client()
    answer = client.post("/login", data={"user": "pinhole", "password": house.password})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie and "secure" not in cookie


def test_passwords_are_not_guessed(house: House) -> None:
    client = house.client()
    answers = [house.sign_in(client, f"guess {number}") for number in range(FREE_TRIES + 20)]
    assert answers[:FREE_TRIES] == [401] * FREE_TRIES and set(answers[FREE_TRIES:]) <= {401, 429}
    assert answers.count(401) <= FREE_TRIES + 2, "the rest was not even looked at"
    refused = client.post("/login", data={"user": "pinhole", "password": house.password})
    assert refused.status_code == 429 and "try again in" in refused.text and int(refused.headers["retry-after"]) >= 1


def test_the_answer_does_not_tell_who_there_is(house: House) -> None:
    pages = [house.client().post("/login", data={"user": name, "password": "x"}).text for name in ("pinhole", "nobody")]
    assert pages[0].replace('"pinhole"', "") == pages[1].replace('"nobody"', "")


@pytest.mark.parametrize(
    "body", [b"", b"user=a", b"a" * 10_000, b"\xff\xfe=\x00", b"&" * 5000, b"user=%00&password=%ff", b"user[]=a"]
)
def test_a_form_that_is_none(house: House, body: bytes) -> None:
    answer = house.client().post("/login", content=body)
    assert answer.status_code in (401, 413, 429) and "go together" in answer.text


def test_names_are_shown_as_text(house: House) -> None:
    told = {"user": '"><script>alert(1)</script>$words', "password": "x"}
    page = house.client().post("/login", data=told).text
    assert "<script" not in page and "&quot;&gt;&lt;script&gt;" in page


def test_another_page_does_not_sign_anybody_in(house: House) -> None:
    for headers in ({"origin": "null"}, {"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
        told = {"user": "pinhole", "password": house.password}
        assert house.client().post("/login", data=told, headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("cookie", "accepted", "word"),
    [("", "xx;q=0.9, yy-CH", "Wort"), ("yy", "en", "Wort"), ("nowhere", "en-GB, yy", "Password"), ("", "", "Password")],
)
def test_the_form_speaks_the_readers_language(
    house: House, tmp_path: Path, cookie: str, accepted: str, word: str
) -> None:
    (tmp_path / "language").mkdir()
    wait = "Too many wrong passwords. Please try again in {wait} s."
    (tmp_path / "language" / "yy.json").write_text(
        json.dumps({"Password": "Wort", wait: "{wait} <b>s</b>", "rtl": True})
    )
    client = house.client()
    headers = {"accept-language": accepted, "cookie": f"{LANGUAGE_COOKIE}={cookie}" if cookie else ""}
    form = client.get("/login", headers=headers).text
    assert word in form and ('dir="rtl"' in form) == (word == "Wort")
    if word == "Wort":
        for _ in range(FREE_TRIES + 1):
            answer = client.post("/login", data={"user": "pinhole", "password": "no"}, headers=headers)
        assert answer.status_code == 429 and "&lt;b&gt;s" in answer.text, "a file of words is not HTML"
