"""The X/Y/Z plot in a real browser: chosen, asked about, made, and shown as one picture."""

from __future__ import annotations

import pytest

from tests.ui.conftest import Served, Visitor

pytestmark = pytest.mark.slow


def test_a_plot_is_asked_about_and_made(visitor: Visitor, served: Served) -> None:
    page = visitor.open(served)
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
    page.click(".list-run")
    page.wait_for_function("document.querySelectorAll('#canvas .tile img').length === 2")
    page.wait_for_function("!document.querySelector('.queue-task')")
