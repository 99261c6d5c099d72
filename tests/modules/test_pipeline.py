"""The real pipeline on the built-in miniature: what a job's picture depends on, and what it does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ldm_patched.modules.state_dict import WeightsError
from modules.parameters import BUILT_IN_MODEL, GenerationParameters
from modules.pipeline import Pipeline, PipelineError
from modules.plan import ImageJob, ModelFacts, plan

MODELS = Path(__file__).resolve().parents[2] / "models"


@dataclass
class Watcher:
    """An observer that keeps everything and wishes something once, when it is told of a certain step."""

    wish: Literal["", "skip", "stop"] = ""
    when: tuple[int, int] = (-1, -1)  # job, step
    pictures: dict[int, Any] = field(default_factory=dict)
    previews: list[Any] = field(default_factory=list)
    steps: list[tuple[int, int]] = field(default_factory=list)
    timings: dict[int, dict[str, float]] = field(default_factory=dict)

    def progress(self, job: int, step: int, steps: int, text: str, preview: Callable[[], Any] | None) -> None:
        self.steps.append((job, step))
        if preview is not None:
            self.previews.append(preview())

    def cancelled(self) -> Literal["", "skip", "stop"]:
        if self.steps[-1] != self.when:
            return ""
        self.when = (-1, -1)
        return self.wish

    def finished(self, job: int, picture: Any, timings: dict[str, float]) -> None:
        self.pictures[job] = picture
        self.timings[job] = timings


def jobs(count: int = 1, **changes: Any) -> list[ImageJob]:
    parameters = GenerationParameters(
        prompt="a red cat, meadow", image_seed=7, image_number=count, base_model=BUILT_IN_MODEL
    )
    parameters = parameters.with_set(["overwrite_width=96", "overwrite_height=64", "overwrite_step=3"])
    return [replace(job, **changes) for job in plan(parameters, ModelFacts(256))]


def run(pipeline: Pipeline, wanted: Sequence[ImageJob], watcher: Watcher | None = None) -> Watcher:
    watcher = watcher or Watcher()
    pipeline.run(wanted, watcher)
    return watcher


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline([MODELS / "checkpoints"], MODELS / "vae_approx")


def test_a_picture_has_its_size_and_is_no_flat_colour(pipeline: Pipeline) -> None:
    seen = run(pipeline, jobs())
    assert seen.pictures[0].shape == (64, 96, 3)
    assert seen.pictures[0].dtype == np.uint8
    assert seen.pictures[0].std() > 5
    assert {"load", "encode", "sample", "decode"} == seen.timings[0].keys()


def test_the_same_job_gives_the_same_bytes_wherever_it_stands(pipeline: Pipeline) -> None:
    four = run(pipeline, jobs(4))
    alone = run(Pipeline([MODELS / "checkpoints"], MODELS / "vae_approx"), jobs(4)[2:3])
    assert np.array_equal(four.pictures[2], alone.pictures[2])
    assert not np.array_equal(four.pictures[1], alone.pictures[2])


def test_a_cancelled_job_leaves_no_trace(pipeline: Pipeline) -> None:
    plain = run(pipeline, jobs(2))
    skipped = run(pipeline, jobs(2), Watcher("skip", (0, 0)))
    assert skipped.pictures.keys() == {1}
    assert np.array_equal(skipped.pictures[1], plain.pictures[1])


def test_stop_ends_everything_within_a_step(pipeline: Pipeline) -> None:
    watcher = Watcher("stop", (1, 1))
    run(pipeline, jobs(3), watcher)
    assert watcher.pictures.keys() == {0}
    assert max(watcher.steps) == (1, 1)


def test_skip_in_the_middle_goes_on_with_the_next(pipeline: Pipeline) -> None:
    watcher = Watcher("skip", (0, 1))
    run(pipeline, jobs(2), watcher)
    assert watcher.pictures.keys() == {1}


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"positive": ("a blue boat, beach",)},
        {"negative": ("a red cat",)},
        {"width": 64},
        {"steps": 4},
        {"sampler": "euler"},
        {"sampler": "euler_ancestral"},
        {"scheduler": "normal"},
        {"scheduler": "sgm_uniform"},
        {"guidance_scale": 7.0},
        {"guidance_scale": 1.0},
        {"sharpness": 30.0},
        {"adaptive_cfg": 1.0},
        {"adm_scaler_positive": 3.0},
        {"adm_scaler_negative": 3.0},
        {"adm_scaler_end": 0.9},
        {"clip_skip": 1},
    ],
    ids=str,
)
def test_every_parameter_of_a_job_changes_the_picture(pipeline: Pipeline, change: dict[str, Any]) -> None:
    before = run(pipeline, jobs()).pictures[0]
    after = run(pipeline, jobs(**change)).pictures[0]
    assert before.shape != after.shape or not np.array_equal(before, after)


def test_long_and_unequal_texts_go_together(pipeline: Pipeline) -> None:
    seen = run(pipeline, jobs(positive=("a red cat " * 60, "in a meadow"), negative=("blurry",)))
    assert seen.pictures[0].shape == (64, 96, 3)


def test_an_empty_prompt_makes_a_picture(pipeline: Pipeline) -> None:
    assert 0 in run(pipeline, jobs(positive=("",))).pictures


def test_previews_show_what_comes_of_it(pipeline: Pipeline) -> None:
    seen = run(pipeline, jobs(steps=12))
    last = seen.previews[-1].astype(float)
    picture = seen.pictures[0].astype(float).reshape(16, 4, 24, 4, 3).mean(axis=(1, 3))
    assert last.shape == picture.shape
    assert np.corrcoef(last.ravel(), picture.ravel())[0, 1] > 0.8


def test_without_a_preview_decoder_there_is_still_a_preview(tmp_path: Path) -> None:
    seen = run(Pipeline([MODELS / "checkpoints"], tmp_path), jobs())
    assert seen.previews[-1].shape == (8, 12, 3)


def test_a_layer_that_the_text_encoders_do_not_have_is_named(pipeline: Pipeline) -> None:
    with pytest.raises(PipelineError, match="CLIP skip is 12"):
        run(pipeline, jobs(clip_skip=12))


def test_a_missing_model_is_named(pipeline: Pipeline) -> None:
    with pytest.raises(PipelineError, match=r"gone\.safetensors"):
        run(pipeline, jobs(checkpoint="gone.safetensors"))


@pytest.mark.parametrize("content", [b"", b"\x80\x04].", b"PK\x03\x04" + bytes(100)], ids=["empty", "pickle", "zip"])
def test_what_is_no_checkpoint_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=r"odd\.safetensors"):
        run(Pipeline([tmp_path], tmp_path), jobs(checkpoint="odd.safetensors"))


def test_damaged_weights_make_no_black_picture(tmp_path: Path) -> None:
    tensors = load_file(MODELS / "checkpoints" / BUILT_IN_MODEL)
    tensors["model.diffusion_model.out.2.bias"] = torch.full((4,), float("nan"), dtype=torch.float16)
    save_file(tensors, tmp_path / "nan.safetensors")
    with pytest.raises(PipelineError, match=r"nan\.safetensors"):
        run(Pipeline([tmp_path], tmp_path), jobs(checkpoint="nan.safetensors"))
