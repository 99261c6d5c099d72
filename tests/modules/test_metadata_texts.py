"""Any text is read or refused in a sentence: ours value by value, others by their readers."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from modules.metadata import MetadataError, describe
from modules.metadata_texts import MAX_CHARACTERS, read_told
from modules.parameters import GenerationParameters, leaves
from modules.plan import ModelFacts, plan
from tests.modules.test_metadata_schemes import FILES, HERE


def ours(**changes: Any) -> dict[str, Any]:
    parameters = GenerationParameters(prompt="a fox", base_model="pinhole-mini-base.safetensors")
    job = plan(parameters.with_values({"image_seed": 77}), ModelFacts(native=1024))[0]
    record: dict[str, Any] = json.loads(describe(parameters, {"job": asdict(job)}))
    record["parameters"] |= changes
    return record


def test_our_own_text_sets_everything_and_the_seed_of_this_picture() -> None:
    reading = read_told(json.dumps(ours()), HERE)
    assert reading.problems == [] and reading.unknown == {}
    assert set(reading.values) == {leaf.path for leaf in leaves()}
    assert reading.values["image_seed"] == 77 and reading.values["prompt"] == "a fox"


def test_one_wrong_value_costs_no_other() -> None:
    reading = read_told(json.dumps(ours(sharpness=1e400, image_number="many", invented=[1], prompt="a cat")), HERE)
    assert reading.values["prompt"] == "a cat" and "sharpness" not in reading.values
    assert {problem.partition(" was")[0] for problem in reading.problems} == {"Image Sharpness", "Image Number"}
    assert list(reading.unknown) == ["invented"]


def test_missing_models_are_named_and_leave_no_other_in_their_place() -> None:
    row = {"enabled": True, "name": "gone.safetensors", "weight": 0.5}
    record = ours(base_model="../../etc/passwd", lora_1=row, lora_2={**row, "name": "detail.safetensors"})
    reading = read_told(json.dumps(record), HERE)
    assert "base_model" not in reading.values and reading.values["lora_1.name"] == "None"
    assert reading.values["lora_2.name"] == FILES["loras"][0]
    assert len(reading.problems) == 2 and all("is not among your files" in each for each in reading.problems)


def test_the_other_texts_find_their_readers() -> None:
    assert read_told('{"prompt": "a fox", "seed": "5"}', HERE).values["image_seed"] == "5"
    lines = "a fox\nSteps: 30, Sampler: Euler a, Seed: 7, CFG scale: 4"
    assert read_told(lines, HERE).values["image_seed"] == "7"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a fox in the snow",
        "[1]",
        "3",
        "null",
        "[" * 100_000,
        '{"a":' * 100_000,
        "1" * 10_000,
        "{",
        "x" * (MAX_CHARACTERS + 1),
    ],
)
def test_other_texts_are_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(MetadataError, match=r"\.$"):
        read_told(text, HERE)


@pytest.mark.parametrize(
    "piece", ["a", "a ", "x, ", "é", 'a: "', "a:", "\\", "[", "{", '{"a":', "\n", "Negative prompt:", "-/ "]
)
def test_no_text_takes_long(piece: str) -> None:
    text = piece * (MAX_CHARACTERS // len(piece))
    began = time.monotonic()
    for told in (text, f"a fox\n{text}!", f"a, b: c,{' ' * 500_000}!", json.dumps({"styles": f"[{text[:500_000]}]"})):
        with suppress(MetadataError):
            read_told(told, HERE)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("depth", [100, 900, 5000])
def test_nesting_does_no_harm(depth: int) -> None:
    deep = "[" * depth + "]" * depth
    for text in (f'{{"prompt": {deep}, "odd": {deep}}}', f'{{"parameters": {{"prompt": {deep}, "odd": {deep}}}}}'):
        with suppress(MetadataError):
            assert "prompt" not in read_told(text, HERE).values


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([leaf.path for leaf in leaves() if "." not in leaf.path]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
        lambda each: st.lists(each, max_size=3),
        max_leaves=4,
    ),
)
def test_whatever_a_value_is_the_rest_is_read(path: str, value: Any) -> None:
    reading = read_told(json.dumps(ours(**{path: value})), HERE)
    GenerationParameters.from_mapping(reading.values)
    assert path == "prompt" or reading.values["prompt"] == "a fox"


ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        "", 0, -1, 10**400, "9" * 400, "NaN", "1e999", True, None, [], {}, [["a", 1]], [["a", {}, []]], "(1, 2)", "(,)",
        "['a", "a : 1", " : : ", "x" * 500, "\0", "\ud800", "１２", "1024x1024", "0x0", "a\nb", "{prompt}", "__a__",
        "<lora:a:1>", "Euler a Karras", "0123456789", "None", "detail: 1, ", '"',
    ]
)  # fmt: skip
KEYS = (
    "prompt", "negative_prompt", "styles", "performance", "steps", "resolution", "sampler", "scheduler", "seed", "vae",
    "adm_guidance", "freeu", "base_model", "base_model_hash", "refiner_model", "loras", "lora_combined_1", "LoRA 2",
    "lora_hashes", "lora_weights", "clip_skip", "Sharpness", "created_by", "odd",
)  # fmt: skip
LABELS = (
    "Steps", "Sampler", "Seed", "Size", "CFG scale", "Model", "Model hash", "Lora hashes", "Lora weights", "Raw prompt",
    "Raw negative prompt", "VAE", "FreeU", "Clip skip", "Schedule type", "Odd",
)  # fmt: skip


@hypothesis_settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(st.sampled_from(KEYS), ODD, max_size=6),
    st.lists(st.tuples(st.sampled_from(LABELS), ODD, st.booleans()), min_size=3, max_size=6),
)
def test_odd_values_in_known_places_are_taken_or_named(record: dict[str, Any], pairs: list[Any]) -> None:
    last = ", ".join(f"{label}: {json.dumps(str(value)) if quoted else value}" for label, value, quoted in pairs)
    for text in (json.dumps(record), f"a fox\n{last}", json.dumps({"parameters": record, "picture": record})):
        with suppress(MetadataError):
            reading = read_told(text, HERE)
            assert GenerationParameters().with_values(reading.values)
            assert all(problem.endswith(".") for problem in reading.problems)
