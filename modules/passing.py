"""A start of which nothing is kept: pictures, queue and history in a folder that is removed at its end.

Knows neither the page nor the queue. What the owner has made on purpose, presets and styles, stays where it is.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from modules.locks import Alive, is_alive
from modules.settings import Settings, SettingsError

PREFIX = "pinhole-passing-"
NOTE = "Nothing of this start is kept: its pictures, queue and history are removed when it ends."


@contextmanager
def passing(settings: Settings) -> Iterator[Settings]:
    """The settings as they are, or where nothing is to be kept with folders that are there until the end only.

    What an earlier start could not remove, because it was killed, is removed first. Raises ``SettingsError``.
    """
    if settings.keep:
        yield settings
        return
    base = settings.temp or Path(tempfile.gettempdir())
    try:
        base.mkdir(parents=True, exist_ok=True)
        _remove_left(base)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        alive = Alive(folder, "alive")
    except OSError as error:
        raise SettingsError(f"temp_path: {base} cannot be used: {error.strerror or error}.") from None
    try:
        yield replace(settings, outputs=folder / "outputs", passing=folder, notes=(*settings.notes, NOTE))
    finally:
        alive.close()
        shutil.rmtree(folder, ignore_errors=True)


def _remove_left(base: Path) -> None:
    for folder in base.glob(f"{PREFIX}*"):
        if folder.is_dir() and not folder.is_symlink() and not is_alive(folder, "alive"):
            shutil.rmtree(folder, ignore_errors=True)
