"""Makes `.venv` and installs the pins into it, with a line to follow and a sentence for what fails; knows no feature.

Imported only when something is missing. Everything here can be cut off at any point and begun again: a pin that is
complete is not touched, one that was cut off is installed anew. Standard library only.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

from modules.environment import SetupError, missing, usable
from modules.locks import Alive

HEARTBEAT = 30.0  # seconds between signs of life where the line cannot be rewritten
NO_VENV = (
    "This Python cannot make an environment (its module {module} is missing): install it (on Debian and Ubuntu: "
    "apt install python3-venv; elsewhere: Python's own installer) and start again."
)
DISK_FULL = (
    "The disk is full ({free}): free some space (Pinhole's environment takes about 2 GB, with an NVIDIA card about 8) "
    "and start again; what is installed so far is kept."
)
NOT_WRITABLE = (
    "{folder} cannot be written to: move Pinhole to a folder of your own, or make it writable, and start again."
)
# What pip says -> what to tell. The first that matches counts: a missing network also ends in "no matching version".
FAILURES: tuple[tuple[str, str], ...] = (
    (r"No space left on device|Disk quota exceeded|not enough space on the disk|\[Errno 28\]|\[Errno 122\]", DISK_FULL),
    (r"Permission denied|Read-only file system|Access is denied", NOT_WRITABLE),
    (
        r"[Cc]onnection broken|NewConnectionError|NameResolutionError|Max retries exceeded|ReadTimeoutError|ProxyError"
        r"|CERTIFICATE_VERIFY_FAILED|Network is unreachable|IncompleteRead|IncompleteDownload|Read timed out",
        "No connection to the package index: connect this computer to the network (or check pip's proxy and index "
        "settings) and start again; what is installed so far is kept.",
    ),
    (
        r"\(from versions: none\)",
        "No copy of {pin} could be found: connect this computer to the network (or check pip's index settings), make "
        "sure that this is a 64-bit Python that {pin} exists for, and start again.",
    ),
    (
        r"\(from versions: ",
        "{pin} does not exist for Python {python} on this computer: start with another Python (3.11 always fits), or "
        "check pip's index settings.",
    ),
    (r"No module named '?(pip|ensurepip)", "pip is not complete: delete the folder {venv} and start again."),
)
_STEP = re.compile(
    r"^\s*(Collecting|Downloading|Using cached|Building wheel|Preparing metadata|Installing collected packages:)\s*(.*)"
)
_RAW_PROGRESS = re.compile(r"^Progress (\d+) of (\d+)$")


class Progress:
    """Tells how far the installation is: one rewritten line on a terminal, a plain line per package elsewhere."""

    def __init__(self, stream: IO[str], total: int) -> None:
        self._stream, self._total = stream, total
        self._live = stream.isatty()
        self._start = self._spoke = time.monotonic()
        self._width = 0
        self._title = ""
        self._detail = ""

    def begin(self, number: int, title: str) -> None:
        """Go on to item `number` of the total; 0 for what comes before the first."""
        self._title, self._detail = f"[{number}/{self._total}] {title}" if number else title, ""
        self._write() if self._live else self._say()

    def detail(self, text: str) -> None:
        """What is happening to the item."""
        self._detail = text

    def tick(self) -> None:
        """Show the time going by; to be called about twice a second."""
        if self._live:
            self._write()
        elif time.monotonic() - self._spoke >= HEARTBEAT:
            self._say()

    def end(self) -> None:
        """Leave the line, so that what follows starts on its own."""
        if self._live and self._width:
            self._stream.write("\n")
            self._stream.flush()
            self._width = 0

    def _text(self) -> str:
        elapsed = int(time.monotonic() - self._start)
        parts = [f"{elapsed // 60}:{elapsed % 60:02d}", self._title, self._detail]
        return "  ".join(part for part in parts if part)

    def _write(self) -> None:
        text = self._text()[: max(20, shutil.get_terminal_size().columns - 1)]
        self._stream.write("\r" + text.ljust(self._width))
        self._stream.flush()
        self._width = len(text)

    def _say(self) -> None:
        self._spoke = time.monotonic()
        self._stream.write(self._text() + "\n")
        self._stream.flush()


@contextmanager
def explained(root: str) -> Iterator[None]:
    """Turn what can go wrong with the file system under `root` into a SetupError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SetupError(DISK_FULL.format(free=_free(root))) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise SetupError(NOT_WRITABLE.format(folder=error.filename or root)) from error
        raise SetupError(f"The environment cannot be made: {error}. Put that right and start again.") from error


def make(venv: str, anew: bool = False) -> None:
    """Make the environment `venv`, still without pip; `anew`: even if it looks usable. Raises SetupError, OSError."""
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            raise SetupError(NO_VENV.format(module=module))
    if os.path.lexists(venv) and not _replaceable(venv):
        raise SetupError(f"{venv} is in the way (it is not a Python environment): rename or remove it and start again.")
    from venv import EnvBuilder

    with _alone(venv, Progress(sys.stderr, 0)):
        if anew or not usable(venv):
            EnvBuilder(clear=True, symlinks=os.name != "nt").create(venv)


def fill(venv: str, pins: Mapping[str, str]) -> None:
    """Install every one of `pins` that the environment `venv`, in which this runs, does not hold. Raises SetupError.

    One at a time and in order, so that torch comes first, by its own pin; the others constrain what each one brings.
    """
    site = sysconfig.get_path("purelib")
    progress = Progress(sys.stderr, len(pins))
    with _alone(venv, progress):
        _forget_cut_off(site)
        wanted = missing(pins, [site], complete=True)
        if not wanted:
            return
        count = f"{len(wanted)} of {len(pins)} packages"
        sys.stderr.write(f"Installing {count} into {venv} (once; it can be stopped and carries on).\n")
        if not _pip_version(site):
            progress.begin(0, "preparing pip")
            _install("pip", [sys.executable, "-m", "ensurepip", "--default-pip"], venv, progress)
        counting = ["--progress-bar", "raw" if _pip_version(site) >= (24, 1) else "off"]
        command = [sys.executable, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", *counting]
        for number, (name, version) in enumerate(pins.items(), 1):
            if name in wanted:
                progress.begin(number, f"{name} {version}")
                others = _constraints(venv, pins, name)
                _install(f"{name}=={version}", [*command, "-c", others, f"{name}=={version}"], venv, progress)
        absent = missing(pins, [site], complete=True)
        if absent:
            raise SetupError(f"pip did not install {', '.join(absent)} as asked: delete {venv} and start again.")
        progress.end()
        sys.stderr.write("The environment is ready.\n")


def _constraints(venv: str, pins: Mapping[str, str], name: str) -> str:
    """A file with all pins but that of `name`: what it brings along comes as pinned, or not at all."""
    path = os.path.join(venv, "constraints.txt")
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{other}=={version}\n" for other, version in pins.items() if other != name)
    return path


def _install(pin: str, command: Sequence[str], venv: str, progress: Progress) -> None:
    code, lines = _run(command, progress)
    if code:
        log = os.path.join(venv, "install.log")
        with suppress(OSError), open(log, "w", encoding="utf-8") as file:  # on a full disk, the sentence must do
            file.write("\n".join(lines) + "\n")
        raise SetupError(_explain(lines, pin, venv, log))


def _pip_version(site: str) -> tuple[int, ...]:
    """The version of the pip in `site`, () where there is none."""
    for entry in os.listdir(site):
        if entry.startswith("pip-") and entry.endswith(".dist-info"):
            return tuple(int(part) for part in re.findall(r"\d+", entry)[:2])
    return ()


def _replaceable(venv: str) -> bool:
    """Whether `venv` is an environment (of any state) or holds nothing: only then may it be emptied."""
    if os.path.islink(venv) or not os.path.isdir(venv):
        return False
    return os.path.exists(os.path.join(venv, "pyvenv.cfg")) or not any(files for _, _, files in os.walk(venv))


def _forget_cut_off(site: str) -> None:
    """Remove the notes of packages whose installation was cut off: pip would take them for installed."""
    for entry in os.listdir(site):
        folder = os.path.join(site, entry)
        if entry.endswith(".dist-info") and not os.path.exists(os.path.join(folder, "RECORD")):
            shutil.rmtree(folder)


def _run(command: Sequence[str], progress: Progress) -> tuple[int, list[str]]:
    """Run `command`, showing what it does; its exit code and its last lines. It does not outlive this call."""
    environment = {**os.environ, "PIP_USER": "0", "PYTHONUNBUFFERED": "1"}  # into .venv, whatever pip's habits here are
    last: deque[str] = deque(maxlen=200)
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    with _terminable(), subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
        text=True, encoding="utf-8", errors="replace",
    ) as child:  # fmt: skip
        reader = threading.Thread(target=_read_lines, args=(child, lines), daemon=True)
        reader.start()
        try:
            while (line := _next(lines, progress)) is not None:
                _show(line, progress)
                if not _RAW_PROGRESS.match(line):
                    last.append(line)
        finally:
            if sys.exc_info()[0] is not None:
                progress.end()
                child.terminate()
            reader.join()
        return child.wait(), list(last)


def _next(lines: queue.SimpleQueue[str | None], progress: Progress) -> str | None:
    """The next line, None after the last one; shows the time going by while there is none."""
    while True:
        try:
            return lines.get(timeout=0.5)
        except queue.Empty:
            progress.tick()


def _read_lines(child: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
    for line in child.stdout or ():
        lines.put(line.rstrip())
    lines.put(None)


def _show(line: str, progress: Progress) -> None:
    counted, step = _RAW_PROGRESS.match(line), _STEP.match(line)
    if counted and int(counted[2]):
        progress.detail(f"{int(counted[1]) / 1e6:.0f} of {int(counted[2]) / 1e6:.0f} MB")
    elif "Retrying (" in line:
        progress.detail("waiting for the network")
    elif step:
        what = "installing" if step[1].startswith("Installing") else step[1].lower()
        progress.detail(f"{what} {_short(step[2])}")
    else:
        return
    progress.tick()


def _short(text: str) -> str:
    """What pip is at, in a few words: no paths and addresses, of a list its length."""
    names = text.split(", ")
    if len(names) > 3:
        return f"{len(names)} packages"
    return ", ".join(name.split("/")[-1].split(" (from ")[0] for name in names)


def _explain(lines: Sequence[str], pin: str, venv: str, log: str) -> str:
    """One sentence for a command that failed with `lines` while it was at `pin`."""
    text = "\n".join(lines)
    for pattern, sentence in FAILURES:
        if re.search(pattern, text):
            python = f"{sys.version_info[0]}.{sys.version_info[1]}"
            return sentence.format(pin=pin, python=python, folder=os.path.dirname(venv), free=_free(venv), venv=venv)
    said = next((line for line in reversed(lines) if "ERROR" in line or "Error" in line), lines[-1] if lines else "")
    return f"{pin} could not be installed (pip said: {said.strip()[:200]!r}; more in {log}): start again to retry."


def _free(folder: str) -> str:
    """How much room is left where things are written, for people."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    places = {folder, tempfile.gettempdir()}
    return ", ".join(f"{shutil.disk_usage(place).free / 1e9:.1f} GB left in {place}" for place in sorted(places))


@contextmanager
def _terminable() -> Iterator[None]:
    """Make a polite request to end (SIGTERM) unwind as Ctrl+C does, so that no pip is left behind."""

    def unwind(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _alone(venv: str, progress: Progress) -> Iterator[None]:
    """Of two starts at the same time, one installs and the other waits."""
    sign = _sign(venv)
    if not sign:
        progress.begin(0, "waiting for another start that is installing")
    while not sign:
        time.sleep(0.5)
        progress.tick()
        sign = _sign(venv)
    try:
        yield
    finally:
        progress.end()
        sign.close()


def _sign(venv: str) -> Alive | None:
    """The sign that this process is at work on `venv`; None while another one is."""
    try:
        return Alive(Path(venv).parent, os.path.basename(venv))
    except OSError as error:
        if error.errno is not None:  # not taken, but impossible
            raise
        return None
