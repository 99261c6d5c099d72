"""The Advanced tab in a real browser: the developer's controls, and those that do nothing saying so."""

from __future__ import annotations

import pytest

from tests.ui.conftest import Served, Visitor, settle

pytestmark = pytest.mark.slow


def test_what_does_nothing_says_so_and_a_grid_is_made(visitor: Visitor, served: Served) -> None:
    page = visitor.open(served)
    page.check("#advanced_checkbox input")
    page.click("button[role=tab]:has-text('Advanced')")
    assert not page.is_visible("#developer")
    page.check("#developer_mode input")
    page.wait_for_selector("#advanced-refiner_swap_method:not([data-idle])")
    page.click("button[role=tab]:has-text('Models')")
    page.click("#refiner_model input")
    page.click("ul[role=listbox] li:has-text('None')")
    page.click("button[role=tab]:has-text('Advanced')")
    page.wait_for_selector("#advanced-refiner_swap_method[data-idle='No effect without a refiner.']")
    page.check("#advanced-generate_image_grid input")
    page.click("#developer button[role=tab]:has-text('FreeU')")
    page.wait_for_selector("#advanced-freeu_b1[data-idle='No effect while FreeU is off.']")
    page.check("#advanced-freeu_enabled input")
    page.wait_for_selector("#advanced-freeu_b1:not([data-idle])")
    page.fill("#prompt textarea", "pace=0.01 a cat")
    page.click("#generate_button")
    page.wait_for_function("document.querySelectorAll('#canvas .tile img.final.is-ready').length === 3")
    page.wait_for_selector("#canvas .status:has-text('2 pictures, finished.')")
    assert page.locator("#canvas .tile >> nth=2").get_attribute("aria-label") == "All pictures side by side"
    page.click("#canvas .tile >> nth=2")
    caption = page.locator(".lightbox-caption")
    assert "seed" not in caption.inner_text() and "side by side" in caption.inner_text()
    page.keyboard.press("ArrowLeft")
    assert "seed" in caption.inner_text()
    page.keyboard.press("Escape")
    page.reload()
    settle(page)
    page.click("button[role=tab]:has-text('Advanced')")
    page.wait_for_selector("#developer", state="visible")
    assert page.is_checked("#developer_mode input")
