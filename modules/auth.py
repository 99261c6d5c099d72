"""Who may use the page: the accounts in `auth.json`; knows no HTTP and no session.

Accounts are the field's `auth.json`: a list of `{"user": ..., "pass": ...}` or `{"user": ..., "hash": sha256 in hex}`.
Here `hash` may also be `scrypt$n$r$p$salt$key` (RFC 7914), which the other two become when they are first used.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any

SCRYPT = {"n": 2**14, "r": 8, "p": 1}  # 16 MB and some 50 ms a guess
SCRYPT_MOST = {"n": 2**20, "r": 32, "p": 16}
SCRYPT_MEMORY = 2**28
AT_ONCE = 2  # guesses that are checked at the same time
MAX_PASSWORD = 1024  # characters
FIRST_USER = "pinhole"
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that looks like another
PLAIN = "pass$"  # before a password that is kept as it is
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class AuthError(ValueError):
    """Accounts that cannot be read or kept; the message names the file and what is wrong."""


class Accounts:
    """The accounts of a file."""

    def __init__(self, path: Path) -> None:
        """Raises ``AuthError`` for a file that is there and cannot be read as accounts."""
        self._path = path
        self._lock = Lock()
        self._turn = BoundedSemaphore(AT_ONCE)
        self._entries = _read(path) if path.exists() else {}
        self._nobody = hash_of(secrets.token_hex(16))  # so that an unknown name takes as long as a wrong password

    def __bool__(self) -> bool:
        return bool(self._entries)

    @property
    def path(self) -> Path:
        """Where they are kept."""
        return self._path

    def make_first(self) -> tuple[str, str]:
        """Makes an account where there is none; returns its name and its password, which is kept nowhere."""
        password = "-".join("".join(secrets.choice(LETTERS) for _ in range(5)) for _ in range(3))  # 74 bits
        self._entries = {FIRST_USER: hash_of(password)}
        self._write()
        return FIRST_USER, password

    def check(self, user: str, password: str) -> bool:
        """Whether this is a user's password. What is kept in an older form is kept as scrypt from then on."""
        kept = self._entries.get(user)
        with self._turn:
            known = _matches(kept or self._nobody, password[:MAX_PASSWORD])
        if kept is None or not known:
            return False
        if not kept.startswith("scrypt$"):
            with self._lock:
                self._entries[user] = hash_of(password)
                self._write()
        return True

    def stamp(self, user: str) -> str | None:
        """Changes with a user's password; None for who is no user (any more)."""
        kept = self._entries.get(user)
        return None if kept is None else hashlib.sha256(kept.encode()).hexdigest()

    def _write(self) -> None:
        told = [{"user": user, **_written(kept)} for user, kept in self._entries.items()]
        try:
            write_private(self._path, json.dumps(told, ensure_ascii=False, indent=2).encode())
        except OSError as error:
            raise AuthError(f"{self._path} cannot be written: {error.strerror or error}") from None


def hash_of(password: str) -> str:
    """A password as it is kept."""
    salt = secrets.token_bytes(16)
    key = hashlib.scrypt(password.encode(), salt=salt, maxmem=SCRYPT_MEMORY, dklen=32, **SCRYPT)
    return f"scrypt${SCRYPT['n']}${SCRYPT['r']}${SCRYPT['p']}${b64encode(salt).decode()}${b64encode(key).decode()}"


def _matches(kept: str, password: str) -> bool:
    given = password.encode("utf-8", "replace")
    if kept.startswith(PLAIN):
        return hmac.compare_digest(kept.removeprefix(PLAIN).encode(), given)
    if not kept.startswith("scrypt$"):
        return hmac.compare_digest(kept.lower(), hashlib.sha256(given).hexdigest())
    parameters, salt, key = _parts(kept)
    return hmac.compare_digest(
        hashlib.scrypt(given, salt=salt, maxmem=SCRYPT_MEMORY, dklen=len(key), **parameters), key
    )


def _written(kept: str) -> dict[str, str]:
    return {"pass": kept.removeprefix(PLAIN)} if kept.startswith(PLAIN) else {"hash": kept}


def _parts(kept: str) -> tuple[dict[str, int], bytes, bytes]:
    """The parameters, salt and key of a hash in our form; raises ``ValueError``."""
    _, n, r, p, salt, key = kept.split("$")
    parameters = {"n": int(n), "r": int(r), "p": int(p)}
    if not all(0 < parameters[name] <= most for name, most in SCRYPT_MOST.items()):
        raise ValueError("its numbers are out of range")
    return parameters, b64decode(salt, validate=True), b64decode(key, validate=True)


def _read(path: Path) -> dict[str, str]:
    try:
        told = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise AuthError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(told, list) or not told:
        raise AuthError(f'{path}: must be a list of {{"user": ..., "pass": ...}} with at least one of them')
    entries = {}
    for number, each in enumerate(told, 1):
        problem, user, kept = _entry(each)
        if problem or user in entries:
            raise AuthError(f"{path}: entry {number} {problem or f'has the user {user!r} once more'}")
        entries[user] = kept
    return entries


def _entry(each: Any) -> tuple[str, str, str]:
    """What is wrong with an entry, its user, and how the password is kept."""
    if not isinstance(each, Mapping) or not isinstance(each.get("user"), str) or not each["user"].strip():
        return 'has no "user"', "", ""
    user, kept = each["user"].strip(), each.get("hash")
    if kept is None:
        password = each.get("pass")
        sound = isinstance(password, str) and password != ""
        return ("" if sound else f'({user}) has neither "pass" nor "hash"'), user, f"{PLAIN}{password}"
    if isinstance(kept, str) and _SHA256.fullmatch(kept):
        return "", user, kept
    try:
        if not isinstance(kept, str) or not kept.startswith("scrypt$"):
            raise ValueError("it is neither sha256 in hex nor scrypt$...")
        _parts(kept)
    except ValueError as error:
        return f'({user}) has a "hash" that cannot be one: {error}', user, ""
    return "", user, kept


def write_private(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all, readable for its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
