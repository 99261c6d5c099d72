"""What a picture would be told, before it is made: its texts, where they come from, how many tokens they are.

Knows no page and no torch. The words of the expansion are somebody else's to add: they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ldm_patched.modules.token_chunks import ROOM, PromptTooLong, tokenize_with_weights
from ldm_patched.modules.tokenizer import FIXED_ROWS, FULL_ROWS, Tokenizer
from modules.choices import MAX_SEED
from modules.expansion import added_words
from modules.files import ModelFileError, ModelFiles, read_header
from modules.parameters import GenerationParameters
from modules.plan import ModelFacts, plan
from modules.prompts import Sources

EMBEDDING = "embedding:"
LATER = "Its words are added when the picture is made."
NOTHING = "It adds nothing here."

Ask = Callable[[str, int], tuple[str, str] | None]
"""Text and seed -> the expanded text (empty: nothing is added) and what is to be said; None if it cannot be known."""


@dataclass(frozen=True)
class Line:
    """A text that is encoded by itself. ``tokens`` says how full each of its chunks is, of 75."""

    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class LookAhead:
    """The first picture of a task, as it will be told. ``seed`` is text: it has 63 bits.

    ``example``: the seed is only one of many. ``added`` are the words of the expansion, which are the end of the last
    of ``positive``; ``pending`` says why there are none, and ``later`` that there may be some in a while.
    """

    seed: str
    example: bool
    positive: tuple[Line, ...]
    negative: tuple[Line, ...]
    styles: tuple[str, ...]
    loras: tuple[str, ...]
    added: str
    pending: str
    later: bool
    pictures: int
    room: int = ROOM
    notes: tuple[str, ...] = ()
    state: Literal["shown"] = "shown"


def look_ahead(
    parameters: GenerationParameters, example: int, facts: ModelFacts, rows: int, sources: Sources, ask: Ask
) -> LookAhead:
    """The texts of the first picture.

    example: the seed to show where none is chosen, taken modulo 2**63. rows: of the model's vocabulary. Raises
    ``ValueError`` with a sentence when no picture could be made.
    """
    drawn = parameters.image_seed < 0
    wanted = {"image_number": 1} | ({"image_seed": example % (MAX_SEED + 1)} if drawn else {})
    notes: list[str] = []
    (job,) = plan(parameters.with_values(wanted), facts, sources, notes.append)
    expanded, pending, answer = "", "", None
    if job.expand:
        answer = ask(job.expand, job.seed)
        expanded, said = answer or ("", "")
        pending = "" if expanded else said or (LATER if answer is None else NOTHING)
    positive = (*job.positive, expanded) if expanded else job.positive
    if any(EMBEDDING in text.lower() for text in (*positive, *job.negative)):
        notes.append("The tokens of embeddings are not counted.")
    tokenizer = Tokenizer(rows)
    return LookAhead(
        seed=str(job.seed),
        example=drawn,
        positive=_lines(positive, tokenizer),
        negative=_lines(job.negative, tokenizer),
        styles=job.styles,
        loras=tuple(f"{Path(name).stem} {weight:g}" for name, weight in job.loras),
        added=added_words(job.expand, expanded),
        pending=pending,
        later=bool(job.expand) and answer is None,
        pictures=parameters.image_number,
        notes=tuple(notes),
    )


def vocabulary_rows(name: str, checkpoints: ModelFiles) -> int:
    """Rows of the token table of a checkpoint's text encoder; those of the published ones if they cannot be read."""
    try:
        shapes = read_header(checkpoints.find(name)).shapes
    except ModelFileError:
        return FULL_ROWS
    rows = [shape[0] for tensor, shape in shapes.items() if tensor.endswith("token_embedding.weight") and shape]
    return rows[0] if rows and FIXED_ROWS <= rows[0] <= FULL_ROWS else FULL_ROWS


def _lines(texts: tuple[str, ...], tokenizer: Tokenizer) -> tuple[Line, ...]:
    try:
        chunks = [tokenize_with_weights(tokenizer, text, _without_embeddings) for text in texts]
    except PromptTooLong as error:
        message = str(error)
        raise ValueError(f"{message[:1].upper()}{message[1:]}.") from None
    return tuple(
        Line(text, tuple(len(chunk.tokens) for chunk in found)) for text, found in zip(texts, chunks, strict=True)
    )


def _without_embeddings(piece: str) -> list[str]:
    return [word for word in piece.split() if not word.lower().startswith(EMBEDDING)]
