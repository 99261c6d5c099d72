"""The panel of missing models in a real browser: sizes, download, refresh, a second person, cancel, use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.modules.conftest import SDXL_NAMES, safetensors
from tests.modules.model_server import ModelServer, Way, serving
from tests.ui.conftest import ROOT, Served, Visitor, settle

pytestmark = pytest.mark.slow

NAME = "a_model_with_a long_name_that_somebody_has_given_it_v12_fp16_pruned.safetensors"
FIRST = ".downloads .is-first"


@pytest.fixture
def models(tmp_path: Path) -> Iterator[ModelServer]:
    """A server with a checkpoint of some megabytes."""
    whole = safetensors(tmp_path / "remote.safetensors", SDXL_NAMES).read_bytes() + bytes(3_000_000)
    with serving() as opened:
        opened.files["/model"] = whole
        yield opened


@pytest.fixture
def page_of(tmp_path: Path, models: ModelServer) -> Iterator[Served]:
    """The page, with a preset whose model is on that server."""
    root = tmp_path / "home"
    (root / "presets").mkdir(parents=True)
    preset = {"default_model": NAME, "checkpoint_downloads": {NAME: models.url("/model"), "<b>.ckpt": "https://x.y"}}
    (root / "presets" / "far.json").write_text(json.dumps(preset))
    command = [sys.executable, "-m", "tests.ui.page_server", str(root), "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "download_from_private_addresses": "true"}
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    found = Served(process.stdout.readline().split()[4], root, process)
    yield found
    found.stop()


def test_a_missing_model_comes_when_it_is_asked_for(
    page_of: Served, visitor: Visitor, another: Visitor, models: ModelServer
) -> None:
    page = visitor.open(page_of)
    page.wait_for_selector(".downloads .get-words:text-is('Get the model')")
    page.check("#advanced_checkbox input")
    page.click("#preset input")
    page.click("ul[role=listbox] li:has-text('far')")
    page.wait_for_selector(f"{FIRST}:has-text('Show the sizes')")
    assert models.seen == [], "nobody has been asked"
    assert "nothing is fetched yet" in page.inner_text(".downloads .hint")
    assert "'<b>.ckpt' is not a plain file name" in page.inner_text(".downloads .complaints")
    page.click(FIRST)
    page.wait_for_selector(f"{FIRST}:has-text('Download 3 MB')")
    models.always = Way(slow=5)
    page.click(FIRST)
    page.wait_for_function("document.querySelector('.downloads .file-words').textContent.includes('/s')")
    page.reload()
    settle(page)
    page.wait_for_selector(".downloads.is-fetching")
    other = another.open(page_of)
    other.wait_for_selector(".downloads.is-fetching")
    other.click(".downloads .get")
    box = other.locator(".downloads .card").bounding_box()
    assert box and box["x"] >= 0 and box["x"] + box["width"] <= 390
    assert other.evaluate("document.documentElement.scrollWidth") <= 390
    other.click(".downloads .cancel")
    page.click(".downloads .get")
    page.wait_for_selector(f"{FIRST}:has-text('Go on')")
    assert not list(page_of.root.glob("models/checkpoints/a_model*.safetensors"))
    models.always = Way()
    page.click(FIRST)
    page.wait_for_selector(f"{FIRST}:has-text('Use this preset')")
    page.click(FIRST)
    page.wait_for_function("!document.querySelector('#model_note').textContent.trim()")
    page.click("button[role=tab]:has-text('Models')")
    assert page.input_value("#base_model input").startswith("a_model_with_a long")
    assert [path for path, _ in models.seen] == ["/model"] * 3
