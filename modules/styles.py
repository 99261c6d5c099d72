"""Styles: texts to be told beside the prompt, read from the field's JSON files; knows no page and no parameter."""

from __future__ import annotations

import difflib
import json
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from modules.controls import shown

EXPANSION_STYLE = "Fooocus V2"
"""No texts of its own: it stands for the expansion of the prompt, words that a language model adds to it."""
RANDOM_STYLE = "Random Style"
"""Stands for another one in each picture, drawn from its seed."""
PLACEHOLDER = "{prompt}"
MAX_FILE_BYTES = 20_000_000
MAX_NAME = 200  # characters
FIRST_FILES = ("fooocus", "media", "sai", "mre")
"""The styles that are used most are listed before the others."""


@dataclass(frozen=True)
class Style:
    """A style. ``prompt`` holds ``{prompt}`` where the user's own words go; a style may say only what to avoid."""

    name: str
    prompt: str
    negative_prompt: str

    def applied(self, prompt: str) -> tuple[list[str], list[str]]:
        """The lines of both sides for a prompt."""
        texts = (self.prompt.replace(PLACEHOLDER, prompt), self.negative_prompt)
        positive, negative = ([line.strip() for line in text.splitlines()] for text in texts)
        return positive, negative

    @property
    def holds_prompt(self) -> bool:
        """Whether the user's own words are among the lines."""
        return PLACEHOLDER in self.prompt


@dataclass(frozen=True)
class Shelf:
    """All styles by name, and a sentence for each file, or entry of a file, that could not be read."""

    styles: Mapping[str, Style] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """What can be chosen: the expansion and the random one, then all styles in the order of their files."""
        return list(dict.fromkeys([EXPANSION_STYLE, RANDOM_STYLE, *self.styles]))

    def missing(self, name: str) -> str:
        """A sentence about a style that is not here."""
        near = difflib.get_close_matches(name, self.styles, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        return f"There is no style {shown(name)}: the picture is made without it.{hint}"


def sorted_names(names: Iterable[str], chosen: Sequence[str], query: str = "") -> list[str]:
    """``names`` as they are listed: what the search finds, then what is chosen, then the rest; each in order.

    An empty query finds nothing. A chosen one that is not among the names is listed all the same.
    """
    listed = list(dict.fromkeys([*names, *chosen]))
    words = query.casefold().split()
    found = [name for name in listed if words and all(word in name.casefold() for word in words)]
    return list(dict.fromkeys([*found, *(name for name in listed if name in chosen), *listed]))


def read_styles(folders: Iterable[Path]) -> Shelf:
    """The styles of all ``*.json`` in the folders; of two with one name the later wins. Never fails."""
    styles: dict[str, Style] = {}
    notes: list[str] = []
    for folder in folders:
        for path in sorted(folder.glob("*.json"), key=_place):
            try:
                entries = _entries(path)
            except ValueError as error:
                notes.append(f"The style file {path.name} was left out: {error}.")
                continue
            for number, entry in enumerate(entries, 1):
                try:
                    style = _style(entry)
                except ValueError as error:
                    notes.append(f"Entry {number} of the style file {path.name} was left out: {error}.")
                else:
                    styles[style.name] = style
    return Shelf(MappingProxyType(styles), tuple(notes))


def normal_name(name: str) -> str:
    """A style's name as it is shown and referred to: ``sai-line art`` -> ``SAI Line Art``."""
    words = string.capwords(name.replace("-", " "))
    for pattern, written in ((r"\b3d\b", "3D"), (r"\bSai\b", "SAI"), (r"\bMre\b", "MRE"), (r"\(s", "(S")):
        words = re.sub(pattern, written, words)
    return words


def _place(path: Path) -> tuple[int, str]:
    """Where a file comes in the list."""
    place = FIRST_FILES.index(path.stem) if path.stem in FIRST_FILES else len(FIRST_FILES)
    return place, path.name.casefold()


def _entries(path: Path) -> list[Any]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"it has more than {MAX_FILE_BYTES // 10**6} MB")
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise ValueError("it is not a text file in UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error})") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, lists in lists in lists
        raise ValueError("it is not JSON of styles") from None
    if not isinstance(values, list):
        raise ValueError("it must be a list of objects with a name, a prompt and a negative_prompt")
    return values


def _style(entry: Any) -> Style:
    if not isinstance(entry, dict):
        raise ValueError(f"{shown(entry)} is not an object")
    name = entry.get("name")
    if not isinstance(name, str) or not name.strip():
        raise ValueError("it has no name")
    if not name.isprintable() or len(name) > MAX_NAME:
        raise ValueError(f"its name is not one of 1 to {MAX_NAME} printable characters")
    texts = {key: entry.get(key) or "" for key in ("prompt", "negative_prompt")}
    for key, text in texts.items():
        if not isinstance(text, str) or any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError(f"the {key} of {shown(name)} is not text")
    return Style(normal_name(name), **texts)
