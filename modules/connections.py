"""Every connection to elsewhere since the start: when, to whom, what for, how much came; opens none itself."""

from __future__ import annotations

import ipaddress
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Lock, local
from typing import Any

MOST = 1000  # connections that are remembered; how many there were in all is counted
OFFLINE = "Pinhole is offline on this machine: it asks no server for anything. Its owner can change that."
_THIS_MACHINE = frozenset({"", "localhost", "localhost.localdomain", "ip6-localhost"})
_NOWHERE = ipaddress.IPv4Network("192.0.2.0/24")  # RFC 5737: no machine has such an address
_ADDRESS_EVENTS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_NAME_EVENTS = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})
_BETWEEN = frozenset({"asyncio", "http", "socket", "ssl", "urllib"})  # those who pass a wish on


@dataclass
class Request:
    """One connection. ``began`` in seconds since 1970; ``received`` bytes of what was asked for have come."""

    began: float
    host: str
    purpose: str
    received: int = 0


class Connections:
    """The connections of this process, safe to share among threads."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """clock: gives seconds since 1970."""
        self._clock = clock
        self._lock = Lock()
        self._requests: deque[Request] = deque(maxlen=MOST)
        self._count = 0
        self._thread = local()

    @contextmanager
    def request(self, host: str, purpose: str) -> Iterator[Request]:
        """Notes a request that is about to be made, whether or not anybody answers, and what it is made for."""
        made = self._note(host, purpose)
        self._thread.asking = True
        try:
            yield made
        finally:
            self._thread.asking = False

    def opened(self, host: str, purpose: str) -> None:
        """Notes a connection that somebody opens, unless it belongs to a request of the same thread."""
        if not getattr(self._thread, "asking", False):
            self._note(host, purpose)

    @property
    def count(self) -> int:
        """How many there were."""
        return self._count

    def told(self) -> list[dict[str, Any]]:
        """The connections as plain JSON, the newest first."""
        with self._lock:
            found = list(self._requests)
        return [
            {"began": each.began, "host": each.host, "purpose": each.purpose, "received": each.received}
            for each in reversed(found)
        ]

    def _note(self, host: str, purpose: str) -> Request:
        made = Request(self._clock(), host, purpose)
        with self._lock:
            self._requests.append(made)
            self._count += 1
        return made


def watch_connections(connections: Connections, offline: bool) -> None:
    """Notes from now on what any Python code of this process opens beyond this machine, whichever library it is in.

    With ``offline`` it is refused with an ``OSError``, names are not looked up either. The interpreter's audit events
    tell of it (PEP 578), so nothing is replaced, and nobody can undo it.
    """

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _ADDRESS_EVENTS:
            host = _elsewhere(arguments[0], arguments[1])
        elif event in _NAME_EVENTS:
            host = _name_elsewhere(arguments[0]) if offline else ""
        else:
            return
        if host:
            connections.opened(host, f"asked for by {_asker()}")
            if offline:
                raise PermissionError(OFFLINE)

    sys.addaudithook(hear)


def _elsewhere(door: Any, address: Any) -> str:
    """The host that a socket is to speak with, if it is not this machine."""
    if getattr(door, "family", None) not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple):
        return ""
    return _name_elsewhere(address[0])


def _name_elsewhere(host: Any) -> str:
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host or "")
    if name.lower() in _THIS_MACHINE:
        return ""
    with suppress(ValueError):
        found = ipaddress.ip_address(name.partition("%")[0])
        if found.is_loopback or found.is_unspecified or found in _NOWHERE:
            return ""
    return name


def _asker() -> str:
    """The package that wants it."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] or "somebody"
