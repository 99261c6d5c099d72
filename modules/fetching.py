"""One model file from an address to its place: resumed, counted, checked; knows neither presets nor page.

Until the file is whole, ``NAME.part`` lies in its place, and ``NAME.part.json`` with what the server said of it: in the
same folder, because only there is giving it its final name one step for certain.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from io import FileIO
from pathlib import Path
from typing import Any

from modules.disk import free_bytes, in_words
from modules.files import ModelFileError, read_header
from modules.https import Answer, FetchError, Interrupted, Reach, Stop, ask
from modules.locks import Alive, is_alive

BLOCK = 1 << 20
RESERVE_BYTES = 200_000_000  # left free on the disk: the system and the pictures need some, too
MOST_BYTES = 200_000_000_000
TRIES = 5  # in a row without progress
PROGRESS_BYTES = 200_000  # less than that between two breaks is none
LONGEST_WAIT_SECONDS = 120.0
TELL_SECONDS = 0.25
_SHA256 = re.compile(r"[0-9a-f]{64}")
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")

Tell = Callable[[int, str], None]
"""Hears how many bytes are there, and a sentence while something else than reading goes on (else empty)."""


@dataclass(frozen=True)
class Offer:
    """What is known of a file before it is there: its length in bytes, its sha256 (hex), the server's mark of it."""

    size: int | None = None
    sha256: str | None = None
    mark: str | None = None


@dataclass(frozen=True)
class Pace:
    """How long is waited before trying again: ``first`` seconds, doubled every time."""

    first: float = 1.0

    def before(self, failures: int) -> float:
        """Seconds before the next try."""
        return min(self.first * 2.0 ** (failures - 1), 30.0)


def look_up(url: str, wanted: Offer, reach: Reach, stop: Stop) -> Offer:
    """What the server says of the file, without taking it; raises ``FetchError``, and ``Stopped``.

    The first byte is asked for, and not read: storage servers that sign addresses answer no HEAD.
    """
    try:
        with ask(url, {"Range": "bytes=0-0"}, reach, stop, f"size of {_file_name(url)}") as answer:
            if answer.status not in (200, 206):
                raise _refusal(answer)
            return _agreed(wanted, _offered(answer))
    except Interrupted as error:
        raise FetchError(f"{_as_sentence(error)}.") from None


@dataclass(frozen=True)
class Fetch:
    """A file to be fetched from ``url`` to ``target``. ``wanted`` is what was known, and shown, before."""

    url: str
    target: Path
    wanted: Offer
    reach: Reach = Reach()
    pace: Pace = Pace()

    @property
    def part(self) -> Path:
        """Where the bytes gather."""
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def record(self) -> Path:
        """Where it stands what the bytes are a part of."""
        return self.target.with_name(f"{self.target.name}.part.json")

    def received(self) -> int:
        """How many bytes are there already, from before."""
        try:
            return self.part.stat().st_size if self.record.exists() else 0
        except OSError:
            return 0

    def discard(self) -> None:
        """Takes away what is there of the file."""
        self.part.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)

    def run(self, stop: Stop, tell: Tell) -> Offer:
        """Fetches, checks and names the file; returns what it is. Raises ``FetchError`` and ``Stopped``.

        The final name is given to nothing but a whole file: of the stated length, of the stated sha256 where there is
        one, with the header of a safetensors file. What is there of it stays for the next time, unless it is wrong.
        """
        with _disk_errors(self.target), _alone(self.target):
            if self.target.exists():
                raise FetchError(f"{self.target.name} is there already.")
            offer, resumed = self._whole_part(stop, tell)
            try:
                self._check(offer, stop, tell)
            except ModelFileError:
                if not resumed:
                    raise
                # Perhaps two halves that do not fit: once more, from the start.
                offer, _ = self._whole_part(stop, tell)
                self._check(offer, stop, tell)
            if self.target.exists():
                raise FetchError(f"{self.target.name} has appeared in the meantime.")
            self.part.replace(self.target)
            self.record.unlink(missing_ok=True)
            return offer

    def _whole_part(self, stop: Stop, tell: Tell) -> tuple[Offer, bool]:
        """Reads until the part has its whole length, however often the connection breaks; and whether it did."""
        begun = self.received()
        resumed, failures = begun > 0, 0
        while True:
            before = self.received()
            try:
                return self._attempt(stop, tell), resumed
            except Interrupted as error:
                stop.check()
                after = self.received()
                failures = 1 if after - before >= PROGRESS_BYTES else failures + 1
                resumed = resumed or after > 0
                self._wait(error, failures, stop, tell)

    def _wait(self, error: Interrupted, failures: int, stop: Stop, tell: Tell) -> None:
        words = _as_sentence(error)
        wait = self.pace.before(failures) if error.wait is None else error.wait
        if failures >= TRIES or wait > LONGEST_WAIT_SECONDS:
            later = f" The server asks to wait {wait:.0f} seconds." if wait > LONGEST_WAIT_SECONDS else ""
            if not self.received():
                self.discard()
            kept = " What has arrived is kept, and goes on from there." if self.received() else ""
            raise FetchError(f"{words}.{later}{kept}")
        tell(self.received(), f"{words}. Trying again in {max(1, round(wait))} s …")
        stop.wait(wait)

    def _attempt(self, stop: Stop, tell: Tell) -> Offer:
        """One connection: reads what is missing. Raises ``Interrupted`` when it ends too early."""
        known = self._known()
        begin = self.received() if known is not None else 0
        if known is None or (known.size is not None and begin > known.size):
            self.discard()
            begin, known = 0, None
        if known is not None and begin == known.size:
            return known
        headers: dict[str, str] = {}
        if known is not None and begin:
            headers["Range"] = f"bytes={begin}-"
            if known.mark:
                headers["If-Range"] = known.mark
        tell(begin, "Connecting …")
        with ask(self.url, headers, self.reach, stop, f"download of {self.target.name}") as answer:
            if answer.status not in (200, 206, 416):
                raise _refusal(answer)
            with _disk_errors(self.target):
                if answer.status == 416:
                    self.discard()
                    raise Interrupted("the file on the server has changed")
                offer = _agreed(self.wanted, _offered(answer))
                if answer.status == 206 and not self._continues(answer, offer, known, begin):
                    self.discard()
                    raise Interrupted("the file on the server has changed")
                if answer.status == 200:
                    self.discard()
                    begin = 0
                self._room_for(offer, begin)
                self.record.write_text(json.dumps({"url": self.url, **asdict(offer)}), encoding="utf-8")
                # Not buffered: what the disk refuses must be known when it is written, not when the file is closed.
                part = self.part.open("ab", buffering=0)
            with part:
                self._receive(answer, part, offer, begin, stop, tell)
        return offer

    def _known(self) -> Offer | None:
        """What the part that is there was a part of, if going on with it can be right."""
        try:
            values: dict[str, Any] = json.loads(self.record.read_text(encoding="utf-8"))
            known = Offer(values["size"], values["sha256"], values["mark"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        sure = known.mark or known.sha256
        fits = self.wanted.size in (None, known.size) and self.wanted.sha256 in (None, known.sha256)
        return known if sure and fits and isinstance(known.size, int) else None

    def _continues(self, answer: Answer, offer: Offer, known: Offer | None, begin: int) -> bool:
        """Whether a partial answer is the rest of the very file of which the beginning is here."""
        stated = _RANGE.fullmatch(answer.headers.get("content-range", ""))
        if stated is None or known is None or int(stated[1]) != begin:
            return False
        return offer.size == known.size and offer.mark in (None, known.mark) and offer.sha256 in (None, known.sha256)

    def _room_for(self, offer: Offer, begin: int) -> None:
        missing, free = (offer.size or 0) - begin, free_bytes(self.target.parent)
        if missing + RESERVE_BYTES > free:
            raise FetchError(
                f"{self.target.name} needs {in_words(missing)} more on the disk of {self.target.parent}, "
                f"and {in_words(free)} are free there, of which {in_words(RESERVE_BYTES)} are left free."
            )

    def _receive(self, answer: Answer, part: FileIO, offer: Offer, begin: int, stop: Stop, tell: Tell) -> None:
        received, told, size = begin, 0.0, offer.size or 0
        while received < size and (block := answer.body.read1(min(BLOCK, size - received))):
            stop.check()
            received += len(block)
            with _disk_errors(self.target):
                _write(part, block)
            if (now := time.monotonic()) - told > TELL_SECONDS:
                told = now
                tell(received, "")
        stop.check()
        if received < size:
            raise Interrupted(f"the connection ended after {in_words(received)} of {in_words(size)}")
        with _disk_errors(self.target):
            os.fsync(part.fileno())
        tell(received, "")

    def _check(self, offer: Offer, stop: Stop, tell: Tell) -> None:
        """Refuses with ``ModelFileError``, and takes away, what is not the file that was offered."""
        tell(offer.size or 0, "Checking …")
        try:
            check_model(self.part, self.target.name, offer.sha256, stop)
        except ModelFileError:
            self.discard()
            raise


def _write(file: FileIO, block: bytes) -> None:
    """Writes all of a block; a disk that is nearly full takes its beginning only, and refuses the rest."""
    rest = memoryview(block)
    while rest:
        rest = rest[file.write(rest) :]


def _file_name(url: str) -> str:
    """The last part of an address, without what follows a question mark."""
    return url.partition("?")[0].rpartition("/")[2][:200]


def _as_sentence(error: Interrupted) -> str:
    words = str(error)
    return words[:1].upper() + words[1:]


def _offered(answer: Answer) -> Offer:
    """What an answer says of the file: its whole length, and how it is told from others."""
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        raise FetchError(f"{answer.host} sends a packed file, whose length says nothing.")
    stated = _RANGE.fullmatch(answer.headers.get("content-range", "")) if answer.status == 206 else None
    length = stated[3] if stated else answer.headers.get("content-length", "") if answer.status == 200 else ""
    linked = answer.linked.get("x-linked-size", length)
    if not length.isdecimal() or not linked.isdecimal():
        raise FetchError(f"{answer.host} does not say how large the file is.")
    if int(length) != int(linked):
        raise FetchError(f"{answer.host} sends {int(length)} bytes of a file that is said to have {int(linked)}.")
    mark = answer.headers.get("etag", "").strip()
    return Offer(int(length), _sha256_of(answer), mark if mark.startswith('"') else None)


def _sha256_of(answer: Answer) -> str | None:
    """The sha256 that the Hub states of large files: in ``X-Linked-ETag`` where it redirects, else in ``ETag``."""
    marks = [answer.linked.get("x-linked-etag", "")]
    if "x-repo-commit" in answer.headers:  # others may put anything of this length there
        marks.append(answer.headers.get("etag", ""))
    found = (mark.removeprefix("W/").strip('"').lower() for mark in marks)
    return next(filter(_SHA256.fullmatch, found), None)


def _agreed(wanted: Offer, offered: Offer) -> Offer:
    """What is offered, if it is what was wanted; raises ``FetchError``."""
    size = offered.size or 0
    if size > MOST_BYTES:
        raise FetchError(f"The file has {in_words(size)}: no model is larger than {in_words(MOST_BYTES)}.")
    if wanted.size not in (None, size):
        raise FetchError(f"The server offers {size} bytes, and {wanted.size} were expected: it is another file now.")
    if wanted.sha256 and offered.sha256 and wanted.sha256 != offered.sha256:
        raise FetchError(
            f"The server offers the file of sha256 {offered.sha256[:10]}, and {wanted.sha256[:10]} was expected: "
            "it is another file now."
        )
    return replace(offered, sha256=wanted.sha256 or offered.sha256)


def _refusal(answer: Answer) -> FetchError | Interrupted:
    """What a status that brings no file means; a busy or broken server may be asked again."""
    status, host = answer.status, answer.host
    if status in (401, 403):
        return FetchError(f"{host} gives the file only to who has signed in there ({status}).")
    if status in (404, 410):
        return FetchError(f"{host} does not have the file any more ({status}).")
    if status == 429:
        return Interrupted(f"the server {host} is asked too often (429)", _retry_after(answer.headers))
    if status in (408, 425) or status >= 500:
        return Interrupted(f"the server {host} has trouble of its own ({status})", _retry_after(answer.headers))
    return FetchError(f"{host} does not give the file ({status}).")


def _retry_after(headers: Message) -> float | None:
    """The seconds that ``Retry-After`` asks for, which may be a number or a date."""
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return min(float(text), 1e9)
    with suppress(ValueError, TypeError, OverflowError):
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    return None


@contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FetchError(f"{target} cannot be written: {error.strerror or error}.") from None


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """While inside, no other Pinhole fetches this file."""
    name = f"{target.name}.part"
    if is_alive(target.parent, name):
        raise FetchError(f"{target.name} is being fetched by another Pinhole.")
    sign = Alive(target.parent, name)
    try:
        yield
    finally:
        sign.close()


def check_model(path: Path, name: str, sha256: str | None, stop: Stop) -> None:
    """Refuses with ``ModelFileError`` what is no whole safetensors file, or not the one of this sha256 (hex)."""
    try:
        read_header(path)
    except ModelFileError as error:
        raise ModelFileError(str(error).replace(path.name, name)) from None
    if sha256 is None:
        return
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            stop.check()
            digest.update(block)
    if digest.hexdigest() != sha256:
        raise ModelFileError(
            f"{name} is not the file it should be: its sha256 begins with {digest.hexdigest()[:10]}, "
            f"expected is {sha256[:10]}. It is not kept."
        )
