"""The store: states and order, many threads and processes at once, taking over from the dead, damage."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from modules.events import PictureRecord
from modules.line import Line
from modules.locks import Alive, is_alive
from modules.store import PLAYED, Store, StoreError, picture_id
from modules.store_schema import HISTORY, SCHEMA, STEPS

CLAIMER = """
import sys
from pathlib import Path
from modules.store import Store
store = Store(Path(sys.argv[1]))
while (task := store.claim("home")) is not None:
    print(task.id)
    store.finish(task.id, "done")
"""
HOLDER = """
import sys, time
from pathlib import Path
from modules.line import Line
from modules.locks import Alive
alive = Alive(Path(sys.argv[1]), "holder")
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "queue" / "pinhole.sqlite3")


def add(store: Store, *names: str, home: str = "home", owner: str = "me") -> None:
    for name in names:
        store.add_task(name, owner, home, "{}", Path("/pictures"))


def picture(task_id: str, index: int) -> PictureRecord:
    path = Path(f"/pictures/{task_id}-{index}.png")
    return PictureRecord(picture_id(task_id, index), task_id, index, path, 2**63 - 1, 8, 16, 1.5, {"a": [1]})


def order(store: Store) -> list[str]:
    return [task.id for task in store.waiting("home")]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_store_of_an_earlier_version_is_brought_up_to_date(tmp_path: Path, version: int) -> None:
    path = tmp_path / "pinhole.sqlite3"
    with sqlite3.connect(path) as old:
        tables = (SCHEMA, STEPS[1], HISTORY)[:version]
        old.executescript(f"{';'.join(tables)}; PRAGMA user_version = {version};")
        row = "('a', 'me', 'home', '{}', '/pictures', 'waiting', 1, 1)"
        old.execute(f"INSERT INTO tasks (id, owner, home, parameters, folder, state, position, created) VALUES {row}")
    old.close()
    for _ in range(2):
        store = Store(path)
        task = store.task("a")
        assert task is not None and (task.texts, task.held, task.random_seed) == ("", False, False)
        assert Line(store, "home").hold("me", "a", held=True) and store.claim("home") is None
        assert Line(store, "home").hold("me", "a", held=False)
        store.close()


def test_what_was_drawn_stays_with_the_task_unless_nothing_came_of_it(store: Store) -> None:
    add(store, "a", "b")
    for name in ("a", "b"):
        store.claim("home")
        store.keep_texts(name, "[drawn]")
        store.finish(name, "stopped")
    store.add_picture(picture("a", 0))
    for name, kept in (("a", "[drawn]"), ("b", "")):
        assert store.requeue(name, "home", ("stopped",))
        task = store.task(name)
        assert task is not None and task.texts == kept


def test_a_task_s_life(store: Store) -> None:
    add(store, "a", "b")
    assert store.foremost("home", "me") == "a"
    task = store.claim("home")
    assert task is not None and (task.id, task.state, task.folder) == ("a", "running", Path("/pictures"))
    assert store.add_picture(picture("a", 1)) and store.add_picture(picture("a", 0))
    assert store.pictures("a") == (picture("a", 0), picture("a", 1))
    store.finish("a", "done", "well")
    found = store.task("a")
    assert found is not None and (found.state, found.message) == ("done", "well")
    assert order(store) == ["b"] and store.claim("elsewhere") is None
    assert store.picture("a-02") == picture("a", 1) and store.picture("a-09") is None
    assert [each.index for each in store.latest("me", 5)] == [1, 0] and store.latest("you", 5) == ()


def test_a_picture_is_recorded_once(store: Store) -> None:
    add(store, "a")
    assert store.add_picture(picture("a", 0)) is True
    assert store.add_picture(picture("a", 0)) is False
    store.add_skipped("a", 0)
    store.add_skipped("a", 2)
    assert len(store.pictures("a")) == 1 and store.settled("a") == {0, 2}


def test_waiting_tasks_are_cancelled_and_queued_again(store: Store) -> None:
    add(store, "a", "b", "c")
    assert store.cancel("b", "no") and not store.cancel("b", "no")
    add(store, "d")
    assert order(store) == ["a", "c", "d"]
    running = store.claim("home")
    assert running is not None and running.id == "a" and not store.cancel("a", "no")
    assert store.requeue("b", "home", ("failed", "stopped")) and not store.requeue("a", "home", ("failed",))
    assert order(store) == ["c", "d", "b"]
    store.release("a")
    assert order(store) == ["a", "c", "d", "b"]


def test_tasks_of_the_dead_are_taken_over(store: Store) -> None:
    add(store, "running", "waiting", home="dead")
    add(store, "theirs", home="living")
    add(store, "mine")
    add(store, "forgotten", home="command-1")
    assert store.claim("dead") is not None
    dead = store.adopt("home", lambda home: home == "living", lambda home: home.startswith("command"))
    assert sorted(dead) == ["command-1", "dead"]
    assert order(store) == ["running", "waiting", "mine"]
    deaths = {name: task.app_deaths for name in ("running", "waiting") if (task := store.task(name))}
    assert deaths == {"running": 1, "waiting": 0}
    forgotten = store.task("forgotten")
    assert forgotten is not None and forgotten.state == "stopped" and "ended" in forgotten.message
    assert [task.id for task in store.waiting("living")] == ["theirs"]
    assert store.count_engine_death("running") == 1
    store.add_picture(picture("running", 0))
    task = store.task("running")
    assert task is not None and (task.engine_deaths, task.app_deaths) == (0, 0)


def test_no_task_is_handed_out_twice_to_threads_and_processes(store: Store) -> None:
    names = [f"t{number:03d}" for number in range(30)]
    add(store, *names)
    command = [sys.executable, "-c", CLAIMER, str(store.path)]
    others = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    claimed: list[str] = []

    def claim() -> None:
        while (task := store.claim("home")) is not None:
            claimed.append(task.id)
            store.add_picture(picture(task.id, 0))
            store.finish(task.id, "done")

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        claimed += other.communicate()[0].split()
        assert other.returncode == 0
    assert Counter(claimed) == Counter(names)


def test_what_was_stored_is_there_after_opening_again(store: Store) -> None:
    add(store, "a")
    store.close()
    again = Store(store.path)
    assert order(again) == ["a"]
    again.close()


def test_a_store_that_cannot_be_or_is_newer_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"could not be opened: .*file is not a folder\. Rename what is there"):
        Store(tmp_path / "file" / "pinhole.sqlite3")
    newer = Store(tmp_path / "newer.sqlite3")
    newer._connection.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(StoreError, match="newer version"):
        Store(tmp_path / "newer.sqlite3")


def test_a_sign_of_life_ends_with_its_process(tmp_path: Path) -> None:
    assert not is_alive(tmp_path, "holder")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    assert is_alive(tmp_path, "holder")
    holder.kill()
    holder.communicate()
    assert not is_alive(tmp_path, "holder")
    mine = Alive(tmp_path, "mine")
    assert is_alive(tmp_path, "mine")
    mine.close()
    mine.close()
    assert not is_alive(tmp_path, "mine")


def test_pictures_are_found_by_the_models_that_made_them(store: Store) -> None:
    add(store, "a")
    add(store, "b", owner="other")
    jobs = [
        ("base", "ref", 3, [["style/l'x.safetensors", 0.5]]),
        ("base", "ref", 9, []),  # the refiner came too late to do anything
        ("other", "", 9, [["base", 1.0]]),
    ]
    for index, (checkpoint, refiner, switch, loras) in enumerate(jobs):
        job = {"checkpoint": checkpoint, "refiner": refiner, "switch": switch, "steps": 9, "loras": loras}
        store.add_picture(replace(picture("a", index), facts={"job": job}))
        store.add_picture(replace(picture("b", index), facts={"job": job}))
    store.add_picture(picture("a", 3))  # facts of another time
    found = {
        (role, name): [each.index for each in store.made_with("me", role, name, 2)]
        for role in PLAYED
        for name in ("base", "ref", "style/l'x.safetensors", "%")
    }
    assert {key: indices for key, indices in found.items() if indices} == {
        ("checkpoint", "base"): [1, 0], ("refiner", "ref"): [0], ("lora", "style/l'x.safetensors"): [0],
        ("lora", "base"): [2],
    }  # fmt: skip
