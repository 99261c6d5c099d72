"""The downloads that somebody has asked for, in this process, for everybody who looks; knows no page and starts none.

Nothing here runs by itself: every request to the network begins with ``look_up`` or ``start``, which are called when a
button is pressed or by ``entry.py download``.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from urllib.parse import urlsplit

from modules.connections import OFFLINE
from modules.disk import free_bytes, in_words
from modules.fetching import Fetch, Offer, Pace, check_model, look_up
from modules.files import ModelLibrary
from modules.https import FetchError, Reach, Stop, Stopped, mirrored
from modules.settings import Settings
from modules.wanted_files import KINDS, SUFFIX, WantedFile, check_plain, is_there, names_in, wanted_files

SPEED_SECONDS = 6.0
TURN_SECONDS = 0.2
LOOK_AGAIN_SECONDS = 5.0  # walking through the model folders can take a while
# What a file is doing. Only these are at work; the others wait for somebody.
AT_WORK = frozenset({"asking", "waiting", "running", "copying"})
OFF = "Downloads are switched off on this machine."


class Meter:
    """How fast something grows, over the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, count: int, now: float) -> None:
        """``count`` so far, at ``now`` seconds. Less than before begins anew."""
        if self._seen and count < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, count))
        while len(self._seen) > 2 and now - self._seen[0][0] > SPEED_SECONDS:
            self._seen.popleft()

    def speed(self, now: float) -> float:
        """Bytes a second; 0 while it cannot be told."""
        if len(self._seen) < 2:
            return 0.0
        (start, first), (_, last) = self._seen[0], self._seen[-1]
        return (last - first) / max(now - start, 1e-3)


@dataclass
class Job:
    """One file, from the first wish to its end. Changed under the lock of ``Downloads`` only."""

    file: WantedFile
    state: str = "missing"
    received: int = 0
    words: str = ""
    offer: Offer = Offer()
    stop: Stop = field(default_factory=Stop)
    meter: Meter = field(default_factory=Meter)


class Downloads:
    """Downloads by file: one file is fetched once at a time, whoever asks for it. Safe to share among threads."""

    def __init__(self, settings: Settings, library: ModelLibrary, reach: Reach | None = None) -> None:
        self.settings = settings
        self.library = library
        self.reach = reach or Reach(
            mirror=settings.hf_mirror, private=settings.private_addresses, offline=settings.offline
        )
        self.pace = Pace()
        self._lock = Lock()
        self._turn = Lock()  # one file after the other: the first is there sooner, and no server is crowded
        self._jobs: dict[str, Job] = {}
        self._threads: list[Thread] = []
        self._elsewhere: tuple[float, dict[str, Path]] = (-LOOK_AGAIN_SECONDS, {})

    @property
    def _off(self) -> str:
        """Why nothing can be fetched, if so."""
        return OFFLINE if self.reach.offline else "" if self.settings.preset_downloads else OFF

    def state(self, preset: str) -> dict[str, Any]:
        """What a page shows: the files of the preset, and those that are being fetched besides, as plain JSON."""
        wanted = wanted_files(preset, self.settings, self.library)
        with self._lock:
            others = [job.file for job in self._jobs.values() if job.state in AT_WORK and job.file not in wanted.files]
        files = [self._seen(file) for file in wanted.files] + [{**self._seen(file), "other": True} for file in others]
        return {
            "preset": wanted.preset,
            "off": self._off,
            "files": files,
            "complaints": list(wanted.complaints),
            "free": min((free_bytes(self._folder(file)) for file in wanted.files), default=None),
        }

    def look_up(self, preset: str) -> None:
        """Asks the servers for the sizes of what is missing; raises ``ValueError``."""
        self._begin(preset, lambda job: job.offer.size is None, "asking", self._ask)

    def start(self, preset: str) -> None:
        """Fetches what is missing and has a size; raises ``ValueError``."""
        self._begin(preset, lambda job: job.offer.size is not None, "waiting", self._fetch)

    def cancel(self, file_id: str = "") -> None:
        """Ends the work at this file, or at all. What has arrived is kept."""
        with self._lock:
            for job in self._jobs.values():
                if job.state in AT_WORK and file_id in ("", job.file.id):
                    job.words = "Stopping …"
                    job.stop.ask()

    def use_own(self, preset: str, file_id: str, path: str) -> None:
        """Puts a file of this machine where a missing one is looked for; with an empty ``path``, its namesake.

        It is linked where the disk allows it, else copied. Raises ``ValueError``.
        """
        files = wanted_files(preset, self.settings, self.library).files
        file = next((each for each in files if each.id == file_id), None)
        if file is None:
            raise FetchError("The preset does not name this file any more.")
        given = path.strip().strip('"')
        try:
            found = Path(given).expanduser() if given else self._namesakes().get(file.name)
        except RuntimeError:  # the home of somebody who is not on this machine
            found = None
        if found is None or not found.is_absolute():
            raise FetchError(f"{path or file.name} is not the whole path of a file.")
        check_plain(file.name)
        if found.suffix.lower() != SUFFIX or not found.is_file():
            raise FetchError(f"{found} is not a {SUFFIX} file on this machine.")
        self._begin(preset, lambda job: job.file == file, "copying", lambda job: self._take(job, found.resolve()))

    def close(self) -> None:
        """Ends all work; what has arrived is kept."""
        self.cancel()
        for thread in list(self._threads):
            thread.join(3)

    def wait(self) -> None:
        """Until nothing is at work."""
        for thread in list(self._threads):
            thread.join()

    def _begin(self, preset: str, fits: Callable[[Job], bool], state: str, work: Callable[[Job], None]) -> None:
        if self._off and state != "copying":
            raise FetchError(self._off)
        wanted = wanted_files(preset, self.settings, self.library)
        begun: list[Job] = []
        with self._lock:
            for file in wanted.files:
                job = self._job(file)
                if job.state in AT_WORK or not (file.url or state == "copying") or not fits(job):
                    continue
                if is_there(self.library, file.kind, file.name):
                    continue
                job.state, job.words, job.stop, job.meter = state, "", Stop(), Meter()
                begun.append(job)
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            if begun:
                thread = Thread(target=self._work, args=(begun, work), name="downloads", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _work(self, jobs: Sequence[Job], work: Callable[[Job], None]) -> None:
        for job in jobs:
            try:
                job.stop.check()
                work(job)
            except Stopped:
                self._set(job, "missing", "")
            except ValueError as error:
                self._set(job, "failed", str(error))
            except OSError as error:
                self._set(job, "failed", f"{job.file.name}: {error.strerror or error}.")

    def _ask(self, job: Job) -> None:
        offer = look_up(job.file.url, Offer(job.file.size, job.file.sha256), self.reach, job.stop)
        with self._lock:
            job.offer, job.state = offer, "missing"

    def _fetch(self, job: Job) -> None:
        while not self._turn.acquire(timeout=TURN_SECONDS):
            job.stop.check()
        try:
            job.stop.check()
            self._set(job, "running", "")

            def tell(received: int, words: str) -> None:
                with self._lock:
                    job.received, job.words = received, words or ("" if not job.words.startswith("Stop") else job.words)
                    job.meter.add(received, time.monotonic())

            self._fetch_of(job).run(job.stop, tell)
        finally:
            self._turn.release()
        self._set(job, "done", "")

    def _take(self, job: Job, source: Path) -> None:
        target = self._folder(job.file) / job.file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        check_model(source, source.name, job.offer.sha256, job.stop)
        try:
            os.link(source, target)
        except FileExistsError:
            raise FetchError(f"{target.name} is there already.") from None
        except OSError:  # another disk, or one that knows no links
            self._copy(job, source, target)
        self._set(job, "done", "")

    def _copy(self, job: Job, source: Path, target: Path) -> None:
        size = source.stat().st_size
        if size > free_bytes(target.parent):
            raise FetchError(f"{target.name} needs {in_words(size)} on the disk of {target.parent}.")
        part = target.with_name(f"{target.name}.copy.part")
        try:
            with source.open("rb") as reading, part.open("wb") as writing:
                while block := reading.read(1 << 20):
                    job.stop.check()
                    writing.write(block)
                os.fsync(writing.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def _fetch_of(self, job: Job) -> Fetch:
        target = self._folder(job.file) / job.file.name
        return Fetch(job.file.url, target, job.offer, self.reach, self.pace)

    def _job(self, file: WantedFile) -> Job:
        """The job of this file; one of another address, left over, gives way. Called under the lock."""
        job = self._jobs.get(file.id)
        if job is None or (job.file != file and job.state not in AT_WORK):
            job = self._jobs[file.id] = Job(file, offer=Offer(file.size, file.sha256))
        return job

    def _seen(self, file: WantedFile) -> dict[str, Any]:
        """A file as the page shows it."""
        there = is_there(self.library, file.kind, file.name)
        with self._lock:
            job = self._job(file)
            state = job.state
            if state not in AT_WORK:
                state = "here" if there else "missing" if state in ("done", "missing") else state
            now = time.monotonic()
            speed = job.meter.speed(now) if state == "running" else 0.0
            received = job.received if state == "running" else 0 if there else self._fetch_of(job).received()
            size, words = job.offer.size, job.words
            known = job.offer.sha256 is not None
        found = None if there or state in AT_WORK else self._namesakes().get(file.name)
        return {
            "id": file.id, "kind": file.kind, "name": file.name, "url": file.url, "state": state, "size": size,
            "host": urlsplit(mirrored(file.url, self.reach.mirror)).hostname or "", "words": words,
            "received": received, "speed": speed, "known": known, "folder": str(self._folder(file)),
            "found": "" if found is None else str(found),
        }  # fmt: skip

    def _folder(self, file: WantedFile) -> Path:
        return self.settings.models.of(file.kind)[0]

    def _namesakes(self) -> dict[str, Path]:
        """The model files of this machine by their bare name, wherever in the model folders they lie."""
        when, found = self._elsewhere
        if time.monotonic() - when > LOOK_AGAIN_SECONDS:
            found = names_in([folder for kind in KINDS for folder in self.settings.models.of(kind)])
            self._elsewhere = (time.monotonic(), found)
        return found

    def _set(self, job: Job, state: str, words: str) -> None:
        with self._lock:
            job.state, job.words = state, words
