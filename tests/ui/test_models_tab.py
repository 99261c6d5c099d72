"""The Models tab in a real browser: what is chosen is explained at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.modules.test_model_cards import KOHYA, SD15, SDXL, model
from tests.ui.conftest import Served, Visitor

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow


def choose(page: Page, control: str, text: str) -> None:
    """Picks the file of this name, as soon as it is listed."""
    for _ in range(100):
        page.click(f"{control} input")
        page.wait_for_timeout(200)  # a list that comes from the server in this moment closes it again
        if page.is_visible(f"[role=option]:has-text('{text}')"):
            break
        page.keyboard.press("Escape")
    page.click(f"[role=option]:has-text('{text}')")


def test_files_say_what_they_are_and_what_does_not_go_together(visitor: Visitor, served: Served) -> None:
    folders = served.root / "models"
    model(folders / "checkpoints" / "full.safetensors", SDXL)
    model(folders / "checkpoints" / "old.safetensors", SD15)
    tags = {"modelspec.trigger_phrase": "paper (cut),<b>fox</b>, soft light"}
    model(folders / "loras" / "wide.safetensors", {f"{KOHYA}.lora_down.weight": [8, 2048]}, tags)
    model(folders / "loras" / "narrow.safetensors", {f"{KOHYA}.lora_down.weight": [8, 768]})
    page = visitor.open(served)
    page.check("#advanced_checkbox input")
    page.fill("#prompt textarea", "pace=0.01 a cat")
    page.click("#generate_button")
    page.wait_for_selector("#canvas .tile img.final")
    page.wait_for_selector(":root[data-run='idle']", state="attached")
    page.click("button[role=tab]:has-text('Models')")
    page.wait_for_selector("#base_note .model-pictures img")
    page.click("#refresh_files")
    choose(page, "#base_model", "full.saf")
    page.wait_for_selector("#base_note:has-text('will be here')")
    choose(page, "#lora_1-name", "narrow")
    page.wait_for_selector("#lora_1-note .model-problem:has-text('does nothing for full.safetensors, which is SDXL')")
    choose(page, "#lora_1-name", "wide")
    page.wait_for_selector("#lora_1-note .model-words")
    assert not page.is_visible("#lora_1-note .model-problem")
    assert page.locator("#lora_1-note .model-words button").all_inner_texts() == ["paper (cut)", "soft light"]
    page.click("#lora_1-note .model-words button >> nth=0")
    assert page.input_value("#prompt textarea") == "pace=0.01 a cat, paper \\(cut\\)"
    page.click("#lora_1-note .model-words button >> nth=0")
    assert page.input_value("#prompt textarea") == "pace=0.01 a cat"
    choose(page, "#base_model", "old")
    choose(page, "#refiner_model", "full")
    page.wait_for_selector("#refiner_note .model-problem:has-text('refiners go with SDXL models')")
