"""The routes of the machine's owner: for whoever sits at it, and for nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from modules.api import owner_routes
from modules.connections import Connections
from modules.owner_settings import OwnerSettings
from modules.settings import load_settings


def client(root: Path, host: str = "127.0.0.1") -> TestClient:
    app, connections = FastAPI(), Connections()
    with connections.request("models.example.com", "size of a.safetensors") as noted:
        noted.received = 5
    app.include_router(owner_routes.router(OwnerSettings(load_settings(root, {}, {})), connections, offline=False))
    return TestClient(app, client=(host, 50000))


def test_the_owner_sees_every_connection_and_changes_a_setting(tmp_path: Path) -> None:
    owner = client(tmp_path)
    told = owner.get("/owner/connections").json()
    assert (told["offline"], told["count"], told["requests"][0]["host"]) == (False, 1, "models.example.com")
    answer = owner.post("/owner/settings", json={"values": {"offline": True}})
    changed = next(row for row in answer.json()["rows"] if row["key"] == "offline")
    assert answer.status_code == 200 and changed["next"] is True
    refused = owner.post("/owner/settings", json={"values": {"theme": "pink"}})
    assert refused.status_code == 409 and "pink" in refused.json()["error"]


@pytest.mark.parametrize(
    "body", [{}, {"values": {"offline": 1.5}}, {"values": {"a": {"b": 1}}}, {"values": {}, "more": 1}, {"values": []}]
)
def test_a_body_that_is_none_is_refused(tmp_path: Path, body: dict[str, object]) -> None:
    assert client(tmp_path).post("/owner/settings", json=body).status_code == 422
    assert not (tmp_path / "config.txt").exists()


@pytest.mark.parametrize("header", ["", "forwarded", "x-forwarded-for", "x-real-ip", "via"])
def test_nobody_else_sees_or_changes_anything(tmp_path: Path, header: str) -> None:
    stranger = client(tmp_path, "127.0.0.1" if header else "192.168.1.7")
    headers = {header: "192.168.1.7"} if header else {}
    for answer in (
        stranger.get("/owner/connections", headers=headers),
        stranger.get("/owner/settings", headers=headers),
        stranger.post("/owner/settings", json={"values": {"offline": False}}, headers=headers),
    ):
        assert (answer.status_code, answer.json()) == (403, {"error": owner_routes.NOT_YOURS})
    assert not (tmp_path / "config.txt").exists()
