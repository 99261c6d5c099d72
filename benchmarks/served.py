"""The real application in a home of its own, as a process that is measured from outside; knows no measurement."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

from modules.store import DATABASE

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 60


def free_port() -> int:
    """A port that nobody listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port: int = free.getsockname()[1]
    return port


@dataclass
class Application:
    """The application with the built-in miniature, always on the same port. Pictures and data lie under ``home``."""

    home: Path
    port: int
    settings: Mapping[str, str] = field(default_factory=dict)  # of its environment
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where its page is."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it, and comes back when it answers."""
        places = {"path_outputs": "outputs", "path_data": "data"}
        folders = {key: str(self.home / name) for key, name in places.items()}
        environment = {**os.environ, **folders, **self.settings}
        command = [sys.executable, "entry.py", "--port", str(self.port), "--disable-in-browser", "--preset", "mini"]
        with (self.home / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            try:
                with urlopen(f"{self.address}/alive", timeout=1):
                    return
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"The application does not answer: {(self.home / 'log.txt').read_text()}")

    def kill(self) -> None:
        """As a power cut would, but for the engine, which sees that nobody is there any more."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def engine(self) -> int | None:
        """The process id of its engine (Linux only)."""
        assert self.process is not None
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(status.read_text().rpartition(")")[2].split()[1])
                command = (status.parent / "cmdline").read_bytes()
            except (OSError, ValueError):
                continue  # it has ended meanwhile
            if parent == self.process.pid and b"spawn_main" in command:
                return int(status.parent.name)
        return None

    def rows(self, query: str) -> list[tuple[str, ...]]:
        """What the database answers."""
        with closing(sqlite3.connect(f"file:{self.home / 'data' / DATABASE}?mode=ro", uri=True)) as database:
            return database.execute(query).fetchall()
