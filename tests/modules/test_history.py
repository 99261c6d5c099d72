"""The history on real files: found in pages and by words, deleted and restored, and always what the folder says."""

from __future__ import annotations

import random
import shutil
import sqlite3
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from modules.events import PictureRecord
from modules.history import DELETED, History, Keeper, Place, Query
from modules.metadata import describe, encode_picture
from modules.outputs import new_task_id, picture_path
from modules.parameters import GenerationParameters
from modules.plan import ImageJob, ModelFacts, plan
from modules.store import Store, picture_id
from modules.store_schema import SCHEMA

NOON = datetime(2026, 11, 22, 12)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data" / "pinhole.sqlite3")


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


def job_of(parameters: GenerationParameters) -> ImageJob:
    return plan(parameters.with_values({"image_seed": 7, "image_number": 1}), ModelFacts(256))[0]


def make(store: Store, outputs: Path, prompt: str, owner: str = "me", created: float = 1.0, **values: object) -> str:
    """A picture that was made: its file, and what the store knows of it. Returns its id."""
    parameters = GenerationParameters(prompt=prompt).with_values(values)
    job, task = job_of(parameters), new_task_id(NOON)
    facts = {"task": task, "index": 0, "job": asdict(job), "seconds": {}}
    path = picture_path(outputs / "2026-11-22", task, 0, "png")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_picture(np.zeros((8, 8, 3), np.uint8), "png", describe(parameters, facts)))
    store.add_task(task, owner, "home", parameters.to_json(), path.parent)
    identity = picture_id(task, 0)
    store.add_picture(PictureRecord(identity, task, 0, path, job.seed, job.width, job.height, created, facts))
    return identity


def found(history: History, query: Query | None = None, owner: str | None = "me") -> list[str]:
    return [entry.prompt for entry in history.page(owner, query or Query())[0]]


def test_pages_follow_each_other_newest_first_and_none_is_missed(store: Store, outputs: Path) -> None:
    history, rng = History(store), random.Random(4)
    times = [float(rng.randrange(5)) for _ in range(23)]  # many at the same moment
    ids = {make(store, outputs, f"picture {n}", created=moment) for n, moment in enumerate(times)}
    seen, after, pages = [], None, 0
    while True:
        entries, after = history.page("me", Query(), after, limit=5)
        seen += entries
        pages += 1
        if after is None:
            break
        after = Place.parse(str(after))
    assert len(seen) == 23 and {entry.id for entry in seen} == ids and pages == 5
    assert [entry.created for entry in seen] == sorted(times, reverse=True)


@pytest.mark.parametrize("text", ["", "1.0", "x~y", "~", "1~"])
def test_what_is_no_place_is_the_beginning(text: str) -> None:
    assert Place.parse(text) is None


def test_words_are_found_wherever_they_stand_in_any_script_and_case(store: Store, outputs: Path) -> None:
    make(store, outputs, "A Red Fox in the STRASSE", negative_prompt="rain")
    make(store, outputs, "雪の中の狐")
    make(store, outputs, "50% of a_fox", style_selections=("Watercolor",), base_model="dream.safetensors")
    history = History(store)

    def hits(words: str) -> int:
        return len(found(history, Query(words)))

    assert [hits(words) for words in ("fox", "FOX red", "straße", "rain", "狐", "dream", "watercolor", "bear")] == [
        2, 1, 1, 1, 1, 1, 1, 0,
    ]  # fmt: skip
    assert [hits(words) for words in ("50%", "a_f", "%", "'", '"', "\\", "fox bear", " ")] == [1, 1, 1, 0, 0, 0, 0, 3]


def test_filters(store: Store, outputs: Path) -> None:
    one = make(store, outputs, "one", base_model="a.safetensors", style_selections=("Neon", "Watercolor"), created=1)
    make(store, outputs, "two", base_model="b.safetensors", style_selections=("Neon",), created=2)
    make(store, outputs, "three", base_model="b.safetensors", style_selections=(), created=3)
    history = History(store)
    assert history.choices("me") == (["b.safetensors", "a.safetensors"], ["Neon", "Watercolor"])
    assert found(history, Query(model="b.safetensors")) == ["three", "two"]
    assert found(history, Query(style="Neon")) == ["two", "one"]
    assert found(history, Query("two", model="a.safetensors")) == []
    assert history.mark("me", [one, "none such"], True) == 1
    assert found(history, Query(favourites=True)) == ["one"]
    assert history.mark("me", [one], False) == 1 and found(history, Query(favourites=True)) == []


def test_nobody_reaches_what_is_another_s(store: Store, outputs: Path) -> None:
    mine = make(store, outputs, "mine")
    make(store, outputs, "another's", owner="her")
    history = History(store)
    assert found(history, owner="her") == ["another's"] and sorted(found(history, owner=None)) == ["another's", "mine"]
    assert found(history, owner="") == []
    assert history.mark("her", [mine], True) == history.delete("her", [mine]) == 0
    assert history.files("her", [mine]) == [] and len(history.files("me", [mine])) == 1
    history.delete("me", [mine])
    assert history.restore("her", [mine]) == 0 and found(history) == []


def test_deleting_moves_the_file_and_undo_brings_it_back_to_the_byte(store: Store, outputs: Path) -> None:
    history = History(store)
    identity = make(store, outputs, "a fox")
    (path,) = history.files("me", [identity])
    before = path.read_bytes()
    assert history.delete("me", [identity]) == 1
    assert not path.exists() and (path.parent / DELETED / path.name).exists()
    assert found(history) == [] and history.delete("me", [identity]) == 0
    assert store.picture(identity) is None and history.choices("me") == ([], [])
    assert history.take_in(outputs) == 0, "what is deleted does not come back by itself"
    assert history.restore("me", [identity]) == 1
    assert path.read_bytes() == before and found(history) == ["a fox"]


def test_after_some_days_what_was_deleted_is_gone_for_good(store: Store, outputs: Path) -> None:
    history = History(store)
    identity, other = make(store, outputs, "a fox"), make(store, outputs, "an owl")
    (path,) = history.files("me", [identity])
    history.delete("me", [identity])
    assert history.purge(before=1.0) == 0 and history.purge(before=2e12) == 1
    assert list((path.parent / DELETED).iterdir()) == [] and history.restore("me", [identity]) == 0
    assert store.settled(identity.rpartition("-")[0]) == {0}, "it is not made again"
    assert found(history) == ["an owl"] and len(history.files("me", [other])) == 1


def test_a_file_that_cannot_be_moved_stays_in_the_history(store: Store, outputs: Path) -> None:
    history = History(store)
    identity = make(store, outputs, "a fox")
    (path,) = history.files("me", [identity])
    (path.parent / DELETED).write_text("in the way", encoding="utf-8")
    with pytest.raises(OSError):
        history.delete("me", [identity])
    assert found(history) == ["a fox"] and path.exists()


def test_a_deletion_that_was_cut_off_half_way_is_settled_by_where_the_file_lies(store: Store, outputs: Path) -> None:
    history = History(store)
    identity = make(store, outputs, "a fox")
    (path,) = history.files("me", [identity])
    history.delete("me", [identity])
    (path.parent / DELETED / path.name).rename(path)  # as if it had never been moved, or somebody took it out
    assert found(history) == []
    history.take_in(outputs)
    assert found(history) == ["a fox"] and history.purge(before=2e12) == 0 and path.exists()


def test_files_that_are_gone_or_moved_by_hand_are_noticed(store: Store, outputs: Path) -> None:
    history = History(store)
    for name in "abcde":
        make(store, outputs, name, created=float(ord(name)))
    entries, _ = history.page("me", Query())
    entries[1].path.unlink()
    assert found(history) == ["e", "c", "b", "a"]
    elsewhere = outputs / "best" / "my favourite.png"
    elsewhere.parent.mkdir()
    entries[0].path.rename(elsewhere)
    assert found(history) == ["c", "b", "a"]
    assert history.take_in(outputs) == 1 and found(history) == ["e", "c", "b", "a"]
    assert history.files("me", [entries[0].id]) == [elsewhere]
    shutil.copy(elsewhere, outputs / "a copy.png")
    assert history.take_in(outputs) == 0


def test_a_lost_database_is_rebuilt_from_the_files(store: Store, outputs: Path, tmp_path: Path) -> None:
    for number in range(6):
        make(store, outputs, f"fox {number}", created=float(number), style_selections=("Neon",))
    (outputs / "2026-11-22" / "notes.txt").write_text("mine", encoding="utf-8")
    (outputs / "2026-11-22" / "other.png").write_bytes(encode_picture(np.zeros((8, 8, 3), np.uint8), "png", "{}"))
    (outputs / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    before = {entry.id: entry for entry in History(store).page(None, Query())[0]}
    anew = History(Store(tmp_path / "new" / "pinhole.sqlite3"))
    assert anew.take_in(outputs) == 6 and anew.take_in(outputs) == 0
    after = {entry.id: entry for entry in anew.page(None, Query())[0]}
    assert after.keys() == before.keys()
    for identity, entry in after.items():
        old = before[identity]
        assert (entry.prompt, entry.path, entry.seed, entry.width, entry.styles, entry.model) == (
            old.prompt, old.path, old.seed, old.width, old.styles, old.model,
        )  # fmt: skip
    assert len(found(anew, Query("fox neon"), owner=None)) == 6


def test_pictures_of_an_earlier_version_are_in_the_history(outputs: Path, tmp_path: Path) -> None:
    old = Store(tmp_path / "old.sqlite3")
    identity = make(old, outputs, "an old Fox")
    old.close()
    with sqlite3.connect(tmp_path / "old.sqlite3") as database:
        database.executescript(
            "DROP TABLE history; DROP TABLE plots; PRAGMA user_version = 2; ALTER TABLE tasks DROP COLUMN held;"
            "ALTER TABLE tasks DROP COLUMN random_seed; ALTER TABLE tasks DROP COLUMN began;"
        )
    database.close()
    history = History(Store(tmp_path / "old.sqlite3"))
    assert found(history, Query("old fox")) == ["an old Fox"] and len(history.files("me", [identity])) == 1
    assert "history" not in SCHEMA


def test_the_keeper_looks_beside_everything_else_and_survives_a_closed_store(store: Store, outputs: Path) -> None:
    history = History(store)
    make(store, outputs, "a fox")
    keeper = Keeper(history, outputs, every=3600)
    keeper.look_now()
    assert found(history) == ["a fox"]
    store.close()
    keeper.look_now()
