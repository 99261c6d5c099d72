"""Names of saved pictures, and writing a file whole or not at all; knows nothing of what is in the file."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from contextlib import suppress
from datetime import datetime
from pathlib import Path

EXTENSIONS = {"png": "png", "jpeg": "jpg", "webp": "webp"}
_TASK_ID = re.compile(r"(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)-([0-9a-f]{12})")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.EXDEV, errno.EACCES)


class OutputError(ValueError):
    """A picture could not be saved; the message is fit for the user's eyes."""


class OutputExists(OutputError):
    """There is already a file of this name. It was left as it is."""


def new_task_id(now: datetime) -> str:
    """A task's name: second of its creation (local time) and 48 random bits, e.g. ``20261122-181907-3f9c2a1b77aa``."""
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(6)}"


def day_folder(outputs: Path, task_id: str) -> Path:
    """``outputs/YYYY-MM-DD`` of the day on which the task was asked for."""
    year, month, day, *_ = _parts(task_id)
    return outputs / f"{year}-{month}-{day}"


def picture_path(folder: Path, task_id: str, index: int, output_format: str) -> Path:
    """Where the picture ``index`` of a task lies. It follows from the task alone: it is found again after a crash."""
    year, month, day, hour, minute, second, token = _parts(task_id)
    name = f"{year}-{month}-{day}_{hour}-{minute}-{second}_{token}_{index + 1:02d}"
    return folder / f"{name}.{EXTENSIONS[output_format]}"


def write_once(path: Path, data: bytes) -> None:
    """Writes a new file so that at any moment, whatever happens, it is there whole or not at all.

    The bytes go to a hidden file beside it, to the disk, and only then get their name. Raises ``OutputExists`` when the
    name is taken, ``OutputError`` when the disk is full or refuses; nothing half-written remains then.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            part.unlink()
        try:
            with part.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _give_name(part, path)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise OutputError(_in_words(error, path, len(data))) from error


def remove_leftovers(folder: Path, task_id: str) -> None:
    """Removes what a process that was killed while writing left of this task's pictures."""
    token = _parts(task_id)[-1]
    with suppress(OSError):
        for part in folder.glob(f".*_{token}_*.part"):
            part.unlink(missing_ok=True)


def _parts(task_id: str) -> tuple[str, ...]:
    match = _TASK_ID.fullmatch(task_id)
    if match is None:
        raise ValueError(f"{task_id!r} is not a task id")
    return match.groups()


def _give_name(part: Path, path: Path) -> None:
    """Moves ``part`` to ``path``, or raises ``OutputExists``. A hard link does both in one step."""
    try:
        os.link(part, path)
    except OSError as error:
        if path.exists():
            raise OutputExists(f"There is already a file {path}: it was not overwritten.") from None
        if error.errno not in _NO_LINKS:
            raise
        # A file system without hard links (FAT, some network disks). Two writers of one name are ruled out by the
        # random part of it, so that looking first is enough.
        part.rename(path)


def _sync_folder(folder: Path) -> None:
    """Makes the new name itself durable; where folders cannot be opened (Windows) the system does it by itself."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _in_words(error: OSError, path: Path, size: int) -> str:
    if error.errno in _FULL:
        free = ""
        with suppress(OSError):
            free = f" ({shutil.disk_usage(path.parent).free / 1e6:.1f} MB are free, {size / 1e6:.1f} MB are needed)"
        return f"The disk is full: {path.name} could not be saved in {path.parent}{free}. Free some space."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path.name} could not be saved: writing to {path.parent} is not allowed. Allow it."
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"{path.name} could not be saved: {path.parent} is not a folder. Rename what is there."
    return f"{path.name} could not be saved in {path.parent}: {error.strerror or error}."
