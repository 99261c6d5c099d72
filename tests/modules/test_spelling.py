"""What people call parameters and their values."""

from __future__ import annotations

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as some

from modules.parameters import GenerationParameters, ParameterError, leaf, leaves
from modules.spelling import ALIASES, path_named, spelt

THERE = {
    "checkpoints": ["pinhole-mini-base.safetensors", "a/same.safetensors", "b/same.safetensors", "xl.v1.safetensors"]
}


def files(folder: str) -> list[str]:
    return THERE.get(folder, [])


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("prompt", "prompt"), ("Negative Prompt", "negative_prompt"), ("negative-prompt", "negative_prompt"),
        ("SEED", "image_seed"), ("Image Sharpness", "sharpness"), ("aspect ratio", "aspect_ratios_selection"),
        ("Aspect Ratios", "aspect_ratios_selection"), ("sampler_name", "advanced.sampler_name"),
        ("advanced.clip_skip", "advanced.clip_skip"), ("LoRA 2 Weight", "lora_2.weight"),
        ("lora_1.name", "lora_1.name"),
        (" Guidance  Scale ", "guidance_scale"), ("styles", "style_selections"),
    ],
)  # fmt: skip
def test_a_parameter_by_its_key_its_label_or_another_name(name: str, path: str) -> None:
    assert path_named(name) == path


def test_every_key_label_and_alias_means_a_parameter() -> None:
    for each in leaves():
        assert path_named(each.path) == each.path
    for alias, path in ALIASES.items():
        GenerationParameters().get(path)
        assert path_named(alias) == path


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("aspect_ratios_selection", "1152x896", "1152*896"),
        ("aspect_ratios_selection", "1152 × 896", "1152*896"),
        ("aspect_ratios_selection", "1152×896 ∣ 9:7", "1152*896"),
        ("aspect_ratios_selection", "1:1", "1:1"),
        ("advanced.sampler_name", "EULER", "euler"),
        ("performance_selection", "extreme speed", "Extreme Speed"),
        ("advanced.freeu_enabled", "Yes", "true"),
        ("advanced.freeu_enabled", "maybe", "maybe"),
        ("base_model", "PINHOLE-mini-base", "pinhole-mini-base.safetensors"),
        ("base_model", "xl.v1", "xl.v1.safetensors"),
        ("base_model", "b/same", "b/same.safetensors"),
        ("refiner_model", "none", "None"),
        ("prompt", "YES", "YES"),
    ],
)
def test_a_value_however_it_is_written(path: str, text: str, value: str) -> None:
    assert spelt(leaf(path), text, files) == value


def test_a_file_that_is_not_there_or_may_be_two_is_refused() -> None:
    with pytest.raises(ParameterError, match="Did you mean pinhole-mini-base"):
        spelt(leaf("base_model"), "pinhole-mini-bas", files)
    with pytest.raises(ParameterError, match="no file 'same'"):
        spelt(leaf("base_model"), "same", files)
    assert spelt(leaf("base_model"), "gone") == "gone", "nobody asked which files there are"


@hypothesis_settings(max_examples=300, deadline=None)
@given(name=some.text(max_size=30), text=some.text(max_size=30), place=some.integers(0, len(leaves()) - 1))
def test_no_text_is_answered_with_a_crash(name: str, text: str, place: int) -> None:
    try:
        path_named(name)
        spelt(leaves()[place], text, files)
    except ParameterError as error:
        assert str(error)
