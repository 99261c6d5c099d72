"""Texts with styles already laid around the prompt -> the bare prompt and the styles; knows no picture and no page.

Nothing is guessed: what is found is laid around the prompt again, and taken only if that gives the very same texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from modules.prompts import Sources, Texts, Wish, texts_of
from modules.styles import EXPANSION_STYLE, Shelf, Style

MAX_STEPS = 100_000  # of a search; texts that ask for more are left as they are
MAX_ENDS = 40
MAX_CHARACTERS = 50_000
_PROMPT = "\0"
_DRAWN = re.compile(r"__|\[\[")


@dataclass(frozen=True)
class Recovered:
    """A prompt and a negative prompt as they were typed, and the styles that make of them what a picture was told."""

    prompt: str
    negative_prompt: str
    styles: tuple[str, ...]


@dataclass(frozen=True)
class _Pattern:
    """What a style adds to both sides, in one line each; ``\\0`` stands where the prompt goes."""

    style: Style
    positive: str
    negative: str

    @property
    def name(self) -> str:
        return self.style.name

    @property
    def holds_prompt(self) -> bool:
        return _PROMPT in self.positive

    def with_prompt(self, prompt: str) -> str:
        """The positive side for a prompt."""
        return ", ".join(filter(None, self.style.applied(prompt)[0]))


@dataclass
class _Search:
    """Styles that may have made the two texts of a picture, the most of them first."""

    told: str
    avoided: str
    patterns: Sequence[_Pattern]
    steps: int = field(default=0)

    def with_prompt_inside(self, prompt: str | None) -> Iterator[tuple[str, tuple[str, ...], int, int]]:
        """(prompt, styles, where the rest of both texts begins) for styles of which one holds the prompt at least."""
        for found, names, told, avoided in self._inside(prompt, (), 0, 0):
            if found is not None:
                yield found, names, told, avoided

    def _inside(
        self, prompt: str | None, names: tuple[str, ...], told: int, avoided: int
    ) -> Iterator[tuple[str | None, tuple[str, ...], int, int]]:
        for pattern in self.patterns:
            self.steps += 1
            if self.steps > MAX_STEPS:
                return
            if pattern.name in names or (after := _past(self.avoided, pattern.negative, avoided)) is None:
                continue
            for found, end in self._prompts(pattern, prompt, told):
                yield from self._inside(found, (*names, pattern.name), end, after)
        yield prompt, names, told, avoided

    def _prompts(self, pattern: _Pattern, prompt: str | None, begin: int) -> Iterator[tuple[str | None, int]]:
        """The prompts with which a pattern stands at ``begin``, and where it ends."""
        if prompt is not None or not pattern.holds_prompt:
            if (end := _past(self.told, pattern.with_prompt(prompt or ""), begin)) is not None:
                yield prompt, end
            return
        if (end := _past(self.told, pattern.with_prompt(""), begin)) is not None:
            yield "", end
        left, _, right = pattern.positive.partition(_PROMPT)
        if not self.told.startswith(left, begin):
            return
        start, place = begin + len(left), begin + len(left)
        for _ in range(MAX_ENDS):
            place = self.told.find(right, place) if right else _next_end(self.told, place)
            if place < 0:
                return
            found = self.told[start:place]
            if (end := _past(self.told, pattern.with_prompt(found), begin)) is not None:
                yield found, end
            place += 1

    def with_prompt_beside(self) -> Iterator[tuple[tuple[str, ...], str, int]]:
        """(styles, what they add to the prompt, where the rest of the negative text begins); none holds the prompt."""
        yield from self._beside((), "", 0)

    def _beside(self, names: tuple[str, ...], added: str, avoided: int) -> Iterator[tuple[tuple[str, ...], str, int]]:
        for pattern in self.patterns:
            if pattern.name in names or pattern.holds_prompt or pattern.positive not in self.told:
                continue
            self.steps += 1
            if self.steps > MAX_STEPS:
                return
            if (after := _past(self.avoided, pattern.negative, avoided)) is not None:
                more = f", {pattern.positive}" if pattern.positive else ""
                yield from self._beside((*names, pattern.name), added + more, after)
        yield names, added, avoided


def recover(
    told: str, avoided: str, shelf: Shelf, raw: str | None = None, raw_negative: str | None = None
) -> Recovered | None:
    """What was typed, and with which styles, for a picture that was told two texts; None where that cannot be known.

    ``raw`` and ``raw_negative`` are what was typed, where the picture says it.
    """
    if max(map(len, (told, avoided, raw or ""))) > MAX_CHARACTERS:
        return None
    search = _Search(told, avoided, _patterns(shelf))
    typed = None if raw is None or is_drawn(raw) else _texts(raw, "", (), shelf)
    prompt = None if typed is None else typed.positive[0]
    for found, styles, told_end, avoided_end in search.with_prompt_inside(prompt):
        if not styles:
            continue
        rest, rest_avoided = told[told_end:], avoided[avoided_end:]
        candidate = Recovered(found if raw is None else raw, _or(raw_negative, rest_avoided), styles)
        if made := _confirmed(candidate, told, avoided, shelf):
            return made
        # The lists that were drawn from are not here: the line that came of them stands for the prompt.
        if raw is not None and prompt is None and (_expands(rest, found) or not rest):
            bare = _confirmed(Recovered(found, rest_avoided, styles), told, avoided, shelf)
            if bare is not None:
                return Recovered(raw, _or(raw_negative, rest_avoided), bare.styles)
    for styles, added, avoided_end in search.with_prompt_beside():
        whole = raw if raw is not None else told.removesuffix(added) if added else told
        candidate = Recovered(whole, _or(raw_negative, avoided[avoided_end:]), styles)
        if (styles or raw is not None) and (made := _confirmed(candidate, told, avoided, shelf)):
            return made
    return None


def is_drawn(prompt: str) -> bool:
    """Whether a prompt takes words from lists, so that what a picture was told differs from it."""
    return bool(_DRAWN.search(prompt))


def _confirmed(candidate: Recovered, told: str, avoided: str, shelf: Shelf) -> Recovered | None:
    """The candidate if it gives these texts, with the expansion where that explains the rest; else None."""
    texts = _texts(candidate.prompt, candidate.negative_prompt, candidate.styles, shelf)
    # Whoever reads a text does without the spaces at its ends, of whatever kind.
    positive, negative = ", ".join(texts.positive).strip(), ", ".join(texts.negative).strip()
    if negative != avoided:
        return None
    if positive == told:
        return candidate
    rest = told.removeprefix(f"{positive}, ")
    main = _texts(candidate.prompt, "", (), shelf).positive[0]
    if rest != told and _expands(rest, main):
        return Recovered(candidate.prompt, candidate.negative_prompt, (EXPANSION_STYLE, *candidate.styles))
    return None


def _expands(text: str, main: str) -> bool:
    """Whether a text is a line with words added to it."""
    return bool(main) and text != main and text.startswith(main)


def _or(raw: str | None, found: str) -> str:
    return found if raw is None else raw


def _texts(prompt: str, negative: str, styles: tuple[str, ...], shelf: Shelf) -> Texts:
    wish = Wish(prompt, negative, styles, in_order=False, loras=(), max_loras=0)
    return texts_of(wish, [0], Sources(styles=lambda: shelf), lambda sentence: None)[0]


def _patterns(shelf: Shelf) -> list[_Pattern]:
    """The styles as they are searched for; one that says nothing cannot be found."""
    found = [_pattern(style) for style in shelf.styles.values() if style.name != EXPANSION_STYLE]
    # Of two that begin alike the longer one is meant.
    found.sort(key=lambda pattern: -len(pattern.positive) - len(pattern.negative))
    return [pattern for pattern in found if pattern.negative or pattern.positive.strip(f"{_PROMPT}, ")]


def _pattern(style: Style) -> _Pattern:
    positive, negative = style.applied(_PROMPT)
    return _Pattern(style, ", ".join(filter(None, positive)), ", ".join(filter(None, negative)))


def _past(text: str, piece: str, begin: int) -> int | None:
    """Where the text goes on after a piece at ``begin``, up to a comma or the end; None if it is not there."""
    if not piece:
        return begin
    end = begin + len(piece)
    if not text.startswith(piece, begin):
        return None
    return end if end == len(text) else end + 2 if text.startswith(", ", end) else None


def _next_end(text: str, begin: int) -> int:
    """The next place at which a piece between commas ends; -1 where there is none."""
    if begin > len(text):
        return -1
    place = text.find(", ", begin)
    return place if place >= 0 else len(text)
