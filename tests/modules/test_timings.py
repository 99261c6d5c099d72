"""How long a picture took: measured by the real pipeline, kept in the store, and told in words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from modules.async_worker import AsyncWorker, Finish
from modules.history import History, Query
from modules.metadata import read_picture
from modules.model_folders import ModelFolders
from modules.parameters import GenerationParameters
from modules.settings import built_in_settings
from modules.stopwatch import Stopwatch
from modules.store import DATABASE, Store
from modules.timings import STAGES, told, with_stages
from modules.workplace import create_worker
from tests.modules.conftest import ROOT


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AsyncWorker]:
    """A worker with the real pipeline and the built-in family."""
    home = tmp_path_factory.mktemp("timings")
    settings = replace(built_in_settings(home), models=ModelFolders.under(ROOT / "models"))
    worker = create_worker(settings)
    worker.start()
    yield worker
    worker.close()


def made(worker: AsyncWorker, **values: object) -> Finish:
    told_values = {"prompt": "a red cat", "image_seed": 4, "advanced.overwrite_step": 4, "style_selections": []}
    parameters = GenerationParameters.from_mapping({**told_values, **values})
    *_, end = worker.follow(worker.submit(parameters))
    assert isinstance(end, Finish) and end.state == "done", end
    return end


def test_the_stages_of_a_picture_are_kept_with_it(real: AsyncWorker, tmp_path: Path) -> None:
    refined = made(real, refiner_model="pinhole-mini-refiner.safetensors", refiner_switch=0.5, image_number=2)
    first, second = (picture.facts["seconds"] for picture in refined.pictures)
    assert set(first) == set(STAGES)
    assert set(second) == {"sample", "refine", "decode", "save"}, "what the run needed is the first picture's"
    assert all(seconds >= 0 for seconds in (*first.values(), *second.values()))
    assert first["start"] > first["save"] > 0, "the engine had to load its libraries"
    assert 0 < second["refine"] < 10 and 0 < second["sample"] < 10

    plain = made(real, image_number=1, refiner_model="None")
    assert "refine" not in plain.pictures[0].facts["seconds"]

    written = read_picture(plain.pictures[0].path).facts["seconds"]
    assert "save" not in written and "wait" not in written, "a file cannot know how long it took to write it"

    store = Store(plain.pictures[0].path.parents[2] / "data" / DATABASE)
    entries, _ = History(store).page(None, Query())
    store.close()
    assert dict(entries[-1].seconds)["Refining"] > 0


def test_only_sensible_numbers_under_known_names_are_told() -> None:
    facts = {"seconds": {"sample": 2.5, "load": "long", "decode": math.nan, "save": -1, "evil": 3, "refine": True}}
    assert told(facts) == [("Sampling", 2.5)]
    assert told({}) == told({"seconds": [1]}) == told({"seconds": {"save": 0.0}}) == []


def test_stages_are_added_up_and_split() -> None:
    assert with_stages({"index": 1}, wait=2.0) == {"index": 1, "seconds": {"wait": 2.0}}
    assert with_stages({"seconds": {"wait": 1.0}}, wait=2.0)["seconds"] == {"wait": 3.0}
    watch = Stopwatch()
    watch.add("sample", 5.0)
    watch.split("sample", "refine", 2.0)
    assert watch.seconds == {"sample": 3.0, "refine": 2.0}
