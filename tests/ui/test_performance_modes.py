"""Performance modes in a real browser: what a mode decides is grey and says so, everything else is free."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modules.performance import MODES
from tests.ui.conftest import Served, Visitor

pytestmark = pytest.mark.slow

TABS = ("Models", "Advanced")
DISABLED = """path => {
  const box = document.querySelector('#' + path.replaceAll('.', '-'));
  const inputs = [...box.querySelectorAll('input')];
  return { all: inputs.length > 0 && inputs.every((each) => each.disabled), any: inputs.some((each) => each.disabled),
           text: box.textContent };
}"""
FREE = ("base_model", "lora_1.weight", "advanced.clip_skip", "advanced.overwrite_step", "advanced.guidance_rescale")


def test_a_mode_greys_exactly_what_it_decides(visitor: Visitor, served: Served) -> None:
    page = visitor.open(served)
    page.check("#advanced_checkbox input")
    paths = sorted({path for mode in MODES.values() for path in mode.overrides})
    for mode in ("Extreme Speed", "Lightning", "Hyper-SD", "Speed"):
        page.click("button[role=tab]:has-text('Settings')")
        page.click(f"#performance_selection label:has-text('{mode}') >> nth=0")
        page.wait_for_timeout(1500)
        seen = {}
        for tab in TABS:
            page.click(f"button[role=tab]:has-text('{tab}')")
            page.wait_for_timeout(500)
            if tab == "Advanced":
                page.check("#developer_mode input")
                page.wait_for_selector("#advanced-clip_skip")
            for path in (*paths, *FREE):
                if page.locator("#" + path.replace(".", "-")).count() and path not in seen:
                    seen[path] = page.evaluate(DISABLED, path)
            if shots := os.environ.get("SHOTS"):
                page.screenshot(path=Path(shots) / f"{mode}-{tab}.png")
        assert sorted(seen) == sorted((*paths, *FREE))
        assert page.is_checked("#advanced-disable_intermediate_results input") == (MODES[mode].lora is not None)
        for path, state in seen.items():
            if path in MODES[mode].overrides:
                assert state["all"] and f"{mode} sets this to" in state["text"], (mode, path, state)
            else:
                assert not state["any"] and "sets this to" not in state["text"], (mode, path, state)
    page.click("button[role=tab]:has-text('Settings')")
    page.click("#performance_selection label:has-text('Lightning')")
    page.fill("#prompt textarea", "pace=0 a cat")
    page.click("#generate_button")
    page.wait_for_function("document.querySelector('#canvas .notice').textContent.includes('sdxl_lightning_4step')")
