"""A text becomes hidden states: weights of words, chunks of 77 tokens, the text towers. Knows no files and no UNet.

`SDXLClip` serves SDXL (two towers), its refiner (the larger one) and SD 1.5 (the smaller one).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ldm_patched.ldm.clip import ClipText, ClipTextParams
from ldm_patched.modules.conditioning import Conditioning
from ldm_patched.modules.embeddings import NO_EMBEDDINGS, Embeddings
from ldm_patched.modules.parts import TowerPart
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

_BATCH = 16
"""Chunks encoded at once, which bounds the memory that a long text needs."""

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


def tokenize_with_weights(tokenizer: Tokenizer, text: str, embeddings: Embeddings = NO_EMBEDDINGS) -> list[Chunk]:
    """The chunks of a text, at least one.

    A word that does not fit the rest of a chunk moves to the next one; a word of 8 tokens or more is split. An
    embedding is a word with a token for each of its vectors; the name of one that is not there is left out.
    Raises PromptTooLong.
    """
    words = [(word, weight) for piece, weight in token_weights(text) for word in _words(tokenizer, piece, embeddings)]
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


def _words(tokenizer: Tokenizer, piece: str, embeddings: Embeddings) -> Iterator[list[int]]:
    """The tokens of each word of a piece of text."""
    for part in embeddings.split(piece):
        if isinstance(part, str):
            yield from tokenizer.encode(part)
        else:
            yield [tokenizer.rows + number for number in part]


def _check_length(tokens: int) -> None:
    limit = MAX_CHUNKS * ROOM
    if tokens > limit:
        raise PromptTooLong(f"the prompt is {tokens:,} tokens long; the limit is {limit:,}")


# Towers


def part_of(params: ClipTextParams) -> TowerPart:
    """Which of the published towers has these parameters: OpenAI's has the cheaper activation."""
    return "clip_l" if params.activation == "quick_gelu" else "clip_g"


@dataclass(frozen=True)
class Tower:
    """A text tower and how its published model uses it.

    pad: the token after the end token. final_norm: whether the hidden state goes through the tower's last layer norm.
    """

    model: ClipText
    pad: int
    final_norm: bool

    @property
    def part(self) -> TowerPart:
        """Which of the published towers it is."""
        return part_of(self.model.params)

    def encode(
        self, rows: Tensor, ends: Tensor, clip_skip: int, vectors: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Encode chunks.

        rows: token ids [chunks, 77]. ends: positions of the end tokens [chunks]. vectors: [n, width], what ids from
        the size of the vocabulary on stand for. Returns float32 hidden states [chunks, 77, width] and pooled vectors
        [chunks, projection_dim], or None for a tower without them.
        """
        device = self.model.positional_embedding.device
        hidden, pooled = self.model(self._embed(rows.to(device), vectors), ends.to(device), clip_skip)
        if self.final_norm:
            hidden = self.model.ln_final(hidden)
        return hidden.float(), None if pooled is None else pooled.float()

    def _embed(self, rows: Tensor, vectors: Tensor | None) -> Tensor:
        if vectors is None:
            return self.model.embed(rows)
        number = rows - self.model.params.vocabulary
        embedded = self.model.embed(rows.clamp(max=self.model.params.vocabulary - 1))
        injected = vectors.to(embedded.device, embedded.dtype)[number.clamp(min=0)]
        return torch.where(number[:, :, None] >= 0, injected, embedded)


class SDXLClip:
    """One or two text towers with their common vocabulary."""

    def __init__(self, towers: Sequence[Tower]) -> None:
        rows = {tower.model.params.vocabulary for tower in towers}
        if len(rows) != 1:
            raise ValueError(f"the text encoders of a model share one vocabulary; these have {sorted(rows)} tokens")
        self.towers = tuple(towers)
        self.tokenizer = Tokenizer(rows.pop())

    def tokenize_with_weights(self, text: str, embeddings: Embeddings = NO_EMBEDDINGS) -> list[Chunk]:
        """The chunks of a text, at least one."""
        return tokenize_with_weights(self.tokenizer, text, embeddings)

    @torch.no_grad()
    def encode_token_weights(
        self, chunks: Sequence[Chunk], clip_skip: int = 2, embeddings: Embeddings = NO_EMBEDDINGS
    ) -> Conditioning:
        """Encode the chunks of one text. embeddings: those the text was tokenized with.

        clip_skip: 1..layers, which hidden state is used, counted from the last layer. A token of weight w gets
        (z - z_empty) * w + z_empty, with z_empty the state of the empty text at its position; the
        chunk's mean is left as that makes it. Returns
        [(hidden, {"pooled_output": pooled})], float32: hidden [1, 77 * chunks, widths of all towers], pooled
        [1, projection_dim] of the first chunk, or None if no tower has one. Equal chunks are encoded once.
        """
        weighted = any(weight != 1.0 for chunk in chunks for weight in chunk.weights)
        wanted = [chunk.tokens for chunk in chunks] + [()] * weighted
        distinct = list(dict.fromkeys(wanted))
        row_of = {tokens: index for index, tokens in enumerate(distinct)}
        order = torch.tensor([row_of[chunk.tokens] for chunk in chunks])
        hiddens: list[Tensor] = []
        pooled: Tensor | None = None
        for tower in self.towers:
            states, vectors = self._states(tower, distinct, clip_skip, embeddings.table(tower.part))
            hidden = states[order.to(states.device)]
            if weighted:
                weights = _weights(chunks).to(states.device)
                empty = states[row_of[()]]
                hidden = torch.where(weights == 1.0, hidden, (hidden - empty) * weights + empty)
            hiddens.append(hidden.flatten(0, 1)[None])
            pooled = vectors[:1] if vectors is not None else pooled
        return [(torch.cat(hiddens, dim=-1), {"pooled_output": pooled})]

    def encode(self, text: str, clip_skip: int = 2, embeddings: Embeddings = NO_EMBEDDINGS) -> Conditioning:
        """`encode_token_weights` of a text's chunks."""
        return self.encode_token_weights(self.tokenize_with_weights(text, embeddings), clip_skip, embeddings)

    def _states(
        self, tower: Tower, rows: Sequence[tuple[int, ...]], clip_skip: int, injected: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        start, end = self.tokenizer.start, self.tokenizer.end
        ids = torch.tensor([[start, *row, end] + [tower.pad] * (ROOM - len(row)) for row in rows])
        ends = torch.tensor([len(row) + 1 for row in rows])
        batches = [
            tower.encode(ids[at : at + _BATCH], ends[at : at + _BATCH], clip_skip, injected)
            for at in range(0, len(rows), _BATCH)
        ]
        vectors = [vector for _, vector in batches if vector is not None]
        return torch.cat([hidden for hidden, _ in batches]), torch.cat(vectors) if vectors else None


def _weights(chunks: Sequence[Chunk]) -> Tensor:
    """[chunks, 77, 1]; start, end and padding weigh 1."""
    rows = [[1.0, *chunk.weights] + [1.0] * (CHUNK - 1 - len(chunk.weights)) for chunk in chunks]
    return torch.tensor(rows)[:, :, None]
