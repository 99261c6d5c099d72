"""The user's own presets: saved, renamed, removed, and which one the page starts with; knows no page.

What is replaced or removed goes to the folder ``removed`` beside them, and the presets that come along are never
written: an own one of the same name stands in for it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any

from modules.controls import check_file_name, is_portable, shown
from modules.outputs import OutputError, OutputExists, write_once
from modules.presets import (
    INITIAL_PRESET,
    MINI_PRESET,
    PREVIOUS_MODELS,
    PresetError,
    chosen_start,
    names_in,
    preset_names,
    read_preset,
    start_file,
    strange_keys,
)
from modules.settings import Settings
from modules.wanted_files import DOWNLOAD_KEYS, used_files

MAX_NAME = 60
MAX_NAME_BYTES = 200  # as UTF-8, where file systems allow 255 for a name with all its endings


class PresetExists(PresetError):
    """There is an own preset of this name, and nobody has said that it may be replaced."""


def checked_name(name: object) -> str:
    """``name`` as it is written to the disk, if it can be a preset's; else ``PresetError`` in words."""
    text = unicodedata.normalize("NFC", name).strip() if isinstance(name, str) else ""
    if not text:
        raise PresetError("Please give the preset a name.")
    if len(text) > MAX_NAME or len(text.encode(errors="replace")) > MAX_NAME_BYTES:
        raise PresetError(f"The name {shown(text)} is too long: {MAX_NAME} characters is the most.")
    try:
        check_file_name(text)
        plain = is_portable(text)
    except ValueError:
        plain = False
    if not plain:
        raise PresetError(f"{shown(text)} cannot be the name of a file: please choose another name.")
    if text.casefold() in (INITIAL_PRESET, MINI_PRESET):
        raise PresetError(f"The name {text} has a meaning here already: please choose another name.")
    return text


class OwnPresets:
    """The folder of the user's presets. Safe to share among threads; of two processes, neither loses a file."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.preset_folders[1]
        self._lock = Lock()

    def names(self) -> list[str]:
        """The user's own, sorted."""
        return names_in(self.folder)

    def save(self, name: object, values: Mapping[str, Any], replace: bool = False) -> str:
        """Writes a preset and returns its name; raises ``PresetExists``, or ``PresetError`` in words.

        Added to ``values`` is where its files can be had, as far as any preset says so, and whatever a file that is
        replaced holds besides.
        """
        with self._lock:
            name = self._spelled(checked_name(name))
            before = self._before(name)
            if before is not None and not replace:
                raise PresetExists(f"There is a preset {name} already.")
            text = json.dumps({**(before or {}), **values, **self._sources(values)}, ensure_ascii=False, indent=4)
            self._write(self.folder / f"{name}.json", f"{text}\n".encode(), replace)
        return name

    def rename(self, old: str, new: object) -> str:
        """Gives an own preset another name and returns it; raises ``PresetError`` in words."""
        with self._lock:
            self._check_own(old)
            name = checked_name(new)
            taken = {each.casefold() for each in preset_names(self.settings.preset_folders) if each != old}
            if name.casefold() in taken:
                raise PresetError(f"There is a preset {name} already: please choose another name.")
            was_start = chosen_start(self.settings) == old
            if name != old:
                try:
                    (self.folder / f"{old}.json").rename(self.folder / f"{name}.json")
                except OSError as error:
                    raise PresetError(f"The preset {old} cannot be renamed: {error.strerror or error}.") from None
            if was_start:
                self._keep_start(name)
        return name

    def remove(self, name: str) -> None:
        """Moves an own preset to ``removed``; raises ``PresetError`` in words."""
        with self._lock:
            self._check_own(name)
            try:
                (self.folder / f"{name}.json").rename(self._grave(name))
            except OSError as error:
                raise PresetError(f"The preset {name} cannot be removed: {error.strerror or error}.") from None

    def start_with(self, name: str) -> None:
        """The page starts with this preset from now on; with none, as it was left. Raises ``PresetError`` in words."""
        with self._lock:
            if name and name not in preset_names(self.settings.preset_folders)[1:]:
                raise PresetError(f"There is no preset {shown(name)} any more.")
            self._keep_start(name)

    def _spelled(self, name: str) -> str:
        """``name`` as it is there already, where it differs only in capitals: some systems cannot hold both."""
        there = [*self.names(), *preset_names(self.settings.preset_folders)[1:]]
        return next((each for each in there if each.casefold() == name.casefold()), name)

    def _before(self, name: str) -> dict[str, Any] | None:
        """What an own preset of this name holds that is not ours; None where there is none."""
        if name not in self.names():
            return None
        try:
            values = read_preset((self.folder,), name)
        except PresetError:  # what cannot be read is kept as a file, in ``removed``
            return {}
        return {key: values[key] for key in strange_keys(values)}

    def _sources(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Where the files that these keys name can be had, and which earlier versions would do for the model."""
        found: dict[str, Any] = {}
        used = set(used_files(values))
        for name in preset_names(self.settings.preset_folders)[1:]:
            try:
                other = read_preset(self.settings.preset_folders, name)
            except PresetError:
                continue
            for key, kind in DOWNLOAD_KEYS.items():
                links = other.get(key)
                for file, link in links.items() if isinstance(links, dict) else ():
                    if (kind, file) in used:
                        found.setdefault(key, {}).setdefault(file, link)
            if other.get("default_model") == values.get("default_model") and other.get(PREVIOUS_MODELS):
                found.setdefault(PREVIOUS_MODELS, other[PREVIOUS_MODELS])
        return found

    def _write(self, path: Path, data: bytes, replace: bool) -> None:
        """Writes the file whole or not at all; what it replaces is kept."""
        try:
            if not (replace and path.exists()):
                write_once(path, data)
                return
            fresh = path.with_name(f".{secrets.token_hex(8)}.new")
            write_once(fresh, data)
            try:
                shutil.copyfile(path, self._grave(path.stem))
                os.replace(fresh, path)
            finally:
                fresh.unlink(missing_ok=True)
        except OutputExists:
            raise PresetExists(f"There is a preset {path.stem} already.") from None
        except OutputError as error:
            raise PresetError(str(error)) from None
        except OSError as error:
            raise PresetError(f"The preset {path.stem} cannot be saved: {error.strerror or error}.") from None

    def _grave(self, name: str) -> Path:
        """A new name in ``removed``; raises ``OSError``."""
        folder = self.folder / "removed"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name} {datetime.now():%Y-%m-%d %H-%M-%S} {secrets.token_hex(2)}.json"

    def _check_own(self, name: str) -> None:
        if name not in self.names():
            raise PresetError(f"{shown(name)} is not one of your presets.")

    def _keep_start(self, name: str) -> None:
        path = start_file(self.settings)
        fresh = path.with_name(f".{secrets.token_hex(8)}.new")
        try:
            write_once(fresh, json.dumps({"preset": name}, ensure_ascii=False).encode())
            os.replace(fresh, path)
        except (OutputError, OSError) as error:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise PresetError(f"The choice cannot be kept: {error}") from None
