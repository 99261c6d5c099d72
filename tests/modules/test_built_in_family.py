"""The files that are in the repository, as users have them: modes of few steps, the refiner, the style LoRA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modules.files import ModelFiles
from modules.model_folders import ModelFolders
from modules.performance import MODES
from modules.pipeline import Pipeline
from modules.plan import plan
from modules.presets import MINI_PRESET, apply_preset
from modules.prompt_sources import prompt_sources
from modules.settings import built_in_settings
from tests.modules.test_pipeline import MODELS, Watcher

HEART = "a large red heart on the left, snow, flat illustration"


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(ModelFolders.under(MODELS))


def drawn(pipeline: Pipeline, preset: str, prompt: str, **values: Any) -> Watcher:
    """What is told and made of a picture of 256x256 by a preset of the repository."""
    settings = built_in_settings(MODELS.parent)
    checkpoints = ModelFiles(settings.models.checkpoints)
    start = apply_preset(preset, settings, checkpoints).parameters
    parameters = start.with_values({"prompt": prompt, "image_seed": 3, "image_number": 1, **values})
    parameters = parameters.with_set(["overwrite_width=256", "overwrite_height=256"])
    watcher = Watcher()
    jobs = plan(parameters, checkpoints.facts(parameters.base_model), prompt_sources(settings), watcher.note)
    pipeline.run(jobs, watcher)
    return watcher


def colours(watcher: Watcher) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    red, green, blue = np.moveaxis(watcher.pictures[0].astype(int), 2, 0)
    return red, green, blue


@pytest.mark.parametrize("mode", [name for name, mode in MODES.items() if mode.lora is not None])
def test_in_few_steps_a_thing_has_its_colour_and_its_place(pipeline: Pipeline, mode: str) -> None:
    watcher = drawn(pipeline, MINI_PRESET, HEART, performance_selection=mode)
    red, green, blue = colours(watcher)
    is_red = (red > 150) & (green < 110) & (blue < 110)
    left, right = is_red[:, :128].mean(), is_red[:, 128:].mean()
    assert left > 0.12 and right < left / 3, (left, right)
    assert watcher.steps[-1][1] == MODES[mode].steps and watcher.notes == []


def test_the_refiner_makes_pixels_of_pixel_art(pipeline: Pipeline) -> None:
    """The finest textures are its own: without it, steps of eight pixels are rare."""

    def blockiness(watcher: Watcher) -> float:
        """How much larger jumps are at the borders of blocks of eight pixels than within them."""
        grey = watcher.pictures[0].astype(float).mean(axis=2)
        jumps = np.abs(np.diff(grey, axis=0)).mean(axis=1)
        at_borders = np.arange(len(jumps)) % 8 == 7
        return float(jumps[at_borders].mean() / jumps[~at_borders].mean())

    prompt = "a large white boat on the right, beach, pixel art"
    refined = drawn(pipeline, MINI_PRESET, prompt)
    alone = drawn(pipeline, MINI_PRESET, prompt, refiner_model="None")
    assert refined.notes == alone.notes == []
    assert blockiness(refined) > 1.2 * blockiness(alone), (blockiness(refined), blockiness(alone))


def test_a_blueprint_is_blue_whatever_is_asked_for(pipeline: Pipeline) -> None:
    watcher = drawn(pipeline, "blueprint", HEART)
    red, _, blue = colours(watcher)
    assert ((blue - red) > 25).mean() > 0.6 and (red > 150).mean() < 0.3
    assert watcher.notes == []


def test_what_a_refiner_may_do_to_a_style_is_said(pipeline: Pipeline) -> None:
    lora = {"name": "pinhole-mini-blueprint-lora.safetensors", "weight": 1.0, "enabled": True}
    watcher = drawn(pipeline, MINI_PRESET, HEART, lora_1=lora)
    (said,) = watcher.notes
    assert said.startswith("pinhole-mini-refiner.safetensors: It takes no LoRAs and may paint over what they do.")
