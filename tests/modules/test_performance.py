"""Performance modes: every row against the table of the field, and what each makes of a plan."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from modules.files import ModelFiles
from modules.metadata import describe, parse
from modules.parameters import GenerationParameters
from modules.performance import MODES
from modules.plan import ImageJob, ModelFacts, PlanError, plan
from modules.prompt_sources import prompt_sources
from modules.settings import Settings, built_in_settings

# mode -> steps, sampler, scheduler, LoRA, strength; written down once more, from the field's table
FEW_STEPS = {
    "Extreme Speed": (8, "lcm", "lcm", "sdxl_lcm_lora.safetensors", 1.0),
    "Lightning": (4, "euler", "sgm_uniform", "sdxl_lightning_4step_lora.safetensors", 1.0),
    "Hyper-SD": (4, "dpmpp_sde_gpu", "karras", "sdxl_hyper_sd_4step_lora.safetensors", 0.8),
}
SDXL, MINI = ModelFacts(1024, text_width=2048), ModelFacts(256, text_width=192)
EVERYTHING = {
    "image_seed": 5, "sharpness": 9, "guidance_scale": 8, "refiner_model": "r.safetensors", "refiner_switch": 0.5,
    "lora_1": {"name": "mine.safetensors", "weight": 0.5},
    "advanced": {
        "sampler_name": "heun", "scheduler_name": "simple", "adaptive_cfg": 9, "adm_scaler_positive": 2,
        "adm_scaler_negative": 2, "adm_scaler_end": 0.9,
    },
}  # fmt: skip


def put_lora(settings: Settings, name: str, width: int) -> None:
    """A LoRA that reads text states of this width."""
    tensor = {"dtype": "F16", "shape": [1, width], "data_offsets": [0, 2 * width]}
    header = json.dumps({"lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight": tensor})
    path = settings.models.loras[0] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(2 * width))


def job_in(mode: str, facts: ModelFacts, settings: Settings) -> ImageJob:
    parameters = GenerationParameters.from_mapping({**EVERYTHING, "performance_selection": mode})
    return plan(parameters, facts, prompt_sources(settings))[0]


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    """A home without any file."""
    return built_in_settings(tmp_path)


def test_the_modes_are_the_fields() -> None:
    steps = {"Quality": 60, "Speed": 30, "Extreme Speed": 8, "Lightning": 4, "Hyper-SD": 4}
    assert {name: mode.steps for name, mode in MODES.items()} == steps
    assert list(MODES) == list(steps)
    assert not MODES["Quality"].overrides and not MODES["Speed"].overrides


@pytest.mark.parametrize("mode", FEW_STEPS)
def test_a_few_step_mode_decides_over_its_jobs(mode: str, home: Settings) -> None:
    steps, sampler, scheduler, lora, strength = FEW_STEPS[mode]
    put_lora(home, f"fast/{lora}", 2048)
    job = job_in(mode, SDXL, home)
    assert (job.steps, job.sampler, job.scheduler) == (steps, sampler, scheduler)
    assert job.loras == ((f"fast/{lora}", strength), ("mine.safetensors", 0.5)), "the mode's comes first"
    assert (job.guidance_scale, job.sharpness, job.adaptive_cfg) == (1, 0, 1)
    assert (job.adm_scaler_positive, job.adm_scaler_negative, job.adm_scaler_end) == (1, 1, 0)
    assert (job.refiner, job.switch) == ("", steps)


@pytest.mark.parametrize("mode", ["Quality", "Speed"])
def test_the_others_leave_everything_as_chosen(mode: str, home: Settings) -> None:
    job = job_in(mode, SDXL, home)
    assert (job.guidance_scale, job.sharpness, job.sampler, job.scheduler) == (8, 9, "heun", "simple")
    assert (job.refiner, job.loras) == ("r.safetensors", (("mine.safetensors", 0.5),))


@pytest.mark.parametrize("mode", FEW_STEPS)
def test_the_file_that_fits_the_model_is_taken(mode: str, home: Settings) -> None:
    published, small = MODES[mode].lora.files  # type: ignore[union-attr]  # a few-step mode has one
    put_lora(home, published, 2048)
    with pytest.raises(PlanError, match="there but made for another kind of model") as caught:
        job_in(mode, MINI, home)
    assert published in str(caught.value) and small in str(caught.value)
    put_lora(home, small, 192)
    assert job_in(mode, MINI, home).loras[0][0] == small
    assert job_in(mode, SDXL, home).loras[0][0] == published


@pytest.mark.parametrize("mode", FEW_STEPS)
def test_a_missing_file_is_named_with_its_place(mode: str, home: Settings) -> None:
    with pytest.raises(PlanError) as caught:
        job_in(mode, SDXL, home)
    assert FEW_STEPS[mode][3] in str(caught.value) and str(home.models.loras[0]) in str(caught.value)
    assert "choose Speed" in str(caught.value)


@pytest.mark.parametrize("mode", FEW_STEPS)
def test_the_same_lora_is_not_merged_twice(mode: str, home: Settings) -> None:
    lora = FEW_STEPS[mode][3]
    put_lora(home, lora, 2048)
    values = {"image_seed": 1, "performance_selection": mode, "lora_1": {"name": lora}}
    values["prompt"] = f"a cat <lora:{lora.removesuffix('.safetensors')}:0.3>"
    job = plan(GenerationParameters.from_mapping(values), SDXL, prompt_sources(home))[0]
    assert job.loras == ((lora, FEW_STEPS[mode][4]),)


@pytest.mark.parametrize("mode", FEW_STEPS)
def test_a_picture_s_text_restores_its_mode(mode: str) -> None:
    parameters = GenerationParameters.from_mapping({**EVERYTHING, "performance_selection": mode})
    assert parse(describe(parameters, {})).parameters == parameters


def test_the_miniature_s_header_tells_its_text_width() -> None:
    root = Path(__file__).resolve().parents[2]
    assert ModelFiles((root / "models" / "checkpoints",)).facts("pinhole-mini-base.safetensors").text_width == 192
