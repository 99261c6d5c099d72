"""What people do with their own waiting tasks: order, hold, replace; races with a worker; other people's are safe."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as some

from modules.events import PictureRecord
from modules.line import FIRST, Line
from modules.store import Store, picture_id


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "pinhole.sqlite3")


def add(store: Store, names: str, owner: str = "me") -> None:
    for name in names:
        store.add_task(name, owner, "home", "{}", Path("/pictures"))


def order(store: Store) -> str:
    return "".join(task.id for task in store.waiting("home"))


def test_people_order_their_own_tasks_only(store: Store) -> None:
    line = Line(store, "home")
    add(store, "a")
    add(store, "XY", "you")
    add(store, "bc")
    assert line.shift("me", "c", FIRST) and order(store) == "cXaYb"
    assert line.shift("me", "c", 1) and order(store) == "aXcYb"
    assert line.shift("me", "b", 5) and order(store) == "aXcYb", "it is the last one already"
    assert not line.shift("me", "X", 1) and not line.shift("me", "missing", 1) and order(store) == "aXcYb"
    assert [line.hold("me", "X", True), line.replace("me", "X", "n", "{}", Path("/p"), False)] == [False, False]
    assert store.task("n") is None


@given(some.lists(some.tuples(some.sampled_from("abcXYZ"), some.integers(-4, 4)), max_size=12))
@settings(max_examples=30, deadline=None)
def test_no_order_of_mine_changes_the_turns_of_others(moves: list[tuple[str, int]]) -> None:
    store = Store(Path(":memory:"))
    for mine, yours in zip("abc", "XYZ", strict=True):
        add(store, mine)
        add(store, yours, "you")
    mirror = list("abc")
    for name, places in moves:
        assert Line(store, "home").shift("me", name, places) == (name in mirror)
        if name in mirror:
            place = mirror.index(name)
            mirror.insert(min(2, max(0, place + places)), mirror.pop(place))
    assert order(store)[1::2] == "XYZ" and order(store)[::2] == "".join(mirror)
    store.close()


def served(store: Store) -> str:
    """Everything that waits, in the order in which one engine does it."""
    done = ""
    while (task := store.claim("home")) is not None:
        done += task.id
        store.finish(task.id, "done")
    return done


def test_people_take_turns(store: Store) -> None:
    add(store, "abcd")
    first = store.claim("home")
    assert first is not None and first.id == "a"
    add(store, "XY", "you")
    add(store, "1", "they")
    assert order(store) == "X1bYcd", "whose task is running has had a turn"
    store.finish("a", "done")
    assert order(store) == "X1bYcd", "and has had it when it is done"
    Line(store, "home").hold("you", "X", True)
    assert order(store) == "XY1bcd", "what is held takes no turn"
    assert served(store) == "Y1bcd"
    add(store, "e")
    assert Line(store, "home").hold("you", "X", False) and served(store) == "Xe", "who was served longest ago is first"


@given(some.lists(some.sampled_from(["me", "you", "they"]), max_size=12))
@settings(max_examples=30, deadline=None)
def test_what_the_line_says_is_what_is_done(owners: list[str]) -> None:
    store = Store(Path(":memory:"))
    for number, owner in enumerate(owners):
        add(store, "abcdefghijkl"[number], owner)
    said = order(store)
    assert served(store) == said
    turns = [owners["abcdefghijkl".index(task_id)] for task_id in said]
    for place, owner in enumerate(turns):
        before = turns[:place]
        assert before.count(owner) <= min(before.count(each) for each in set(turns[place:]))
    store.close()


def test_what_was_interrupted_goes_on_before_anybody_s_turn(store: Store) -> None:
    add(store, "a")
    add(store, "XY", "you")
    assert store.claim("home") is not None
    store.release("a")
    assert order(store) == "aXY" and served(store) == "aXY"


def test_what_is_held_is_passed_over_and_keeps_its_place(store: Store) -> None:
    line = Line(store, "home")
    add(store, "abc")
    assert line.hold("me", "a", True) and store.foremost("home", "me") == "b"
    first = store.claim("home")
    assert first is not None and first.id == "b" and order(store) == "ac"
    assert line.hold("me", "a", False) and not line.hold("me", "b", True), "what runs cannot be held"
    second = store.claim("home")
    assert second is not None and second.id == "a"
    assert line.hold("me", "c", True) and store.claim("home") is None
    assert store.cancel("c", "no") and store.requeue("c", "home", ("stopped",)) and store.claim("home") is not None


def test_a_task_is_replaced_in_its_place(store: Store) -> None:
    line = Line(store, "home")
    add(store, "abc")
    line.hold("me", "b", True)
    assert line.replace("me", "b", "n", '{"prompt": "new"}', Path("/new"), True) and order(store) == "anc"
    new, old = store.task("n"), store.task("b")
    assert new is not None and (new.parameters, new.random_seed, new.held) == ('{"prompt": "new"}', True, False)
    assert old is not None and old.state == "stopped"
    store.claim("home")
    assert not line.replace("me", "a", "m", "{}", Path("/new"), False), "it has begun"


def test_a_change_comes_before_or_after_a_worker_takes_the_task(store: Store) -> None:
    line = Line(store, "home")
    names = [f"{number:03d}" for number in range(60)]
    for name in names:
        store.add_task(name, "me", "home", "{}", Path("/pictures"))
    taken: list[str] = []

    def work() -> None:
        other = Store(store.path)
        while (task := other.claim("home")) is not None:
            taken.append(task.id)
            other.finish(task.id, "done")
        other.close()

    worker = threading.Thread(target=work)
    worker.start()
    replaced = [name for name in reversed(names) if line.replace("me", name, f"n{name}", "{}", Path("/p"), False)]
    worker.join()
    work()
    assert len(taken) == len(set(taken)) == 60
    assert set(taken) == {f"n{name}" if name in replaced else name for name in names}


def test_laps_are_of_whole_tasks_by_what_was_made_since_they_began(store: Store) -> None:
    line = Line(store, "home")
    add(store, "abcd")
    for name in "abc":
        store.claim("home")
        with store.transaction("test") as database:
            database.execute("UPDATE tasks SET began = 100, parameters = ? WHERE id = ?", (json.dumps(name), name))
        for index, created in enumerate((90.0, 105.0, 110.0, 110.0)):
            facts = {"grid": 3} if index == 3 else {}
            path = Path(f"/{name}{index}")
            store.add_picture(PictureRecord(picture_id(name, index), name, index, path, 0, 8, 8, created, facts))
        store.finish(name, "stopped" if name == "b" else "done")
        with store.transaction("test") as database:
            database.execute("UPDATE tasks SET finished = 112 + rowid WHERE id = ?", (name,))
    assert [(lap.parameters, lap.pictures, lap.seconds) for lap in line.laps()] == [('"c"', 2, 7.5), ('"a"', 2, 6.5)]
