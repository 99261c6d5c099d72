"""A text becomes weighted tokens: weights of words, and chunks of 77 tokens. Knows no network, and loads no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ldm_patched.modules.tokenizer import Tokenizer

CHUNK = 77
"""Tokens of a chunk: start, up to 75 of the text, end, padding."""

ROOM = CHUNK - 2
_LONG_WORD = 8
"""A word of so many tokens may be split between chunks."""

MAX_CHUNKS = 1_400
"""Longest text: 105,000 tokens, enough for 100,000 characters of plain ASCII."""

MAX_WEIGHT = 100.0
"""Weights are cut to -100..100: a hundred nested brackets would reach 13,781, which no picture survives."""

_NESTED = 1.1
_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]{1,9}\.?[0-9]{0,15}|\.[0-9]{1,15})\s*")


class PromptTooLong(ValueError):
    """A text has more tokens than `MAX_CHUNKS` chunks hold."""


# Weights of words


def token_weights(text: str) -> list[tuple[str, float]]:
    r"""Split a text at its weight brackets into (piece, weight), in order, without empty pieces.

    `(piece)` multiplies the weight by 1.1, and again when nested; `(piece:1.5)` sets it, whatever is around it.
    `\(` and `\)` are brackets of the text itself. A `)` that closes nothing is text, and so is everything from a `(`
    that is never closed. Square and curly brackets have no meaning.
    """
    symbols, plain = _unescape(text)
    closing = _pairs(symbols, plain)
    colon = _last_colons(symbols)
    pieces: list[tuple[str, float]] = []
    weights = [1.0]
    ends: list[int] = []  # where the content and the weight of each open bracket end
    skips: list[int] = []
    begin = position = 0
    while position < len(symbols):
        if ends and position == ends[-1]:
            _append(pieces, symbols[begin:position], weights.pop())
            ends.pop()
            begin = position = skips.pop()
        elif position in closing:
            _append(pieces, symbols[begin:position], weights[-1])
            close = closing[position]
            end, weight = _content(symbols, position + 1, close, colon[close], weights[-1])
            weights.append(weight)
            ends.append(end)
            skips.append(close + 1)
            begin = position = position + 1
        else:
            position += 1
    _append(pieces, symbols[begin:], weights[-1])
    return pieces


def pieces_with_embeddings(texts: Iterable[str]) -> list[str]:
    """The pieces of texts in which an embedding may be named, without weights and brackets."""
    return [piece for text in texts if "embedding:" in text.lower() for piece, _ in token_weights(text)]


def _append(pieces: list[tuple[str, float]], piece: str, weight: float) -> None:
    if piece:
        pieces.append((piece, weight))


def _unescape(text: str) -> tuple[str, frozenset[int]]:
    r"""The text without the backslashes of `\(` and `\)`, and the positions of the brackets that had one."""
    parts = re.split(r"\\([()])", text)
    plain: set[int] = set()
    length = 0
    for index, part in enumerate(parts):
        if index % 2:
            plain.add(length)
        length += len(part)
    return "".join(parts), frozenset(plain)


def _pairs(symbols: str, plain: frozenset[int]) -> dict[int, int]:
    """Where each bracket that opens a weight is closed."""
    closing: dict[int, int] = {}
    opened: list[int] = []
    for match in re.finditer(r"[()]", symbols):
        position = match.start()
        if position in plain:
            continue
        if match[0] == "(":
            opened.append(position)
        elif opened:
            closing[opened.pop()] = position
    if opened:  # from the outermost bracket that is never closed, everything is text
        closing = {begin: end for begin, end in closing.items() if begin < opened[0]}
    return closing


def _last_colons(symbols: str) -> list[int]:
    """For each position, that of the last colon before it, or -1."""
    last = -1
    found: list[int] = []
    for position, symbol in enumerate(symbols):
        found.append(last)
        if symbol == ":":
            last = position
    return found


def _content(symbols: str, begin: int, close: int, colon: int, weight: float) -> tuple[int, float]:
    """Where the words of a bracket end, and their weight."""
    if colon > begin and close - colon < 32 and _NUMBER.fullmatch(symbols, colon + 1, close):
        return colon, _limited(float(symbols[colon + 1 : close]))
    return close, _limited(weight * _NESTED)


def _limited(weight: float) -> float:
    return max(-MAX_WEIGHT, min(MAX_WEIGHT, weight))


# Chunks of tokens


@dataclass(frozen=True)
class Chunk:
    """Up to 75 tokens of a text with their weights, without start, end and padding.

    A number beyond the vocabulary is a vector of the text's embeddings: the first one follows the last token.
    """

    tokens: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()


Split = Callable[[str], Iterable[str | range]]
"""A piece of text as words, and as the numbers of vectors where it names an embedding."""


def tokenize_with_weights(tokenizer: Tokenizer, text: str, split: Split = lambda piece: (piece,)) -> list[Chunk]:
    """The chunks of a text, at least one.

    A word that does not fit the rest of a chunk moves to the next one; a word of 8 tokens or more is split. An
    embedding is a word with a token for each of its vectors; the name of one that is not there is left out.
    Raises PromptTooLong.
    """
    words = [(word, weight) for piece, weight in token_weights(text) for word in _words(tokenizer, piece, split)]
    _check_length(sum(len(word) for word, _ in words))
    chunks: list[Chunk] = []
    tokens: list[int] = []
    weights: list[float] = []
    for word, weight in words:
        rest = word
        while len(tokens) + len(rest) > ROOM:
            fitting = ROOM - len(tokens) if len(word) >= _LONG_WORD else 0
            chunks.append(Chunk((*tokens, *rest[:fitting]), (*weights, *[weight] * fitting)))
            tokens, weights, rest = [], [], rest[fitting:]
        tokens += rest
        weights += [weight] * len(rest)
    if tokens or not chunks:
        chunks.append(Chunk(tuple(tokens), tuple(weights)))
    return chunks


def _words(tokenizer: Tokenizer, piece: str, split: Split) -> Iterator[list[int]]:
    """The tokens of each word of a piece of text."""
    for part in split(piece):
        if isinstance(part, str):
            yield from tokenizer.encode(part)
        else:
            yield [tokenizer.rows + number for number in part]


def _check_length(tokens: int) -> None:
    limit = MAX_CHUNKS * ROOM
    if tokens > limit:
        raise PromptTooLong(f"the prompt is {tokens:,} tokens long; the limit is {limit:,}")
