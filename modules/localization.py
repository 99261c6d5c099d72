"""Translations of what the page says, from the files of `language/`; knows neither the page nor one sentence of it.

A file is a JSON object: English text -> translated text, named after its language (`zh.json`, `pt-BR.json`). A text may
hold values: `{count} pictures`; its translation names the same ones, in the order of its own grammar. A name of one
letter, as in `{n} min`, stands for a number only. The key `rtl` says that the language is written from right to left.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from modules.controls import shown

ENGLISH = "en"
RIGHT_TO_LEFT = "rtl"
MAX_BYTES = 4 * 10**6
MAX_CHARACTERS = 4000
_FROM_THE_RIGHT = frozenset({"ar", "dv", "fa", "he", "ku", "ps", "sd", "ug", "ur", "yi"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_VALUE = re.compile(r"\{[a-z][a-z0-9_]*\}")


class LanguageError(ValueError):
    """A language file that cannot be used; the message names it and says why."""


@dataclass(frozen=True)
class Language:
    """One file: English text -> translated text."""

    name: str
    texts: Mapping[str, str]
    right_to_left: bool

    def said(self, english: str, **values: object) -> str:
        """The text in this language, its ``{values}`` filled in; in English where the file does not have it."""
        text = self.texts.get(english) or english
        return _VALUE.sub(lambda match: str(values.get(match[0][1:-1], match[0])), text)


@dataclass(frozen=True)
class Languages:
    """The folder of language files, looked into whenever it is asked."""

    folder: Path

    def names(self) -> tuple[str, ...]:
        """English, which needs no file, and every language whose file can be used."""
        return self._looked_through()[0]

    def notes(self, wanted: str = "") -> tuple[str, ...]:
        """A sentence for every file that cannot be used, and one if ``wanted`` is a language that is not there."""
        notes = self._looked_through()[1]
        if not wanted or _base(wanted) in {_base(name) for name in self.names()}:
            return notes
        return (*notes, f"There is no language {shown(wanted)}; there are {', '.join(self.names())}.")

    def language(self, name: str) -> Language:
        """The language of this name; raises ``LanguageError``."""
        path = self.folder / f"{name}.json"
        if _NAME.fullmatch(name) and path.is_file():
            return read_language(path)
        if name == ENGLISH:
            return Language(ENGLISH, {}, right_to_left=False)
        raise LanguageError(f"There is no language {shown(name)}; there are {', '.join(self.names())}.")

    def nearest(self, wanted: Iterable[str]) -> Language:
        """The first of the wanted languages that there is, or the same one of another country; English if none is."""
        names = self.names()
        for name in wanted:
            same = [each for each in names if _plain(each) in (_plain(name), _base(name))]
            same.sort(key=lambda each: _plain(each) != _plain(name))
            kin = [each for each in names if _base(each) == _base(name)]
            if found := [*same, *kin]:
                return self.language(found[0])
        return self.language(ENGLISH)

    def _looked_through(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        names, notes = [], []
        for path in sorted(self.folder.glob("*.json")) if self.folder.is_dir() else ():
            try:
                names.append(read_language(path).name)
            except LanguageError as error:
                notes.append(str(error))
        return (ENGLISH, *(name for name in names if name != ENGLISH)), tuple(notes)


def read_language(path: Path) -> Language:
    """A language file, strictly read; raises ``LanguageError``."""
    try:
        facts = path.stat()
        if not _NAME.fullmatch(path.stem):
            raise LanguageError("its name is not one of 1 to 40 letters, digits, - and _")
        if facts.st_size > MAX_BYTES:
            raise LanguageError(f"it has more than {MAX_BYTES // 10**6} MB")
        return _read(path, facts.st_mtime_ns, facts.st_size)
    except OSError as error:
        raise LanguageError(_left_out(path, f"it cannot be read ({error.strerror or error})")) from None
    except LanguageError as error:
        raise LanguageError(_left_out(path, str(error))) from None


@lru_cache(maxsize=64)
def _read(path: Path, written: int, size: int) -> Language:
    """The file as it was when it was ``written``."""
    try:
        texts = json.loads(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise LanguageError("it is not a text file in UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise LanguageError(f"it is not JSON ({error})") from None
    if not isinstance(texts, dict):
        raise LanguageError("it must be a JSON object of English texts and their translations")
    right_to_left = texts.pop(RIGHT_TO_LEFT, _base(path.stem) in _FROM_THE_RIGHT)
    for english, text in texts.items():
        _check(english, text)
    return Language(path.stem, texts, bool(right_to_left))


def _check(english: str, text: Any) -> None:
    if not isinstance(text, str):
        raise LanguageError(f"the translation of {shown(english)} is not text")
    if len(english) > MAX_CHARACTERS or len(text) > MAX_CHARACTERS:
        raise LanguageError(f"{shown(english)} or its translation has more than {MAX_CHARACTERS} characters")
    strange = values_of(text) - values_of(english)
    if strange:
        raise LanguageError(f"the translation of {shown(english)} holds {min(strange)}, which the English does not")


def _plain(name: str) -> str:
    return name.replace("_", "-").lower()


def _base(name: str) -> str:
    return _plain(name).partition("-")[0]


def values_of(text: str) -> frozenset[str]:
    """The values that a text holds, with their braces: ``{count}``."""
    return frozenset(_VALUE.findall(text))


def _left_out(path: Path, why: str) -> str:
    return f"The language file {path.name} was left out: {why}."
