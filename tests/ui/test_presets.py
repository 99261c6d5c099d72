"""Presets in a real browser: saved, chosen, renamed, deleted, and what a page starts with."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modules.parameters import GenerationParameters
from modules.presets import preset_values
from tests.ui.conftest import Served, Visitor, serve, settle

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

NAME = "水彩 · 猫"
SEED = "#image_seed :is(textarea, input)"
NEGATIVE = "#negative_prompt textarea"


@pytest.fixture
def own_page(tmp_path: Path) -> Iterator[Served]:
    """A page whose presets nobody else uses."""
    found = serve(tmp_path)
    yield found
    found.stop()


def opened(visitor: Visitor, served: Served) -> Page:
    page = visitor.open(served)
    ready(page)
    if not page.is_checked("#advanced_checkbox input"):
        page.check("#advanced_checkbox input")
    return page


def ready(page: Page) -> None:
    """The page has shown what it starts with: from now on it remembers."""
    settle(page)
    page.wait_for_timeout(1500)


def choose(page: Page, box: str, words: str) -> None:
    page.click(f"{box} input")
    page.click(f"ul[role=listbox] li:has-text('{words}') >> nth=0")
    page.wait_for_timeout(1200)


def value(page: Page, box: str) -> str:
    return page.input_value(f"{box} :is(input, textarea) >> nth=0")


def said(page: Page, words: str) -> None:
    page.wait_for_function("words => document.querySelector('#preset_said').textContent.includes(words)", arg=words)


def shot(page: Page, name: str) -> None:
    if shots := os.environ.get("SHOTS"):
        page.screenshot(path=Path(shots) / f"{name}.png")


def test_a_preset_is_saved_and_replaced_only_when_asked(own_page: Served, visitor: Visitor) -> None:
    page = opened(visitor, own_page)
    folder = own_page.root / "data" / "presets"
    page.fill("#prompt textarea", "a cat")
    page.fill(NEGATIVE, "no dogs")
    page.click("#performance_selection label:has-text('Lightning')")
    page.click("#preset_manage")
    assert page.evaluate("document.activeElement.closest('#preset_name') !== null"), "one may type the name at once"
    shot(page, "form")
    page.keyboard.type("con")
    page.keyboard.press("Enter")
    said(page, "cannot be the name of a file")
    page.fill("#preset_name :is(input, textarea)", NAME)
    assert not page.is_visible("#preset_said"), "that was about another name"
    page.click("#preset_save")
    said(page, f"{NAME} is saved.")
    shot(page, "saved")
    saved = json.loads((folder / f"{NAME}.json").read_text(encoding="utf-8"))
    assert (saved["default_prompt_negative"], saved["default_performance"]) == ("no dogs", "Lightning")
    assert "default_prompt" not in saved and "image_seed" not in saved["pinhole"]

    page.fill(NEGATIVE, "no birds")
    page.click("#preset_save")
    said(page, "Replace it?")
    assert page.is_visible("#preset_replace") and not page.is_visible("#preset_save")
    shot(page, "replace")
    page.click("#preset_replace")
    said(page, f"{NAME} is saved.")
    assert json.loads((folder / f"{NAME}.json").read_text(encoding="utf-8"))["default_prompt_negative"] == "no birds"

    choose(page, "#preset", "mini")
    assert value(page, "#negative_prompt") == "" and value(page, "#prompt") == "a cat"
    assert not page.is_visible("#preset_remove"), "only one's own can be deleted"


def test_a_preset_comes_back_whole_and_can_be_renamed_and_deleted(own_page: Served, visitor: Visitor) -> None:
    folder = own_page.root / "data" / "presets"
    folder.mkdir(parents=True)
    values = GenerationParameters(negative_prompt="no birds", performance_selection="Lightning")
    (folder / f"{NAME}.json").write_text(json.dumps(preset_values(values)), encoding="utf-8")
    page = opened(visitor, own_page)
    choose(page, "#preset", NAME)
    assert value(page, "#negative_prompt") == "no birds"
    assert page.is_checked("#performance_selection label:has-text('Lightning') input")
    page.click("button[role=tab]:has-text('Models')")
    page.wait_for_function("document.querySelector('#refiner_switch').textContent.includes('Lightning sets this')")
    content = "getComputedStyle(document.querySelector('#refiner_switch'), '::after').content"
    assert page.evaluate(content) in ("none", "normal"), "one reason is enough"
    shot(page, "models")
    page.click("button[role=tab]:has-text('Settings')")
    page.fill(NEGATIVE, "")
    page.click("#preset_reset")
    page.wait_for_function("document.querySelector('#negative_prompt textarea').value === 'no birds'")

    page.click("#preset_manage")
    assert value(page, "#preset_name") == NAME
    page.fill("#preset_name :is(input, textarea)", "cats")
    page.click("#preset_rename")
    said(page, "is called cats now")
    assert [path.name for path in folder.glob("*.json")] == ["cats.json"]
    page.click("#preset_remove")
    page.wait_for_timeout(800)
    assert (folder / "cats.json").exists(), "the first press only asks"
    shot(page, "really")
    page.click("#preset_remove")
    said(page, "cats is deleted")
    assert not list(folder.glob("*.json")) and len(list((folder / "removed").iterdir())) == 1
    assert value(page, "#negative_prompt") == "no birds", "what is set stays"
    page.click("#preset input")
    assert "cats" not in page.inner_text("ul[role=listbox]")


def test_a_page_starts_where_it_was_left_or_with_a_preset(own_page: Served, visitor: Visitor, another: Visitor) -> None:
    page = opened(visitor, own_page)
    page.fill("#prompt textarea", "a boat")
    page.uncheck("#seed_random input")
    page.fill(SEED, "77")
    page.fill(NEGATIVE, "no dogs")
    choose(page, "#preset", "anime")
    page.fill(NEGATIVE, "no birds")
    page.wait_for_timeout(600)
    later = opened(visitor, own_page)  # another tab, as after a restart
    assert [value(later, box) for box in ("#prompt", "#negative_prompt", "#preset")] == ["a boat", "no birds", "anime"]
    assert value(later, "#image_seed") == "77"

    later.click("#preset_manage")
    later.fill("#preset_name :is(input, textarea)", "mine")
    for tick in ("prompt", "seed", "start"):
        later.check(f"#preset_with_{tick} input")
    later.click("#preset_save")
    said(later, "mine is saved")
    assert value(later, "#start_with") == "mine · yours"
    later.fill("#prompt textarea", "a half-written prompt")
    later.wait_for_timeout(600)
    later.reload()
    ready(later)
    assert value(later, "#prompt") == "a half-written prompt", "a refresh loses nothing"
    stranger = opened(another, own_page)
    for fresh in (opened(visitor, own_page), stranger):
        assert [value(fresh, box) for box in ("#prompt", "#negative_prompt")] == ["a boat", "no birds"]
        assert value(fresh, "#preset") == "mine · yours" and value(fresh, "#image_seed") == "77"
    shot(stranger, "narrow")
    stranger.click("#preset_manage")
    stranger.locator("#preset_form").scroll_into_view_if_needed()
    shot(stranger, "narrow-form")

    page.reload()
    ready(page)
    assert value(page, "#negative_prompt") == "no birds"
    page.click("#preset_manage")
    choose(page, "#start_with", "Where I left off")
    said(page, "where the last one was left")
    page.fill(NEGATIVE, "no fish")
    page.wait_for_timeout(600)
    assert value(opened(visitor, own_page), "#negative_prompt") == "no fish"


def test_a_broken_preset_is_named_and_takes_nothing_down(own_page: Served, visitor: Visitor) -> None:
    visitor.expected = ("409",)  # what a broken preset needs cannot be told
    folder = own_page.root / "data" / "presets"
    folder.mkdir(parents=True)
    (folder / "default.json").write_text("{ broken <b>")
    (folder / "theirs.json").write_text('{"default_enhance_tabs": 3, "default_model": "pinhole-mini-base.safetensors"}')
    page = opened(visitor, own_page)
    assert "The preset default.json cannot be read as JSON" in page.inner_text("#model_note")
    choose(page, "#preset", "theirs")
    assert "default_enhance_tabs" in page.inner_text("#model_note")
    choose(page, "#preset", "default")
    assert "The preset default.json cannot be read as JSON" in page.inner_text("#model_note")
    page.fill("#prompt textarea", "pace=0.01 a cat")
    page.click("#generate_button")
    page.wait_for_selector("#canvas .tile img.final")
