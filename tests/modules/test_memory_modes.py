"""The pipeline with every way of keeping a model: the same pictures, or nearly, with and without LoRAs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ldm_patched.modules.memory import AUTOMATIC, Policy
from modules.model_folders import ModelFolders
from modules.parameters import BUILT_IN_MODEL
from modules.pipeline import Pipeline
from tests.modules.test_pipeline import MODELS, jobs, run, several, some_lora

__all__ = ["several"]

LORA = "a.safetensors"
EIGHT_BIT = Policy(eight_bit=True)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> ModelFolders:
    folder = tmp_path_factory.mktemp("loras")
    some_lora(folder / LORA)
    return replace(ModelFolders.under(MODELS), loras=(folder,))


@pytest.mark.parametrize(
    ("policy", "other"),
    [
        (Policy(mode="low-vram"), AUTOMATIC),
        (Policy(mode="no-vram"), AUTOMATIC),
        (Policy(mode="cpu"), AUTOMATIC),
        (Policy(offload=False), AUTOMATIC),
        (Policy(mode="no-vram", eight_bit=True), EIGHT_BIT),
    ],
)
def test_a_picture_is_the_same_with_and_without_a_lora(folders: ModelFolders, policy: Policy, other: Policy) -> None:
    pipelines = Pipeline(folders, policy=policy), Pipeline(folders, policy=other)
    for strength in (0.0, 1.0, -0.5):
        wanted = jobs(loras=((LORA, strength),) if strength else ())
        first, second = (run(pipeline, wanted).pictures[0] for pipeline in pipelines)
        assert np.array_equal(first, second), strength


def test_a_lora_in_eight_bits_leaves_no_trace(folders: ModelFolders) -> None:
    """Its weights are made anew from what was merged, at each change, and again from the file's own."""
    pipeline = Pipeline(folders, policy=EIGHT_BIT)
    plain = run(pipeline, jobs()).pictures[0]
    for strength in (1.0, 0.5):
        merged = run(pipeline, jobs(loras=((LORA, strength),))).pictures[0]
        assert not np.array_equal(merged, plain)
        fresh = run(Pipeline(folders, policy=EIGHT_BIT), jobs(loras=((LORA, strength),))).pictures[0]
        assert np.array_equal(merged, fresh)
    assert np.array_equal(run(pipeline, jobs()).pictures[0], plain)


def test_eight_bits_are_near(folders: ModelFolders) -> None:
    """Nearly as near as bfloat16 is to float32: 0.5 of 255 levels in the mean, of a prompt that decides everything."""
    wanted = jobs(1, steps=20, sampler="dpmpp_2m", positive=("a blue boat on the beach, flat illustration",))
    exact, stored = (run(Pipeline(folders, policy=each), wanted).pictures[0] for each in (AUTOMATIC, EIGHT_BIT))
    difference = abs(exact.astype(int) - stored.astype(int))
    assert 0 < float(difference.mean()) < 1.5, float(difference.mean())


class Visit:
    """Stands for the move of a UNet to where it computes, and back."""

    def __init__(self, model: Any, log: list[str]) -> None:
        self._name = model.kind
        self._log = log

    def __enter__(self) -> None:
        self._log.append(f"+{self._name}")

    def __exit__(self, *_: object) -> None:
        self._log.append(f"-{self._name}")


@pytest.mark.parametrize(
    ("refiner", "method", "moves"),
    [
        ("refiner.safetensors", "joint", ["+sdxl", "-sdxl", "+sdxl_refiner", "-sdxl_refiner"]),
        ("refiner.safetensors", "separate", ["+sdxl", "-sdxl", "+sdxl_refiner", "-sdxl_refiner"]),
        ("sd15.safetensors", "vae", ["+sdxl", "-sdxl", "+sd15", "-sd15"]),
        (BUILT_IN_MODEL, "joint", ["+sdxl", "-sdxl"]),
    ],
)
def test_one_unet_at_a_time_is_where_it_computes(
    several: ModelFolders, monkeypatch: pytest.MonkeyPatch, refiner: str, method: str, moves: list[str]
) -> None:
    log: list[str] = []
    monkeypatch.setattr("ldm_patched.modules.turns.at_work", lambda model: Visit(model, log))
    run(Pipeline(several), jobs(steps=2, refiner=refiner, switch=1, swap_method=method, sampler="euler"))
    assert log == moves


def test_a_unet_that_leaves_has_a_place_also_where_it_refines_itself(several: ModelFolders) -> None:
    pipeline = Pipeline(several, policy=Policy(offload=True))
    run(pipeline, jobs(steps=2, refiner=BUILT_IN_MODEL, switch=1))
    loaded = pipeline.loaded
    assert loaded is not None and loaded.refiner is not None
    assert loaded.refiner.placement == loaded.checkpoint.placement


def test_a_wish_for_threads_is_heard(folders: ModelFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", heard.append)
    Pipeline(folders, policy=Policy(mode="cpu", threads=3))
    Pipeline(folders)
    assert heard == [3]
