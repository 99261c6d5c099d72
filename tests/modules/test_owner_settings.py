"""The settings of a machine as its owner sees and changes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modules.owner_settings import OwnerSettings
from modules.settings import SettingsError, load_settings


def owner(root: Path, flags: dict[str, object] | None = None, environ: dict[str, str] | None = None) -> OwnerSettings:
    return OwnerSettings(load_settings(root, flags or {}, environ or {}))


def row(settings: OwnerSettings, key: str) -> dict[str, Any]:
    return next(each for each in settings.rows() if each["key"] == key)


def test_a_change_is_written_waits_for_the_next_start_and_is_in_force_then(tmp_path: Path) -> None:
    other = {"someone_else": [1], "default_cfg_scale": 3}
    (tmp_path / "config.txt").write_text(json.dumps(other))
    settings = owner(tmp_path)
    (tmp_path / "big").mkdir()
    settings.save({"path_checkpoints": [str(tmp_path / "big")], "offline": True, "theme": "dark", "language": "zh"})
    assert row(settings, "offline")["value"] is False and row(settings, "offline")["next"] is True
    assert json.loads((tmp_path / "config.txt").read_text()).items() >= other.items()
    after = owner(tmp_path)
    assert row(after, "offline") | {"hint": ""} == {
        "key": "offline", "label": "Offline", "hint": "", "kind": "switch", "value": True, "source": "config.txt",
        "next": None,
    }  # fmt: skip
    assert row(after, "path_checkpoints")["value"] == [str(tmp_path / "big")]
    assert (row(after, "theme")["value"], row(after, "language")["value"]) == ("dark", "zh")
    after.save({"offline": None, "theme": ""})
    assert "offline" not in json.loads((tmp_path / "config.txt").read_text())
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["config.txt"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"port": "1"}, "port cannot be changed here"),
        ({"path_data": "/x"}, "path_data cannot be changed"),
        ({"default_prompt": "x"}, "cannot be changed"),
        ({"download_from_private_addresses": True}, "cannot be changed"),
        ({"offline": "perhaps"}, "Offline: .*neither true nor false"),
        ({"hf_mirror": "file:///etc"}, "Mirror: .*not an address"),
        ({"theme": "pink"}, "Colours: .*not light or dark"),
        ({"language": "../../x"}, "Language: .*not the name of a language"),
        ({"path_loras": ["missing"]}, "LoRAs: there is no folder"),
        ({"path_outputs": "file/under"}, "Pictures: .*file is not a folder"),
        ({"path_outputs": []}, "Pictures: .*not a folder"),
        ({"metadata_created_by": "x" * 4001}, "Your name: more than 4000"),
    ],
)
def test_what_cannot_be_is_refused_in_words_and_nothing_is_written(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    (tmp_path / "file").write_text("")
    settings = owner(tmp_path)
    with pytest.raises(SettingsError, match=words):
        settings.save({"disable_preset_download": True, **changes})
    assert not (tmp_path / "config.txt").exists()


def test_what_a_flag_or_the_environment_decides_is_shown_as_fixed(tmp_path: Path) -> None:
    settings = owner(tmp_path, {"offline": True}, {"path_loras": str(tmp_path)})
    for key, source in (("offline", "command line"), ("path_loras", "environment variable path_loras")):
        assert (row(settings, key)["kind"], row(settings, key)["source"]) == ("fixed", source)
        with pytest.raises(SettingsError, match="cannot be changed here"):
            settings.save({key: None})


def test_folders_that_follow_the_one_of_the_queue_do_not_wait_for_the_next_start(tmp_path: Path) -> None:
    moved = owner(tmp_path, environ={"path_data": str(tmp_path / "elsewhere")})
    for key in ("path_own_presets", "path_styles"):
        assert row(moved, key)["value"].startswith(str(tmp_path / "elsewhere")) and row(moved, key)["next"] is None
    moved.save({"path_styles": str(tmp_path / "mine")})
    assert row(moved, "path_styles")["next"] == str(tmp_path / "mine")


def test_a_file_that_was_broken_by_hand_is_not_overwritten(tmp_path: Path) -> None:
    settings = owner(tmp_path)
    (tmp_path / "config.txt").write_text("{ half")
    with pytest.raises(SettingsError, match="Mend it by hand"):
        settings.save({"offline": True})
    assert (tmp_path / "config.txt").read_text() == "{ half"
