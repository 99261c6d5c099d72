"""A start of which nothing is kept leaves nothing behind, however it ends."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from modules.passing import NOTE, PREFIX, passing
from modules.settings import SettingsError, built_in_settings
from tests.modules.conftest import ROOT


def test_what_is_made_is_gone_and_what_was_there_stays(tmp_path: Path) -> None:
    settings = replace(built_in_settings(tmp_path), keep=False, temp=tmp_path / "temp")
    with passing(settings) as used:
        assert used.passing is not None and used.notes == (NOTE,)
        for place in (used.outputs, used.kept, used.thumbnails, used.texts):
            assert place.is_relative_to(tmp_path / "temp")
        assert (used.preset_folders, used.styles, used.hashes) == (
            settings.preset_folders, settings.styles, settings.hashes,
        )  # fmt: skip
        used.outputs.mkdir()
        (used.outputs / "a.png").write_bytes(b"x")
    assert list((tmp_path / "temp").iterdir()) == []


def test_an_ordinary_start_is_not_touched(tmp_path: Path) -> None:
    settings = built_in_settings(tmp_path)
    with passing(settings) as used:
        assert used is settings


def test_what_a_killed_start_left_goes_at_the_next_one_and_what_runs_stays(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from dataclasses import replace\n"
        "from modules.passing import passing; from modules.settings import built_in_settings\n"
        "root = Path(sys.argv[1])\n"
        "with passing(replace(built_in_settings(root), keep=False, temp=root)) as used:\n"
        "    os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=False)
    (left,) = tmp_path.glob(f"{PREFIX}*")
    stranger = tmp_path / "other"
    stranger.mkdir()
    settings = replace(built_in_settings(tmp_path), keep=False, temp=tmp_path)
    with passing(settings) as first:
        assert not left.exists() and stranger.exists()
        with passing(settings) as second:
            assert first.kept.exists() and second.kept != first.kept


def test_a_folder_that_cannot_be_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = replace(built_in_settings(tmp_path), keep=False, temp=tmp_path / "file")
    with pytest.raises(SettingsError, match="temp_path: .*file cannot be used"), passing(settings):
        pass
