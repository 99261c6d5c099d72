"""Files with lists of prompts: lines come back, and words where that cannot be."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from modules.api import prompt_list_routes
from modules.prompt_list import MAX_CHARACTERS, MAX_LINES


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    app.include_router(prompt_list_routes.router())
    return TestClient(app)


def test_texts_and_tables_become_lines(client: TestClient) -> None:
    told = client.post("/prompt-list", content="a cat\n# no\n雪の狐".encode()).json()
    assert told == {"lines": ["a cat", "雪の狐"], "problems": []}
    told = client.post("/prompt-list?table=true", content=b"prompt\tseed\na cat\t5\na dog\tx\n").json()
    assert told["lines"] == ['a cat --image_seed "5"']
    assert len(told["problems"]) == 1 and told["problems"][0].startswith("Line 3 (a dog")


@pytest.mark.parametrize(
    ("body", "table", "status", "words"),
    [
        (b"", False, 422, "no prompt"),
        (b"\xff\xff", False, 422, "UTF-8"),
        (b"a" * (MAX_CHARACTERS + 1), False, 413, "1 MB"),
        (b"a\n" * (MAX_LINES + 1), False, 422, "1,001"),
        (b"sed\n1", True, 422, "did you mean"),
    ],
)
def test_what_cannot_be_is_told(client: TestClient, body: bytes, table: bool, status: int, words: str) -> None:
    answer = client.post(f"/prompt-list?table={table}", content=body)
    assert answer.status_code == status and words in answer.json()["error"]
