"""Cleaning of prompt text; pure, knows nothing of tokens or networks."""

from __future__ import annotations

import re
import unicodedata


def clean(text: str) -> str:
    """One line without control characters, runs of spaces, and commas, full stops or spaces at its ends."""
    printable = "".join(" " if unicodedata.category(character) == "Cc" else character for character in text)
    return re.sub(" {2,}", " ", printable).strip(",. \r\n")


def lines_of(text: str) -> tuple[str, ...]:
    """The texts to be encoded for a prompt: one per line that says something, at least one (then empty)."""
    lines = tuple(line for line in map(clean, text.splitlines()) if line)
    return lines or ("",)
