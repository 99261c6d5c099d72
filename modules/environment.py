"""The environment Pinhole runs in: what it needs, whether it is here, how to start again inside it; knows no feature.

Every start passes through here before anything else, so it uses only what Python itself has already loaded
(no pathlib, no dataclasses, no importlib.metadata: each costs more than the whole check). What installs is in
`installer.py` and is imported only when there is something to install. Standard library only.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # not even `typing`, which alone would double the cost
    from collections.abc import Iterable, Mapping
    from typing import NoReturn


class SetupError(Exception):
    """The environment cannot be made ready; the message is one sentence that says what to do about it."""


def read_pins(path: str) -> dict[str, str]:
    """Package -> version of every `package==version` line, in order; `-r other.txt` is followed.

    Names are normalised as pip does (lower case, hyphens). Raises SetupError for any other kind of line: an unpinned
    requirement would make today's environment differ from tomorrow's.
    """
    pins: dict[str, str] = {}
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise SetupError(f"{path} cannot be read ({error.strerror}): get a complete copy of Pinhole.") from error
    for number, raw in enumerate(lines, 1):
        line = raw.partition("#")[0].strip()
        if line.startswith("-r "):
            pins.update(read_pins(os.path.join(os.path.dirname(path), line[3:].strip())))
            continue
        name, equals, version = line.partition("==")
        if line and not (equals and name.strip() and version.strip() and not set("[];, *") & set(version.strip())):
            raise SetupError(f"{path}, line {number}: {line!r} is not of the form package==version; correct that line.")
        if line:
            pins[normalised(name)] = version.strip()
    return pins


def normalised(name: str) -> str:
    """A package's name as pip compares it: `Opencv_Python.Headless` is `opencv-python-headless`."""
    return name.strip().lower().replace("_", "-").replace(".", "-")


def missing(pins: Mapping[str, str], folders: Iterable[str], complete: bool = False) -> list[str]:
    """The pinned packages that `folders` (as in sys.path) do not hold in the pinned version, in the pins' order.

    A build suffix satisfies a pin that has none: 2.13.0+cpu is a 2.13.0. With `complete`, a package whose list of
    files (RECORD, which pip writes last) is not there counts as missing: its installation was cut off.
    """
    found: dict[str, str] = {}
    for folder in folders:
        try:
            entries = os.listdir(folder or ".")
        except OSError:
            continue
        for entry in entries:
            stem, extension = os.path.splitext(entry)
            if extension not in (".dist-info", ".egg-info"):
                continue
            name, _, version = stem.partition("-")
            if extension == ".egg-info":
                version = version.partition("-py")[0]
            if complete and not os.path.exists(os.path.join(folder, entry, "RECORD")):
                continue
            found.setdefault(normalised(name), version)
    return [name for name, version in pins.items() if not _satisfies(found.get(name, ""), version)]


def _satisfies(version: str, pin: str) -> bool:
    return version == pin or ("+" not in pin and version.partition("+")[0] == pin)


def venv_python(venv: str) -> str:
    """The path of the Python of the environment `venv`."""
    return os.path.join(venv, "Scripts", "python.exe") if os.name == "nt" else os.path.join(venv, "bin", "python")


def enter(root: str, requirements: str) -> None:
    """Return only when running in an environment that holds every pin of the file `requirements` of the folder `root`.

    The environment of the caller is taken as it is if it satisfies the pins, and nothing is installed into it.
    Otherwise the program starts again inside `root/.venv`, which is made and filled first where it is not ready.
    Raises SetupError.
    """
    pins = read_pins(os.path.join(root, requirements))
    venv = os.path.join(root, ".venv")
    if os.path.realpath(sys.prefix) != os.path.realpath(venv):
        if missing(pins, sys.path):
            _start_inside(venv)
        return
    stamp = os.path.join(venv, f"ready-{requirements}")
    text = _stamp_text(pins)
    if _read(stamp) == text:
        return
    from modules import installer

    with installer.explained(root):
        installer.fill(venv, pins)
        _write(stamp, text)
    restart(sys.executable)  # a fresh start sees what was just installed as any later start will


def _start_inside(venv: str) -> NoReturn:
    for anew in (False, True):
        if anew or not usable(venv):
            from modules import installer

            with installer.explained(os.path.dirname(venv)):
                installer.make(venv, anew)
        try:
            restart(venv_python(venv))
        except OSError:
            continue
    raise SetupError(f"{venv_python(venv)} does not run: delete the folder {venv} and start again.")


def usable(venv: str) -> bool:
    """Whether the environment `venv` looks complete enough to be started; what is missing in it is then installed."""
    return os.path.exists(venv_python(venv)) and os.path.exists(os.path.join(venv, "pyvenv.cfg"))


def restart(python: str) -> NoReturn:
    """Run this program again, from the top, with `python`; does not return. Raises OSError if it cannot be run."""
    sys.stdout.flush()
    sys.stderr.flush()
    command = [python, *sys.orig_argv[1:]]
    if os.name != "nt":
        os.execv(python, command)
    import subprocess  # on Windows, execv would return to the prompt while the program still runs

    child = subprocess.Popen(command)
    while True:
        try:
            code = child.wait()
        except KeyboardInterrupt:  # reaches the child as well, which knows what to do about it
            continue
        if code == 103:  # Windows' launcher in the environment: the Python it was made from is gone
            raise OSError(f"{python} has lost the Python it was made from")
        sys.exit(code)


def _stamp_text(pins: Mapping[str, str]) -> str:
    python = f"python=={sys.version_info[0]}.{sys.version_info[1]}"
    return "\n".join([python, *(f"{name}=={version}" for name, version in pins.items())]) + "\n"


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def _write(path: str, text: str) -> None:
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".new", path)
