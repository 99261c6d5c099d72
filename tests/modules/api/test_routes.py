"""Our own routes, answered by the app itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from modules.api.routes import assets_address, head, router
from modules.events import PictureRecord


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    """A server that knows four pictures, one of which is really there."""
    (tmp_path / "here.png").write_bytes(b"\x89PNG and so on")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "link.png").symlink_to(tmp_path / "secret.txt")
    names = {"here": "here.png", "gone": "gone.png", "text": "secret.txt", "link": "link.png"}

    def find(identity: str) -> PictureRecord | None:
        if identity not in names:
            return None
        return PictureRecord(identity, "task", 0, tmp_path / names[identity], 1, 8, 8, 0.0, {})

    app = FastAPI()
    app.include_router(router(find))
    return TestClient(app)


def test_a_picture_is_served_as_it_was_saved(client: TestClient) -> None:
    answer = client.get("/pictures/here")
    assert answer.status_code == 200 and answer.content == b"\x89PNG and so on"
    assert answer.headers["content-type"] == "image/png"
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-disposition"].startswith("inline")
    assert client.get("/pictures/here?download=1").headers["content-disposition"].startswith("attachment")
    assert client.head("/pictures/here").status_code == 200


@pytest.mark.parametrize("identity", ["unknown", "gone", "text", "link", "..%2Fsecret.txt", "%00"])
def test_nothing_else_is(client: TestClient, identity: str) -> None:
    answer = client.get(f"/pictures/{identity}")
    assert answer.status_code == 404 and "secret" not in answer.text.replace("secret.txt", "")


def test_the_pages_files(client: TestClient) -> None:
    address = assets_address()
    for name, kind in (("page.js", "javascript"), ("page.css", "css"), ("icon.svg", "svg")):
        answer = client.get(f"{address}/{name}")
        assert answer.status_code == 200 and kind in answer.headers["content-type"]
    assert client.get(f"{address}/stage.html").status_code == 404
    assert client.get(f"{address}/..%2F..%2Froutes.py").status_code == 404
    assert address in head(address)


def test_a_sign_of_life(client: TestClient) -> None:
    assert client.get("/alive").json() == client.get("/alive").json()


def test_what_a_broken_store_says_is_answered(tmp_path: Path) -> None:
    def find(identity: str) -> PictureRecord | None:
        raise ValueError("The queue could not be read: the disk is gone.")

    answer = _client(find).get("/pictures/x")
    assert answer.status_code == 503 and "disk is gone" in answer.text


def _client(find: Callable[[str], PictureRecord | None]) -> TestClient:
    app = FastAPI()
    app.include_router(router(find))
    return TestClient(app)
