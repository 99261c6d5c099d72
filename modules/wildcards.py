"""Wildcards: lists of words in text files, and drawing from them for `__name__`; knows no style and no parameter."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

MAX_DEPTH = 64
MAX_LIST_BYTES = 20_000_000
MAX_CHARACTERS = 20_000
"""A text does not grow beyond this by what is drawn for it: lists that name one another could fill any memory."""

WILDCARD = re.compile(r"__([\w/-]+?)__")
_WEIGHTED = re.compile(r"(\d{1,6}(?:\.\d{0,6})?|\.\d{1,6})::(.*)")


class WildcardError(ValueError):
    """A list that is missing or unreadable; the message is fit for the user's eyes."""


@dataclass(frozen=True)
class Entry:
    """A line of a list. It is drawn ``weight`` times as often as a line of weight 1; the weight is above 0."""

    text: str
    weight: float = 1.0


Wildcards = Callable[[str], Sequence[Entry]]
"""The entries of a list by the list's name, at least one; raises ``WildcardError``."""


def entries_of(text: str) -> tuple[Entry, ...]:
    """The entries of a list: a line each, empty lines left out. ``3::red rose`` is drawn three times as often.

    A line of weight 0 is left out as well.
    """
    entries = []
    for line in filter(None, map(str.strip, text.splitlines())):
        weighted = _WEIGHTED.fullmatch(line)
        entry = Entry(weighted[2].strip(), float(weighted[1])) if weighted else Entry(line)
        if entry.text and entry.weight > 0:
            entries.append(entry)
    return tuple(entries)


class WildcardFolder:
    """The lists in a folder: ``*.txt``, sub-folders included. Each file is read once, when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Path] | None = None
        self._lists: dict[str, tuple[Entry, ...]] = {}

    def names(self) -> list[str]:
        """The lists by their path in the folder, without the suffix: ``["color", "plants/flower"]``."""
        if self._files is None:
            found = [
                Path(folder) / name
                for folder, _, names in os.walk(self._folder, followlinks=True)
                for name in names
                if name.lower().endswith(".txt") and not name.startswith(".")
            ]
            paths = {path.relative_to(self._folder).with_suffix("").as_posix(): path for path in found}
            self._files = dict(sorted(paths.items(), key=lambda each: each[0].casefold()))
        return list(self._files)

    def __call__(self, name: str) -> Sequence[Entry]:
        """The entries of the list ``name``: its path, or the last part of it; then the first such list is meant.

        Raises ``WildcardError`` when there is none, or when it is empty or unreadable.
        """
        if name not in self._lists:
            self._lists[name] = self._read(name)
        return self._lists[name]

    def _read(self, name: str) -> tuple[Entry, ...]:
        names = self.names()
        files = self._files or {}
        matches = [each for each in names if each == name] or [each for each in names if Path(each).name == name]
        if not matches:
            near = difflib.get_close_matches(name, [Path(each).name for each in names], n=1)
            hint = f" Did you mean __{near[0]}__?" if near else ""
            raise WildcardError(f"There is no list {name}.txt in the folder {self._folder.name} for __{name}__.{hint}")
        path = files[matches[0]]
        try:
            if path.stat().st_size > MAX_LIST_BYTES:
                raise WildcardError(f"The list {path.name} has more than {MAX_LIST_BYTES // 10**6} MB.")
            entries = entries_of(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise WildcardError(f"The list {path.name} cannot be read: {error.strerror or error}.") from None
        except UnicodeDecodeError:
            raise WildcardError(f"The list {path.name} is not a text file in UTF-8.") from None
        if not entries:
            raise WildcardError(f"The list {path.name} is empty.")
        return entries


def no_wildcards(name: str) -> Sequence[Entry]:
    """Where there are no lists."""
    raise WildcardError(f"There is no list for __{name}__.")


class Drawer:
    """Draws for the pictures of one task, in their order.

    At random, an entry does not come twice in a task before every other one of its list has come. The first draw for a
    picture depends on its own seed alone; it is drawn again only if an earlier picture had the same. ``in_order``, the
    picture of index i gets line i of each list, beginning anew at its end.

    ``note`` is told, in a sentence, what could not be filled in. What cannot be filled in stays readable: the bare name
    for a list that is not there, the text as it is where lists never end.
    """

    def __init__(self, wildcards: Wildcards, in_order: bool, note: Callable[[str], None]) -> None:
        self._wildcards = wildcards
        self._in_order = in_order
        self._note = note
        self._drawn: dict[str, set[str]] = {}

    def fill(self, text: str, rng: Random, index: int) -> str:
        """``text`` with an entry for each wildcard in it, and for those in the entries, ``MAX_DEPTH`` deep."""
        asked = text
        for _ in range(MAX_DEPTH):
            if not WILDCARD.search(text):
                return text
            filled = self._pass(text, rng, index)
            if filled is None:
                self._note(
                    f"What the lists for {_named(text)} hold makes the prompt longer than {MAX_CHARACTERS} characters: "
                    "the prompt stays as it is."
                )
                return asked
            text = filled
        if WILDCARD.search(text):
            self._note(
                f"The lists for {_named(text)} name one another more than {MAX_DEPTH} deep: they stay as they are."
            )
        return text

    def _pass(self, text: str, rng: Random, index: int) -> str | None:
        """Each wildcard that is in the text now, replaced once, in order; None if that becomes too long."""
        parts = WILDCARD.split(text)
        room = MAX_CHARACTERS - sum(map(len, parts[::2]))
        for place in range(1, len(parts), 2):
            parts[place] = self._entry(parts[place], rng, index)
            room -= len(parts[place])
            if room < 0:
                return None
        return "".join(parts)

    def _entry(self, name: str, rng: Random, index: int) -> str:
        try:
            entries = self._wildcards(name)
        except WildcardError as error:
            self._note(str(error))
            return name
        if self._in_order:
            return entries[index % len(entries)].text
        drawn = self._drawn.setdefault(name, set())
        text = _draw(entries, rng)
        if text in drawn:
            left = [entry for entry in entries if entry.text not in drawn]
            if left:
                text = _draw(left, rng)
            else:
                drawn.clear()
        drawn.add(text)
        return text


def _draw(entries: Sequence[Entry], rng: Random) -> str:
    """One of them by weight; where all weigh the same, the draw is ``rng.choice``."""
    if all(entry.weight == entries[0].weight for entry in entries):
        return rng.choice(entries).text
    return rng.choices(entries, [entry.weight for entry in entries])[0].text


def _named(text: str) -> str:
    """The first few wildcards of a text, as they are written."""
    return ", ".join(list(dict.fromkeys(match[0] for match in WILDCARD.finditer(text)))[:3])
