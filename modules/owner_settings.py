"""The settings of a machine as its owner sees and changes them; writes config.txt and knows no page.

A change takes effect at the next start: what runs has read its settings once. Keys that are no settings here belong to
other programs, or to another version, and stay as they are.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import reduce
from pathlib import Path
from typing import Any, Literal

from ldm_patched.modules.memory import AUTOMATIC
from modules.settings import FLAG, SWITCH_KEYS, Settings, SettingsError, built_in_settings, checked_setting, field_of

Kind = Literal["folder", "folders", "switch", "text", "fixed"]
MAX_CHARACTERS = 4000


@dataclass(frozen=True)
class Row:
    """A setting in the list. ``key`` is its name in config.txt; ``hint`` says what it means, or how it is changed."""

    key: str
    label: str
    kind: Kind
    hint: str = ""


ROWS: tuple[Row, ...] = (
    Row("path_outputs", "Pictures", "folder", "A folder a day is made in it."),
    Row("path_checkpoints", "Models", "folders", "One folder a line; files are looked for in each, from the first on."),
    Row("path_loras", "LoRAs", "folders", "One folder a line."),
    Row("path_vae", "VAEs", "folders", "One folder a line."),
    Row("path_embeddings", "Embeddings", "folders", "One folder a line."),
    Row("path_own_presets", "Your presets", "folder"),
    Row("path_styles", "Your styles", "folder"),
    Row("path_wildcards", "Word lists", "folder"),
    Row("language", "Language", "text", "What the page speaks first: zh, de, … Empty: what each browser is set to."),
    Row("theme", "Colours", "text", "light or dark, until somebody chooses. Empty: what each browser is set to."),
    Row("metadata_created_by", "Your name", "text", "Picture files name you as who made them."),
    Row("disable_metadata", "Silent pictures", "switch", "No picture file tells how it was made."),
    Row("disable_image_log", "Nothing is kept", "switch", "Pictures, queue and history go when Pinhole ends."),
    Row("offline", "Offline", "switch", "No connection beyond this machine is opened, whoever asks."),
    Row("disable_preset_download", "No downloads", "switch", "What a preset names cannot be fetched from the page."),
    Row("hf_mirror", "Mirror", "text", "Fetch from this address instead of huggingface.co."),
    Row("path_data", "Queue and history", "fixed", "Moving it would begin a new history: path_data in config.txt."),
    Row("host", "Address", "fixed", "Who may reach this page."),
    Row("port", "Port", "fixed", "Another one: --port."),
    Row("share", "Address on the internet", "fixed", "Through Gradio's servers: --share."),
    Row("preset", "Preset at the start", "fixed", "Another one: --preset, or from the page's presets."),
    Row("in_browser", "Opens the browser", "fixed", "It stays closed with --disable-in-browser."),
    Row("memory", "Memory", "fixed", "Flags such as --always-low-vram; --help lists them."),
    Row("defaults", "Defaults under every preset", "fixed", "The keys default_... in config.txt."),
)
_BY_KEY: Mapping[str, Row] = {row.key: row for row in ROWS}


class OwnerSettings:
    """The settings in force, and those of the next start."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.path = settings.config or settings.root / "config.txt"

    def rows(self) -> list[dict[str, Any]]:
        """Every setting as plain JSON: its value now, where that comes from, and what the next start will find."""
        written = _read(self.path)
        return [self._told(row, written) for row in ROWS]

    def save(self, changes: Mapping[str, object]) -> None:
        """Writes changes into config.txt, whole or not at all; None takes a key out. Raises ``SettingsError``."""
        for key, value in changes.items():
            row = _BY_KEY.get(key)
            if row is None or self._fixed(row):
                raise SettingsError(f"{key} cannot be changed here.")
            if value is not None:
                self._check(row, value)
        written = _read(self.path)
        for key, value in changes.items():
            if value is None:
                written.pop(key, None)
            else:
                written[key] = value
        _write(self.path, written)

    def _check(self, row: Row, value: object) -> None:
        if len(json.dumps(value)) > MAX_CHARACTERS:
            raise SettingsError(f"{row.label}: more than {MAX_CHARACTERS} characters are no setting.")
        try:
            found = checked_setting(self._settings, row.key, value)
        except SettingsError as error:
            raise SettingsError(f"{row.label}: {str(error).partition(': ')[2]}.") from None
        for folder in _folders(_value(found, row.key)) if row.kind in ("folder", "folders") else ():
            nearest = next(each for each in (folder, *folder.parents) if each.exists())
            if not nearest.is_dir():
                raise SettingsError(f"{row.label}: {nearest} is not a folder.")
            if not folder.exists() and row.kind == "folders":
                raise SettingsError(f"{row.label}: there is no folder {folder}.")

    def _fixed(self, row: Row) -> bool:
        """Whether a value cannot be changed by config.txt: it has no key there, or something else outweighs that."""
        source = self._settings.sources.get(_field(row.key), "")
        return row.kind == "fixed" or source == FLAG or source.startswith("environment")

    def _told(self, row: Row, written: Mapping[str, Any]) -> dict[str, Any]:
        now, fixed = _value(self._settings, row.key), self._fixed(row)
        told = {
            "key": row.key, "label": row.label, "hint": row.hint, "kind": "fixed" if fixed else row.kind,
            "value": _shown(row, now), "source": self._settings.sources.get(_field(row.key), "") or "built in",
            "next": None,
        }  # fmt: skip
        if row.key == "defaults" and now:
            told["source"] = self.path.name
        if not fixed:
            told["next"] = self._at_next_start(row, now, written)
        return told

    def _at_next_start(self, row: Row, now: object, written: Mapping[str, Any]) -> Any:
        """What the next start will find, if that is something else than now."""
        # Folders of one's own lie in that of the queue unless they are told otherwise, and that one stays.
        base = _value(replace(built_in_settings(self._settings.root), data=self._settings.data), row.key)
        try:
            then = base if row.key not in written else _value(
                checked_setting(self._settings, row.key, written[row.key]), row.key
            )  # fmt: skip
        except SettingsError:
            return None
        return None if then == now else _shown(row, then)


def _field(key: str) -> str:
    return field_of(key) or key


def _value(settings: Settings, key: str) -> object:
    """The value of a setting in force."""
    if key == "path_own_presets":
        return settings.preset_folders[1]
    if key == "path_styles":
        return settings.styles[1]
    value: Any = reduce(getattr, _field(key).split("."), settings)
    return value == SWITCH_KEYS[key][1] if key in SWITCH_KEYS else value


def _shown(row: Row, value: Any) -> Any:
    """A value as JSON: lists of folders as texts, switches as they are, all else as a text."""
    if row.key == "memory":
        return ", ".join(_policy_words(value)) or "decided from what is free"
    if row.key == "defaults":
        return ", ".join(value) or "none"
    if row.key in ("in_browser", "share"):
        return "yes" if value else "no"
    if row.kind == "folders":
        return [str(folder) for folder in _folders(value)]
    return value if isinstance(value, bool) else str(value)


def _policy_words(policy: Any) -> list[str]:
    return [
        f"{field.name.replace('_', ' ')}: {getattr(policy, field.name)}"
        for field in fields(policy)
        if getattr(policy, field.name) != getattr(AUTOMATIC, field.name)
    ]


def _folders(value: Any) -> tuple[Path, ...]:
    return value if isinstance(value, tuple) else (value,)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path} cannot be read any more ({error}). Mend it by hand first.") from None
    if not isinstance(values, dict):
        raise SettingsError(f"{path} does not hold a JSON object any more. Mend it by hand first.")
    return values


def _write(path: Path, values: Mapping[str, Any]) -> None:
    """Writes the file so that it is there whole at any moment; one that is a link stays one."""
    target = path.resolve()
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("x", encoding="utf-8") as file:
            json.dump(values, file, indent=4, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(OSError):
            part.chmod(target.stat().st_mode & 0o777)
        part.replace(target)
    except OSError as error:
        raise SettingsError(f"{path} could not be written: {error.strerror or error}. Nothing was changed.") from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
