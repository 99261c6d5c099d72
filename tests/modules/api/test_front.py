"""The page's frame."""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from modules.api.front import MOST_NAMES, OWNER_COOKIE, Front, framed, owner_of

DOCUMENT = """<html><head>
  <meta property="og:image" content="https://outside.example/picture.png" />
  <meta name="twitter:card"
    content="summary" />
  <link rel="manifest" href="/manifest.json" />
  <meta name="viewport" content="width=device-width" />
  <script type="module" src="./assets/index.js"></script>
</head><body></body></html>"""


def test_our_head_comes_before_the_scripts() -> None:
    document = framed(DOCUMENT, "<link ours>", "n")
    assert document.index("<link ours>") < document.index("./assets/index.js")


def test_nothing_of_another_house_is_left() -> None:
    document = framed(DOCUMENT, "", "n")
    assert "https://" not in document and "twitter" not in document and "manifest" not in document
    assert "viewport" in document


def test_a_document_without_scripts_gets_the_head_too() -> None:
    assert framed("<head></head>", "<x>", "n") == "<head><x></head>"


def test_scripts_in_the_text_carry_the_nonce_of_this_answer() -> None:
    document = framed("<head><script>a()</script><script type='module'\nsrc='x.js'></script></head>", "", "N0nce")
    assert document == "<head><script nonce=\"N0nce\">a()</script><script type='module'\nsrc='x.js'></script></head>"


def test_an_owner_is_what_we_gave_and_nothing_else() -> None:
    assert owner_of({OWNER_COOKIE: "abcdefghijklmnop-_123"}) == "abcdefghijklmnop-_123"
    assert owner_of({OWNER_COOKIE: "short"}) == owner_of({}) == owner_of({OWNER_COOKIE: "a" * 16 + "/../x"}) == ""


class Gradio:
    """An app that counts how often it writes its document."""

    def __init__(self) -> None:
        self.written: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = Headers(scope=scope)["host"]
        self.written.append(host)
        answer = PlainTextResponse("gone", 503) if host == "down" else HTMLResponse(DOCUMENT.replace("body", host))
        await answer(scope, receive, send)


def test_the_document_is_written_once_for_each_name_and_signed_anew_for_everybody() -> None:
    app = Gradio()
    client = TestClient(Front(app, '<script src="ours.js"></script>'))
    answers = [client.get("/", headers={"host": host}) for host in ("a", "b", "a", "a")]
    assert app.written == ["a", "b"] and "<b>" in answers[1].text and "<a>" in answers[2].text
    nonces = {re.findall('nonce="([^"]*)"', answer.text)[0] for answer in answers}
    assert len(nonces) == 4 and all(len(nonce) == 24 for nonce in nonces)
    for answer in answers:
        (nonce,) = set(re.findall('nonce="([^"]*)"', answer.text))
        assert f"'nonce-{nonce}'" in answer.headers["content-security-policy"] and "\ufdd0" not in answer.text
    assert [client.get("/", headers={"host": "down"}).status_code for _ in range(2)] == [503, 503]
    for number in range(2 * MOST_NAMES):
        client.get("/", headers={"host": f"host{number}"})
    assert client.get("/", headers={"host": "a"}).status_code == 200 and app.written[-1] == "a"
