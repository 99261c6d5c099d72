"""What is shown under a control that names a model file: what it is, what is wrong, its words, one's pictures with it.

Knows no component. What comes from a file is text here and never HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape

from modules.choices import NO_MODEL
from modules.events import PictureRecord
from modules.model_cards import Card, Catalogue
from modules.model_fit import badges, base_problem, label, listed_order, lora_problem, refiner_problem
from modules.store import ModelRole, StoreError

LISTING_SECONDS = 0.5  # for reading headers while somebody waits for the page; what is left is listed by name alone
PATIENT_SECONDS = 20.0  # likewise, when it was asked for
NO_PICTURES = "<span>Your pictures made with it will be here.</span>"

MadeWith = Callable[[str, ModelRole, str], Sequence[PictureRecord]]


@dataclass(frozen=True)
class ModelNotes:
    """``made_with`` gives an owner's pictures with a model (owner, its role, its name)."""

    catalogue: Catalogue
    made_with: MadeWith = field(default=lambda owner, role, name: ())

    def of(self, owner: str, base: str, refiner: str, loras: Sequence[str]) -> list[str]:
        """The HTML under the controls of base, refiner and each LoRA."""
        card = self.catalogue.card("checkpoints", base)
        notes = [self._note(owner, "checkpoint", base, card, base_problem(base, card))]
        if refiner == NO_MODEL:
            notes.append("")
        else:
            second = self.catalogue.card("checkpoints", refiner)
            notes.append(self._note(owner, "refiner", refiner, second, refiner_problem(refiner, second, base, card)))
        for name in loras:
            lora = Card() if name == NO_MODEL else self.catalogue.card("loras", name)
            problem = lora_problem(name, lora, base, card)
            notes.append("" if name == NO_MODEL else self._note(owner, "lora", name, lora, problem))
        return notes

    def _note(self, owner: str, role: ModelRole, name: str, card: Card, problem: str) -> str:
        warning = f'<p class="model-problem" role="status">{escape(problem)}</p>' if problem else ""
        if card.problem:
            return f'<div class="model-note">{warning}</div>'
        facts = "".join(f"<span>{escape(words)}</span>" for words in badges(card))
        title = f'<span class="model-title">{escape(card.title)}</span>' if card.title else ""
        parts = (warning, f'<div class="model-facts">{facts}</div>{title}', _words(card.words))
        return f'<div class="model-note">{"".join(parts)}{self._pictures(owner, role, name)}</div>'

    def _pictures(self, owner: str, role: ModelRole, name: str) -> str:
        """The owner's newest pictures with a model, by their ids."""
        try:
            records = self.made_with(owner, role, name) if owner else ()
        except StoreError:
            records = ()
        shown = [
            f'<a href="/pictures/{escape(each.id)}" target="_blank" rel="noopener">'
            f'<img src="/pictures/{escape(each.id)}" alt="A picture made with it, seed {each.seed}" loading="lazy"'
            ' decoding="async" width="64" height="64"></a>'
            for each in records
            if each.path.is_file()
        ]
        return f'<div class="model-pictures">{"".join(shown) or NO_PICTURES}</div>'


def file_lists(
    catalogue: Catalogue, base: str, seconds: float = LISTING_SECONDS
) -> tuple[Callable[[str], Sequence[str]], Callable[[str, str], str]]:
    """For the lists of the page: the files of a folder, those that fit this base first, and the words for each."""

    @cache
    def cards(folder: str) -> dict[str, Card | None]:
        return catalogue.cards(folder, seconds) if folder in ("checkpoints", "loras") else {}

    @cache
    def ordered(folder: str) -> Sequence[str]:
        if folder not in ("checkpoints", "loras"):
            return catalogue.names(folder)
        known = cards(folder)
        base_card = catalogue.card("checkpoints", base)
        return sorted(known, key=lambda name: listed_order(known[name], base_card))

    return ordered, lambda folder, name: label(name, cards(folder).get(name))


def _words(words: Sequence[str]) -> str:
    """Buttons that put words into the prompt; brackets, which would be weights there, are escaped for it."""
    buttons = "".join(
        f'<button type="button" data-words="{escape(_for_prompt(word))}">{escape(word)}</button>' for word in words
    )
    return f'<div class="model-words"><span>Words it knows, add to the prompt:</span>{buttons}</div>' if words else ""


def _for_prompt(word: str) -> str:
    return word.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
