"""Who is signed in, and how long somebody who guesses must wait; knows no HTTP and no password."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock

from modules.auth import Accounts, write_private

SESSION_SECONDS = 30 * 24 * 3600
MAX_SESSIONS = 1000
MAX_KNOWN = 4096  # addresses and users whose failures are remembered
FREE_TRIES = 5
LONGEST_WAIT = 900.0  # seconds, for an address
LONGEST_USER_WAIT = 30.0  # for a user from everywhere: strangers must not lock somebody out
FORGOTTEN_AFTER = 3600.0


class Sessions:
    """Who is signed in. Only digests of what browsers hold are kept, in a file that outlives a restart."""

    def __init__(self, path: Path, accounts: Accounts, clock: Callable[[], float] = time.time) -> None:
        """clock: gives seconds of the calendar."""
        self._path = path
        self._accounts = accounts
        self._clock = clock
        self._lock = Lock()
        self._open: dict[str, tuple[str, str, float]] = _read_sessions(path)  # digest -> user, stamp, end

    def begin(self, user: str) -> str:
        """Signs a user in; returns what their browser keeps."""
        token, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            self._open = {digest: each for digest, each in self._open.items() if each[2] > now}
            while len(self._open) >= MAX_SESSIONS:
                del self._open[next(iter(self._open))]
            self._open[_digest(token)] = (user, self._accounts.stamp(user) or "", now + SESSION_SECONDS)
            self._write()
        return token

    def user(self, token: str) -> str | None:
        """Whose session this is, if it is one."""
        user, stamp, end = self._open.get(_digest(token), ("", "", 0.0))
        return user if end > self._clock() and stamp == self._accounts.stamp(user) else None

    def end(self, token: str) -> None:
        """Signs out."""
        with self._lock:
            if self._open.pop(_digest(token), None) is not None:
                self._write()

    def _write(self) -> None:
        with suppress(OSError):  # the disk is full, say: whoever is signed in stays so until the application ends
            write_private(self._path, json.dumps(self._open).encode())


class Attempts:
    """How long somebody must wait after wrong guesses: the first few are free, then each doubles the wait."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: gives seconds."""
        self._clock = clock
        self._lock = Lock()
        self._failures: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def wait(self, address: str, user: str) -> float:
        """Seconds until the next guess is heard."""
        with self._lock:
            return max(self._left(("address", address), LONGEST_WAIT), self._left(("user", user), LONGEST_USER_WAIT))

    def failed(self, address: str, user: str) -> None:
        """A guess was wrong."""
        with self._lock:
            for key in (("address", address), ("user", user)):
                count, since = self._failures.pop(key, (0, 0.0))
                forgotten = self._clock() - since > FORGOTTEN_AFTER
                self._failures[key] = (1 if forgotten else count + 1, self._clock())
            while len(self._failures) > MAX_KNOWN:
                self._failures.popitem(last=False)

    def succeeded(self, address: str, user: str) -> None:
        """A guess was right."""
        with self._lock:
            for key in (("address", address), ("user", user)):
                self._failures.pop(key, None)

    def _left(self, key: tuple[str, str], longest: float) -> float:
        count, since = self._failures.get(key, (0, 0.0))
        wait = 0.0 if count < FREE_TRIES else min(longest, 2.0 ** min(count - FREE_TRIES, 20))
        return max(0.0, since + wait - self._clock()) if count else 0.0


def _read_sessions(path: Path) -> dict[str, tuple[str, str, float]]:
    """Those of an earlier run; a file that is none means that everybody signs in again."""
    try:
        told = json.loads(path.read_text("utf-8"))
        return {str(digest): (str(user), str(stamp), float(end)) for digest, (user, stamp, end) in told.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
