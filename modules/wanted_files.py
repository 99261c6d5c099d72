"""The model files that a preset names, and where it says each can be had; knows neither network nor page."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, urldefrag, urlsplit

from modules.choices import NO_MODEL, OWN_VAE
from modules.controls import check_file_name, is_portable, shown
from modules.files import ModelLibrary
from modules.presets import LORAS, PREVIOUS_MODELS, layers, merge, resolved
from modules.settings import Settings

# the field's key -> the kind of models it lists
DOWNLOAD_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "checkpoint_downloads": "checkpoints",
        "lora_downloads": "loras",
        "embeddings_downloads": "embeddings",
        "vae_downloads": "vae",
    }
)
KINDS = tuple(DOWNLOAD_KEYS.values())
SUFFIX = ".safetensors"
MOST_FILES = 40
_USED_KEYS = (("default_model", "checkpoints"), ("default_refiner", "checkpoints"), ("default_vae", "vae"))
_NO_FILE = frozenset({"", NO_MODEL, OWN_VAE})
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class WantedFile:
    """A file that a preset needs. ``url`` is empty where it says none; ``size`` in bytes, ``sha256`` in hex.

    A preset may state both behind its address, where no server sees them: ``https://…#sha256=…&size=…``.
    """

    kind: str
    name: str
    url: str = ""
    sha256: str | None = None
    size: int | None = None

    @property
    def id(self) -> str:
        """By what the page calls it; two presets that name the same file mean the same one."""
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True)
class Wanted:
    """What a preset needs, and sentences on what it lists that nobody should get."""

    preset: str
    files: tuple[WantedFile, ...]
    complaints: tuple[str, ...] = ()


def wanted_files(name: str, settings: Settings, library: ModelLibrary) -> Wanted:
    """The files of the preset ``name`` (empty or ``initial``: the one the page starts with); raises ``PresetError``.

    A checkpoint for which an earlier version is on the disk is not wanted: that one is used.
    """
    chosen = resolved(name, settings)
    stack = layers(chosen, settings)
    base, own, merged = stack[0], stack[-1], merge(stack)
    used = set(used_files(merged))
    found: dict[str, WantedFile] = {}
    complaints: list[str] = []
    for key, kind in DOWNLOAD_KEYS.items():
        own_links = _links(own, key)
        others = {file: url for file, url in _links(base, key).items() if (kind, file) in used}
        for file, url in {**others, **own_links}.items():
            try:
                wanted = checked(kind, file, url)
            except ValueError as error:
                complaints.append(f"{str(error).rstrip('.')}.")
            else:
                found[wanted.id] = wanted
    for kind, file in sorted(used):
        found.setdefault(f"{kind}/{file}", WantedFile(kind, file))
    earlier = merged.get(PREVIOUS_MODELS)
    if isinstance(earlier, list) and any(is_there(library, "checkpoints", str(model)) for model in earlier):
        found.pop(f"checkpoints/{merged.get('default_model')}", None)
    return Wanted(chosen, tuple(found.values())[:MOST_FILES], tuple(complaints[:MOST_FILES]))


def is_there(library: ModelLibrary, kind: str, name: str) -> bool:
    """Whether the file lies where the models of its kind are looked for."""
    try:
        library.find(kind, name)
    except ValueError:
        return False
    return True


def check_plain(name: str) -> None:
    """Raises ``ValueError`` in words for what is no name that a file from elsewhere may be given."""
    check_file_name(name)
    if not is_portable(name):
        raise ValueError(f"{shown(name)} is not a plain file name: it is not fetched.")
    if not name.lower().endswith(SUFFIX):
        raise ValueError(f"{shown(name)} is not fetched: only {SUFFIX} files are, others can hold code.")


def checked(kind: str, name: str, url: object) -> WantedFile:
    """One entry of a preset's list; raises ``ValueError`` in words when it names what cannot be fetched safely."""
    check_plain(name)
    if not isinstance(url, str):
        raise ValueError(f"{shown(name)}: {shown(url)} is not an address.")
    try:
        address, fragment = urldefrag(url.strip())
        host = urlsplit(address).hostname
    except ValueError:  # brackets that hold no IPv6 address
        host = None
    if not url.strip().startswith(("https://", "http://")):
        raise ValueError(f"{shown(name)}: {shown(url)} is not an https address.")
    if not host or not address.isprintable():
        raise ValueError(f"{shown(name)}: {shown(url)} is not an address.")
    stated = dict(parse_qsl(fragment))
    sha256, size = stated.get("sha256", "").lower(), stated.get("size", "")
    if sha256 and not _SHA256.fullmatch(sha256):
        raise ValueError(f"{shown(name)}: {shown(sha256)} is no sha256, which has 64 hexadecimal digits.")
    return WantedFile(kind, name, address, sha256 or None, int(size) if size.isdecimal() and len(size) < 16 else None)


def names_in(folders: Sequence[Path]) -> dict[str, Path]:
    """Every model file in these folders and their sub-folders by its bare name; the first of a name counts."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path, _, names in os.walk(folder, followlinks=True):
            for name in names:
                if name.lower().endswith(SUFFIX):
                    found.setdefault(name, Path(path) / name)
    return found


def _links(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    listed = values.get(key)
    return {str(name): url for name, url in listed.items()} if isinstance(listed, dict) else {}


def used_files(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(kind, name) of the files that the preset's parameters name."""
    rows = values.get(LORAS)
    loras = [row for row in rows if isinstance(row, list) and len(row) in (2, 3)] if isinstance(rows, list) else []
    named = [(kind, values.get(key)) for key, kind in _USED_KEYS]
    named += [("loras", row[-2]) for row in loras if len(row) == 2 or row[0] is True]
    for kind, name in named:
        if isinstance(name, str) and name not in _NO_FILE:
            with suppress(ValueError):  # the preset is refused for it, in words, where it is applied
                check_file_name(name)
                yield kind, name
