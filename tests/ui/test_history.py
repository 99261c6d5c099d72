"""The history in a real browser: found by words, looked at, deleted and brought back, compared, taken as a zip."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modules.store import DATABASE, Store
from tests.modules.test_history import make
from tests.ui.conftest import Served, Visitor, serve

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

EVIL = "<img src=x onerror=alert(1)>"
TILE, WORDS = ".history-tile", ".history-words"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A page of somebody who has made pictures: today, yesterday and long ago."""
    root = tmp_path_factory.mktemp("history")
    store = Store(root / "data" / DATABASE)
    now = datetime.now().replace(hour=12)
    for days, prompt in ((0, "a red fox"), (0, f"a blue boat {EVIL}"), (1, "雪の中の狐"), (400, "a red owl")):
        made = (now - timedelta(days=days)).timestamp() - len(prompt)
        make(store, root / "outputs", prompt, created=made, base_model="pinhole-mini-base.safetensors")
    store.close()
    found = serve(root)
    yield found
    found.stop()


def opened(person: Visitor, home: Served, tiles: int) -> Page:
    page = person.open(home)
    page.click("#history_button")
    await_tiles(page, tiles)
    return page


def await_tiles(page: Page, count: int) -> None:
    page.wait_for_function(f"document.querySelectorAll('{TILE}').length === {count}")


def test_what_was_made_is_found_by_day_and_by_words(visitor: Visitor, home: Served) -> None:
    page = opened(visitor, home, 4)
    assert page.locator(".history-day h3").all_inner_texts()[:2] == ["Today", "Yesterday"]
    page.wait_for_function("[...document.querySelectorAll('.history-open img')].every((image) => image.naturalWidth)")
    page.fill(WORDS, "RED")
    await_tiles(page, 2)
    page.fill(WORDS, "狐")
    await_tiles(page, 1)
    page.fill(WORDS, "a bear")
    page.wait_for_selector(".history-empty:has-text('No picture is like that.')")
    page.fill(WORDS, "")
    await_tiles(page, 4)
    page.hover(TILE)
    page.click(f"{TILE} .history-heart")
    page.wait_for_selector(".history-heart[aria-pressed=true]")
    page.click(".history-head button:has-text('Favourites')")
    await_tiles(page, 1)
    page.click(".history-head button:has-text('Close')")
    assert not page.is_visible(".history")


def test_a_picture_is_looked_at_deleted_and_brought_back(visitor: Visitor, home: Served) -> None:
    page = opened(visitor, home, 4)
    page.fill(WORDS, "boat")
    await_tiles(page, 1)
    page.focus(".history-open")
    page.keyboard.press("Enter")
    page.wait_for_selector(".history-look[open]")
    assert page.inner_text(".history-prompt") == f"a blue boat {EVIL}"
    assert page.locator(".history-side img").count() == 0
    page.keyboard.press("Delete")
    page.wait_for_selector(".history-empty:visible")
    page.click(".history-toast button:has-text('Undo')")
    await_tiles(page, 1)
    page.click(".history-open")
    page.click(".history-look button:has-text('Same with a new seed')")
    page.wait_for_selector(".told-used")
    page.wait_for_function("document.querySelector('#prompt textarea').value.startsWith('a blue boat')")
    page.click("button[role=tab]:has-text('Settings')")
    page.wait_for_function("document.querySelector('#seed_random input').checked")


def test_two_are_compared_and_several_are_taken_as_a_zip(visitor: Visitor, home: Served, tmp_path: Path) -> None:
    page = opened(visitor, home, 4)
    for place in (0, 3):
        page.hover(f"{TILE} >> nth={place}")
        page.click(f"{TILE} >> nth={place} >> .history-choose")
    page.click(".history-bar button:has-text('Compare')")
    page.focus(".compare-slider")
    page.keyboard.press("Home")
    assert page.eval_on_selector(".compare-stage", "(stage) => stage.style.getPropertyValue('--wipe')") == "0%"
    page.keyboard.press("Escape")
    page.wait_for_function("!document.querySelector('.history-compare')")
    page.click(f"{TILE} >> nth=1 >> .history-open", modifiers=["Control"])
    assert page.inner_text(".history-said") == "3 pictures chosen"
    with page.expect_download() as download:
        page.click(".history-bar button:has-text('zip')")
    download.value.save_as(tmp_path / "taken.zip")
    with zipfile.ZipFile(tmp_path / "taken.zip") as taken:
        assert taken.testzip() is None and len(taken.namelist()) == 3


def test_on_a_phone_nothing_hangs_over(another: Visitor, home: Served) -> None:
    page = opened(another, home, 4)
    page.locator(f"{TILE} >> nth=0 >> .history-choose").check()
    for place in (".history-head", ".history-bar"):
        box = page.locator(place).bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 390
    page.click(f"{TILE} >> nth=1 >> .history-open")
    assert page.evaluate("document.querySelector('.history-look').scrollWidth") <= 390
    page.click(".history-look button:has-text('Close')")
    page.keyboard.press("Escape")
    page.wait_for_function("!document.querySelector('.history').open")
