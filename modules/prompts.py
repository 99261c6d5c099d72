"""What a user wrote -> the texts of each picture: lines, arrays, LoRA tags, wildcards, styles, what is to be expanded.

Pure but for the lists that are passed in, and seeded; knows nothing of tokens or networks. In the order of
``texts_of``: a line is cleaned, its arrays are resolved, its LoRA tags taken out, its wildcards filled in; then the
styles are laid around it. How a picture's draws go depends on its own seed (see ``Drawer``).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from random import Random

from modules.styles import EXPANSION_STYLE, RANDOM_STYLE, Shelf
from modules.wildcards import Drawer, Wildcards, no_wildcards

Lora = tuple[str, float]

_LORA_TAG = re.compile(r"<lora:([^:]+):([+-]?(?:\d{1,9}\.?\d{0,15}|\.\d{1,15}))>")


@dataclass(frozen=True)
class Sources:
    """Where prompts get words and names from: lists, styles, and the LoRA files there are. Asked only when needed.

    ``lora_text_width`` is the width of text states that a LoRA is made for, None where its file does not tell.
    """

    wildcards: Wildcards = no_wildcards
    styles: Callable[[], Shelf] = Shelf
    loras: Callable[[], Sequence[str]] = tuple
    lora_text_width: Callable[[str], int | None] = lambda name: None
    lora_folder: str = "the LoRA folder"


NO_SOURCES = Sources()


@dataclass(frozen=True)
class Wish:
    """What the texts are made of, as the user gave it. ``loras`` are those chosen besides the prompt."""

    prompt: str
    negative_prompt: str
    styles: Sequence[str]
    in_order: bool
    loras: Sequence[Lora]
    max_loras: int


@dataclass(frozen=True)
class Texts:
    """What one picture is told: texts to encode one by one and join after that, its LoRAs, the styles in use.

    ``expand`` is the text to which a language model adds words, empty for none: the main line, without any style.
    """

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    loras: tuple[Lora, ...]
    styles: tuple[str, ...]
    expand: str


def texts_of(wish: Wish, seeds: Sequence[int], sources: Sources, note: Callable[[str], None]) -> list[Texts]:
    """The texts of each picture of a task; picture i has ``seeds[i]``. The same arguments give the same texts.

    ``note`` is told, each sentence once, what could not be done as asked: it was left out, and the rest holds.
    """
    said: set[str] = set()

    def note_once(sentence: str) -> None:
        if sentence not in said:
            said.add(sentence)
            note(sentence)

    drawer = Drawer(sources.wildcards, wish.in_order, note_once)
    shelf = sources.styles() if wish.styles else Shelf()
    for sentence in shelf.notes:
        note_once(sentence)
    return [_texts(wish, index, Random(seed), drawer, shelf, sources, note_once) for index, seed in enumerate(seeds)]


def _texts(
    wish: Wish,
    index: int,
    rng: Random,
    drawer: Drawer,
    shelf: Shelf,
    sources: Sources,
    note: Callable[[str], None],
) -> Texts:
    main, *extras = lines_of(wish.prompt)
    negative_main, *negative_extras = lines_of(wish.negative_prompt)
    found: list[tuple[str, float]] = []

    def filled(line: str) -> str:
        # Tags before the lists, so that no name of a file is taken for a list; and those that a list brought after.
        line, tags = take_lora_tags(line)
        line, more = take_lora_tags(drawer.fill(line, rng, index))
        found.extend(tags + more)
        return line

    # The order of the draws is fixed: main, negative, extras, negative extras, random styles.
    main, left = _choose(main, index)  # arrays that lists bring go on where those of the prompt have come to
    main = tidy(choose_from_arrays(filled(main), left))
    negative_main = drawer.fill(negative_main, rng, index)
    extras = [filled(line) for line in extras]
    negative_extras = [drawer.fill(line, rng, index) for line in negative_extras]
    names = _styles_in_use(wish.styles, shelf, rng, note)
    positive, negative = _laid_around(main, names, shelf)
    return Texts(
        positive=tuple(filter(None, [*positive, *extras])) or (main,),
        negative=tuple(filter(None, [*negative, negative_main, *negative_extras])) or (negative_main,),
        loras=merged_loras(wish.loras, found, sources.loras, wish.max_loras, note) if found else tuple(wish.loras),
        styles=names,
        expand=main if EXPANSION_STYLE in names else "",
    )


# Lines


def clean(text: str) -> str:
    """One line without control characters, runs of spaces, and commas, full stops or spaces at its ends."""
    printable = "".join(" " if unicodedata.category(character) == "Cc" else character for character in text)
    return re.sub(" {2,}", " ", printable).strip(",. \r\n")


def lines_of(text: str) -> tuple[str, ...]:
    """The lines of a prompt that say something, at least one (then empty). The first is the main one."""
    lines = tuple(line for line in map(clean, text.splitlines()) if line)
    return lines or ("",)


def tidy(text: str) -> str:
    """The pieces between commas, trimmed, empty ones left out, joined by ``", "``."""
    return ", ".join(filter(None, (" ".join(piece.split()) for piece in text.split(","))))


# Arrays


def choose_from_arrays(text: str, index: int) -> str:
    """``text`` with one word for each array ``[[red, green, blue]]``: picture by picture, all combinations in turn.

    The first array changes with every picture, the second once the first has been through, and so on.
    """
    return _choose(text, index)[0]


def _choose(text: str, index: int) -> tuple[str, int]:
    """`choose_from_arrays`, and how often all combinations have been through."""
    places = _arrays(text)
    choices = [text[begin + 2 : end - 2].split(",") for begin, end in places]
    parts: list[str] = []
    done = 0
    for (begin, end), words in zip(places, choices, strict=True):
        index, place = divmod(index, len(words))
        parts += [text[done:begin], words[place]]
        done = end
    return "".join([*parts, text[done:]]), index


def _arrays(text: str) -> list[tuple[int, int]]:
    """Where arrays begin and end: from ``[[`` to the next ``]]``. What is never closed is text."""
    places: list[tuple[int, int]] = []
    end = 0
    while (begin := text.find("[[", end)) >= 0:
        close = text.find("]]", begin + 2)
        if close < 0:
            break
        end = close + 2
        places.append((begin, end))
    return places


# LoRA tags


def take_lora_tags(text: str) -> tuple[str, list[Lora]]:
    """``text`` without its tags ``<lora:name:weight>``, and what they name; a tag in another form is text."""
    tags = [(match[1], float(match[2])) for match in _LORA_TAG.finditer(text)]
    return (clean(tidy(_LORA_TAG.sub("", text))) if tags else text), tags


def merged_loras(
    chosen: Sequence[Lora],
    tags: Iterable[Lora],
    files: Callable[[], Sequence[str]],
    limit: int,
    note: Callable[[str], None],
) -> tuple[Lora, ...]:
    """The chosen LoRAs followed by those of tags, at most ``limit``.

    A tag gives the name of a file without its suffix, with or without its folder. It counts for nothing when its file
    is among the chosen ones, or when it says the same as an earlier tag.
    """
    by_name: dict[str, str] = {}
    for file in files():
        path = PurePosixPath(file)
        by_name.setdefault(path.stem, file)
        by_name.setdefault(str(path.with_suffix("")), file)
    taken = {name for name, _ in chosen}
    found: list[Lora] = []
    for name, weight in tags:
        named = by_name.get(name.strip())
        if named is None:
            note(f"There is no LoRA {name.strip()[:100]} in the LoRA folder: its tag was left out.")
        elif named not in taken and (named, weight) not in found and weight:
            found.append((named, weight))
    room = max(0, limit - len(chosen))
    if found[room:]:
        left_out = ", ".join(PurePosixPath(name).stem for name, _ in found[room:][:5])
        note(f"More than {limit} LoRAs at once: left out were those of the prompt that came last ({left_out}).")
    return (*chosen, *found[:room])


# Styles


def _styles_in_use(wanted: Sequence[str], shelf: Shelf, rng: Random, note: Callable[[str], None]) -> tuple[str, ...]:
    """The styles of one picture, with another for each random one. One that is not there is left out and named."""
    names: list[str] = []
    for name in wanted:
        if name == RANDOM_STYLE and shelf.styles:
            name = rng.choice(list(shelf.styles))
        if name == EXPANSION_STYLE or name in shelf.styles:
            names.append(name)
        else:
            note(shelf.missing(name))
    return tuple(names)


def _laid_around(main: str, names: Sequence[str], shelf: Shelf) -> tuple[list[str], list[str]]:
    """The lines of the styles on both sides, each style a text of its own. The user's own words are always there."""
    styles = [shelf.styles[name] for name in names if name != EXPANSION_STYLE]
    positive: list[str] = []
    negative: list[str] = []
    for style in styles:
        lines, avoided = style.applied(main)
        positive += lines
        negative += avoided
    if not any(style.holds_prompt for style in styles):
        positive.insert(0, main)
    return positive, negative
