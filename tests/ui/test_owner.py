"""The owner's page in a real browser: settings, connections to elsewhere, a start that leaves nothing."""

from __future__ import annotations

import json

import pytest

from modules.passing import PREFIX
from tests.ui.conftest import Visitor, serve

pytestmark = pytest.mark.slow


def test_the_owner_changes_a_setting_and_sees_that_nobody_was_asked(
    visitor: Visitor, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("home")
    served = serve(root)
    visitor.expected = ("status of 409",)
    try:
        page = visitor.open(served)
        page.click("#owner_button")
        page.wait_for_selector(".owner-row")
        assert "None since the start." in page.inner_text(".owner-connections")
        assert page.is_disabled(".owner button[type=submit]")
        page.fill("#owner_path_loras", str(root / "missing"))
        page.click(".owner button[type=submit]")
        page.wait_for_selector(".owner-trouble:has-text('there is no folder')")
        page.fill("#owner_path_loras", str(root / "models"))
        page.check("#owner_offline")
        page.click(".owner button[type=submit]")
        page.wait_for_selector(".owner-said:has-text('Saved')")
        assert "now it is off" in page.inner_text(".owner")
        written = json.loads((root / "config.txt").read_text())
        assert written == {"path_loras": [str(root / "models")], "offline": True}
        page.close()
    finally:
        served.stop()
    served = serve(root)
    try:
        page = visitor.open(served)
        page.click("#owner_button")
        page.wait_for_selector(".owner-row")
        assert page.is_checked("#owner_offline")
        assert "Pinhole is offline" in page.inner_text(".owner-connections")
        page.close()
    finally:
        served.stop()


def test_a_start_of_which_nothing_is_kept(visitor: Visitor, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("home")
    kept = {"disable_image_log": True, "disable_metadata": True, "temp_path": "passing", "theme": "dark"}
    (root / "config.txt").write_text(json.dumps(kept))
    served = serve(root)
    try:
        page = visitor.open(served)
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert "Nothing of this start is kept" in page.inner_text("#model_note")
        page.check("#advanced_checkbox input")
        assert not page.is_visible("#advanced-save_metadata_to_images")
        page.fill("#prompt textarea", "pace=0.01 a secret cat")
        page.click("#generate_button")
        page.wait_for_selector("#canvas .tile img.final")
        page.wait_for_selector(":root[data-run='idle']", state="attached")
        pictures = list((root / "passing").glob(f"{PREFIX}*/outputs/*/*.png"))
        assert len(pictures) == 2 and not any(b"secret" in path.read_bytes() for path in pictures)
        assert "secret" not in page.evaluate("JSON.stringify(localStorage)")
        page.close()
    finally:
        served.stop()
    assert list((root / "passing").iterdir()) == []
    holding = [path for path in root.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]
    assert holding == []
