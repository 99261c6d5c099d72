"""CLIP's byte-pair encoding: words to token ids. Knows no weights of words, no chunks and no network.

The merges come from OpenAI's vocabulary file (see ../data/NOTICE); the encoding itself is done by `tokenizers`.
"""

from __future__ import annotations

import gzip
import html
import re
from functools import lru_cache
from html.entities import html5
from importlib.resources import files

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

FULL_ROWS = 49_408
"""Rows of a published embedding table: 256 bytes, 256 bytes that end a word, 48,894 merges, start and end."""

FIXED_ROWS = 514
"""Rows of a table without any merge."""

# The words of CLIP (arXiv 2103.00020): contractions, runs of letters, single digits, runs of anything else. A
# prompt cannot spell the start or end token: "<|endoftext|>" is read as ordinary characters.
_WORD = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
# Only whole entities that are closed: "sun&regular" must not become a trademark.
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|([a-zA-Z][a-zA-Z0-9]{1,31}));")
# Characters without a glyph and without a meaning in a sentence: C0 and C1 controls that are not white space, lone
# surrogates, byte-order marks and the deprecated format characters. Joiners stay, emoji need them.
_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u206a-\u206f\ud800-\udfff\ufeff\ufff9-\ufffc]")


def clean(text: str) -> str:
    """Resolve HTML entities (twice, as CLIP does) and drop what is invisible; white space becomes single spaces."""
    for _ in range(2):
        text = _ENTITY.sub(_character, text)
    return " ".join(_INVISIBLE.sub("", text).split())


def _character(entity: re.Match[str]) -> str:
    known = entity[1] is None or entity[1] + ";" in html5
    return html.unescape(entity[0]) if known else entity[0]


class Tokenizer:
    """The vocabulary of one text encoder.

    rows: rows of its embedding table, 514 to 49,408. A table shorter than the published one has the first
    (rows - 514) merges; the last two rows are always the start and the end token.
    """

    def __init__(self, rows: int) -> None:
        if not FIXED_ROWS <= rows <= FULL_ROWS:
            raise ValueError(f"a CLIP vocabulary has {FIXED_ROWS:,} to {FULL_ROWS:,} tokens, not {rows:,}")
        self.rows = rows
        self.start = rows - 2
        self.end = rows - 1
        self._encoder = _encoder(rows)

    def encode(self, text: str) -> list[list[int]]:
        """Token ids of each word of a text, without start and end. Words are what white space separates."""
        # One by one: handing a prompt's few words out to threads takes longer than encoding them.
        return [self._encoder.encode(word, add_special_tokens=False).ids for word in clean(text).split()]


@lru_cache(maxsize=4)
def _encoder(rows: int) -> tokenizers.Tokenizer:
    merges = _merges(rows - FIXED_ROWS)
    symbols = _byte_symbols()
    names = [*symbols, *(symbol + "</w>" for symbol in symbols), *(first + second for first, second in merges)]
    vocabulary = dict(zip(names, range(len(names)), strict=True))
    encoder = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>"))
    encoder.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    encoder.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(_WORD), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return encoder


def _byte_symbols() -> list[str]:
    """The printable stand-ins of the 256 bytes in CLIP's order: first those that stand for themselves."""
    themselves = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in themselves] + [chr(0x100 + index) for index in range(256 - len(themselves))]


def _merges(count: int) -> list[tuple[str, str]]:
    path = files("ldm_patched") / "data" / "bpe_simple_vocab_16e6.txt.gz"
    with path.open("rb") as packed, gzip.open(packed) as unpacked:
        # The lines that are wanted are the first fifth of the file, and on average 11 bytes long.
        lines = unpacked.read(64 + 16 * count).decode("utf-8", errors="ignore").split("\n")
    return [(first, second) for first, _, second in (line.partition(" ") for line in lines[1 : count + 1])]
