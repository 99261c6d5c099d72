"""What people do with their own waiting tasks: order, hold, replace; knows no engine and no page.

Every change is one transaction that asks whether the task still waits and whose it is: a worker that takes the task at
the same moment comes before or after it, never between.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modules.parameters import GenerationParameters
from modules.store import IN_TURN, LINE, Store, TaskRecord, task_of

FIRST = -(10**6)  # places towards the head: further than anybody has tasks
REPLACED = "It was queued again with other settings."
STOPPED_WAITING = "Stopped before it began."
OWN = "id = ? AND owner = ? AND home = ? AND state = 'waiting'"


@dataclass(frozen=True)
class Lap:
    """A task that was done: its parameters as JSON, and what each of its ``pictures`` took, in seconds."""

    parameters: str
    pictures: int
    seconds: float


class Line:
    """The tasks that wait in ``store`` for the process ``home``."""

    def __init__(self, store: Store, home: str) -> None:
        self._store = store
        self._home = home

    def all(self) -> list[TaskRecord]:
        """What is running, then what waits as its turn will come; everybody's."""
        with self._store.transaction("be read", "DEFERRED") as database:
            rows = database.execute(
                "SELECT * FROM tasks WHERE home = ? AND state = 'running' ORDER BY began", (self._home,)
            ).fetchall()
            rows += database.execute(f"{LINE} SELECT * FROM line {IN_TURN}", {"home": self._home}).fetchall()
        return [task_of(row) for row in rows]

    def shift(self, owner: str, task_id: str, places: int) -> bool:
        """Moves a waiting task by so many places among its owner's, negative ones towards the head.

        The owner's tasks share the places that they have had: nobody else's is done earlier or later. False if the
        task does not wait (any more) or belongs to somebody else.
        """
        with self._store.transaction("move the task") as database:
            rows = database.execute(
                "SELECT id, position FROM tasks WHERE owner = ? AND home = ? AND state = 'waiting' ORDER BY position",
                (owner, self._home),
            ).fetchall()
            order = [row["id"] for row in rows]
            if task_id not in order:
                return False
            place = order.index(task_id)
            order.insert(max(0, min(len(order) - 1, place + places)), order.pop(place))
            positions = [(row["position"], each) for row, each in zip(rows, order, strict=True)]
            database.executemany("UPDATE tasks SET position = ? WHERE id = ?", positions)
        return True

    def hold(self, owner: str, task_id: str, held: bool) -> bool:
        """Lets a waiting task wait until it is released, or releases it; False as in ``shift``."""
        with self._store.transaction("hold the task") as database:
            values = (held, task_id, owner, self._home)
            return database.execute(f"UPDATE tasks SET held = ? WHERE {OWN}", values).rowcount > 0

    def put_back(self, owner: str, task_id: str) -> bool:
        """Lets a task that was stopped while it waited wait again, in its old place; False if it was not that."""
        with self._store.transaction("put the task back") as database:
            changed = database.execute(
                "UPDATE tasks SET state = 'waiting', home = ?, message = '', finished = NULL"
                " WHERE id = ? AND owner = ? AND state = 'stopped' AND message = ?",
                (self._home, task_id, owner, STOPPED_WAITING),
            )
        return changed.rowcount > 0

    def replace(self, owner: str, task_id: str, new_id: str, parameters: str, folder: Path, random_seed: bool) -> bool:
        """Queues a new task in the place of a waiting one, which ends; False, and nothing changed, as in ``shift``.

        Pictures that the old one had finished before it waited again are kept.
        """
        with self._store.transaction("take the task") as database:
            row = database.execute(f"SELECT position FROM tasks WHERE {OWN}", (task_id, owner, self._home)).fetchone()
            if row is None:
                return False
            now = time.time()
            database.execute(
                "UPDATE tasks SET state = 'stopped', message = ?, finished = ? WHERE id = ?", (REPLACED, now, task_id)
            )
            database.execute(
                "INSERT INTO tasks (id, owner, home, parameters, folder, state, position, created, random_seed)"
                " VALUES (?, ?, ?, ?, ?, 'waiting', ?, ?, ?)",
                (new_id, owner, self._home, parameters, str(folder), row["position"], now, random_seed),
            )
        return True

    def laps(self) -> Sequence[Lap]:
        """What the last hundreds of tasks took, newest first, whoever's they were.

        From when a task was last handed out to its end, by the pictures that were made in between: only of tasks that
        were done to the end, and not by one whose pictures lay there already.
        """
        with self._store.transaction("be read", "DEFERRED") as database:
            rows = database.execute(
                "SELECT parameters, count(pictures.id) AS made, (finished - began) / count(pictures.id) AS seconds"
                " FROM tasks JOIN pictures ON pictures.task_id = tasks.id AND path IS NOT NULL"
                " AND pictures.created >= began AND json_extract(facts, '$.grid') IS NULL"
                " WHERE state = 'done' AND began IS NOT NULL AND finished > began"
                " AND tasks.rowid > (SELECT max(rowid) FROM tasks) - 400"
                " GROUP BY tasks.id ORDER BY finished DESC"
            ).fetchall()
        return [Lap(row["parameters"], row["made"], row["seconds"]) for row in rows]


def asked_for(task: TaskRecord) -> GenerationParameters:
    """What was in the form when a task was queued: a seed that was drawn was not."""
    parameters = GenerationParameters.from_json(task.parameters)
    return parameters.with_values({"image_seed": -1}) if task.random_seed else parameters
