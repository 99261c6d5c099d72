"""What pictures tell at the wish of their owner: nothing of how they were made, or by whom; and how that is set."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modules.async_worker import AsyncWorker
from modules.choices import METADATA_SCHEMES, OUTPUT_FORMATS
from modules.events import Finish, PictureRecord
from modules.files import ModelFiles
from modules.history import History
from modules.metadata import MetadataError, picture_facts, read_text, read_texts
from modules.metadata_texts import read_told
from modules.model_search import Here
from modules.parameters import BUILT_IN_MODEL, GenerationParameters
from modules.presets import apply_preset
from modules.settings import Settings, SettingsError, load_settings
from modules.store import DATABASE, Store
from modules.workplace import create_worker
from tests.modules.stand_in import build

SECRET = "a secret fox"


def made(worker: AsyncWorker, values: dict[str, object]) -> PictureRecord:
    parameters = GenerationParameters(prompt=SECRET, image_number=1, style_selections=()).with_values(values)
    *_, last = worker.follow(worker.submit(parameters))
    assert isinstance(last, Finish) and last.state == "done", last
    return last.pictures[0]


@pytest.mark.parametrize("output_format", OUTPUT_FORMATS)
def test_a_picture_need_not_tell_how_it_was_made(settings: Settings, worker: AsyncWorker, output_format: str) -> None:
    wish = {"advanced.save_metadata_to_images": False, "advanced.output_format": output_format}
    record = made(worker, wish)
    data = record.path.read_bytes()
    assert not any(word in data for word in (SECRET.encode(), b"parameters", b"sampler", BUILT_IN_MODEL.encode()))
    assert read_texts(record.path).common == "" and read_texts(record.path).scheme == ""
    with pytest.raises(MetadataError, match="There are no parameters in this picture"):
        read_text(record.path)
    # It is still known which one it is, so that it is not made twice after a crash; and this machine's own history.
    assert picture_facts(record.path, record.task_id, 0) == {"task": record.task_id, "index": 0}
    assert record.facts["job"]["positive"] == [SECRET]
    assert History(Store(settings.data / DATABASE)).take_in(settings.outputs) == 0


def test_after_a_crash_a_picture_that_tells_nothing_is_recorded_with_what_was_planned(
    settings: Settings, open_worker: Callable[[], AsyncWorker]
) -> None:
    worker = open_worker()
    record = made(worker, {"advanced.save_metadata_to_images": False, "image_number": 2})
    worker.close()
    store = Store(settings.data / DATABASE)
    with store.transaction("forget") as database:
        database.execute("DELETE FROM pictures")
        database.execute("UPDATE tasks SET state = 'failed'")
    store.close()
    again = create_worker(settings, factory=build)
    again.start()
    try:
        assert again.retry(record.task_id)
        *_, last = again.follow(record.task_id)
    finally:
        again.close()
    assert isinstance(last, Finish) and len(last.pictures) == 2
    assert all(each.facts["job"]["positive"] == [SECRET] for each in last.pictures)


@pytest.mark.parametrize("scheme", METADATA_SCHEMES)
def test_a_jpeg_with_the_longest_prompts_is_made_and_read(worker: AsyncWorker, scheme: str) -> None:
    longest = "".join(map(chr, np.random.default_rng(7).integers(0x4E00, 0x9FFF, 19_990).tolist()))
    wish = {"advanced.output_format": "jpeg", "advanced.metadata_scheme": scheme, "negative_prompt": longest[::-1]}
    prompt = f"pace=0 {longest}"
    record = made(worker, {**wish, "prompt": prompt})
    reading = read_told(read_text(record.path), Here(lambda kind: [BUILT_IN_MODEL]))
    assert (reading.values["prompt"], reading.values["negative_prompt"]) == (prompt, longest[::-1])
    others = read_told(read_texts(record.path).common, Here(lambda kind: [BUILT_IN_MODEL]))
    assert (others.values["prompt"], others.values["negative_prompt"]) == (prompt, longest[::-1])


@pytest.mark.parametrize("scheme", METADATA_SCHEMES)
def test_the_name_of_the_maker_is_in_both_schemes(settings: Settings, scheme: str) -> None:
    worker = create_worker(replace(settings, created_by="Ada, of London"), factory=build)
    worker.start()
    try:
        common = read_texts(made(worker, {"advanced.metadata_scheme": scheme}).path).common
    finally:
        worker.close()
    if scheme == "fooocus":
        assert json.loads(common)["created_by"] == "Ada, of London"
    else:
        assert common.endswith(', User: "Ada, of London"')


def test_the_owner_sets_all_three_in_the_fields_words(settings: Settings, tmp_path: Path) -> None:
    def start(environ: dict[str, str], preset: str = "mini") -> tuple[Settings, GenerationParameters]:
        found = load_settings(tmp_path, {}, environ)
        return found, apply_preset(preset, found, ModelFiles(found.models.checkpoints)).parameters

    found, parameters = start({})
    assert found.created_by == "" and parameters.advanced.save_metadata_to_images
    config = {
        "default_save_metadata_to_images": False, "default_metadata_scheme": "a1111", "metadata_created_by": "Ada",
    }  # fmt: skip
    (tmp_path / "config.txt").write_text(json.dumps(config))
    found, parameters = start({})
    assert (found.created_by, found.notes) == ("Ada", ())
    assert not parameters.advanced.save_metadata_to_images and parameters.advanced.metadata_scheme == "a1111"
    found, parameters = start({"default_save_metadata_to_images": "True", "metadata_created_by": "Grace"})
    assert found.created_by == "Grace" and parameters.advanced.save_metadata_to_images
    # What a preset of another program has by default is no wish of this owner.
    (tmp_path / "config.txt").unlink()
    theirs = {"default_model": BUILT_IN_MODEL, "default_save_metadata_to_images": False}
    (settings.presets / "theirs.json").write_text(json.dumps(theirs))
    assert start({}, "theirs")[1].advanced.save_metadata_to_images


@pytest.mark.parametrize("name", [7, None, ["Ada"], "a\nb", "x" * 201])
def test_a_name_that_cannot_be_is_refused_in_words(tmp_path: Path, name: object) -> None:
    (tmp_path / "config.txt").write_text(json.dumps({"metadata_created_by": name}))
    with pytest.raises(SettingsError, match="metadata_created_by: .* is not a name"):
        load_settings(tmp_path, {}, {})
