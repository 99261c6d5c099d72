"""The durable queue of tasks and the history of pictures, in SQLite; knows no engine and no page.

Safe to use from any thread, and from several processes at once. Every change is one transaction: after a crash the
store is as it was after the last one.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any, Literal

from modules.events import FinalState, PictureRecord, TaskState
from modules.store_file import in_words, is_damage, mark_damaged, open_file
from modules.store_schema import HISTORY_ROWS, SCHEMA_VERSION, STEPS

log = logging.getLogger(__name__)

DATABASE = "pinhole.sqlite3"
ModelRole = Literal["checkpoint", "refiner", "lora"]
# whether a model file (?) played this role in a picture, by the facts of the picture
PLAYED: Mapping[ModelRole, str] = {
    "checkpoint": "json_extract(facts, '$.job.checkpoint') = ?",
    "refiner": "json_extract(facts, '$.job.refiner') = ?"
    " AND json_extract(facts, '$.job.switch') < json_extract(facts, '$.job.steps')",
    "lora": "EXISTS (SELECT 1 FROM json_each(facts, '$.job.loras') WHERE json_extract(value, '$[0]') = ?)",
}


# What waits at the place :home, as the table `line`. People take turns: nobody's second task comes before anybody's
# first, and who was served longest ago is first. What was interrupted goes on before all that; held tasks take no turn.
LINE = """
WITH owners AS (
    SELECT owner, coalesce(max(began), 0) AS served,
        min(position) FILTER (WHERE state = 'waiting' AND NOT held) AS first
    FROM tasks WHERE home = :home GROUP BY owner
), line AS (
    SELECT tasks.*, served, first, sum(NOT held) OVER (PARTITION BY owner ORDER BY position) AS turn
    FROM tasks JOIN owners USING (owner) WHERE state = 'waiting' AND home = :home
)
"""
IN_TURN = "ORDER BY began IS NULL, turn, served, first, position"


class StoreError(ValueError):
    """The queue could not be read or written; the message is fit for the user's eyes."""


@dataclass(frozen=True)
class TaskRecord:
    """A task as it is stored. ``created`` in seconds since 1970.

    ``held``: its owner lets it wait; ``random_seed``: its seed was drawn, not chosen.
    """

    id: str
    owner: str
    home: str
    parameters: str
    folder: Path
    state: TaskState
    message: str
    created: float
    engine_deaths: int
    app_deaths: int
    texts: str
    held: bool
    random_seed: bool


@dataclass(frozen=True)
class NewTask:
    """A task that is to be queued; its fields as in ``TaskRecord``."""

    id: str
    parameters: str
    folder: Path
    random_seed: bool = False


class Store:
    """The tasks and pictures in the database file ``path`` (made if it is not there).

    ``note`` is a sentence for the user, if the file that was there could not be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = RLock()
        try:
            self._connection, self.note = open_file(path)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(in_words(error, "be opened", path)) from None
        if self.note:
            log.warning("%s", self.note)
        with self.transaction("be opened") as database:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise StoreError(f"The queue {path} was written by a newer version of Pinhole ({version}).")
            for step in STEPS[version:]:
                for statement in step.split(";\n"):
                    database.execute(statement)
            if version < SCHEMA_VERSION:
                database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def close(self) -> None:
        """Closes the database; the store cannot be used afterwards."""
        with self._lock:
            self._connection.close()

    def add_task(
        self, task_id: str, owner: str, home: str, parameters: str, folder: Path, random_seed: bool = False
    ) -> None:
        """Puts a task at the end of the queue."""
        self.add_tasks([NewTask(task_id, parameters, folder, random_seed)], owner, home)

    def add_tasks(
        self,
        tasks: Sequence[NewTask],
        owner: str,
        home: str,
        note: Callable[[sqlite3.Connection], object] = lambda database: None,
    ) -> None:
        """Puts tasks at the end of the queue in their order, all or none; ``note`` writes in the same transaction."""
        with self.transaction("take the task") as database:
            now = time.time()
            database.executemany(
                "INSERT INTO tasks (id, owner, home, parameters, folder, state, position, created, random_seed)"
                " VALUES (?, ?, ?, ?, ?, 'waiting', (SELECT coalesce(max(position), 0) + 1 FROM tasks), ?, ?)",
                [(each.id, owner, home, each.parameters, str(each.folder), now, each.random_seed) for each in tasks],
            )
            note(database)

    def claim(self, home: str) -> TaskRecord | None:
        """Takes the waiting task of ``home`` whose turn it is; it is running from now on."""
        with self.transaction("hand out a task") as database:
            row = database.execute(
                f"{LINE} UPDATE tasks SET state = 'running', began = :now WHERE state = 'waiting'"
                f" AND id = (SELECT id FROM line WHERE NOT held {IN_TURN} LIMIT 1) RETURNING *",
                {"home": home, "now": time.time()},
            ).fetchone()
        return None if row is None else task_of(row)

    def finish(self, task_id: str, state: FinalState, message: str = "") -> None:
        """Ends a running task."""
        with self.transaction("end the task") as database:
            database.execute(
                "UPDATE tasks SET state = ?, message = ?, finished = ? WHERE id = ? AND state = 'running'",
                (state, message, time.time(), task_id),
            )

    def cancel(self, task_id: str, message: str) -> bool:
        """Stops a waiting task; False if it was not waiting (any more)."""
        with self.transaction("cancel the task") as database:
            changed = database.execute(
                "UPDATE tasks SET state = 'stopped', message = ?, finished = ? WHERE id = ? AND state = 'waiting'",
                (message, time.time(), task_id),
            ).rowcount
        return changed > 0

    def requeue(self, task_id: str, home: str, states: Sequence[TaskState]) -> bool:
        """Puts a task that is in one of ``states`` back to the end of the queue, forgetting its mishaps.

        One without any picture yet is planned anew: what it draws from may be what was wrong with it.
        """
        with self.transaction("take the task") as database:
            changed = database.execute(
                "UPDATE tasks SET state = 'waiting', held = 0, home = ?, message = '', finished = NULL, began = NULL,"
                " engine_deaths = 0, app_deaths = 0, position = (SELECT max(position) + 1 FROM tasks), texts ="
                " CASE WHEN EXISTS (SELECT 1 FROM pictures WHERE task_id = tasks.id) THEN texts ELSE '' END"
                f" WHERE id = ? AND state IN ({', '.join('?' * len(states))})",
                (home, task_id, *states),
            ).rowcount
        return changed > 0

    def release(self, task_id: str) -> None:
        """Puts a running task back to the head of the queue: the application is closing."""
        with self.transaction("put the task back") as database:
            database.execute(
                "UPDATE tasks SET state = 'waiting', position = (SELECT min(position) - 1 FROM tasks)"
                " WHERE id = ? AND state = 'running'",
                (task_id,),
            )

    def adopt(self, home: str, alive: Callable[[str], bool], orphan: Callable[[str], bool]) -> list[str]:
        """Takes over the unfinished tasks of homes that are no more; returns those homes.

        A task that was running waits again, before all others, and its ``app_deaths`` counts one more. Tasks of a home
        for which ``orphan`` is true end as stopped: nobody waits for them any longer.
        """
        with self.transaction("be read") as database:
            unfinished = "state IN ('waiting', 'running')"
            rows = database.execute(f"SELECT DISTINCT home FROM tasks WHERE {unfinished}").fetchall()
            dead = [row["home"] for row in rows if row["home"] != home and not alive(row["home"])]
            for old in dead:
                if orphan(old):
                    database.execute(
                        "UPDATE tasks SET state = 'stopped', message = ?, finished = ?"
                        f" WHERE home = ? AND {unfinished}",
                        ("The command that had asked for it was ended.", time.time(), old),
                    )
                    continue
                database.execute(
                    "UPDATE tasks SET state = 'waiting', app_deaths = app_deaths + 1,"
                    " position = (SELECT min(position) - 1 FROM tasks) WHERE home = ? AND state = 'running'",
                    (old,),
                )
                database.execute(f"UPDATE tasks SET home = ? WHERE home = ? AND {unfinished}", (home, old))
        return dead

    def keep_texts(self, task_id: str, texts: str) -> None:
        """Keeps what was drawn when a task was planned, so that it goes on with that whenever it is resumed."""
        with self.transaction("keep the texts") as database:
            database.execute("UPDATE tasks SET texts = ? WHERE id = ?", (texts, task_id))

    def count_engine_death(self, task_id: str) -> int:
        """Notes that an engine died over this task; returns how many did since its last finished picture."""
        with self.transaction("note the mishap") as database:
            row = database.execute(
                "UPDATE tasks SET engine_deaths = engine_deaths + 1 WHERE id = ? RETURNING engine_deaths", (task_id,)
            ).fetchone()
        return 0 if row is None else int(row["engine_deaths"])

    def task(self, task_id: str) -> TaskRecord | None:
        """The task of this id."""
        with self.transaction("be read", "DEFERRED") as database:
            row = database.execute("SELECT * FROM tasks WHERE id = ?", (task_id,)).fetchone()
        return None if row is None else task_of(row)

    def waiting(self, home: str, owner: str | None = None) -> list[TaskRecord]:
        """The waiting tasks of a home as their turn will come, all or one owner's."""
        with self.transaction("be read", "DEFERRED") as database:
            rows = database.execute(
                f"{LINE} SELECT * FROM line WHERE :owner IS NULL OR owner = :owner {IN_TURN}",
                {"home": home, "owner": owner},
            ).fetchall()
        return [task_of(row) for row in rows]

    def foremost(self, home: str, owner: str) -> str | None:
        """The task of an owner that is running, or else the one that will be next."""
        with self.transaction("be read", "DEFERRED") as database:
            row = database.execute(
                "SELECT id FROM tasks WHERE home = ? AND owner = ? AND state IN ('waiting', 'running') AND NOT held"
                " ORDER BY state = 'running' DESC, began IS NULL, position LIMIT 1",
                (home, owner),
            ).fetchone()
        return None if row is None else str(row["id"])

    def add_picture(self, record: PictureRecord) -> bool:
        """Records a finished picture; False if this picture of the task was recorded before. Mishaps are forgotten."""
        with self.transaction("record the picture") as database:
            added = database.execute(
                "INSERT INTO pictures (id, task_id, idx, path, seed, width, height, created, facts)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    record.id, record.task_id, record.index, str(record.path), record.seed, record.width, record.height,
                    record.created, json.dumps(dict(record.facts)),
                ),
            ).rowcount  # fmt: skip
            database.execute(f"{HISTORY_ROWS} AND pictures.id = ?", (record.id,))
            database.execute("UPDATE tasks SET engine_deaths = 0, app_deaths = 0 WHERE id = ?", (record.task_id,))
        return added > 0

    def add_skipped(self, task_id: str, index: int) -> None:
        """Records that the user does not want this picture of the task."""
        with self.transaction("record the skip") as database:
            database.execute(
                "INSERT INTO pictures (id, task_id, idx, created) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (picture_id(task_id, index), task_id, index, time.time()),
            )

    def settled(self, task_id: str) -> set[int]:
        """The indices of a task's pictures that are finished or skipped."""
        with self.transaction("be read", "DEFERRED") as database:
            rows = database.execute("SELECT idx FROM pictures WHERE task_id = ?", (task_id,)).fetchall()
        return {int(row["idx"]) for row in rows}

    def pictures(self, task_id: str) -> tuple[PictureRecord, ...]:
        """The finished pictures of a task in order of their index."""
        return self._pictures("task_id = ? ORDER BY idx", (task_id,))

    def day(self, folder: Path) -> list[tuple[PictureRecord, str]]:
        """The pictures of all tasks of a folder, newest first, each with the prompt of its task."""
        found = self._pictures(
            "task_id IN (SELECT id FROM tasks WHERE folder = ?) ORDER BY created DESC", (str(folder),)
        )
        with self.transaction("be read", "DEFERRED") as database:
            rows = database.execute(
                "SELECT id, json_extract(parameters, '$.prompt') AS prompt FROM tasks WHERE folder = ?", (str(folder),)
            ).fetchall()
        prompts = {row["id"]: row["prompt"] or "" for row in rows}
        return [(record, prompts[record.task_id]) for record in found]

    def picture(self, identity: str) -> PictureRecord | None:
        """The picture of this id."""
        return next(iter(self._pictures("id = ?", (identity,))), None)

    def latest(self, owner: str, limit: int) -> tuple[PictureRecord, ...]:
        """The newest pictures of an owner, newest first."""
        where = "task_id IN (SELECT id FROM tasks WHERE owner = ?) ORDER BY created DESC, idx DESC LIMIT ?"
        return self._pictures(where, (owner, limit))

    def made_with(self, owner: str, role: ModelRole, model: str, limit: int) -> tuple[PictureRecord, ...]:
        """The newest of an owner's last 2,000 pictures in which a model file played this role, newest first."""
        where = (
            "rowid > (SELECT max(rowid) FROM pictures) - 2000 AND task_id IN (SELECT id FROM tasks WHERE owner = ?)"
            f" AND {PLAYED[role]} ORDER BY rowid DESC LIMIT ?"
        )
        return self._pictures(where, (owner, model, limit))

    def _pictures(self, where: str, values: tuple[Any, ...]) -> tuple[PictureRecord, ...]:
        with self.transaction("be read", "DEFERRED") as database:
            there = "path IS NOT NULL AND id NOT IN (SELECT picture FROM history WHERE removed IS NOT NULL)"
            rows = database.execute(f"SELECT * FROM pictures WHERE {there} AND {where}", values).fetchall()
        return tuple(_picture(row) for row in rows)

    @contextmanager
    def transaction(self, doing: str, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """One transaction; SQLite's errors become ``StoreError`` with a sentence ("The queue cannot ``doing``").

        For this module, and for those that keep their own tables in the same file.
        """
        with self._lock:
            try:
                self._connection.execute(f"BEGIN {kind}")
                yield self._connection
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                if is_damage(error):
                    mark_damaged(self.path)
                raise StoreError(in_words(error, doing, self.path)) from error
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):  # a connection that was closed meanwhile has nothing to roll back
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


def picture_id(task_id: str, index: int) -> str:
    """The id by which a picture is served: as hard to guess as its task's."""
    return f"{task_id}-{index + 1:02d}"


def task_of(row: Mapping[str, Any]) -> TaskRecord:
    """The task in a row of the table."""
    names = ("id", "owner", "home", "parameters", "state", "message", "created", "engine_deaths", "app_deaths", "texts")
    values = {name: row[name] for name in names}
    return TaskRecord(
        folder=Path(row["folder"]), held=bool(row["held"]), random_seed=bool(row["random_seed"]), **values
    )


def _picture(row: Mapping[str, Any]) -> PictureRecord:
    names = ("id", "task_id", "seed", "width", "height", "created")
    facts = json.loads(row["facts"])
    return PictureRecord(index=row["idx"], path=Path(row["path"]), facts=facts, **{name: row[name] for name in names})
