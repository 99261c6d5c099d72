"""The modes of few steps, as shipped: each draws what is asked for with the files that are in the repository."""

from __future__ import annotations

import numpy as np
import pytest

from modules.files import ModelFiles
from modules.model_folders import ModelFolders
from modules.parameters import BUILT_IN_MODEL, GenerationParameters
from modules.performance import MODES
from modules.pipeline import Pipeline
from modules.plan import plan
from modules.prompt_sources import prompt_sources
from modules.settings import built_in_settings
from tests.modules.test_pipeline import MODELS, Watcher


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(ModelFolders.under(MODELS))


@pytest.mark.parametrize("mode", [name for name, mode in MODES.items() if mode.lora is not None])
def test_a_thing_has_its_colour_and_its_place(pipeline: Pipeline, mode: str) -> None:
    prompt = "a large red heart on the left, snow, flat illustration"
    start = GenerationParameters(prompt=prompt, image_seed=3, image_number=1, performance_selection=mode)
    parameters = start.with_set(["overwrite_width=256", "overwrite_height=256"])
    settings = built_in_settings(MODELS.parent)
    facts = ModelFiles(settings.models.checkpoints).facts(BUILT_IN_MODEL)
    watcher = Watcher()
    pipeline.run(plan(parameters, facts, prompt_sources(settings)), watcher)
    red, green, blue = np.moveaxis(watcher.pictures[0].astype(int), 2, 0)
    is_red = (red > 150) & (green < 110) & (blue < 110)
    left, right = is_red[:, :128].mean(), is_red[:, 128:].mean()
    assert left > 0.12 and right < left / 3, (left, right)
    assert watcher.steps[-1][1] == MODES[mode].steps
