"""The page's frame."""

from __future__ import annotations

from modules.api.front import OWNER_COOKIE, framed, owner_of

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
