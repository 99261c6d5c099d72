"""Prompt expansion: a GPT-2 goes on with a prompt, in words of a list. Knows no style and no picture.

A folder in the layout of published GPT-2 models: `model.safetensors`, `vocab.json` and `merges.txt`, and with them
`positive.txt`, the words that may be added. The rules are those of Fooocus's "V2" expansion: only words of the
list and commas, no word that is there already, up to full chunks of 75 tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tokenizers
import torch
from tokenizers import models, pre_tokenizers
from torch import Tensor

from ldm_patched.ldm.gpt2 import Gpt2, KeyValues, params_of
from ldm_patched.modules.state_dict import TensorFile, WeightsError

WEIGHTS, VOCABULARY, MERGES, WORDS = "model.safetensors", "vocab.json", "merges.txt", "positive.txt"
END = "<|endoftext|>"
"""As a line of the list of words: the text may end before its chunk is full."""

CHUNK = 75
"""Tokens of a chunk of text."""

TOP_K = 100
_PREFIX = "transformer."
_LEFT_OUT = (".attn.bias", ".attn.masked_bias", "lm_head.weight")  # constants, and the embedding once more
_SPACE = "\u0120"  # how a byte-level vocabulary writes a leading space
_MAX_FILE = 50_000_000


class ExpansionError(ValueError):
    """The words of an expansion cannot be used. The message names the file and what is wrong with it."""


@dataclass(frozen=True)
class Words:
    """What may be added: its token ids in the order of ``texts``, and whether the end is among them."""

    ids: Tensor
    texts: Mapping[int, str]
    end: int | None


class Expander:
    """A GPT-2 with its vocabulary. Computes in float32 on the processor, so that all machines add the same words."""

    def __init__(self, network: Gpt2, encoder: tokenizers.Tokenizer, words: Words) -> None:
        self._network = network
        self._encoder = encoder
        self._words = words

    @classmethod
    def load(cls, folder: Path, words: Path | None = None) -> Expander:
        """The expander in a folder. words: the list to use if the folder has none. Raises ExpansionError."""
        encoder, ids = _read_vocabulary(folder)
        own = folder / WORDS
        listed = own if own.is_file() or words is None else words
        try:
            network = _read_network(folder / WEIGHTS)
        except WeightsError as error:
            raise ExpansionError(str(error)) from None
        size, rows = max(ids.values(), default=-1) + 1, network.params.vocabulary
        if rows < size:
            raise ExpansionError(f"{VOCABULARY} has {size:,} tokens, and {WEIGHTS} only {rows:,}")
        return cls(network, encoder, _words(listed, ids))

    @torch.no_grad()
    def expand(self, text: str, seed: int) -> str:
        """`text` and what is added to it, as pieces between commas; `text` itself where there is no room.

        seed: any integer, taken modulo 2**32. The same arguments give the same words. Raises ExpansionError.
        """
        read = self._encoder.encode(f"{text},").ids
        room = -len(read) % CHUNK
        limit = self._network.params.positions
        if not text.strip() or not room:
            return text
        added = self._sampled(read, min(room, limit - 1), torch.Generator().manual_seed(seed % 2**32))
        pieces = (piece.strip() for piece in "".join(self._words.texts[token] for token in added).split(","))
        return ", ".join([text, *filter(None, pieces)])

    def _sampled(self, read: list[int], room: int, generator: torch.Generator) -> list[int]:
        """Up to `room` tokens that follow those that were read."""
        params, words = self._network.params, self._words
        open_ = ~torch.isin(words.ids, torch.tensor(read)) | (words.ids == words.ids[0])
        # Of a text that is too long for the network its end is read.
        tokens = torch.tensor([read[-(params.positions - room) :]])
        cache = KeyValues(params, tokens.shape[1] + room)
        probabilities = torch.zeros(params.vocabulary)
        added: list[int] = []
        while len(added) < room:
            state = self._network(tokens, cache)[0, -1]
            scores = self._network.scores(state, words.ids)
            if not bool(scores.isfinite().all()):
                raise ExpansionError(f"{WEIGHTS} gives invalid numbers (NaN): its weights are damaged")
            scores = scores.masked_fill(~open_, -torch.inf)
            least = scores.topk(min(TOP_K, len(scores))).values[-1]
            # Drawn from the whole vocabulary: the draw of a seed is then what it is for transformers.
            probabilities[words.ids] = scores.masked_fill(scores < least, -torch.inf).softmax(0)
            token = int(torch.multinomial(probabilities, 1, generator=generator))
            if token == words.end:
                break
            added.append(token)
            open_ &= (words.ids != token) | (words.ids == words.ids[0])
            tokens = torch.tensor([[token]])
        return added


def _words(path: Path, ids: Mapping[str, int]) -> Words:
    """The list of words as tokens: the comma, which is always allowed, then the words that are one token each."""
    if "," not in ids:
        raise ExpansionError(f"{VOCABULARY} has no comma")
    listed = [line.strip() for line in _text(path).splitlines()]
    texts = {ids[","]: ","}
    texts |= {ids[_SPACE + word]: f" {word}" for word in listed if word and _SPACE + word in ids}
    end = ids.get(END) if END in listed else None
    if len(texts) == 1:
        raise ExpansionError(f"none of the words in {path.name} is a token of {VOCABULARY}")
    tokens = [*texts, *([end] if end is not None else [])]
    return Words(torch.tensor(tokens), texts, end)


def _read_vocabulary(folder: Path) -> tuple[tokenizers.Tokenizer, dict[str, int]]:
    for name in (VOCABULARY, MERGES):
        _text(folder / name)
    try:
        encoder = tokenizers.Tokenizer(models.BPE.from_file(str(folder / VOCABULARY), str(folder / MERGES)))
    except Exception as error:  # noqa: BLE001 - what the library raises is a bare Exception
        raise ExpansionError(f"{VOCABULARY} and {MERGES} are not the vocabulary of a GPT-2: {error}") from None
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return encoder, encoder.get_vocab()


def _read_network(path: Path) -> Gpt2:
    file = TensorFile(path)
    names = {name.removeprefix(_PREFIX): name for name in file if not name.endswith(_LEFT_OUT)}
    try:
        params = params_of({short: file.infos[name].shape for short, name in names.items()})
        with torch.device("meta"):
            network = Gpt2(params)
        tensors = {short: file[name].float() for short, name in names.items()}
        network.load_state_dict(tensors, strict=True, assign=True)
    except (ValueError, RuntimeError) as error:
        raise ExpansionError(f"{path.name} is not a GPT-2: {str(error).splitlines()[-1].strip()}") from None
    return network.eval().requires_grad_(False)


def _text(path: Path) -> str:
    """A text file of an expansion."""
    try:
        if path.stat().st_size > _MAX_FILE:
            raise ExpansionError(f"{path.name} has more than {_MAX_FILE // 10**6} MB")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ExpansionError(f"{path.name} cannot be read in {path.parent}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ExpansionError(f"{path.name} is not a text file in UTF-8") from None
