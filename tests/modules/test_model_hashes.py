"""Hashes of model files: computed once, remembered, found under another name; and where they come to stand."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from modules.async_worker import AsyncWorker
from modules.events import Finish, PictureRecord
from modules.files import ModelFileError, ModelLibrary
from modules.metadata import read_text, read_texts
from modules.metadata_texts import read_told
from modules.model_hashes import ModelHashes
from modules.model_search import here_with
from modules.parameters import BUILT_IN_MODEL, GenerationParameters
from modules.plan import ImageJob, ModelFacts, plan
from modules.settings import Settings
from tests.modules.conftest import SDXL_NAMES, safetensors

LORA = "sub/glow.safetensors"


@pytest.fixture
def hashes(settings: Settings) -> ModelHashes:
    safetensors(settings.models.loras[0] / LORA, ["lora_unet.lora_up.weight"])
    return opened(settings)


def opened(settings: Settings) -> ModelHashes:
    """As another process, or a later one, has it."""
    return ModelHashes(settings.hashes, ModelLibrary(settings.models))


def job(settings: Settings) -> ImageJob:
    wanted = GenerationParameters(image_seed=1).with_values({"lora_1.name": LORA})
    return plan(wanted, ModelFacts(64))[0]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    assert true()


def test_a_hash_is_the_files_and_the_next_process_knows_it(settings: Settings, hashes: ModelHashes) -> None:
    path = settings.models.checkpoints[0] / BUILT_IN_MODEL
    assert hashes.known("checkpoints", BUILT_IN_MODEL) == ""
    assert hashes.compute("checkpoints", BUILT_IN_MODEL) == digest(path)
    assert opened(settings).known("checkpoints", BUILT_IN_MODEL) == digest(path)
    assert opened(settings).name_of("checkpoints", digest(path)[:10]) == BUILT_IN_MODEL
    assert opened(settings).name_of("loras", digest(path)[:10]) == ""


def test_what_a_job_uses_is_computed_in_the_background(settings: Settings, hashes: ModelHashes) -> None:
    wanted = job(settings)
    assert hashes.short(wanted) == {}
    hashes.compute_later(wanted)
    until(lambda: len(opened(settings).short(wanted)) == 2)
    lora = digest(settings.models.loras[0] / LORA)
    assert opened(settings).short(wanted)["loras"] == {LORA: lora[:10]}
    hashes.compute_later(replace(wanted, checkpoint="gone.safetensors"))  # no harm


def test_a_changed_file_is_another_one_and_a_renamed_one_the_same(settings: Settings, hashes: ModelHashes) -> None:
    path = settings.models.loras[0] / LORA
    known = hashes.compute("loras", LORA)
    renamed = path.with_name("shine.safetensors")
    path.rename(renamed)
    assert hashes.known("loras", LORA) == ""
    assert opened(settings).known("loras", "sub/shine.safetensors") == known
    assert opened(settings).name_of("loras", known[:10]) == "sub/shine.safetensors"
    renamed.write_bytes(renamed.read_bytes() + b"x")
    assert opened(settings).known("loras", "sub/shine.safetensors") == ""
    # another file of the same size and time in its place
    safetensors(path, ["lora_unet.lora_up.weight"])
    os.utime(path, ns=(1, 1))
    assert hashes.known("loras", LORA) == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        "[[]]",
        '[["a", 1, 2, 3, "x"]]',
        "[" * 100_000,
        '[[1, 2, 3, 4, 5], ["a", true, 1, 1, null]]',
        "\0",
    ],
)
def test_a_damaged_memory_counts_for_nothing(settings: Settings, hashes: ModelHashes, text: str) -> None:
    settings.hashes.parent.mkdir(parents=True, exist_ok=True)
    settings.hashes.write_text(text)
    assert hashes.known("loras", LORA) == ""
    assert hashes.compute("loras", LORA) == opened(settings).known("loras", LORA) != ""


def test_names_that_are_no_files_here_are_unknown(hashes: ModelHashes) -> None:
    for name in ("gone.safetensors", "../../etc/passwd", "", "/etc/passwd"):
        assert hashes.known("checkpoints", name) == ""
        with pytest.raises((OSError, ModelFileError)):
            hashes.compute("checkpoints", name)


def made(worker: AsyncWorker, parameters: GenerationParameters) -> PictureRecord:
    *_, last = worker.follow(worker.submit(parameters))
    assert isinstance(last, Finish) and last.state == "done", last
    return last.pictures[0]


@pytest.mark.parametrize("scheme", ["fooocus", "a1111"])
def test_pictures_carry_the_hashes_and_find_renamed_models_by_them(
    settings: Settings, hashes: ModelHashes, worker: AsyncWorker, scheme: str
) -> None:
    wanted = GenerationParameters(prompt="a fox", image_number=1, style_selections=()).with_values(
        {
            "lora_1.name": LORA,
            "lora_1.weight": 0.5,
            "advanced.metadata_scheme": scheme,
            "aspect_ratios_selection": "1024*1024",
        }
    )
    base, lora = settings.models.checkpoints[0] / BUILT_IN_MODEL, settings.models.loras[0] / LORA
    short = digest(base)[:10], digest(lora)[:10]
    made(worker, wanted)  # the first one tells which files are in use
    until(lambda: len(opened(settings).short(job(settings))) == 2)
    picture = made(worker, wanted).path
    common = read_texts(picture).common
    if scheme == "fooocus":
        record = json.loads(common)
        assert record["base_model_hash"] == short[0] and record["loras"] == [["glow", 0.5, short[1]]]
    else:
        assert f"Model hash: {short[0]}," in common and f'Lora hashes: "glow: {short[1]}"' in common
    base.rename(base.with_name("fresh.safetensors"))
    lora.rename(lora.with_name("shine.safetensors"))
    safetensors(lora.with_name("other.safetensors"), ["lora_unet.lora_up.weight", "more.lora_up.weight"])
    for text in (common, read_text(picture)):
        here = here_with(settings, ModelLibrary(settings.models).names)
        reading = read_told(text, here)
        assert reading.problems == []
        assert reading.values["base_model"] == "fresh.safetensors"
        assert reading.values["lora_1.name"] == "sub/shine.safetensors"
    # Another file has taken the name: the contents decide, and are told where the right ones are gone.
    safetensors(base, [*SDXL_NAMES, "another"])
    hashes.compute("checkpoints", BUILT_IN_MODEL)
    assert read_told(common, here).values["base_model"] == "fresh.safetensors"
    base.with_name("fresh.safetensors").unlink()
    reading = read_told(common, here)
    assert reading.values["base_model"] == BUILT_IN_MODEL
    assert "is another one here" in reading.problems[0]
