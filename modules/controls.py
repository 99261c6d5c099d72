"""What a parameter looks like and what it accepts, as values attached to its declaration; knows no widget library.

A control is written once, in the ``Annotated`` of a parameter. It gives the page its widget, pydantic the check of the
value, and the API's JSON schema its limits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from modules.choices import MAX_SEED

MAX_FILE_NAME_CHARACTERS = 400
_RESERVED = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[\d¹²³])(?:\..*)?", re.IGNORECASE)  # by Windows


def shown(value: object, limit: int = 60) -> str:
    """``value`` as it appears in an error message: short, and with control characters made visible."""
    text = f"{value:.15g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


@dataclass(frozen=True, kw_only=True)
class Control:
    """The base of all controls: a label, and a hint shown under the widget."""

    label: str
    hint: str = ""

    def check(self, value: Any) -> Any:
        """``value`` itself, or ``ValueError`` saying what is wrong with it and what the limit is."""
        return value

    def to_browser(self, value: Any) -> Any:
        """The form in which the value travels to the page and back; the model accepts this form as it does its own."""
        return value

    def json_schema(self) -> dict[str, Any]:
        """The limits in the words of JSON schema."""
        return {}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        inner = core_schema.no_info_before_validator_function(_no_bool_for_number(source), handler(source))
        return core_schema.no_info_after_validator_function(self.check, inner)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        description = {"description": self.hint} if self.hint else {}
        return {**handler(schema), "title": self.label, **description, **self.json_schema()}


@dataclass(frozen=True, kw_only=True)
class Text(Control):
    """Free text of several lines, at most ``max_length`` characters."""

    lines: int = 1
    placeholder: str = ""
    max_length: int = 20_000

    def check(self, value: str) -> str:
        if len(value) > self.max_length:
            raise ValueError(f"has {len(value)} characters, more than the limit of {self.max_length}")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError("contains half of a character (a lone UTF-16 surrogate)")
        return value

    def json_schema(self) -> dict[str, Any]:
        return {"maxLength": self.max_length}


@dataclass(frozen=True, kw_only=True)
class Checkbox(Control):
    """Yes or no."""


@dataclass(frozen=True, kw_only=True)
class Choice(Control):
    """One of ``choices``. ``text`` gives the words to show for a choice where they differ from the value."""

    choices: tuple[str, ...]
    style: Literal["radio", "dropdown"] = "dropdown"
    text: Callable[[str], str] = str

    def check(self, value: str) -> str:
        if value not in self.choices:
            raise ValueError(f"{shown(value)} is not one of {', '.join(self.choices)}")
        return value

    def json_schema(self) -> dict[str, Any]:
        return {"enum": list(self.choices)}


@dataclass(frozen=True, kw_only=True)
class Slider(Control):
    """A number from ``minimum`` to ``maximum``; ``off`` is one more value, which means "not set".

    ``step`` is what the widget moves by; finer values are accepted from the API and the command line.
    """

    minimum: float
    maximum: float
    step: float
    off: float | None = None

    @property
    def lowest(self) -> float:
        """The smallest number the widget must be able to show."""
        return self.minimum if self.off is None else min(self.minimum, self.off)

    def check(self, value: float) -> float:
        if self.off is not None and value == self.off:
            return value
        if not self.minimum <= value <= self.maximum:  # nor is NaN
            also = "" if self.off is None else f", and not {self.off:g} (not set)"
            raise ValueError(f"{shown(value)} is outside {self.minimum:g} to {self.maximum:g}{also}")
        return value

    def json_schema(self) -> dict[str, Any]:
        return {"minimum": self.lowest, "maximum": self.maximum}


@dataclass(frozen=True, kw_only=True)
class Seed(Control):
    """A seed of 63 bits, or -1 for a random one.

    It travels to the browser and back as text: a JavaScript number holds 53 bits.
    """

    def check(self, value: int) -> int:
        if not -1 <= value <= MAX_SEED:
            raise ValueError(f"{shown(value)} is outside 0 to {MAX_SEED}, and not -1 (random)")
        return value

    def to_browser(self, value: int) -> str:
        return str(value)

    def json_schema(self) -> dict[str, Any]:
        return {"minimum": -1, "maximum": MAX_SEED}


@dataclass(frozen=True, kw_only=True)
class Names(Control):
    """Any number of names, in order, none of them twice; what can be chosen is looked up when it is shown.

    A name that is not there is kept: it may come from a picture made elsewhere, and be there tomorrow. Where only text
    can be given, it is a JSON list, or names between commas.
    """

    max_names: int = 100
    max_length: int = 200

    def check(self, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > self.max_names:
            raise ValueError(f"has {len(value)} names, more than the limit of {self.max_names}")
        for name in value:
            if not name.strip() or not name.isprintable() or len(name) > self.max_length:
                raise ValueError(f"{shown(name)} is not a name of 1 to {self.max_length} printable characters")
        return tuple(dict.fromkeys(value))

    def to_browser(self, value: tuple[str, ...]) -> list[str]:
        return list(value)

    def json_schema(self) -> dict[str, Any]:
        return {"maxItems": self.max_names, "items": {"type": "string", "maxLength": self.max_length}}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        inner = super().__get_pydantic_core_schema__(source, handler)
        return core_schema.no_info_before_validator_function(_names_in_text, inner)


@dataclass(frozen=True, kw_only=True)
class ModelFile(Control):
    """The name of a model file, relative to the folders of its kind; what lies there is looked up when it is shown.

    ``none``, if there is one, is the word that stands for no file.
    """

    folder: str
    none: str = ""

    def check(self, value: str) -> str:
        if not self.none or value != self.none:
            check_file_name(value)
        return value

    def json_schema(self) -> dict[str, Any]:
        return {"maxLength": MAX_FILE_NAME_CHARACTERS}


def check_file_name(name: str) -> None:
    """Refuses with ``ValueError`` what could point outside a model folder: it may come from a stranger's picture."""
    if not name or len(name) > MAX_FILE_NAME_CHARACTERS:
        raise ValueError(f"a file name has 1 to {MAX_FILE_NAME_CHARACTERS} characters, {shown(name)} has {len(name)}")
    path = PurePosixPath(name)
    strange = not name.isprintable() or any(character in name for character in '\\:*?"<>|')
    if strange or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{shown(name)} is not a plain file name inside the model folder")


def is_portable(name: str) -> bool:
    """Whether every system can hold a file of this name: no folder, nothing reserved, no dot or space at an end."""
    plain = "/" not in name and name[:1] not in (".", " ") and name[-1:] not in (".", " ")
    return bool(name) and plain and not _RESERVED.fullmatch(name)


def _names_in_text(value: Any) -> Any:
    """The names in a text: a JSON list, or names between commas. Anything else is left to the check of the type."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{shown(value)} is not a JSON list of names: {error}") from None
    return [name for name in map(str.strip, value.split(",")) if name]


def _no_bool_for_number(source: Any) -> Callable[[Any], Any]:
    """A check that keeps ``true`` from passing as 1 where a number is wanted (pydantic would let it)."""

    def refuse(value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError(f"{value} is not a number")
        return value

    return refuse if source in (int, float) else lambda value: value
