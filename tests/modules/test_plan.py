"""The plan: a table of parameters and what they become."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from modules.choices import ASPECT_RATIOS, MAX_SEED
from modules.engine_messages import RunRequest, pack_run, unpack, unpack_run
from modules.parameters import GenerationParameters
from modules.plan import ImageJob, ModelFacts, PlanError, pack_texts, picture_size, plan, unpack_texts
from modules.prompts import clean, lines_of

SDXL, MINI, SD15 = ModelFacts(1024), ModelFacts(256), ModelFacts(512, "sd15")


def jobs(facts: ModelFacts = MINI, **values: Any) -> list[ImageJob]:
    return plan(GenerationParameters.from_mapping({"image_seed": 5, **values}), facts)


@pytest.mark.parametrize(
    ("values", "facts", "expected"),
    [
        ({}, MINI, {"width": 288, "height": 224, "steps": 30, "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras"}),
        ({}, SDXL, {"width": 1152, "height": 896}),
        ({}, SD15, {"width": 576, "height": 448}),
        ({"aspect_ratios_selection": "704*1408"}, MINI, {"width": 176, "height": 352}),
        ({"performance_selection": "Quality"}, MINI, {"steps": 60}),
        ({"performance_selection": "Quality", "advanced.overwrite_step": 7}, MINI, {"steps": 7}),
        ({"advanced.overwrite_width": 333}, MINI, {"width": 328, "height": 224}),
        ({"advanced.overwrite_height": 64}, SDXL, {"width": 1152, "height": 64}),
        ({"advanced.disable_preview": True}, MINI, {"preview": False}),
        ({"sharpness": 3.5, "guidance_scale": 9}, MINI, {"sharpness": 3.5, "guidance_scale": 9.0, "denoise": 1.0}),
        ({"advanced.adaptive_cfg": 3, "advanced.clip_skip": 1}, MINI, {"adaptive_cfg": 3.0, "clip_skip": 1}),
        ({"advanced.adm_scaler_end": 0.5}, MINI, {"adm_scaler_positive": 1.5, "adm_scaler_end": 0.5}),
        ({"base_model": "x/y.safetensors"}, MINI, {"checkpoint": "x/y.safetensors"}),
        ({"prompt": " a cat,  red. \n\n second\tline "}, MINI, {"positive": ("a cat, red", "second line")}),
        ({"refiner_model": "r"}, MINI, {"refiner": "r", "switch": 24, "swap_method": "joint"}),
        ({"refiner_model": "r", "refiner_switch": 0.5}, MINI, {"switch": 15}),
        ({"refiner_model": "r", "advanced.overwrite_switch": 99}, MINI, {"switch": 30}),
        ({"refiner_switch": 0.5, "advanced.overwrite_switch": 3}, MINI, {"refiner": "", "switch": 30}),
        ({"refiner_model": "r", "advanced.refiner_swap_method": "vae"}, MINI, {"refiner": "r", "swap_method": "vae"}),
        ({"advanced.vae_name": "v"}, MINI, {"vae": "v"}),
        ({}, MINI, {"vae": "", "loras": (), "freeu": None, "guidance_rescale": 0.0}),
        ({"advanced.freeu_enabled": True}, MINI, {"freeu": (1.01, 1.02, 0.99, 0.95)}),
        (
            {
                "lora_1": {"name": "a", "weight": 0.5},
                "lora_2": {"name": "b", "enabled": False},
                "lora_3": {"name": "c", "weight": 0},
                "lora_5": {"name": "e", "weight": -2},
            },
            MINI,
            {"loras": (("a", 0.5), ("e", -2.0))},
        ),
        ({"prompt": ""}, MINI, {"positive": ("",), "negative": ("",)}),
        ({"negative_prompt": "blurry"}, MINI, {"negative": ("blurry",)}),
        ({"prompt": "a\0b\x1b[31m"}, MINI, {"positive": ("a b [31m",)}),
    ],
)
def test_parameters_become_jobs(values: dict[str, Any], facts: ModelFacts, expected: dict[str, Any]) -> None:
    job = asdict(jobs(facts, **values)[0])
    assert {name: job[name] for name in expected} == expected


def test_seeds_go_up_and_around() -> None:
    assert [job.seed for job in jobs(image_number=3)] == [5, 6, 7]
    assert [job.seed for job in jobs(image_number=3, image_seed=MAX_SEED)] == [MAX_SEED, 0, 1]
    assert [job.seed for job in jobs(image_number=3, advanced={"disable_seed_increment": True})] == [5, 5, 5]
    assert [job.index for job in jobs(image_number=3)] == [0, 1, 2]


def test_a_plan_needs_a_drawn_seed_and_is_the_same_each_time() -> None:
    with pytest.raises(PlanError, match="image_seed"):
        plan(GenerationParameters(), MINI)
    assert jobs(prompt="x") == jobs(prompt="x")


@pytest.mark.parametrize("ratio", ASPECT_RATIOS)
@pytest.mark.parametrize("native", [256, 512, 768, 1024])
def test_sizes_are_multiples_of_eight_near_the_ratio(ratio: str, native: int) -> None:
    width, height = picture_size(GenerationParameters(aspect_ratios_selection=ratio), ModelFacts(native))
    assert width % 8 == height % 8 == 0
    wanted = int(ratio.split("*")[0]) / int(ratio.split("*")[1])
    assert width / height == pytest.approx(wanted, rel=0.05)


def test_a_job_travels_as_json_unchanged(tmp_path: Any) -> None:
    request = RunRequest(
        "t", tuple(jobs(prompt="a\nb\n\U0001f600", image_number=2, lora_1={"name": "a"})), tmp_path, "png", "{}"
    )
    header, payload = unpack(pack_run(request))
    assert header.pop("do") == "run" and payload == b""
    assert unpack_run(json.loads(json.dumps(header))) == request


def test_cleaning() -> None:
    assert clean("  ,. a   cat,, ") == "a cat"
    assert lines_of("\n,\n") == ("",)
    assert lines_of("a\r\nb\u2028c") == ("a", "b", "c")


def test_texts_that_were_drawn_are_used_again() -> None:
    values: dict[str, Any] = {"image_seed": 5, "prompt": "a [[red, blue]] cat", "image_number": 2}
    drawn = jobs(**values)
    other = GenerationParameters.from_mapping(values | {"prompt": "a [[green, grey]] dog"})
    assert plan(other, MINI, drawn=unpack_texts(pack_texts(drawn))) == drawn
    assert unpack_texts("") == []
