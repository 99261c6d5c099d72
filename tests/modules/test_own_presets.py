"""The user's own presets: names, files that are never lost, and what else a saved preset keeps."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from modules.files import ModelFiles, ModelLibrary
from modules.own_presets import MAX_NAME, OwnPresets, PresetExists, checked_name
from modules.parameters import BUILT_IN_MODEL, GenerationParameters
from modules.presets import PresetError, apply_preset, chosen_start, preset_names, preset_values, read_preset
from modules.settings import Settings
from modules.wanted_files import wanted_files
from tests.modules.conftest import settings

__all__ = ["settings"]  # a fixture

VALUES = preset_values(GenerationParameters())


@pytest.fixture
def own(settings: Settings) -> OwnPresets:
    """The user's presets in an empty home."""
    return OwnPresets(settings)


def removed(own: OwnPresets) -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in (own.folder / "removed").glob("*.json")]


@pytest.mark.parametrize("name", ["mine", "  mine  ", "水彩 · 猫", "a.b", "Größe (2)", "-", "x" * MAX_NAME, "console"])
def test_names_that_can_be(name: str, own: OwnPresets) -> None:
    saved = own.save(name, VALUES)
    assert saved == name.strip() and own.names() == [saved]
    assert read_preset(own.settings.preset_folders, saved) == VALUES
    assert json.loads((own.folder / f"{saved}.json").read_text(encoding="utf-8")) == VALUES


@pytest.mark.parametrize(
    "name",
    [
        "", "  ", None, 5, "..", ".", ".hidden", "a/b", "a\\b", "../up", "/root", "C:", "a\nb", "a\0b", "a\u202eb",
        "\ud800", "con", "NUL.txt", "com1", "Lpt9", "COM¹", "end.", "x" * (MAX_NAME + 1), "😀" * 51, "what?", "a*",
        "<b>", "a|b", '"', "initial", "Initial", "mini",
    ],
)  # fmt: skip
def test_names_that_cannot_be_are_refused_in_words(name: object, own: OwnPresets) -> None:
    with pytest.raises(PresetError) as caught:
        own.save(name, VALUES)
    assert str(caught.value).endswith((".", "most."))
    assert not own.folder.exists() and not list(own.settings.root.glob("*.json"))


def test_spellings_of_one_name_are_one_preset(own: OwnPresets) -> None:
    assert checked_name("e\u0301te\u0301") == "été"
    own.save("Été", VALUES)
    with pytest.raises(PresetExists, match="There is a preset Été already"):
        own.save("e\u0301te\u0301", VALUES)
    assert own.save("DEFAULT", VALUES) == "default", "a file that Windows and macOS would take for the same one"


def test_nothing_is_replaced_unasked_and_nothing_replaced_is_lost(own: OwnPresets) -> None:
    own.save("mine", {**VALUES, "default_cfg_scale": 1})
    with pytest.raises(PresetExists):
        own.save("mine", VALUES)
    own.save("mine", VALUES, replace=True)
    assert [each["default_cfg_scale"] for each in removed(own)] == [1]
    own.remove("mine")
    assert own.names() == [] and len(removed(own)) == 2
    (own.folder / "broken.json").write_bytes(b"\xff nonsense")
    own.save("broken", VALUES, replace=True)
    assert read_preset((own.folder,), "broken") == VALUES
    assert sorted(path.read_bytes()[:1] for path in (own.folder / "removed").iterdir()) == [b"{", b"{", b"\xff"]


def test_tabs_that_save_at_the_same_time_lose_nothing(own: OwnPresets) -> None:
    def save(number: int) -> str:
        try:
            return own.save("same", {**VALUES, "default_image_number": number}, replace=number > 6)
        except PresetExists:
            return own.save(f"number {number}", {**VALUES, "default_image_number": number})

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(save, range(1, 13)))
    kept = [read_preset((own.folder,), name) for name in own.names()] + removed(own)
    assert sorted(each["default_image_number"] for each in kept) == list(range(1, 13))
    assert {path.suffix for path in own.folder.rglob("*") if path.is_file()} == {".json"}


def test_two_programs_in_one_folder_do_not_overwrite_each_other(own: OwnPresets, settings: Settings) -> None:
    others = [OwnPresets(settings) for _ in range(8)]  # each with a lock of its own, as processes have

    def save(each: OwnPresets) -> bool:
        try:
            each.save("same", VALUES)
        except PresetError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(save, others)) == 1
    assert read_preset((own.folder,), "same") == VALUES


def test_what_comes_along_is_never_written(own: OwnPresets, settings: Settings) -> None:
    before = (settings.presets / "default.json").read_bytes()
    own.save("default", {**VALUES, "default_model": BUILT_IN_MODEL, "default_cfg_scale": 9})
    models = ModelFiles(settings.models.checkpoints)
    assert apply_preset("default", settings, models).parameters.guidance_scale == 9
    own.remove("default")
    assert "default" in preset_names(settings.preset_folders)
    assert (settings.presets / "default.json").read_bytes() == before
    for name in ("default", "../presets/default", "", "gone"):
        with pytest.raises(PresetError, match="is not one of your presets"):
            own.remove(name)


def test_a_new_name_takes_the_start_along(own: OwnPresets, settings: Settings) -> None:
    own.save("mine", VALUES)
    own.save("other", VALUES)
    own.start_with("mine")
    assert own.rename("mine", "猫") == "猫" and chosen_start(settings) == "猫"
    assert own.rename("猫", "猫") == "猫"
    for taken in ("other", "Default", "con", "a/b"):
        with pytest.raises(PresetError):
            own.rename("猫", taken)
    assert own.names() == ["other", "猫"]
    own.remove("猫")
    assert chosen_start(settings) == "", "the page starts as it was left when the preset is gone"
    with pytest.raises(PresetError, match="There is no preset"):
        own.start_with("猫")


def test_a_saved_preset_knows_where_its_models_can_be_had(own: OwnPresets, settings: Settings) -> None:
    default = json.loads((settings.presets / "default.json").read_text())
    model = default["default_model"]
    theirs = {"default_model": "other.safetensors", "lora_downloads": {"l.safetensors": "https://x.y/l", "m": "z"}}
    (settings.presets / "theirs.json").write_text(json.dumps(theirs))
    (settings.presets / "broken.json").write_text("nonsense")
    lora = {"lora_1.name": "l.safetensors", "base_model": model}
    own.save("mine", preset_values(GenerationParameters().with_values(lora)))
    saved = read_preset((own.folder,), "mine")
    assert saved["checkpoint_downloads"] == default["checkpoint_downloads"]
    assert saved["lora_downloads"] == {"l.safetensors": "https://x.y/l"}
    assert saved["previous_default_models"] == default["previous_default_models"]
    wanted = wanted_files("mine", settings, ModelLibrary(settings.models))
    assert {file.name for file in wanted.files if file.url} == {model, "l.safetensors"}
    start = apply_preset("mine", settings, ModelFiles(settings.models.checkpoints))
    assert start.preset == "mini" and model in start.notes[0]


def test_what_other_programs_wrote_stays_in_a_file_that_is_replaced(own: OwnPresets) -> None:
    own.folder.mkdir(parents=True)
    (own.folder / "theirs.json").write_text('{"default_enhance_tabs": 3, "default_cfg_scale": 5}')
    own.save("theirs", VALUES, replace=True)
    assert read_preset((own.folder,), "theirs") == {"default_enhance_tabs": 3, **VALUES}


def test_a_disk_that_refuses_is_said_in_words(settings: Settings, tmp_path: Path) -> None:
    settings.preset_folders[1].parent.mkdir(parents=True, exist_ok=True)
    settings.preset_folders[1].write_text("a file where the folder would be")
    with pytest.raises(PresetError, match="could not be saved"):
        OwnPresets(settings).save("mine", VALUES)
