"""What a text calls a model -> the file that is here: by its name, or, when it was renamed, by its hash."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from modules.controls import shown
from modules.files import ModelLibrary
from modules.metadata_writing import stem
from modules.model_hashes import ModelHashes
from modules.settings import Settings
from modules.styles import Shelf, read_styles

Names = Callable[[str], Sequence[str]]
"""The files of a kind (``checkpoints``, ``loras``, ``vae``) that there are."""

_SHORT_HASH = re.compile(r"[0-9a-f]{10,64}")


@dataclass(frozen=True)
class Here:
    """What there is on this machine that a text may refer to.

    ``hash_of`` gives the hash of a file of a kind, ``named`` the file of a kind whose hash begins so; both give an
    empty text where they do not know. ``styles`` are those that a text may have been made with.
    """

    names: Names
    hash_of: Callable[[str, str], str] = lambda kind, name: ""
    named: Callable[[str, str], str] = lambda kind, begin: ""
    styles: Callable[[], Shelf] = Shelf


def here_with(settings: Settings, names: Names) -> Here:
    """What there is by the folders of the settings."""
    hashes = ModelHashes(settings.hashes, ModelLibrary(settings.models))
    return Here(names, hashes.known, hashes.name_of, partial(read_styles, settings.styles))


def find_model(here: Here, kind: str, name: str, short_hash: object) -> tuple[str, str]:
    """The file that a text means, empty where there is none; and a sentence where something must be said of it.

    A file of this name is the one unless it is known to be another, and the right one to be there under another name.
    """
    found = find_name(here.names(kind), name)
    begin = short_hash.strip().lower() if isinstance(short_hash, str) else ""
    if not _SHORT_HASH.fullmatch(begin):
        begin = ""
    own = here.hash_of(kind, found) if found and begin else ""
    if begin and (not found or own) and not own.startswith(begin or " "):
        if renamed := here.named(kind, begin):
            return renamed, ""
        # Others' hashes of LoRAs are of another kind: that they differ says nothing.
        if found and kind == "checkpoints":
            return found, f"The model {shown(name)} is another one here than in this picture, by its contents."
    return found, ""


def find_name(files: Iterable[str], name: str) -> str:
    """The file of exactly this name, of this stem, or of one that differs in the case of letters only; or nothing."""
    listed = list(files)
    wanted = name.replace("\\", "/")
    bare = stem(wanted) if wanted.strip().endswith(".safetensors") else wanted
    for simplified in (str, _simple):
        for named, form in ((wanted, str), (wanted, stem), (bare, stem)):
            for file in listed:
                if simplified(form(file)) == simplified(named):
                    return file
    return ""


def _simple(name: str) -> str:
    return name.strip().casefold()
