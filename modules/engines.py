"""Engines as the application sees them: somebody who runs a task's jobs; knows no queue and no network."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from secrets import token_hex
from typing import Protocol

from modules.engine_messages import (
    Ended,
    EngineConfig,
    Expanded,
    ExpandRequest,
    RunRequest,
    TaskMessage,
    Wish,
    pack,
    pack_expand,
    pack_run,
    unpack_message,
)
from modules.engine_process import Factory, load_pipeline, main
from modules.machine import memory_kills

log = logging.getLogger(__name__)


EXPAND_SECONDS = 3.0  # that an answer may take before somebody who only looks is told to look later
GLANCE_SECONDS = 0.05


class EngineDied(RuntimeError):
    """The engine ended in the middle of a run. ``str()`` is a sentence that says how, fit for the user's eyes.

    ``from_outside``: somebody ended it, so that nothing was wrong with what it did.
    """

    def __init__(self, words: str, from_outside: bool = False) -> None:
        super().__init__(words)
        self.from_outside = from_outside


# What a signal mostly means for those who see the engine end by it; by name, as not every system has each.
SIGNALS: Mapping[str, str] = {
    "SIGKILL": "Mostly this means that memory ran out.",
    "SIGBUS": "Mostly this means that a model file was cut short or replaced while it was read, or that a disk failed.",
    "SIGSEGV": "Mostly this means a fault in a driver or in a library.",
    "SIGABRT": "Mostly this means a fault in a driver or in a library.",
    "SIGILL": "Mostly this means that this PyTorch is built for another processor.",
}


class EngineFailed(ValueError):
    """The engine could not do the jobs, and says why in words for the user. It is still there."""


class Engine(Protocol):
    """Somebody who makes pictures. ``run`` is called by one thread; everything else by any, at any time."""

    def warm_up(self) -> None:
        """Starts getting ready, and returns at once."""

    def run(
        self, request: RunRequest, listener: Callable[[TaskMessage], None], wished: Callable[[], Wish | None]
    ) -> None:
        """Does the jobs, handing each message to ``listener``; returns when they are done or stopped.

        ``wished`` is asked once, as soon as the engine can be told: what was wished before the run is not lost.
        Raises ``EngineDied`` (the next run starts a new one) or ``EngineFailed``.
        """

    def wish(self, task_id: str, wish: Wish) -> None:
        """Skip or Stop for a task; without effect if this task is not being run."""

    def expand(self, text: str, seed: int) -> Expanded | None:
        """The expansion of a text; None when the engine is busy, not there yet, or slow. A run never waits for it."""

    def kill(self) -> None:
        """Ends the engine at once, also one that no longer listens; a run raises ``EngineDied``."""

    def close(self) -> None:
        """Ends the engine for good."""


class LocalEngine:
    """An engine in a process of its own on this machine, started when it is first needed and after each death."""

    def __init__(
        self,
        config: EngineConfig,
        factory: Factory = load_pipeline,
        memory_kills: Callable[[], int | None] = memory_kills,
    ) -> None:
        """memory_kills: how many processes the system has ended so far because memory ran out, if it tells."""
        self._config = config
        self._memory_kills = memory_kills
        self._kills_before: int | None = None
        self._factory = factory
        self._talk = threading.Lock()  # of asking and hearing the answer; taken before the other one
        self._run_is_due = threading.Event()
        self._lock = threading.Lock()  # of the fields below, and of sending
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None
        self._running = ""
        self._closed = False

    @property
    def process_id(self) -> int | None:
        """The process id, None while there is no process."""
        process = self._process
        return None if process is None or not process.is_alive() else process.pid

    def warm_up(self) -> None:
        """Starts the process, which loads its libraries by itself."""
        with self._lock:
            if not self._closed:
                self._ready()

    def run(
        self, request: RunRequest, listener: Callable[[TaskMessage], None], wished: Callable[[], Wish | None]
    ) -> None:
        """See ``Engine``."""
        with self._talking():
            self._run(request, listener, wished)

    def _run(
        self, request: RunRequest, listener: Callable[[TaskMessage], None], wished: Callable[[], Wish | None]
    ) -> None:
        try:
            with self._lock:
                connection = self._ready()
                self._running = request.task_id
                connection.send_bytes(pack_run(request))
            earlier = wished()
            if earlier is not None:
                self.wish(request.task_id, earlier)
            end = self._relay(connection, request.task_id, listener)
        except OSError:
            raise self._obituary() from None
        finally:
            with self._lock:
                self._running = ""
        if end.broken:
            self._end()
        if end.message:
            raise EngineFailed(end.message)

    def _relay(self, connection: Connection, task_id: str, listener: Callable[[TaskMessage], None]) -> Ended:
        """Hands on what the engine says about a task, up to its end."""
        while True:
            try:
                message = unpack_message(connection.recv_bytes())
            except (EOFError, OSError):
                raise self._obituary() from None
            if isinstance(message, Ended):
                return message
            if isinstance(message, Expanded):  # it took too long, and nobody waits for it any more
                continue
            try:
                listener(message)
            except BaseException:
                self._end()  # it would go on talking about a task that nobody listens to
                raise

    def wish(self, task_id: str, wish: Wish) -> None:
        """See ``Engine``."""
        with self._lock:
            connection = self._connection if self._running == task_id else None
        if connection is not None:
            try:
                self._send(connection, pack({"do": wish, "task_id": task_id}))
            except OSError:
                log.info("the engine was gone before it could be told to %s", wish)

    def expand(self, text: str, seed: int) -> Expanded | None:
        """See ``Engine``."""
        if not self._talk.acquire(blocking=False):
            return None
        try:
            request = ExpandRequest(token_hex(8), text, seed)
            with self._lock:
                if self._closed or self._connection is None or self.process_id is None:
                    return None
                connection = self._connection
                connection.send_bytes(pack_expand(request))
            return self._answer(connection, request.id)
        except (EOFError, OSError):
            return None  # the next run will find out, and say so
        finally:
            self._talk.release()

    def _answer(self, connection: Connection, wanted: str) -> Expanded | None:
        """The answer to a request, unless it takes too long or a run is due."""
        end = time.monotonic() + EXPAND_SECONDS
        while time.monotonic() < end and not self._run_is_due.is_set():
            if connection.poll(GLANCE_SECONDS):
                message = unpack_message(connection.recv_bytes())
                if isinstance(message, Expanded) and message.id == wanted:
                    return message
        return None

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """For a run: whoever only looks at something makes way."""
        self._run_is_due.set()
        with self._talk:
            self._run_is_due.clear()
            yield

    def kill(self) -> None:
        """See ``Engine``."""
        process = self._process
        if process is not None and process.is_alive():
            process.kill()

    def close(self) -> None:
        """See ``Engine``; gives the process two seconds to end by itself."""
        with self._lock:
            self._closed = True
            process, connection = self._process, self._connection
            if process is None or connection is None:
                return
        try:
            if not self._running:
                self._send(connection, pack({"do": "exit"}))
                process.join(2)
        except OSError:
            log.debug("the engine had already ended")
        if process.is_alive():
            process.kill()
        process.join(5)

    def _ready(self) -> Connection:
        """The pipe to a living process. The caller holds the lock."""
        if self._closed:
            raise EngineDied("The engine has been closed.")
        if self._process is not None and self._connection is not None and self._process.is_alive():
            return self._connection
        if self._connection is not None:
            self._connection.close()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=main, args=(theirs, self._config, self._factory), daemon=True, name="engine")
        self._kills_before = self._memory_kills()
        process.start()
        theirs.close()  # so that the pipe ends with the process
        self._process, self._connection = process, ours
        return ours

    def _send(self, connection: Connection, frame: bytes) -> None:
        with self._lock:
            connection.send_bytes(frame)

    def _end(self) -> None:
        """Ends a process that is in a doubtful state; the next run starts a new one."""
        self.kill()
        if self._process is not None:
            self._process.join(5)

    def _obituary(self) -> EngineDied:
        """How the process ended."""
        process = self._process
        if process is None:
            return EngineDied("The engine has ended.")
        process.join(5)
        code = process.exitcode
        if code is None:
            self._end()
            return EngineDied("The engine did not answer any more and was ended.")
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else ""
            if name == "SIGTERM" or (name == "SIGKILL" and self._memory_was_enough()):
                return EngineDied("The engine was ended from outside.", from_outside=True)
            return EngineDied(f"The engine was killed (signal {-code}). {SIGNALS.get(name, '')}".strip())
        return EngineDied(f"The engine ended unexpectedly (exit code {code}).")

    def _memory_was_enough(self) -> bool:
        """Whether the system tells that it ended no process for want of memory since this one began."""
        now = self._memory_kills()
        return now is not None and now == self._kills_before
