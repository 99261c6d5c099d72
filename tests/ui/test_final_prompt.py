"""The final prompt before it is used, and weights by the keyboard, in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.ui.conftest import Served, Visitor

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow


def panel_says(page: Page, words: str) -> None:
    page.wait_for_function("words => document.querySelector('#final_prompt').textContent.includes(words)", arg=words)


def expand(page: Page, wanted: bool) -> None:
    """Chooses "Fooocus V2", or the opposite; the tab of styles is open then."""
    page.click("button[role=tab]:has-text('Styles')")
    label = page.locator("#style_selections label:has-text('Fooocus V2')")
    if ("selected" in str(label.get_attribute("class"))) != wanted:
        label.click()


def test_the_final_prompt_is_shown_when_asked_for_and_follows_the_form(visitor: Visitor, served: Served) -> None:
    page = visitor.open(served)
    assert not page.is_visible("#final_prompt") and page.get_attribute("#final_switch", "aria-expanded") == "false"
    page.fill("#prompt textarea", "a (red:1.3) cat <b>&amp;")
    page.click("#final_switch")
    page.wait_for_selector("#final_prompt .final-head")
    panel_says(page, "An example: the seed is random")
    panel_says(page, "a (red:1.3) cat <b>&amp;")
    assert page.locator("#final_prompt b").count() == 0

    page.check("#advanced_checkbox input")
    expand(page, False)
    page.wait_for_selector("#final_prompt .final-added", state="detached")
    assert page.locator("#style_selections label >> nth=0").inner_text().strip().endswith("Fooocus V2")
    expand(page, True)
    page.wait_for_selector("#final_prompt .final-added")
    assert page.inner_text("#final_prompt .final-added").startswith("soft light, number ")
    before = page.inner_text("#final_prompt .final-added")
    page.click("#final_prompt .final-another")
    page.wait_for_function(f"document.querySelector('.final-added')?.textContent !== {before!r}")

    page.click("button[role=tab]:has-text('Settings')")
    page.uncheck("#seed_random input")
    page.fill("#image_seed textarea, #image_seed input", "42")
    panel_says(page, "seed 42")
    assert page.inner_text("#final_prompt .final-added") == "soft light, number 42"
    page.fill("#prompt textarea", "dog " * 80)
    panel_says(page, "75 + 5")
    page.fill("#image_seed textarea, #image_seed input", "twelve")
    panel_says(page, "twelve")
    page.click("#final_switch")
    assert not page.is_visible("#final_prompt")


def test_what_was_added_is_shown_with_the_picture(visitor: Visitor, served: Served) -> None:
    page = visitor.open(served)
    page.check("#advanced_checkbox input")
    expand(page, True)
    page.fill("#prompt textarea", "pace=0.01 a cat")
    page.click("#generate_button")
    page.wait_for_selector("#canvas .tile[href]")
    page.wait_for_selector(":root[data-run='idle']", state="attached")
    page.click("#canvas .tile >> nth=0")
    assert page.inner_text(".lightbox-added").startswith("Fooocus V2 added: soft light, number ")
    page.keyboard.press("Escape")


CASES = (  # text, selection, keys, text after
    ("a red cat", (3, 3), "Up", "a (red:1.1) cat"),
    ("a red cat", (3, 3), "Up Up Up", "a (red:1.3) cat"),
    ("a red cat", (3, 3), "Up Down", "a red cat"),
    ("a red cat", (2, 9), "Down", "a (red cat:0.9)"),
    ("a red cat", (1, 6), "Up", "a (red:1.1) cat"),
    ("a (red cat:1.3), b", (4, 4), "Up", "a (red cat:1.4), b"),
    ("a (red cat:1.3), b", (12, 12), "Down", "a (red cat:1.2), b"),
    ("a (red), b", (4, 4), "Up", "a (red:1.2), b"),
    ("a (red:1.1), b", (4, 4), "Down", "a red, b"),
    ("(a (red:1.5) b:0.8)", (5, 5), "Up", "(a (red:1.6) b:0.8)"),
    ("(a (red:1.5) b:0.8)", (1, 1), "Up", "(a (red:1.5) b:0.9)"),
    ("(x:0.1)", (2, 2), "Down Down", "(x:0.0)"),
    ("a <lora:x y:0.8> b", (6, 6), "Up", "a <lora:x y:0.85> b"),
    ("blue-eyed", (0, 0), "Up", "(blue-eyed:1.1)"),
    ("a \\(b\\) c", (4, 4), "Up", "a \\((b:1.1)\\) c"),
    ("a (b", (0, 4), "Up", "a (b"),
    ("a,  b", (3, 3), "Up", "a,  b"),
    ("", (0, 0), "Up", ""),
)


def test_weights_by_the_keyboard(visitor: Visitor, served: Served) -> None:
    page = visitor.open(served)
    for text, (begin, end), keys, wanted in CASES:
        page.fill("#prompt textarea", text)
        page.focus("#prompt textarea")
        page.evaluate("([a, b]) => document.querySelector('#prompt textarea').setSelectionRange(a, b)", [begin, end])
        for key in keys.split():
            page.keyboard.press(f"Control+Arrow{key}")
        assert page.input_value("#prompt textarea") == wanted, (text, keys)

    page.fill("#prompt textarea", "a red cat")
    page.focus("#prompt textarea")
    page.evaluate("document.querySelector('#prompt textarea').setSelectionRange(3, 3)")
    page.keyboard.press("Control+ArrowUp")
    assert page.evaluate("document.getSelection().toString()") == "red"
    page.keyboard.press("Control+z")
    assert page.input_value("#prompt textarea") == "a red cat"
    page.keyboard.press("Control+ArrowUp")
    page.click("#final_switch")
    panel_says(page, "a (red:1.1) cat")
