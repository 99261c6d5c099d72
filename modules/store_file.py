"""The file of the store: opened, put aside when it is damaged, and what goes wrong with it in words; knows no table."""

from __future__ import annotations

import errno
import sqlite3
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from modules.store_schema import lines_of

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
FORBIDDEN = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)
HELD = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
PATIENCE = 30  # seconds that another program may hold on to the file


def open_file(path: Path) -> tuple[sqlite3.Connection, str]:
    """A connection to the file, which is made if it is not there, and a sentence for the user if there is one.

    A damaged file is put aside under another name: nothing that is in it is deleted. Raises ``OSError`` and
    ``sqlite3.Error``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    said = _put_aside(path) if _marker(path).exists() else ""
    try:
        return _connect(path), said
    except sqlite3.DatabaseError as error:
        if _code(error) not in DAMAGED:
            raise
    said = _put_aside(path)
    return _connect(path), said


def mark_damaged(path: Path) -> None:
    """Notes that the file was found to be damaged, so that the next start puts it aside."""
    with suppress(OSError):
        _marker(path).touch()


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error says that the file itself is damaged."""
    return _code(error) in DAMAGED


def in_words(error: OSError | sqlite3.Error, doing: str, path: Path) -> str:
    """What went wrong when the file should ``doing`` ("be opened"), and what to do."""
    begin, folder = f"The queue {path} could not {doing}", path.parent
    choose = "choose another folder with path_data in config.txt"
    if isinstance(error, OSError):
        if error.errno in (errno.EEXIST, errno.ENOTDIR):
            return f"{begin}: {folder} is not a folder. Rename what is there, or {choose}."
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return f"{begin}: writing to {folder} is not allowed. Allow it, or {choose}."
        return f"{begin}: {error.strerror or error}. Look after the disk, or {choose}."
    match _code(error):
        case sqlite3.SQLITE_FULL:
            return f"The disk is full: the queue {path} could not {doing}. Free some space and try again."
        case code if code in DAMAGED:
            return (
                f"{begin}: the file is damaged. End Pinhole and start it again: it puts the file aside then and makes "
                "the history anew from the pictures. No picture is lost."
            )
        case code if code in FORBIDDEN:
            return f"{begin}: writing to {folder} is not allowed, or it is gone. Allow it, or {choose}."
        case code if code in HELD:
            return (
                f"{begin}: another program holds on to the file, a backup perhaps or another Pinhole. "
                "End that and try again."
            )
    return f"{begin}: {error}."


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.create_function("folded", 1, str.casefold, deterministic=True)
    connection.create_function("lines_of", 1, lines_of, deterministic=True)
    try:
        connection.execute(f"PRAGMA busy_timeout = {PATIENCE * 1000}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a task that was accepted survives a power cut
        connection.execute("PRAGMA foreign_keys = ON")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _put_aside(path: Path) -> str:
    stamp = f"{datetime.now():%Y%m%d-%H%M%S}"
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    _marker(path).unlink(missing_ok=True)
    return (
        f"The file of the queue and the history was damaged: it was put aside as {aside}, and a new one was begun. "
        "Pictures are found again by themselves where they lie; what was waiting has to be asked for once more."
    )


def _marker(path: Path) -> Path:
    return path.with_name(f"{path.name}.damaged")


def _code(error: sqlite3.Error) -> int:
    """The primary code of an error; extended ones say the same in more detail."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
