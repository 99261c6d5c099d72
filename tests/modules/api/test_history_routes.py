"""The history's routes: what a browser gets of it, and that nobody gets what is another's."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from modules.api import history_routes
from modules.api.front import OWNER_COOKIE
from modules.api.guard import PATHS
from modules.history import History
from modules.store import DATABASE, Store
from tests.modules.test_history import make

ME, HER = "m" * 24, "h" * 24
EVIL = '</script><img src=x onerror=alert(1)> "quoted"'


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store(tmp_path / DATABASE)
    yield found
    found.close()


def client(store: Store, tmp_path: Path, everybody: bool = False, owner: str = ME) -> TestClient:
    app = FastAPI()
    app.include_router(history_routes.router(History(store), tmp_path / "thumbnails", everybody))
    return TestClient(app, cookies={OWNER_COOKIE: owner})


def prompts(browser: TestClient, asked: str = "") -> list[str]:
    return [picture["prompt"] for picture in browser.get(f"/history{asked}").json()["pictures"]]


def test_a_page_says_what_is_shown_and_no_path(store: Store, tmp_path: Path) -> None:
    identity = make(store, tmp_path / "outputs", EVIL, owner=ME, image_seed=2**63 - 1)
    browser = client(store, tmp_path)
    answer = browser.get("/history")
    (picture,) = answer.json()["pictures"]
    assert picture["prompt"] == EVIL and picture["id"] == identity and picture["seed"] == "7"
    assert str(tmp_path) not in answer.text and answer.json()["after"] == ""
    assert answer.headers["content-type"] == "application/json"


def test_pages_are_asked_for_one_after_the_other(store: Store, tmp_path: Path) -> None:
    made = {make(store, tmp_path / "outputs", f"fox {n}", owner=ME, created=n) for n in range(70)}
    browser, after, seen = client(store, tmp_path), "", []
    for _ in range(2):
        page = browser.get("/history", params={"after": after, "words": "fox"}).json()
        seen += [picture["id"] for picture in page["pictures"]]
        after = page["after"]
    assert after == "" and set(seen) == made and len(seen) == 70
    assert prompts(browser, "?after=nonsense")[0] == "fox 69"


def test_each_browser_has_its_own_history_unless_the_page_is_for_this_machine_alone(
    store: Store, tmp_path: Path
) -> None:
    mine = make(store, tmp_path / "outputs", "mine", owner=ME)
    make(store, tmp_path / "outputs", "hers", owner=HER)
    me, her, local = client(store, tmp_path), client(store, tmp_path, owner=HER), client(store, tmp_path, True, "")
    assert prompts(me) == ["mine"] and prompts(her) == ["hers"] and sorted(prompts(local)) == ["hers", "mine"]
    for deed in ("favourite", "ordinary", "delete", "restore"):
        assert her.post(f"/history/{deed}", json={"ids": [mine]}).json() == {"done": 0}
    assert her.post("/history/zip", json={"ids": [mine]}).status_code == 409
    assert her.get(f"/thumbnails/{mine}").status_code == 404 and me.get(f"/thumbnails/{mine}").status_code == 200
    assert prompts(client(store, tmp_path, owner="")) == []


def test_deeds(store: Store, tmp_path: Path) -> None:
    first, second = (make(store, tmp_path / "outputs", name, owner=ME) for name in ("first", "second"))
    browser = client(store, tmp_path)
    assert browser.post("/history/favourite", json={"ids": [first]}).json() == {"done": 1}
    assert prompts(browser, "?favourites=true") == ["first"]
    assert browser.post("/history/delete", json={"ids": [first, first, "no such"]}).json() == {"done": 1}
    assert prompts(browser) == ["second"]
    assert browser.post("/history/restore", json={"ids": [first]}).json() == {"done": 1}
    assert browser.post("/history/explode", json={"ids": [second]}).status_code == 404
    for wrong in ({}, {"ids": "all"}, {"ids": [1]}, {"ids": ["x"] * 2001}, {"ids": [], "owner": HER}):
        assert browser.post("/history/delete", json=wrong).status_code == 422
    assert len(prompts(browser)) == 2


def test_what_a_disk_refuses_is_told_in_words(store: Store, tmp_path: Path) -> None:
    identity = make(store, tmp_path / "outputs", "a fox", owner=ME)
    (next((tmp_path / "outputs").iterdir()) / ".deleted").write_text("in the way", encoding="utf-8")
    answer = client(store, tmp_path).post("/history/delete", json={"ids": [identity]})
    assert answer.status_code == 409 and "error" in answer.json()


def test_a_zip_holds_the_files_to_the_byte(store: Store, tmp_path: Path) -> None:
    ids = [make(store, tmp_path / "outputs", name, owner=ME) for name in "abc"]
    browser, files = client(store, tmp_path), History(store).files(ME, ids)
    address = browser.post("/history/zip", json={"ids": [*ids, "gone"]}).json()["address"]
    assert PATHS.fullmatch(address)
    files[1].unlink()  # between the choice and the download
    answer = browser.get(address)
    assert answer.headers["content-disposition"].startswith('attachment; filename="pinhole-')
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {
            path.name: path.read_bytes() for path in (files[0], files[2])
        }
    assert browser.get("/history/zip/" + "0" * 32).status_code == 404
    for _ in range(40):
        browser.post("/history/zip", json={"ids": ids[:1]})
    assert browser.get(address).status_code == 404, "old choices are forgotten"


def test_small_pictures_are_made_once_and_broken_ones_are_told(store: Store, tmp_path: Path) -> None:
    good, bad = (make(store, tmp_path / "outputs", name, owner=ME) for name in ("good", "bad"))
    path, broken = History(store).files(ME, [good, bad])
    Image.new("RGB", (1600, 800), "red").save(path)
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    browser = client(store, tmp_path)
    answer = browser.get(f"/thumbnails/{good}")
    with Image.open(io.BytesIO(answer.content)) as small:
        assert small.size == (320, 160) and small.format == "WEBP"
        red, green, _ = small.convert("RGB").getpixel((9, 9))  # type: ignore[misc]
        assert red > 240 and green < 12
    path.write_bytes(b"changed")
    assert browser.get(f"/thumbnails/{good}").content == answer.content
    assert browser.get(f"/thumbnails/{bad}").status_code == 404


@pytest.mark.parametrize("path", ["/history", "/history/choices", "/history/delete", "/thumbnails/2026-a-01"])
def test_the_guard_knows_the_routes(path: str) -> None:
    assert PATHS.fullmatch(path) and not PATHS.fullmatch(f"{path}/../x") and not PATHS.fullmatch("/history/zip/x/y")
