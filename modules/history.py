"""Every picture that was made: found by day and by words, marked, deleted and brought back; knows no page, no engine.

The files are the truth: a picture whose file is gone is not shown, and files that the store has never seen are taken in
by what is written in them. What is deleted waits for some days beside the others, in a hidden folder.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules.events import PictureRecord
from modules.metadata import MetadataError, PictureInfo, read_picture
from modules.outputs import EXTENSIONS
from modules.store import Store, StoreError, picture_id
from modules.timings import told

log = logging.getLogger(__name__)

DELETED = ".deleted"
KEPT_SECONDS = 7 * 24 * 3600
MAX_PAGE = 200
_SUFFIXES = frozenset(f".{extension}" for extension in EXTENSIONS.values())


@dataclass(frozen=True)
class Query:
    """What is looked for: all the ``words``, in any order; a model, a style (empty: any); favourites only."""

    words: str = ""
    model: str = ""
    style: str = ""
    favourites: bool = False


@dataclass(frozen=True)
class Entry:
    """A picture in the history. ``created`` is in seconds since 1970, sizes are in pixels.

    ``seconds`` is how long it took, stage by stage.
    """

    id: str
    path: Path
    created: float
    width: int
    height: int
    seed: int
    prompt: str
    model: str
    styles: tuple[str, ...]
    favourite: bool
    seconds: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Place:
    """Where a page ends: the next one begins after it."""

    created: float
    id: str

    @staticmethod
    def parse(text: str) -> Place | None:
        """The place that ``str`` wrote, None for anything else."""
        created, _, identity = text.partition("~")
        try:
            return Place(float(created), identity) if identity else None
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.created!r}~{self.id}"


class History:
    """The history in a store. An ``owner`` sees only what is their own; None sees everything."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def page(
        self, owner: str | None, query: Query, after: Place | None = None, limit: int = 60
    ) -> tuple[list[Entry], Place | None]:
        """Pictures from ``after`` on, newest first, and where the next page begins; None at the end."""
        found: list[Entry] = []
        limit = min(limit, MAX_PAGE)
        while True:
            rows = self._rows(owner, query, after, limit)
            for row in rows:
                entry = _entry(row)
                after = Place(entry.created, entry.id)
                if entry.path.is_file():
                    found.append(entry)
                if len(found) == limit:
                    return found, after
            if len(rows) < limit:
                return found, None

    def choices(self, owner: str | None) -> tuple[list[str], list[str]]:
        """The models and the styles that pictures were made with, the most used first."""
        mine, values = _mine(owner)
        models = f"SELECT model AS name FROM history WHERE {mine} AND model != ''"
        styles = f"SELECT value AS name FROM history, json_each(styles) WHERE {mine} AND styles != '[]'"
        with self._store.transaction("be read", "DEFERRED") as database:
            both = [
                [str(row["name"]) for row in database.execute(f"{each} GROUP BY 1 ORDER BY count(*) DESC, 1", values)]
                for each in (models, styles)
            ]
        return both[0], both[1]

    def mark(self, owner: str | None, ids: Sequence[str], favourite: bool) -> int:
        """Makes pictures favourites, or no longer; returns how many there are of them."""
        mine, values = _mine(owner)
        with self._store.transaction("note the favourite") as database:
            return sum(
                database.execute(
                    f"UPDATE history SET favourite = ? WHERE picture = ? AND {mine}", (favourite, identity, *values)
                ).rowcount
                for identity in ids
            )

    def files(self, owner: str | None, ids: Sequence[str]) -> list[Path]:
        """The files of pictures, in the order of ``ids``; those that are not there are left out."""
        return [path for _, path in self._paths(owner, ids, removed=False) if path.is_file()]

    def delete(self, owner: str | None, ids: Sequence[str]) -> int:
        """Takes pictures out of the history and their files out of the folder; ``restore`` brings them back.

        Returns how many. Raises ``OSError`` for a file that cannot be moved; those before it are deleted.
        """
        return sum(self._move(identity, path, out=True) for identity, path in self._paths(owner, ids, removed=False))

    def restore(self, owner: str | None, ids: Sequence[str]) -> int:
        """Brings deleted pictures back; returns how many. Raises ``OSError``."""
        return sum(self._move(identity, path, out=False) for identity, path in self._paths(owner, ids, removed=True))

    def purge(self, before: float) -> int:
        """Removes for good what was deleted before this time; returns how many pictures."""
        with self._store.transaction("be read", "DEFERRED") as database:
            rows = database.execute(
                "SELECT id, path FROM history JOIN pictures ON id = picture WHERE removed < ? AND path IS NOT NULL",
                (before,),
            ).fetchall()
        for row in rows:
            with suppress(OSError):
                _hidden(Path(row["path"])).unlink(missing_ok=True)
            # The picture was made and is not wanted: the same as one that was skipped.
            with self._store.transaction("forget the picture") as database:
                database.execute("UPDATE pictures SET path = NULL WHERE id = ?", (row["id"],))
                database.execute("DELETE FROM history WHERE picture = ?", (row["id"],))
        return len(rows)

    def take_in(self, outputs: Path) -> int:
        """Takes in the pictures below ``outputs`` that the store does not know, and follows those that were moved.

        Returns how many are new or moved. A file that is no picture of Pinhole's is left alone.
        """
        with self._store.transaction("be read", "DEFERRED") as database:
            known = {str(row["path"]) for row in database.execute("SELECT path FROM pictures WHERE path IS NOT NULL")}
        self._see_restored()
        return sum(self._take(path) for path in _pictures_below(outputs) if str(path) not in known)

    def _see_restored(self) -> None:
        """What somebody has taken out of the hidden folder by hand is not deleted any longer."""
        with self._store.transaction("be read", "DEFERRED") as database:
            rows = database.execute(
                "SELECT id, path FROM history JOIN pictures ON id = picture WHERE removed IS NOT NULL"
            ).fetchall()
        for row in rows:
            if row["path"] is not None and Path(row["path"]).is_file():
                self._set_removed(row["id"], None)

    def _rows(self, owner: str | None, query: Query, after: Place | None, limit: int) -> list[Any]:
        mine, values = _mine(owner)
        wheres, arguments = [mine], [*values]
        for word in query.words.casefold().split():
            wheres.append("instr(words, ?) > 0")
            arguments.append(word)
        if query.model:
            wheres.append("model = ?")
            arguments.append(query.model)
        if query.style:
            wheres.append("EXISTS (SELECT 1 FROM json_each(styles) WHERE value = ?)")
            arguments.append(query.style)
        if query.favourites:
            wheres.append("favourite = 1")
        if after is not None:
            wheres.append("(history.created, picture) < (?, ?)")
            arguments += [after.created, after.id]
        # The narrow rows are looked through alone; what else is shown is fetched for those that are found.
        found = (
            f"SELECT * FROM history WHERE {' AND '.join(wheres)} ORDER BY history.created DESC, picture DESC LIMIT ?"
        )
        with self._store.transaction("be read", "DEFERRED") as database:
            return database.execute(
                "SELECT found.*, path, width, height, seed, json_extract(parameters, '$.prompt') AS prompt,"
                f" json_extract(facts, '$.seconds') AS seconds FROM ({found}) AS found"
                " JOIN pictures ON pictures.id = picture JOIN tasks ON tasks.id = task_id"
                " ORDER BY found.created DESC, picture DESC",
                (*arguments, limit),
            ).fetchall()

    def _paths(self, owner: str | None, ids: Sequence[str], removed: bool) -> list[tuple[str, Path]]:
        whose, values = ("", ()) if owner is None else ("AND owner = ?", (owner,))
        state = "IS NOT NULL" if removed else "IS NULL"
        found = []
        with self._store.transaction("be read", "DEFERRED") as database:
            for identity in dict.fromkeys(ids):
                row = database.execute(
                    "SELECT path FROM history JOIN pictures ON id = picture"
                    f" WHERE picture = ? AND path IS NOT NULL AND removed {state} {whose}",
                    (identity, *values),
                ).fetchone()
                if row is not None:
                    found.append((identity, Path(row["path"])))
        return found

    def _move(self, identity: str, path: Path, out: bool) -> bool:
        """Between its place and the hidden folder. Where the file lies decides, should this be cut off half-way."""
        begin, end = (path, _hidden(path)) if out else (_hidden(path), path)
        self._set_removed(identity, time.time() if out else None)
        try:
            if begin.is_file() and not end.exists():
                end.parent.mkdir(exist_ok=True)
                begin.rename(end)
        except OSError:
            self._set_removed(identity, None if out else time.time())
            raise
        return end.is_file()

    def _set_removed(self, identity: str, since: float | None) -> None:
        with self._store.transaction("note the deletion") as database:
            database.execute("UPDATE history SET removed = ? WHERE picture = ?", (since, identity))

    def _take(self, path: Path) -> bool:
        try:
            told = read_picture(path)
        except (MetadataError, OSError):
            return False
        task, index = told.facts.get("task"), told.facts.get("index")
        if not isinstance(task, str) or not task or not isinstance(index, int) or "job" not in told.facts:
            return False
        return self._record(path, task, index, told)

    def _record(self, path: Path, task: str, index: int, told: PictureInfo) -> bool:
        identity, job = picture_id(task, index), told.facts["job"]
        try:
            seed, width, height = (int(job[name]) for name in ("seed", "width", "height"))
            created = path.stat().st_mtime
        except (KeyError, TypeError, ValueError, OSError):
            return False
        with self._store.transaction("take in the picture") as database:
            row = database.execute("SELECT path FROM pictures WHERE id = ?", (identity,)).fetchone()
            if row is not None:
                old = None if row["path"] is None else Path(row["path"])
                if old is None or old.exists() or _hidden(old).exists():
                    return False  # deleted for good, or a copy of one that is there
                database.execute("UPDATE pictures SET path = ? WHERE id = ?", (str(path), identity))
                return True
            database.execute(
                "INSERT OR IGNORE INTO tasks (id, owner, home, parameters, folder, state, position, created)"
                " VALUES (?, '', '', ?, ?, 'done', 0, ?)",
                (task, told.parameters.to_json(), str(path.parent), created),
            )
        record = PictureRecord(identity, task, index, path, seed, width, height, created, told.facts)
        return self._store.add_picture(record)


class Keeper:
    """Keeps a history true to the folder of pictures, in a thread beside everything else and not too often."""

    def __init__(self, history: History, outputs: Path, every: float = 20.0) -> None:
        self._history = history
        self._outputs = outputs
        self._every = every
        self._lock = threading.Lock()
        self._last = -math.inf

    def look(self) -> None:
        """Have a look soon, unless there was one just now; returns at once."""
        with self._lock:
            if time.monotonic() - self._last < self._every:
                return
            self._last = time.monotonic()
        threading.Thread(target=self.look_now, name="history", daemon=True).start()

    def look_now(self) -> None:
        """Take in what is new, and remove for good what was deleted long ago."""
        try:
            count = self._history.take_in(self._outputs)
            self._history.purge(time.time() - KEPT_SECONDS)
        except StoreError as error:  # the application is ending, or the disk is full: the next look does it
            log.info("the history was not looked through: %s", error)
            return
        if count:
            log.info("%d pictures were found in %s", count, self._outputs)


def _entry(row: Any) -> Entry:
    return Entry(
        id=row["picture"], path=Path(row["path"]), created=row["created"], width=row["width"], height=row["height"],
        seed=row["seed"], prompt=row["prompt"] or "", model=row["model"], styles=tuple(json.loads(row["styles"])),
        favourite=bool(row["favourite"]), seconds=tuple(told({"seconds": json.loads(row["seconds"] or "null")})),
    )  # fmt: skip


def _mine(owner: str | None) -> tuple[str, tuple[Any, ...]]:
    """The condition for rows that an owner may see, with its values."""
    return ("removed IS NULL", ()) if owner is None else ("removed IS NULL AND owner = ?", (owner,))


def _hidden(path: Path) -> Path:
    """Where a picture waits that was deleted: beside the others, so that moving it is one step on any disk."""
    return path.parent / DELETED / path.name


def _pictures_below(folder: Path) -> Iterator[Path]:
    """The picture files in a folder and in the folders of days in it; nothing hidden, and no link."""
    with suppress(OSError):
        for entry in sorted(folder.iterdir()):
            if entry.name.startswith(".") or entry.is_symlink():
                continue
            if entry.is_dir():
                yield from (each for each in _files_in(entry) if each.suffix.lower() in _SUFFIXES)
            elif entry.suffix.lower() in _SUFFIXES:
                yield entry


def _files_in(folder: Path) -> list[Path]:
    try:
        return sorted(each for each in folder.iterdir() if not each.name.startswith(".") and not each.is_symlink())
    except OSError:
        return []
