"""A picture's bytes come in, the text in its header goes out; anything else is refused in words."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from modules.api import metadata_routes
from modules.metadata import encode_picture

LIMIT = 200_000


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    app.include_router(metadata_routes.router(LIMIT))
    return TestClient(app)


def picture(kind: str = "png") -> bytes:
    return encode_picture(np.zeros((8, 8, 3), np.uint8), kind, '{"parameters": {}}')


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_the_text_of_a_picture(client: TestClient, kind: str) -> None:
    answer = client.post("/metadata", content=picture(kind))
    assert answer.status_code == 200 and answer.json() == {"text": '{"parameters": {}}'}
    assert answer.headers["cache-control"] == "no-store"


def test_pixels_are_not_needed(client: TestClient) -> None:
    whole = picture("jpeg")
    assert client.post("/metadata", content=whole[:-40]).json() == {"text": '{"parameters": {}}'}


@pytest.mark.parametrize("body", [b"", b"hello", b"GIF89a" + bytes(50), b"\x89PNG\r\n\x1a\n", bytes(1000)])
def test_what_is_no_picture_is_refused(client: TestClient, body: bytes) -> None:
    answer = client.post("/metadata", content=body)
    assert answer.status_code == 422 and "not a PNG, JPEG or WEBP picture" in answer.json()["error"]


def test_a_picture_without_a_text(client: TestClient) -> None:
    buffer = BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    answer = client.post("/metadata", content=buffer.getvalue())
    assert answer.status_code == 422 and answer.json()["error"] == "There are no parameters in this picture."


def test_too_much_is_refused_also_where_no_length_is_told(client: TestClient) -> None:
    assert client.post("/metadata", content=bytes(LIMIT + 1)).status_code == 413
    answer = client.post("/metadata", content=iter([bytes(LIMIT), b"x"]))
    assert answer.status_code == 413 and "larger than" in answer.json()["error"]


def test_a_text_that_unpacks_to_far_too_much_is_refused(client: TestClient) -> None:
    info, buffer = PngInfo(), BytesIO()
    info.add_text("parameters", "x" * 30_000_000, zip=True)
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=info)
    assert len(buffer.getvalue()) < LIMIT
    assert client.post("/metadata", content=buffer.getvalue()).status_code == 422
