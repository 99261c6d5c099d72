"""What other programs write and read in pictures: both schemes there and back, and texts of theirs written by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st
from PIL import Image

from modules.choices import METADATA_SCHEMES, OUTPUT_FORMATS
from modules.metadata import SchemeText, describe, encode_picture, read_picture, read_texts
from modules.metadata_reading import Reading, is_a1111, quoted_names, read_a1111, read_fooocus
from modules.metadata_writing import scheme_text
from modules.model_search import Here
from modules.parameters import GenerationParameters
from modules.performance import MODES
from modules.plan import ModelFacts, plan
from modules.prompts import Sources
from modules.styles import read_styles
from tests.architecture import ROOT
from tests.modules.test_parameters import any_parameters

FILES = {
    "checkpoints": ["sdxl/juggernautXL.safetensors", "pinhole-mini-base.safetensors", "refiner.safetensors"],
    "loras": ["detail.safetensors", "sub/glow v1.2.safetensors"],
    "vae": ["fix.safetensors"],
}


def names(kind: str) -> Sequence[str]:
    return FILES[kind]


HERE = Here(names)


def common_of(parameters: GenerationParameters, scheme: str) -> tuple[str, dict[str, Any]]:
    few_step = [mode.lora.files[0] for mode in MODES.values() if mode.lora is not None]
    job = plan(parameters, ModelFacts(native=1024), Sources(loras=lambda: few_step))[0]
    facts = {"task": "t", "index": 0, "job": asdict(job), "hashes": {"checkpoints": {job.checkpoint: "0123456789"}}}
    return scheme_text(scheme, parameters, facts), facts


@hypothesis_settings(max_examples=5, deadline=None)
@given(any_parameters())
def test_any_parameters_come_back_in_both_schemes_and_all_formats(parameters: GenerationParameters) -> None:
    parameters = parameters.with_values(
        {"image_seed": abs(parameters.image_seed), "advanced.guidance_begin": 0.0, "image_number": 1}
    )
    for scheme in METADATA_SCHEMES:
        text, facts = common_of(parameters, scheme)
        for output_format in OUTPUT_FORMATS:
            complete = describe(parameters, facts)
            data = encode_picture(np.zeros((8, 8, 3), np.uint8), output_format, complete, SchemeText(scheme, text))
            assert read_picture(BytesIO(data)).parameters == parameters
            carried = read_texts(BytesIO(data))
            assert carried.scheme == scheme
            assert carried.common == (text.replace("\0", "") if output_format == "png" else text)


@pytest.mark.parametrize("scheme", METADATA_SCHEMES)
@hypothesis_settings(max_examples=8, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "prompt": st.text("ab ,:\"'()é🦊\\", max_size=30).map(str.strip),
            "negative_prompt": st.text("ab ,:\"'()é\\", max_size=30).map(str.strip),
            "image_seed": st.integers(0, 2**63 - 1),
            "sharpness": st.floats(0, 30),
            "guidance_scale": st.floats(1, 30),
            "performance_selection": st.sampled_from(["Quality", "Speed"]),
            "advanced.overwrite_step": st.sampled_from([-1, 7]),
            "advanced.sampler_name": st.sampled_from(["euler", "dpmpp_2m", "heunpp2", "uni_pc_bh2", "restart"]),
            "advanced.scheduler_name": st.sampled_from(["karras", "normal", "exponential", "edm_playground_v2.5"]),
            "advanced.adm_scaler_end": st.floats(0, 1),
            "advanced.clip_skip": st.integers(1, 12),
            "advanced.freeu_enabled": st.booleans(),
            "base_model": st.sampled_from(FILES["checkpoints"]),
            "refiner_model": st.sampled_from(["None", "refiner.safetensors"]),
            "advanced.vae_name": st.sampled_from(["Default (model)", "fix.safetensors"]),
            "lora_1.name": st.sampled_from(["None", "sub/glow v1.2.safetensors"]),
            "lora_1.weight": st.sampled_from([-0.5, 1.0]),
        }
    )
)
def test_what_a_scheme_can_hold_comes_back_from_its_text_alone(scheme: str, values: dict[str, Any]) -> None:
    if values["lora_1.name"] == "None":
        values["lora_1.weight"] = 1.0
    parameters = GenerationParameters.from_mapping({**values, "style_selections": [], "image_number": 1})
    text, _ = common_of(parameters, scheme)
    reading = read_fooocus(json.loads(text), HERE) if scheme == "fooocus" else read_a1111(text, HERE)
    assert reading.problems == [] and reading.unknown == {}
    base = GenerationParameters.from_mapping({"style_selections": [], "image_number": 1})
    assert base.with_values(reading.values) == parameters


@pytest.mark.parametrize("raw", [True, False])
def test_the_styles_around_a_prompt_are_found_again(raw: bool) -> None:
    sources = Sources(styles=lambda: read_styles([ROOT / "sdxl_styles"]))
    here = Here(names, styles=sources.styles)
    for styles in (("SAI Anime",), ("Fooocus V2", "Fooocus Enhance", "Fooocus Sharp"), ("Fooocus Negative",), ()):
        wanted = GenerationParameters(
            prompt="a red fox, in the snow", negative_prompt="fog", image_seed=1, style_selections=styles
        )
        job = plan(wanted, ModelFacts(native=1024), sources)[0]
        if job.expand:
            job = replace(job, positive=(*job.positive, f"{job.expand}, soft light"))
        text = scheme_text("a1111", wanted, {"job": asdict(job)})
        if not raw:
            text = text.replace('Raw prompt: "a red fox, in the snow", Raw negative prompt: fog, ', "")
        values = read_a1111(text, here).values
        expected = (wanted.prompt, wanted.negative_prompt, list(styles))
        assert (values["prompt"], values["negative_prompt"], list(values["style_selections"])) == expected


LAST = "Steps: 30, Sampler: Euler a, CFG scale: 7, Seed: 12, Size: 1024x1024"

# what a text says, parameters that are applied, and words of what is named: unknown keys and problems together
A1111: list[tuple[str, dict[str, Any], str]] = [
    (f"a cat\n{LAST}", {"prompt": "a cat", "negative_prompt": "", "image_seed": 12, "guidance_scale": 7.0}, ""),
    (f"a\nb\nNegative prompt: bad\nworse\n{LAST}", {"prompt": "a\nb", "negative_prompt": "bad\nworse"}, ""),
    (f"a\n{LAST}", {"advanced.sampler_name": "euler_ancestral", "aspect_ratios_selection": "1024*1024"}, ""),
    (
        "a\nSteps: 20, Sampler: DPM++ 2M Karras, Seed: 1",
        {"advanced.sampler_name": "dpmpp_2m", "advanced.scheduler_name": "karras", "advanced.overwrite_step": 20},
        "",
    ),
    ("a\nSteps: 20, Sampler: DPM++ SDE, Schedule type: Karras", {"advanced.scheduler_name": "karras"}, ""),
    ("a\nSteps: 20, Seed: 1, Size: 512x768", {"advanced.overwrite_width": 512, "advanced.overwrite_height": 768}, ""),
    (f"a\n{LAST}, Model: juggernautXL, Model hash: aa", {"base_model": "sdxl/juggernautXL.safetensors"}, ""),
    (f"a\n{LAST}, Model: nowhere", {"image_seed": 12}, "'nowhere' (base_model) is not among your files"),
    (f"a\n{LAST}, Model: ../../etc/passwd", {"image_seed": 12}, "is not among your files"),
    (f'x\n{LAST}, Raw prompt: "a, \\"b\\": c"', {"prompt": 'a, "b": c'}, "styles that are not known here"),
    (f'a, b\n{LAST}, Raw prompt: "a, b"', {"prompt": "a, b", "style_selections": ()}, ""),
    (f'a\nb\n{LAST}, Raw prompt: "__x__"', {"prompt": "__x__", "style_selections": ()}, ""),
    (f'a\n{LAST}, Lora weights: "detail: 0.5, glow v1.2: 1"', {"lora_2.name": "sub/glow v1.2.safetensors"}, ""),
    (f'a\n{LAST}, Lora weights: "lost: 0.5, detail: 1"', {"lora_1.name": "detail.safetensors"}, "'lost'"),
    (f'a\n{LAST}, Lora hashes: "detail: aabb: 0.75"', {"lora_1.name": "detail.safetensors", "lora_1.weight": 0.75}, ""),
    (f'a\n{LAST}, Lora hashes: "detail: aa", Lora weights: "detail: 0.5"', {"lora_1.weight": 0.5}, ""),
    (f'a\n{LAST}, Lora hashes: "detail: aabb"', {"image_seed": 12}, ""),
    (f"a\n{LAST}, Denoising strength: 0.4, Hires upscale: 2", {"image_seed": 12}, "Denoising strength"),
    (f"a\nSteps: {'9' * 400}, Seed: 5, CFG scale: 7", {"image_seed": 5}, "steps was left out: 999999"),
    (f"a\nSteps: {'9' * 5000}, Seed: 5, CFG scale: 7", {"image_seed": 5}, "steps was left out"),
    (f"a\n{LAST}, Seed: 1e999", {"guidance_scale": 7.0}, "seed was left out"),
    (f'a\n{LAST}, Lora hashes: ghost, Lora weights: ": "', {"image_seed": 12}, "lora_weights was left out"),
    (f"a\r\nNegative prompt: b\r\n{LAST}\r\n", {"prompt": "a", "negative_prompt": "b"}, ""),
    (f"a\nNegative prompt: b\nNegative prompt: c\n{LAST}", {"negative_prompt": "b\nNegative prompt: c"}, ""),
    (f"a\nNegative prompt:\n{LAST}", {"prompt": "a", "negative_prompt": ""}, ""),
    (f'a\n{LAST}, Raw prompt: "never closed', {"image_seed": 12}, "not known here"),
    (f'a\n{LAST}, Hashes: {{"model": "aabbccddee"}}', {"image_seed": 12}, "Hashes"),
    (f"a\n{LAST}, Model: , VAE: ", {"image_seed": 12}, "base_model was left out: '' is not the name of a model"),
    (f"a\n{LAST}, Size: １０２４x１０２４", {"image_seed": 12}, ""),
    (f"a\n{LAST}, Sampler: Warp 9", {"prompt": "a", "image_seed": 12}, "sampler was left out: 'Warp 9'"),
    ("a\nSteps: many, Seed: 5, CFG scale: 7", {"image_seed": 5}, "steps was left out: 'many'"),
    ("a\nSteps: 5000, Seed: 5, CFG scale: 7", {"image_seed": 5}, "steps was left out: 5000"),
    ("a\nSteps: 30, Seed: __import__('os').x, CFG scale: 7", {"guidance_scale": 7.0}, "seed was left out"),
    ("a\nSteps: 30, Seed: 5, Size: big", {"image_seed": 5}, "resolution was left out: 'big'"),
    (f'a\n{LAST}, FreeU: "(1.1, 1.2, 0.9, 0.2)"', {"advanced.freeu_enabled": True, "advanced.freeu_s2": 0.2}, ""),
    (f'a\n{LAST}, ADM Guidance: "(1.5, x)"', {"image_seed": 12}, "adm_guidance was left out"),
    (f"a\n{LAST}, VAE: fix, Refiner: refiner", {"advanced.vae_name": "fix.safetensors"}, ""),
    (f"Negative prompt: only\n{LAST}", {"prompt": "", "negative_prompt": "only"}, ""),
]

FOOOCUS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"prompt": "a fox", "seed": "9223372036854775807"}, {"prompt": "a fox", "image_seed": 2**63 - 1}, ""),
    ({"Prompt": "a fox", "Seed": 4, "Image Number": 3}, {"prompt": "a fox", "image_seed": 4, "image_number": 3}, ""),
    ({"styles": "['Fooocus V2', \"It's\"]"}, {"style_selections": ("Fooocus V2", "It's")}, ""),
    ({"styles": ["SAI Anime"]}, {"style_selections": ("SAI Anime",)}, ""),
    ({"styles": "[]"}, {"style_selections": ()}, ""),
    ({"styles": "__import__('os').system('x')"}, {}, "styles was left out"),
    ({"performance": "Speed", "steps": 30}, {"advanced.overwrite_step": -1, "performance_selection": "Speed"}, ""),
    ({"performance": "Quality", "steps": 30}, {"advanced.overwrite_step": 30}, ""),
    ({"resolution": "(1152, 896)"}, {"aspect_ratios_selection": "1152*896", "advanced.overwrite_width": -1}, ""),
    ({"resolution": "(640, 640)"}, {"advanced.overwrite_width": 640, "advanced.overwrite_height": 640}, ""),
    ({"adm_guidance": "(1.5, 0.8, 0.3)"}, {"advanced.adm_scaler_end": 0.3}, ""),
    ({"base_model": "juggernautXL.safetensors"}, {"base_model": "sdxl/juggernautXL.safetensors"}, ""),
    ({"base_model": "C:\\x\\y.safetensors", "seed": 1}, {"image_seed": 1}, "is not among your files"),
    ({"refiner_model": "None", "vae": "Default (model)"}, {"refiner_model": "None"}, ""),
    ({"lora_combined_1": "detail : 0.5"}, {"lora_1.name": "detail.safetensors", "lora_1.weight": 0.5}, ""),
    ({"LoRA 1": "True : detail.safetensors : -1"}, {"lora_1.weight": -1.0, "lora_2.name": "None"}, ""),
    ({"lora_combined_1": "detail : heavy", "seed": 1}, {"image_seed": 1}, "lora_combined_1 was left out: 'heavy'"),
    (
        {"performance": "Extreme Speed", "lora_combined_1": "sdxl_lcm_lora : 1.0", "lora_combined_2": "detail : 0.5"},
        {"performance_selection": "Extreme Speed", "lora_1.name": "detail.safetensors", "lora_2.name": "None"},
        "",
    ),
    ({"loras": [["detail", 0.25, "abc"]]}, {"lora_1.weight": 0.25}, ""),
    ({"sharpness": 99, "guidance_scale": 5}, {"guidance_scale": 5.0}, "sharpness was left out: 99 is outside 0 to 30"),
    ({"sharpness": None, "seed": 2}, {"image_seed": 2}, "sharpness"),
    ({"from_the_future": {"a": 1}, "seed": 2}, {"image_seed": 2}, "from_the_future"),
    ({"freeu": "(1, 2)", "clip_skip": "2"}, {"advanced.clip_skip": 2}, "freeu was left out: '(1, 2)' is not 4 numbers"),
    ({"loras": [["detail", 0.25, {}], ["detail", "x", 1], [["a"], 1, 2]]}, {"lora_1.weight": 0.25}, "'x'"),
    ({"base_model": "juggernautXL", "base_model_hash": {"a": 1}}, {"base_model": "sdxl/juggernautXL.safetensors"}, ""),
    ({"lora_combined_1": " : ", "lora_combined_2": "True : detail : 1 : 2", "seed": 2}, {"image_seed": 2}, "lora"),
    ({"steps": 10**400, "resolution": "(1e3, 1e3)", "seed": 2}, {"image_seed": 2}, "steps was left out"),
    ({"prompt": ["a", "b"], "negative_prompt": ["a", 1]}, {"prompt": "a\nb"}, "negative_prompt was left out"),
    ({"prompt": "x" * 20_001, "seed": 2}, {"image_seed": 2}, "prompt was left out: has 20001 characters"),
    ({"prompt": "\ud800", "seed": 2}, {"image_seed": 2}, "prompt was left out"),
    ({"styles": "['a', 'a', '']", "seed": 2}, {"image_seed": 2}, "styles was left out"),
    ({"sampler": [], "loras": 7, "styles": {"a": 1}, "seed": True}, {}, "sampler was left out"),
]


def check(reading: Reading, wanted: dict[str, Any], words: str) -> None:
    told = "\n".join([*reading.problems, *reading.unknown])
    made = GenerationParameters().with_values(reading.values)
    assert {path: made.get(path) for path in wanted} == wanted
    assert set(wanted) <= set(reading.values)
    assert words in told if words else not told


@pytest.mark.parametrize(("text", "wanted", "words"), A1111)
def test_texts_of_other_programs(text: str, wanted: dict[str, Any], words: str) -> None:
    assert is_a1111(text)
    check(read_a1111(text, HERE), wanted, words)


@pytest.mark.parametrize(("record", "wanted", "words"), FOOOCUS)
def test_json_logs_of_other_programs(record: dict[str, Any], wanted: dict[str, Any], words: str) -> None:
    check(read_fooocus(record, HERE), wanted, words)


@pytest.mark.parametrize("text", ["", "a cat", "a: b", "Steps: 3, Seed: 4", "x\nwhat: is this"])
def test_what_is_no_list_of_parameters(text: str) -> None:
    assert not is_a1111(text)


@given(st.text(max_size=200))
@hypothesis_settings(max_examples=60, deadline=None)
def test_no_text_breaks_the_reader(text: str) -> None:
    read_a1111(text, HERE)
    read_fooocus({key: text for key in ("styles", "resolution", "freeu", "steps", "lora_combined_1", "loras")}, HERE)
    assert quoted_names(text) is None or text.strip().startswith("[")


def test_the_comment_that_other_programs_put_into_the_inner_directory_is_found() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + f"ein Käse 🦊\n{LAST}".encode("utf-16-be")
    buffer = BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", exif=exif)
    buffer.seek(0)
    assert read_texts(buffer).common.startswith("ein Käse 🦊\nSteps")
