"""The same seed and parameters give the same bytes, whatever was made before them, beside them and where."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ldm_patched.modules.memory import Policy
from modules.model_folders import ModelFolders
from modules.pipeline import Pipeline
from tests.ldm_patched.tiny import TINY_REFINER, TINY_SD15, TINY_SDXL, write
from tests.modules.test_pipeline import MODELS, Watcher, for_the_miniature, jobs, run, some_lora

Picture = NDArray[np.uint8]

LORA: dict[str, Any] = {"loras": (("a.safetensors", 0.7),)}
REFINER: dict[str, Any] = {"refiner": "refiner.safetensors", "switch": 1}
PARAMETERS: dict[str, dict[str, Any]] = {
    "plain": {"sampler": "dpmpp_2m"},
    "stochastic": {"sampler": "dpmpp_2m_sde_gpu"},
    "ancestral": {"sampler": "euler_ancestral"},
    "lora": {"sampler": "euler", **LORA},
    "refiner": {"sampler": "heun", **REFINER},
    "separate": {"sampler": "dpmpp_3m_sde_gpu", **REFINER, "swap_method": "separate"},
    "sd15 refiner": {"sampler": "euler", "refiner": "sd15.safetensors", "switch": 1, "swap_method": "vae"},
    "all at once": {"sampler": "dpmpp_sde_gpu", **LORA, "refiner": "second.safetensors", "switch": 1},
}
THIRD = 2


def folders(folder: Path) -> ModelFolders:
    models = ModelFolders.under(MODELS)
    return replace(models, checkpoints=(*models.checkpoints, folder), loras=(folder,))


def pipeline_of(folder: Path) -> Pipeline:
    return Pipeline(folders(folder), policy=Policy(mode="cpu"))


def make_all(folder: Path) -> None:
    """The third of each four, alone, into a file. What the new process does, in another order than the tests."""
    pipeline = pipeline_of(folder)
    made = {}
    for name, change in reversed(PARAMETERS.items()):
        made[name] = run(pipeline, jobs(4, **change)[THIRD : THIRD + 1]).pictures[THIRD]
    np.savez(folder / "new-process.npz", **made)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A refiner, a second model, an SD 1.5 model and a LoRA beside the miniature."""
    path = tmp_path_factory.mktemp("models")
    write(path / "refiner.safetensors", for_the_miniature(TINY_REFINER))
    write(path / "second.safetensors", for_the_miniature(TINY_SDXL), seed=1)
    write(path / "sd15.safetensors", TINY_SD15, seed=3)
    some_lora(path / "a.safetensors")
    return path


@pytest.fixture(scope="module")
def alone(folder: Path) -> Mapping[str, Picture]:
    """The third of each four, each made by a pipeline that made nothing else."""
    one = {name: jobs(4, **change)[THIRD : THIRD + 1] for name, change in PARAMETERS.items()}
    return {name: run(pipeline_of(folder), job).pictures[THIRD] for name, job in one.items()}


@pytest.fixture(scope="module")
def used(folder: Path) -> Pipeline:
    """A pipeline that everything goes through."""
    return pipeline_of(folder)


@pytest.fixture(scope="module")
def elsewhere(folder: Path) -> Mapping[str, Picture]:
    """What a new process makes."""
    root = Path(__file__).resolve().parents[2]
    code = "import sys, pathlib; from tests.modules.test_reproducible import *; make_all(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, cwd=root)
    with np.load(folder / "new-process.npz") as made:
        return dict(made)


def third_of_four(pipeline: Pipeline, change: dict[str, Any]) -> Picture:
    four = run(pipeline, jobs(4, **change)).pictures
    assert not np.array_equal(four[1], four[THIRD])
    return np.asarray(four[THIRD])


def after_another_model(pipeline: Pipeline, change: dict[str, Any]) -> Picture:
    run(pipeline, jobs(checkpoint="second.safetensors", loras=(("a.safetensors", -1.0),)))
    return np.asarray(run(pipeline, jobs(4, **change)[THIRD : THIRD + 1]).pictures[THIRD])


def after_a_cancelled_task(pipeline: Pipeline, change: dict[str, Any]) -> Picture:
    stopped = run(pipeline, jobs(4, **{**change, "loras": (("a.safetensors", 2.0),)}), Watcher("stop", (0, 1)))
    assert not stopped.pictures
    return np.asarray(run(pipeline, jobs(4, **change)[THIRD : THIRD + 1]).pictures[THIRD])


def after_a_skipped_picture(pipeline: Pipeline, change: dict[str, Any]) -> Picture:
    seen = run(pipeline, jobs(4, **change)[1:3], Watcher("skip", (1, 0)))
    assert seen.pictures.keys() == {THIRD}
    return np.asarray(seen.pictures[THIRD])


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("way", [third_of_four, after_another_model, after_a_cancelled_task, after_a_skipped_picture])
def test_what_was_made_before_and_beside_changes_no_byte(
    used: Pipeline, alone: Mapping[str, Picture], way: Callable[[Pipeline, dict[str, Any]], Picture], name: str
) -> None:
    assert np.array_equal(way(used, PARAMETERS[name]), alone[name])


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_new_process_changes_no_byte(
    elsewhere: Mapping[str, Picture], alone: Mapping[str, Picture], name: str
) -> None:
    assert np.array_equal(elsewhere[name], alone[name])


def test_the_parameters_make_different_pictures(alone: Mapping[str, Picture]) -> None:
    assert len({picture.tobytes() for picture in alone.values()}) == len(PARAMETERS)
