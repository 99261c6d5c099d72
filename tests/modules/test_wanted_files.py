"""What a preset needs: which files count, which are refused, and in which words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from modules.files import ModelLibrary
from modules.presets import PresetError
from modules.settings import Settings
from modules.wanted_files import Wanted, WantedFile, checked, wanted_files
from tests.modules.conftest import SDXL_NAMES, safetensors, settings

__all__ = ["settings"]  # a fixture

HUB = "https://huggingface.co/x/resolve/main"


def wanted(settings: Settings, name: str = "mine", **values: Any) -> Wanted:
    if values:
        (settings.presets / f"{name}.json").write_text(json.dumps(values))
    return wanted_files(name, settings, ModelLibrary(settings.models))


def test_every_kind_has_its_list(settings: Settings) -> None:
    found = wanted(
        settings,
        default_model="m.safetensors",
        checkpoint_downloads={"m.safetensors": f"{HUB}/m"},
        lora_downloads={"l.safetensors": f"{HUB}/l#sha256={'AB' * 32}&size=77"},
        embeddings_downloads={"e.safetensors": f"{HUB}/e"},
        vae_downloads={"v.safetensors": f"{HUB}/v"},
    )
    assert found.files == (
        WantedFile("checkpoints", "m.safetensors", f"{HUB}/m"),
        WantedFile("loras", "l.safetensors", f"{HUB}/l", "ab" * 32, 77),
        WantedFile("embeddings", "e.safetensors", f"{HUB}/e"),
        WantedFile("vae", "v.safetensors", f"{HUB}/v"),
    )
    assert found.preset == "mine" and found.complaints == ()


def test_what_a_preset_uses_is_wanted_with_or_without_an_address(settings: Settings) -> None:
    found = wanted(
        settings,
        default_model="m.safetensors",
        default_refiner="r.safetensors",
        default_vae="Default (model)",
        default_loras=[[True, "a.safetensors", 1], [False, "off.safetensors", 1], ["None", 1], ["b.safetensors", 1]],
    )
    assert {file.id for file in found.files} == {
        "checkpoints/m.safetensors", "checkpoints/r.safetensors", "loras/a.safetensors", "loras/b.safetensors",
    }  # fmt: skip
    assert all(file.url == "" for file in found.files), "the default preset's lists say nothing of them"


def test_the_default_preset_names_where_its_model_can_be_had(settings: Settings) -> None:
    found = wanted(settings, "")
    assert [file.id for file in found.files] == ["checkpoints/juggernautXL_v8Rundiffusion.safetensors"]
    assert found.preset == "default" and found.files[0].url.startswith("https://huggingface.co/")
    same = wanted(settings, "like", default_cfg_scale=5)
    assert same.files == found.files, "a preset that keeps the model keeps its address"
    assert wanted(replace(settings, preset="like"), "initial").preset == "like"


def test_an_earlier_version_on_the_disk_is_enough(settings: Settings) -> None:
    values: dict[str, Any] = {"default_model": "new.safetensors", "previous_default_models": ["old.safetensors"]}
    values["checkpoint_downloads"] = {"new.safetensors": f"{HUB}/new"}
    assert len(wanted(settings, **values).files) == 1
    safetensors(settings.models.checkpoints[0] / "old.safetensors", SDXL_NAMES)
    assert wanted(settings, **values).files == ()


@pytest.mark.parametrize(
    ("name", "url", "words"),
    [
        ("a.ckpt", f"{HUB}/a", "only .safetensors files are"),
        ("a.pt", f"{HUB}/a", "others can hold code"),
        ("a.safetensors.exe", f"{HUB}/a", "only .safetensors"),
        ("../a.safetensors", f"{HUB}/a", "not a plain file name"),
        ("a/b.safetensors", f"{HUB}/a", "not a plain file name"),
        ("a\\b.safetensors", f"{HUB}/a", "not a plain file name"),
        ("/etc/a.safetensors", f"{HUB}/a", "not a plain file name"),
        ("C:a.safetensors", f"{HUB}/a", "not a plain file name"),
        (".hidden.safetensors", f"{HUB}/a", "not a plain file name"),
        ("a.safetensors ", f"{HUB}/a", "not a plain file name"),
        ("nul.safetensors", f"{HUB}/a", "not a plain file name"),
        ("a\n.safetensors", f"{HUB}/a", "not a plain file name"),
        ("a.safetensors", "file:///etc/passwd", "not an https address"),
        ("a.safetensors", "javascript:alert(1)", "not an https address"),
        ("a.safetensors", 7, "not an address"),
        ("a.safetensors", "https://[half/a", "half/a' is not an address"),
        ("a.safetensors", "https://", "not an address"),
        ("a.safetensors", "https://example.com/\ud800", "not an address"),
        ("a.safetensors", f"{HUB}/a#sha256=abc", "no sha256"),
        ("", f"{HUB}/a", "characters"),
        ("a" * 500 + ".safetensors", f"{HUB}/a", "characters"),
    ],
)
def test_what_nobody_should_get_is_named_and_the_rest_stays(
    settings: Settings, name: str, url: object, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        checked("loras", name, url)
    listed = {name: url, "good.safetensors": f"{HUB}/good"}
    found = wanted(settings, default_model="m.safetensors", lora_downloads=listed)
    assert [file.name for file in found.files] == ["good.safetensors", "m.safetensors"]
    assert len(found.complaints) == 1 and words in found.complaints[0]


@pytest.mark.parametrize("listed", [None, [], "x", 5, [["a", "b"]]])
def test_a_list_of_another_shape_names_nothing(settings: Settings, listed: object) -> None:
    assert wanted(settings, default_model="m.safetensors", lora_downloads=listed).files == (
        WantedFile("checkpoints", "m.safetensors"),
    )
    with pytest.raises(PresetError, match="There is no preset"):
        wanted(settings, "nobody")
