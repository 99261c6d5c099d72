"""The Metadata tab in a real browser: a picture is dropped, says what it is, and fills the form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from modules.metadata import SchemeText, encode_picture
from tests.ui.conftest import Served, Visitor

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

EVIL = "<img src=x onerror=alert(1)>"
RECORD = {
    "prompt": f"a fox {EVIL}", "negative_prompt": "rain", "styles": "['Fooocus V2']", "performance": "Quality",
    "sharpness": 3.5, "seed": "9223372036854775807", "resolution": "(704, 1408)", "base_model": "other",
    "guidance_scale": "much", "lora_combined_1": "gone : 0.5", EVIL: EVIL,
}  # fmt: skip
DROP = """([zone, bytes, name]) => {
  const carried = new DataTransfer();
  carried.items.add(new File([new Uint8Array(bytes)], name));
  for (const kind of ["dragover", "drop"])
    zone.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: carried }));
}"""


PASTE = """(text) => {
  const carried = new DataTransfer();
  carried.setData("text/plain", text);
  document.querySelector("#prompt textarea")
    .dispatchEvent(new ClipboardEvent("paste", { bubbles: true, cancelable: true, clipboardData: carried }));
}"""


def drop(page: Page, data: bytes, name: str, place: str = "#metadata_drop") -> None:
    """Lets a file fall onto the tab or onto ``place``."""
    page.evaluate(f"(given) => ({DROP})([document.querySelector('{place}'), ...given])", [list(data), name])


def test_a_picture_that_is_dropped_fills_the_form(visitor: Visitor, served: Served, tmp_path: Path) -> None:
    page = visitor.open(served)
    page.check("#advanced_checkbox input")
    page.click("button[role=tab]:has-text('Metadata')")
    assert not page.is_enabled("#metadata_use")
    drop(page, b"GIF89a and so on", "fox.gif")
    page.wait_for_selector(".told-status.is-alarm:has-text('not a PNG, JPEG or WebP')")
    drop(page, b"\x89PNG\r\n\x1a\n" + bytes(5), "broken.png")
    visitor.expected = ("422",)
    page.wait_for_selector(".told-status.is-alarm:has-text('not a PNG, JPEG or WEBP picture that can be read')")

    picture = encode_picture(np.zeros((8, 8, 3), np.uint8), "jpeg", "", SchemeText("fooocus", json.dumps(RECORD)))
    drop(page, picture, "fox.jpg")
    page.wait_for_selector(".told-status:has-text('fox.jpg')")
    page.wait_for_selector(f".told-table:not(.is-unknown) td:has-text('a fox {EVIL}')")
    assert page.locator(".told-problem").count() == 2
    assert "guidance_scale was left out" in page.inner_text("#metadata_answer")
    assert "The model 'gone'" in page.inner_text("#metadata_answer")
    assert page.inner_text(".told-table.is-unknown th") == EVIL and page.locator("#metadata_answer img").count() == 0
    page.fill("#prompt textarea", "my own")
    page.click("#metadata_use")
    page.wait_for_selector(".told-used")
    assert page.input_value("#prompt textarea") == f"a fox {EVIL}"
    page.click("button[role=tab]:has-text('Settings')")
    assert page.input_value("#image_seed textarea, #image_seed input") == "9223372036854775807"
    assert page.input_value("#negative_prompt textarea") == "rain"
    assert page.is_checked("#performance_selection label:has-text('Quality') input")
    page.click("button[role=tab]:has-text('Models')")
    page.wait_for_function("document.querySelector('#base_model input').value.startsWith('other')")


def test_a_text_that_is_pasted(another: Visitor, served: Served) -> None:
    page = another.open(served)
    page.check("#advanced_checkbox input")
    page.click("button[role=tab]:has-text('Metadata')")
    page.fill("#metadata_text textarea", "a fox in the snow")
    page.wait_for_selector(".told-problem:has-text('neither JSON nor lines of settings')")
    lines = "a wolf\nNegative prompt: fog\nSteps: 30, Sampler: Euler a, Seed: 7, CFG scale: 4, Odd thing: 5"
    page.fill("#metadata_text textarea", lines)
    page.wait_for_selector(".told-table td:has-text('a wolf')")
    assert page.inner_text(".told-table.is-unknown").split() == ["Odd", "thing", "'5'"]
    page.click("#metadata_use")
    page.wait_for_selector(".told-used")
    assert page.input_value("#prompt textarea") == "a wolf"
    page.fill("#metadata_text textarea", "")
    page.wait_for_selector("#metadata_use[disabled]")


def test_the_prompt_takes_pictures_and_their_texts(another: Visitor, served: Served) -> None:
    page = another.open(served)
    text = SchemeText("a1111", "雪の中の狐\nSteps: 30, Sampler: Euler a, Seed: 7, CFG scale: 4")
    picture = encode_picture(np.zeros((8, 8, 3), np.uint8), "webp", "", text)
    drop(page, picture, "fox.webp", "#prompt textarea")
    page.wait_for_selector(".told-status:has-text('fox.webp')")
    page.wait_for_selector(".told-table td:has-text('雪の中の狐')")
    assert page.input_value("#prompt textarea") == ""
    page.click("#metadata_use")
    page.wait_for_selector(".told-used")
    assert page.input_value("#prompt textarea") == "雪の中の狐"

    page.click("button[role=tab]:has-text('Settings')")
    page.evaluate(PASTE, "an owl\nSteps: 30, Sampler: Euler a, Seed: 8, CFG scale: 4")
    page.wait_for_selector(".told-table td:has-text('an owl')")
    page.evaluate(PASTE, json.dumps({"prompt": "a heron", "seed": "9"}))
    page.wait_for_selector(".told-table td:has-text('a heron')")
    page.evaluate(PASTE, "a prompt: with colons, Steps: to heaven")
    page.evaluate(PASTE, '{"red", "green"} [[a, b]]')
    page.wait_for_timeout(300)
    assert page.locator(".told-table td:has-text('a heron')").count() == 1
