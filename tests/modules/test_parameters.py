"""Parameters: round trips, controls against defaults, and what is refused in which words."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from modules.choices import ASPECT_RATIOS, MAX_SEED, aspect_ratio_label, parse_aspect_ratio
from modules.controls import Checkbox, Choice, Control, ModelFile, Names, Seed, Slider, Text
from modules.parameters import (
    GenerationParameters,
    Leaf,
    ParameterError,
    full_path,
    leaf,
    leaves,
    parameters_from_ctrls,
    parameters_to_ctrls,
)

DEFAULTS = GenerationParameters()
LEAVES = {each.path: each for each in leaves()}


def values_of(each: Leaf) -> st.SearchStrategy[Any]:
    """All that a control accepts."""
    match each.control:
        case Checkbox():
            return st.booleans()
        case Choice(choices=choices):
            return st.sampled_from(choices)
        case Seed():
            return st.integers(-1, MAX_SEED)
        case ModelFile():
            return st.text("abcXYZ0189-_. é", min_size=1).map(lambda text: f"a/{text}x.safetensors")
        case Text():
            return st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
        case Names():
            return st.lists(st.text("abXY -,[]'é3", min_size=1).filter(str.strip), max_size=5, unique=True)
        case Slider() as slider if isinstance(each.default, int):
            return st.integers(int(slider.minimum), int(slider.maximum))
        case Slider() as slider:
            return st.floats(slider.minimum, slider.maximum)
    raise AssertionError(each)


def any_parameters() -> st.SearchStrategy[GenerationParameters]:
    """Any parameters that can be."""
    return st.fixed_dictionaries({path: values_of(each) for path, each in LEAVES.items()}).map(
        GenerationParameters.from_mapping
    )


def test_the_order_of_ctrls() -> None:
    assert [each.path for each in leaves()] == [
        "prompt", "negative_prompt", "style_selections", "performance_selection", "aspect_ratios_selection",
        "image_number", "image_seed", "sharpness", "guidance_scale", "base_model", "refiner_model", "refiner_switch",
        *(f"lora_{row}.{name}" for row in range(1, 6) for name in ("enabled", "name", "weight")),
        "advanced.disable_preview", "advanced.disable_intermediate_results", "advanced.output_format",
        "advanced.save_metadata_to_images", "advanced.metadata_scheme", "advanced.sampler_name",
        "advanced.scheduler_name", "advanced.generate_image_grid", "advanced.overwrite_step",
        "advanced.overwrite_switch", "advanced.overwrite_width", "advanced.overwrite_height",
        "advanced.disable_seed_increment", "advanced.read_wildcards_in_order",
        "advanced.clip_skip", "advanced.adm_scaler_positive", "advanced.adm_scaler_negative",
        "advanced.adm_scaler_end", "advanced.adaptive_cfg", "advanced.guidance_rescale", "advanced.guidance_begin",
        "advanced.guidance_end", "advanced.refiner_swap_method", "advanced.vae_name", "advanced.freeu_enabled",
        "advanced.freeu_b1", "advanced.freeu_b2", "advanced.freeu_s1", "advanced.freeu_s2",
    ]  # fmt: skip


@pytest.mark.parametrize("each", leaves(), ids=lambda each: each.path)
def test_every_default_satisfies_its_control(each: Leaf) -> None:
    assert each.control.check(each.default) == each.default == DEFAULTS.get(each.path)
    assert GenerationParameters.from_mapping({each.path: each.default}) == DEFAULTS


def test_labels_and_last_parts_of_paths_are_unique() -> None:
    assert len({each.label for each in leaves()}) == len(leaves())
    assert all(full_path(each.name) == each.path for each in leaves() if not each.path.startswith("lora_"))
    with pytest.raises(ParameterError, match=r"weight may mean lora_1\.weight or lora_2"):
        full_path("weight")


@hypothesis_settings(max_examples=60, deadline=None)
@given(any_parameters())
def test_json_and_ctrls_give_back_the_same_parameters(parameters: GenerationParameters) -> None:
    assert GenerationParameters.from_json(parameters.to_json()) == parameters
    through_the_browser = json.loads(json.dumps(parameters_to_ctrls(parameters)))
    assert parameters_from_ctrls(through_the_browser) == parameters


@hypothesis_settings(max_examples=60, deadline=None)
@given(any_parameters())
def test_set_gives_back_the_same_parameters(parameters: GenerationParameters) -> None:
    values = {path: each.control.to_browser(parameters.get(path)) for path, each in LEAVES.items()}
    texts = {path: json.dumps(value) if isinstance(value, list) else value for path, value in values.items()}
    assignments = [f"{path}={text}" for path, text in texts.items()]
    assert DEFAULTS.with_set(assignments) == parameters


def test_the_seed_is_text_in_the_browser_and_keeps_all_its_bits() -> None:
    parameters = DEFAULTS.with_values({"image_seed": MAX_SEED})
    ctrls = parameters_to_ctrls(parameters)
    assert ctrls[6] == "9223372036854775807"
    assert parameters_from_ctrls(ctrls).image_seed == MAX_SEED


def test_a_random_seed_is_drawn_once() -> None:
    drawn = [DEFAULTS.with_seed() for _ in range(3)]
    assert len({each.image_seed for each in drawn}) == 3
    assert all(0 <= each.image_seed <= MAX_SEED and each.with_seed() is each for each in drawn)


def test_the_browser_s_floats_for_whole_numbers_are_taken() -> None:
    assert DEFAULTS.with_values({"image_number": 3.0}).image_number == 3


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("sharpness=31", "sharpness: 31 is outside 0 to 30"),
        ("sharpness=nan", "sharpness: 'nan' is not a finite number"),
        ("guidance_scale=inf", "guidance_scale: 'inf' is not a finite number"),
        ("guidance_scale=", "guidance_scale: '' is not a number"),
        ("image_number=2.5", "image_number: '2.5' is not a whole number"),
        ("image_number=0", "image_number: 0 is outside 1 to 32"),
        ("image_number=1e3000", "image_number: '1e3000' is not a whole number"),
        ("image_seed=9223372036854775808", "is outside 0 to 9223372036854775807"),
        ("sampler_name=foo", "advanced.sampler_name: 'foo' is not one of euler, euler_ancestral, heun"),
        ("shrpness=2", "shrpness: there is no such parameter; did you mean sharpness?"),
        ("advanced.clipskip=2", "did you mean advanced.clip_skip?"),
        ("advanced=2", "advanced: is a group of parameters"),
        ("disable_preview=maybe", "advanced.disable_preview: 'maybe' is not true or false"),
        ("overwrite_width=5", "advanced.overwrite_width: 5 is outside 64 to 2048, and not -1 (not set)"),
        ("base_model=../../etc/passwd", "base_model: '../../etc/passwd' is not a plain file name"),
        ("base_model=/etc/passwd", "is not a plain file name"),
        ("base_model=https://example.org/x", "is not a plain file name"),
        ("base_model=C:\\x", "is not a plain file name"),
        ("base_model=", "a file name has 1 to 400 characters"),
        ("prompt=" + "a" * 100_000, "prompt: has 100000 characters, more than the limit of 20000"),
        ("aspect_ratios_selection=1*1", "aspect_ratios_selection: '1*1' is not one of 704*1408"),
        ("sharpness", "'sharpness' is not of the form key=value"),
        ("style_selections=[1]", "style_selections.0: 1 is not text"),
        ("style_selections=[", "style_selections: '[' is not a JSON list of names"),
        ("style_selections=" + "x" * 201, "is not a name of 1 to 200 printable characters"),
        ("style_selections=" + ",".join(map(str, range(101))), "has 101 names, more than the limit of 100"),
    ],
)
def test_set_refuses_in_words(assignment: str, words: str) -> None:
    with pytest.raises(ParameterError) as caught:
        DEFAULTS.with_set([assignment])
    assert words in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sharpness": math.nan}, "sharpness: nan is not a finite number"),
        ({"sharpness": math.inf}, "sharpness: inf is not a finite number"),
        ({"sharpness": True}, "sharpness: True is not a number"),
        ({"image_number": True}, "image_number: True is not a number"),
        ({"sharpness": None}, "sharpness: None is not a number"),
        ({"prompt": 5}, "prompt: 5 is not text"),
        ({"prompt": "\ud83d"}, "prompt: contains half of a character"),
        ({"advanced": {"nothing": 1}}, "advanced.nothing: there is no such parameter"),
        ({"advanced": 3}, "advanced: is a group"),
        ({"__class__": 1}, "__class__: there is no such parameter"),
        ({"base_model": "a\0b"}, "is not a plain file name"),
        ({"style_selections": {"a": 1}}, "style_selections: {'a': 1} is not a list of names"),
        ({"style_selections": ["a\nb"]}, "is not a name of 1 to 200 printable characters"),
    ],
)
def test_from_mapping_refuses_in_words(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError) as caught:
        GenerationParameters.from_mapping(values)
    assert words in str(caught.value)


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(ParameterError) as caught:
        GenerationParameters.from_mapping({"sharpness": 99, "image_number": 99, "advanced": {"clip_skip": 99}})
    assert str(caught.value).splitlines() == [
        "image_number: 99 is outside 1 to 32",
        "sharpness: 99 is outside 0 to 30",
        "advanced.clip_skip: 99 is outside 1 to 12",
    ]


@pytest.mark.parametrize("text", ["", "[]", "nonsense", '{"sharpness": NaN}', '{"sharpness": 1e999}', "[" * 100_000])
def test_json_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ParameterError):
        GenerationParameters.from_json(text)


def test_a_wrong_number_of_ctrls_is_refused() -> None:
    with pytest.raises(ParameterError, match="the page sent 1 values for 56 parameters"):
        parameters_from_ctrls([""])


def test_parameters_are_frozen_and_keep_strange_text_as_it_is() -> None:
    text = "((unbalanced [[ \U0001f600 \x00\x1b[31m {:"
    parameters = DEFAULTS.with_values({"prompt": text})
    assert GenerationParameters.from_json(parameters.to_json()).prompt == text
    with pytest.raises(ValueError, match="frozen"):
        parameters.sharpness = 3.0


def test_the_schema_of_the_api_has_the_limits() -> None:
    schema = GenerationParameters.model_json_schema()
    sharpness = schema["properties"]["sharpness"]
    assert (sharpness["minimum"], sharpness["maximum"], sharpness["default"]) == (0, 30, 2.0)
    assert schema["properties"]["aspect_ratios_selection"]["enum"] == list(ASPECT_RATIOS)
    assert schema["additionalProperties"] is False


def test_leaf_finds_controls_by_path() -> None:
    assert isinstance(leaf("image_seed").control, Seed)
    assert all(isinstance(each.control, Control) for each in leaves())
    with pytest.raises(ParameterError, match="did you mean"):
        leaf("promt")


def test_aspect_ratios() -> None:
    assert len(ASPECT_RATIOS) == len(set(ASPECT_RATIOS)) == 26
    for value in ASPECT_RATIOS:
        width, height = parse_aspect_ratio(value)
        assert parse_aspect_ratio(aspect_ratio_label(value)) == (width, height)
        assert width % 64 == height % 64 == 0
        assert 0.8 < width * height / 1024**2 < 1.02
    assert aspect_ratio_label("1152*896") == "1152×896 ∣ 9:7"
    for wrong in ("", "1152", "1152*", "0*5", "-1*5", "a*b", "1*2*3", "²*3"):
        with pytest.raises(ValueError, match="not of the form"):
            parse_aspect_ratio(wrong)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        ("SAI Anime", ("SAI Anime",)),
        ("Fooocus V2, SAI Anime,", ("Fooocus V2", "SAI Anime")),
        ("a, b, a", ("a", "b")),
        ('["a, b"]', ("a, b",)),
        ("[]", ()),
    ],
)
def test_styles_can_be_set_as_text(text: str, names: tuple[str, ...]) -> None:
    assert DEFAULTS.with_set([f"style_selections={text}"]).style_selections == names


def test_the_styles_at_first_are_the_field_s() -> None:
    assert DEFAULTS.style_selections == ("Fooocus V2", "Fooocus Enhance", "Fooocus Sharp")
