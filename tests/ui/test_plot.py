"""The X/Y/Z plot in a real browser: chosen, asked about, made, and shown as one picture."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.ui.conftest import Served, Visitor

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.slow

QUEUE = re.compile(r"^http://[^/]+/queue(\?|$)")


def ask_for_four(page: Page) -> None:
    """Asks for a plot of two axes; it runs when its button is pressed."""
    page.check("#advanced_checkbox input")
    page.fill("#prompt textarea", "pace=0.01 a red cat")
    page.click("#tabs [role=tab]:has-text('Advanced')")
    page.click("#plot button")
    page.click("#plot_look")
    page.wait_for_selector("text=A plot needs at least one axis")
    for axis, name, values in (("x", "Guidance Scale", "2, 4"), ("y", "Prompt S/R", "red, blue")):
        page.click(f"#plot_{axis} input")
        page.click(f"[role=option]:has-text('{name}')")
        page.fill(f"#plot_{axis}_values textarea", values)
    page.wait_for_timeout(300)
    page.click("#plot_look")
    page.wait_for_selector(".list-box[open]")
    assert "4 pictures" in page.inner_text(".list-sum") and page.inner_text(".list-box h2") == "An X/Y/Z plot"


def test_a_plot_is_asked_about_and_made(visitor: Visitor, served: Served) -> None:
    page = visitor.open(served)
    ask_for_four(page)
    page.click(".list-run")
    page.wait_for_function("document.querySelectorAll('#canvas .tile img').length === 2")
    page.wait_for_function("!document.querySelector('.queue-task')")


def test_a_plot_that_is_done_before_the_page_looks_again_is_shown(visitor: Visitor, served: Served) -> None:
    page = visitor.open(served)
    ask_for_four(page)
    before = set(served.root.glob("outputs/*/*_grid*"))
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(QUEUE, hold)
    page.click(".list-run")
    while set(served.root.glob("outputs/*/*_grid*")) == before:
        page.wait_for_timeout(50)
    page.wait_for_timeout(500)
    page.route(QUEUE, lambda route: route.continue_())
    for route in held:
        route.continue_()
    page.wait_for_function("document.querySelectorAll('#canvas .tile img').length === 2")
