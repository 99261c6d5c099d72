"""Telling whether another process is still alive, by a lock that ends with it however it ends; knows no tasks."""

from __future__ import annotations

import os
import sys
from pathlib import Path


class Alive:
    """A sign of life of this process under a name: a locked file in a folder, held until ``close`` or death.

    The system frees the lock also after kill -9 or a power cut, which neither a process id (it is used again) nor a
    time stamp (a suspended laptop looks dead) can promise.
    """

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{name}.lock"
        # Python opens files as not inheritable: an engine process that outlives us does not keep the lock.
        self._file = self._path.open("a+b")
        if not _try_lock(self._file.fileno()):
            self._file.close()
            raise OSError(f"{self._path} is locked by another process")

    def close(self) -> None:
        """Ends the sign of life; may be called twice."""
        if not self._file.closed:
            self._file.close()
            self._path.unlink(missing_ok=True)


def is_alive(folder: Path, name: str) -> bool:
    """Whether the process that has given this sign of life still runs."""
    path = folder / f"{name}.lock"
    try:
        with path.open("r+b") as file:
            return not _try_lock(file.fileno())
    except FileNotFoundError:
        return False
    except PermissionError:
        return True  # Windows refuses even to open a locked file


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
