"""SHA-256 of model files, remembered on the disk and computed in the background; knows no picture and no network.

A file is the one that was hashed as long as its size, its time and its place are the same, or, when it was renamed, its
number in the file system. Several processes share the memory: what one has computed the others find.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import queue
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modules.engine_messages import EngineConfig
from modules.files import ModelFileError, ModelLibrary
from modules.plan import ImageJob

log = logging.getLogger(__name__)

SHORT = 10  # hex digits, as pictures carry them
MAX_KEPT = 10_000
MAX_BYTES = 20_000_000
_BLOCK = 4 * 2**20
_HEX = re.compile(r"[0-9a-f]{64}")

Identity = tuple[int, int, int]  # size in bytes, time in nanoseconds, number in the file system


def files_of(job: ImageJob) -> Iterator[tuple[str, str]]:
    """(kind, name) of each file that a picture is made with."""
    pairs = [("checkpoints", job.checkpoint), ("checkpoints", job.refiner), ("vae", job.vae)]
    yield from ((kind, name) for kind, name in [*pairs, *(("loras", name) for name, _ in job.loras)] if name)


@dataclass(frozen=True)
class _Table:
    """What is remembered: the hash by place and identity, and by identity alone for files that were renamed."""

    hashes: Mapping[tuple[str, Identity], str] = field(default_factory=dict)

    def find(self, path: Path, identity: Identity) -> str:
        if kept := self.hashes.get((str(path), identity)):
            return kept
        if identity[2]:  # some file systems number nothing
            return next((kept for (_, known), kept in self.hashes.items() if known == identity), "")
        return ""


class ModelHashes:
    """The hashes of the files in a library. Safe to share among threads."""

    def __init__(self, place: Path, library: ModelLibrary) -> None:
        self._place = place
        self._library = library
        self._lock = threading.Lock()
        self._table = _Table()
        self._read_at: Identity | None = None
        self._wanted: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._asked: set[tuple[str, str]] = set()
        self._thread: threading.Thread | None = None

    def known(self, kind: str, name: str) -> str:
        """The SHA-256 of a file in hexadecimal if it is known, else empty. Reads no model."""
        with suppress(OSError, ModelFileError):
            path = self._library.find(kind, name).resolve()
            return self._remembered().find(path, _identity(path))
        return ""

    def short(self, job: ImageJob) -> dict[str, dict[str, str]]:
        """The first digits of the hashes of a job's files, of those that are known, by kind and name."""
        found: dict[str, dict[str, str]] = {}
        for kind, name in files_of(job):
            if hexadecimal := self.known(kind, name):
                found.setdefault(kind, {})[name] = hexadecimal[:SHORT]
        return found

    def name_of(self, kind: str, begin: str) -> str:
        """The file of a kind whose hash is known and begins so; empty where there is none."""
        return next((name for name in self._library.names(kind) if self.known(kind, name).startswith(begin)), "")

    def compute_later(self, job: ImageJob) -> None:
        """Sees to it that the hashes of a job's files will be known; returns at once."""
        with self._lock:
            for pair in files_of(job):
                if pair not in self._asked:
                    self._asked.add(pair)
                    self._wanted.put(pair)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, daemon=True, name="hashes")
                self._thread.start()

    def _work(self) -> None:
        while True:
            try:
                pair = self._wanted.get(timeout=5)
            except queue.Empty:
                return
            try:
                self.compute(*pair)
            except (OSError, ModelFileError) as error:
                log.info("the hash of %s is not known: %s", pair[1], error)
            with self._lock:
                self._asked.discard(pair)

    def compute(self, kind: str, name: str) -> str:
        """The SHA-256 of a file, read whole if it is not known yet; raises ``OSError`` or ``ModelFileError``."""
        path = self._library.find(kind, name).resolve()
        identity = _identity(path)
        table = self._remembered()
        hexadecimal = table.find(path, identity)
        if not hexadecimal:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
            if _identity(path) != identity:
                raise OSError("it was changed while it was read")
            hexadecimal = digest.hexdigest()
        if (str(path), identity) not in table.hashes:
            self._keep((str(path), identity), hexadecimal)
        return hexadecimal

    def _remembered(self) -> _Table:
        try:
            now = _identity(self._place)
        except OSError:
            return _Table()
        with self._lock:
            if now != self._read_at:
                self._table, self._read_at = _read(self._place), now
            return self._table

    def _keep(self, key: tuple[str, Identity], hexadecimal: str) -> None:
        """Writes one more down. What another process writes in this very moment is lost, and computed again."""
        entries = [*list(self._remembered().hashes.items())[1 - MAX_KEPT :], (key, hexadecimal)]
        lines = ",\n".join(json.dumps([place, *identity, kept]) for (place, identity), kept in entries)
        part = self._place.with_name(f".{self._place.name}.{os.getpid()}.part")
        self._place.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_text(f"[{lines}]\n", encoding="utf-8", errors="surrogateescape")
            part.replace(self._place)
        finally:
            part.unlink(missing_ok=True)


def told_of_all(config: EngineConfig) -> Callable[[ImageJob], Mapping[str, Any]]:
    """What pictures tell besides how they were made: their models' hashes, as far as the application knows them yet."""
    hashes = None if config.hashes is None else ModelHashes(config.hashes, ModelLibrary(config.models))
    by = {"created_by": config.created_by} if config.created_by else {}

    def told(job: ImageJob) -> Mapping[str, Any]:
        found = {} if hashes is None else hashes.short(job)
        return {"hashes": found, **by} if found else by

    return told


def _identity(path: Path) -> Identity:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def _read(place: Path) -> _Table:
    """The table in a file; whatever is wrong in it counts for nothing."""
    try:
        if place.stat().st_size > MAX_BYTES:
            return _Table()
        values: Any = json.loads(place.read_text(encoding="utf-8", errors="surrogateescape"))
    except (OSError, ValueError, RecursionError):
        return _Table()
    found: dict[tuple[str, Identity], str] = {}
    for entry in values if isinstance(values, list) else []:
        match entry:
            case [str(path), int(size), int(time), int(number), str(digits)] if _HEX.fullmatch(digits):
                found[path, (size, time, number)] = digits
    return _Table(found)
