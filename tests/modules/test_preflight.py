"""What is short before a model is loaded: the table of situations, real small files, and a run on a small disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ldm_patched.modules.devices import DeviceError, has_code_for, look
from ldm_patched.modules.memory import AUTOMATIC, Policy
from modules.conditions import Computing
from modules.model_folders import ModelFolders
from modules.parameters import GenerationParameters
from modules.pipeline import Pipeline
from modules.plan import ImageJob, ModelFacts, plan
from modules.preflight import Doing, Has, Needs, ahead, room
from modules.survey import survey
from tests.modules.conftest import ROOT

BASE = ROOT / "models" / "checkpoints" / "pinhole-mini-base.safetensors"
SDXL = Needs(name="sdxl.safetensors", file=6_900_000_000, gpu=6_900_000_000, main=0)
SMALL = Needs(name="mini.safetensors", file=20_000_000, gpu=20_000_000, main=40_000_000)
ON_GPU, ON_CPU = Doing(on_gpu=True), Doing(on_gpu=False)
ROOMY = Has(gpu="RTX 3060", gpu_free=11 << 30, main=32 << 30, main_free=20 << 30)


def needs(**values: Any) -> Needs:
    return Needs(**{"name": "sdxl.safetensors", "file": 6_900_000_000, "gpu": 6_900_000_000, "main": 0, **values})


def has(**values: Any) -> Has:
    return Has(**{"gpu": "RTX 3060", "gpu_free": 11 << 30, "main": 32 << 30, "main_free": 20 << 30, **values})


TABLE: list[tuple[str, Needs, Has, Doing, list[str]]] = [
    ("all is well", SMALL, ROOMY, ON_GPU, []),
    ("a long read", SDXL, ROOMY, ON_GPU, ["6.9 GB are read from the disk: only now"]),
    (
        "streamed", SDXL, has(gpu_free=3_000_000_000), Doing(on_gpu=True, streamed=True),
        ["needs 6.9 GB of the GPU's memory, and 3.0 GB are free: it stays in main memory", "6.9 GB are read"],
    ),
    ("turns", SDXL, has(gpu_free=6_000_000_000), Doing(on_gpu=True, offload=True), ["take turns there", "are read"]),
    ("as wished", SDXL, has(gpu_free=1), Doing(on_gpu=True, streamed=True, wished=True), ["are read"]),
    (
        "main memory", needs(file=1, main=9_000_000_000), has(main_free=4_000_000_000), ON_CPU,
        ["needs about 9.0 GB of main memory, and 4.0 GB are free: it will be slow until you close other programs. If "
         "memory runs out, Pinhole goes on by itself with the model in 8 bits"],
    ),
    (
        "in 8 bits", needs(file=1, main=9_000_000_000), has(main_free=4_000_000_000),
        Doing(on_gpu=False, eight_bit=True), ["choose a smaller model"],
    ),
    ("no kernels", SMALL, has(gpu="RTX 5090", unused="kernels"), ON_CPU, ["no code for RTX 5090, so the processor"]),
    ("no driver", SMALL, has(gpu="an NVIDIA GPU", unused="driver"), ON_CPU, ["PyTorch cannot reach it"]),
    ("silent system", needs(file=1, main=1 << 40), has(main_free=None, gpu_free=None), ON_CPU, []),
    (
        "the worst first", needs(main=9_000_000_000), has(unused="kernels", main_free=1), ON_CPU,
        ["no code for", "of main memory", "are read"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wants", "there", "doing", "words"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_what_is_short_is_said_with_what_is_done(wants: Needs, there: Has, doing: Doing, words: list[str]) -> None:
    said = ahead(wants, there, doing)
    assert len(said) == len(words), said
    assert all(part in sentence for part, sentence in zip(words, said, strict=True))


def test_room_on_the_disk() -> None:
    assert room(4, 1024 * 1024, 1 << 40, "/pictures") == room(4, 1024 * 1024, None, "/pictures") == ""
    said = room(4, 1024 * 1024, 2_000_000, "/pictures")
    assert said.startswith("4 pictures need up to 9 MB on the disk, and 2 MB are free where /pictures is.")


@pytest.mark.parametrize(
    ("capability", "archs", "fits"),
    [
        ((8, 6), ["sm_70", "sm_80", "sm_90"], True),  # Ampere runs what was made for an earlier one of its kind
        ((8, 0), ["sm_70", "sm_86"], False),
        ((12, 0), ["sm_80", "sm_90"], False),
        ((12, 0), ["sm_80", "compute_90"], True),
        ((6, 1), ["sm_75", "sm_80", "compute_90"], False),
        ((9, 0), ["sm_90a"], True),
        ((11, 0), ["gfx1100"], True),
    ],
)
def test_code_for_a_gpu(capability: tuple[int, int], archs: list[str], fits: bool) -> None:
    assert has_code_for(capability, archs) is fits


def test_a_real_file_is_surveyed_without_loading_it() -> None:
    found = survey(BASE, Policy("cpu"))
    assert found.device == "cpu" and found.loading and found.ahead == ()
    assert survey(BASE, Policy("cpu", eight_bit=True)).eight_bit


def test_a_file_that_is_cut_off_is_noticed_by_its_length(tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(BASE.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="cut"):
        survey(cut, Policy("cpu"))


class Notebook:
    """An observer that writes down what is known at each sign of life."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Computing | None]] = []
        self.pipeline: Pipeline | None = None

    def progress(self, job: int, step: int, steps: int, text: str, preview: object) -> None:
        assert self.pipeline is not None
        self.seen.append((text, self.pipeline.computing))

    def note(self, text: str) -> None:
        raise AssertionError(text)

    def cancelled(self) -> str:
        return ""

    def finished(self, job: int, picture: Any, timings: Mapping[str, float]) -> None:
        self.seen.append(("finished", None))


def jobs_of(**values: Any) -> list[ImageJob]:
    told = {"prompt": "a red cat", "image_seed": 1, "advanced.overwrite_step": 2, "style_selections": []}
    return plan(GenerationParameters.from_mapping({**told, **values}), ModelFacts(256))


def test_the_pipeline_knows_what_computes_before_it_loads() -> None:
    notes = Notebook()
    notes.pipeline = pipeline = Pipeline(ModelFolders.under(ROOT / "models"), policy=Policy("cpu"))
    for _ in range(2):
        pipeline.run(jobs_of(image_number=1, refiner_model="None"), notes)  # type: ignore[arg-type]
    steps = [computing for text, computing in notes.seen if text.startswith("Step")]
    assert all(computing is not None and not computing.loading for computing in steps) and len(steps) == 4
    assert look(Policy("cpu")).kind == "cpu" and look(AUTOMATIC).kind in ("cpu", "cuda", "mps", "xpu")


@pytest.mark.skipif(look(AUTOMATIC).kind != "cpu", reason="there is a GPU")
def test_a_gpu_that_must_be_there_and_is_not() -> None:
    with pytest.raises(DeviceError, match="--always-gpu"):
        look(Policy("gpu"))


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_a_small_disk_is_told_of_before_the_first_step(tmp_path: Path) -> None:
    script = f"mount -t tmpfs -o size=6m none {tmp_path} && {sys.executable} -m tests.modules.short_of_room {tmp_path}"
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("this machine allows no file systems of one's own")
    said, end = done.stdout.splitlines()
    assert said.startswith("4 pictures need up to ") and "are free where" in said, done.stderr
    assert end == "done 4"
