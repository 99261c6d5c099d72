"""Trains the built-in expansion: a small GPT-2 that goes on with words of mood, light and detail. Knows no picture.

Its texts are made of the phrases in `phrases.py`, of the pieces of our own styles and wildcard lists that say nothing
else, and of subjects that the wildcard lists name.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

import tokenizers
import torch
import torch.nn.functional as F
from tokenizers import decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn

from ldm_patched.ldm.gpt2 import Gpt2, Gpt2Params
from ldm_patched.modules.tokenizer import FULL_ROWS, Tokenizer
from modules.styles import PLACEHOLDER, read_styles
from training.loop import Run, Schedule
from training.pack import average_of, save
from training.phrases import GENERAL, MOODS, NEUTRAL, SIGNS

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "models" / "prompt_expansion" / "pinhole-mini"
END = "<|endoftext|>"
VOCABULARY = 3_072
CONTEXT = 160  # tokens
WIDTH, LAYERS = 128, 3
BATCH = 8
SUBJECTS = ("animal", "creature", "flower", "food", "instrument", "occupation", "tree", "vehicle", "clothing")
ASIDES = ("weather", "time_of_day", "season", "color", "medium", "era", "light")
LISTS_FOR_ALL, LISTS_FOR_MOODS = ("composition", "texture"), ("mood", "light", "weather", "season")
# Beginnings; a word in braces is drawn from the list of that name.
BEGINNINGS = (
    "{subject}", "a {subject}", "a {color} {subject}", "{subject} in {place}", "a {subject} in {place}",
    "a {mood} {subject} in {place}", "{place}", "{place}, {aside}", "a {subject}, {aside}",
    "portrait of a {occupation}",
    "{medium} of a {subject}", "a {subject} and a {animal} in {place}", "a {color} {vehicle} in {place}, {aside}",
    "a photo of {subject}", "a painting of a {subject}, {aside}", "two {animal}s in {place}",
)  # fmt: skip


def words_of(text: str) -> list[str]:
    """The words of a piece of text."""
    return re.findall(r"[a-z0-9]+", text.lower())


def pieces_of(text: str) -> list[str]:
    """The pieces between commas."""
    return [" ".join(piece.split()) for piece in text.split(",") if piece.strip()]


def allowed_words() -> list[str]:
    """The words that may be added: those of the phrases that are one token for CLIP, so that a chunk holds them all."""
    clip = Tokenizer(FULL_ROWS)
    words = sorted({word for text in (GENERAL, *MOODS.values()) for word in words_of(text)})
    return [word for word in words if word.isalpha() and [len(ids) for ids in clip.encode(word)] == [1]]


@dataclass(frozen=True)
class Corpus:
    """What texts are made of."""

    root: Path = ROOT

    @cached_property
    def lists(self) -> dict[str, list[str]]:
        """The wildcard lists by name."""
        return {
            path.stem: path.read_text(encoding="utf-8").split("\n")[:-1] for path in self.root.glob("wildcards/*.txt")
        }

    @cached_property
    def words(self) -> frozenset[str]:
        """The words that may be added."""
        return frozenset(allowed_words())

    @cached_property
    def general(self) -> list[str]:
        """Phrases that go with anything."""
        lists = [entry for name in LISTS_FOR_ALL for entry in self.lists[name]]
        return self.usable([*pieces_of(GENERAL) * 4, *lists])

    @cached_property
    def moods(self) -> dict[str, list[str]]:
        """Phrases by mood; with them the entries of lists that consist of its words."""
        entries = [entry for name in LISTS_FOR_MOODS for entry in self.lists[name]]
        return {
            mood: self.usable([*pieces_of(text), *(each for each in entries if {*words_of(each)} <= {*words_of(text)})])
            for mood, text in MOODS.items()
        }

    @cached_property
    def styles(self) -> list[list[str]]:
        """For each style, its pieces that say nothing but how a picture looks."""
        shelf = read_styles([self.root / "sdxl_styles"])
        texts = [pieces_of(style.prompt) for style in shelf.styles.values()]
        found = [self.usable([piece for piece in pieces if PLACEHOLDER not in piece]) for pieces in texts]
        return [pieces for pieces in found if len(pieces) >= 2]

    @cached_property
    def signs(self) -> dict[str, list[str]]:
        """Word of a prompt -> the moods it speaks of."""
        found: dict[str, list[str]] = {}
        for mood, text in SIGNS.items():
            for word in words_of(text):
                found.setdefault(word, []).append(mood)
        return found

    def usable(self, pieces: Sequence[str]) -> list[str]:
        """The pieces of allowed words only, each word once."""
        split = {piece: piece.split() for piece in pieces}
        return [
            piece for piece in pieces if set(split[piece]) <= self.words and len(set(split[piece])) == len(split[piece])
        ]

    def beginning(self, rng: Random) -> str:
        """What a user might write."""

        def drawn(match: re.Match[str]) -> str:
            name = {"subject": rng.choice(SUBJECTS), "aside": rng.choice(ASIDES)}.get(match[1], match[1])
            return rng.choice(self.lists[name])

        if rng.random() < 0.12:  # a sign by itself, so that each is seen often
            return f"a {rng.choice(sorted(self.signs))}"
        return re.sub(r"\{(\w+)\}", drawn, rng.choice(BEGINNINGS))

    def text(self, rng: Random) -> tuple[str, str]:
        """A beginning, and how it goes on: phrases of a mood, no word twice."""
        begin = self.beginning(rng)
        signs = [mood for word in words_of(begin) for mood in self.signs.get(word, ())]
        mood = rng.choice(signs or NEUTRAL)
        other = rng.choice(signs or NEUTRAL)
        pools = [self.moods[mood]] * 5 + [self.general] * 3 + [self.moods[other]]
        if rng.random() < 0.3:
            pools += [rng.choice(self.styles)] * 2
        used = set(words_of(begin))
        phrases: list[str] = []
        for _ in range(rng.randint(9, 26)):
            piece = rng.choice(rng.choice(pools))
            if used.isdisjoint(words_of(piece)):
                used |= set(words_of(piece))
                phrases.append(piece)
        return begin, ", ".join(phrases)


def trained_tokenizer(corpus: Corpus) -> tokenizers.Tokenizer:
    """A byte-level BPE vocabulary in GPT-2's form, in which every allowed word is one token."""
    rng = Random(1)
    texts = [", ".join(corpus.text(rng)) for _ in range(20_000)]
    texts += ["".join(f" {word}" for word in sorted(corpus.words))] * 200
    encoder = tokenizers.Tokenizer(models.BPE())
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoder.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    encoder.train_from_iterator(texts, trainer)
    split = [word for word in corpus.words if len(encoder.encode(f" {word}").ids) != 1]
    if split:
        raise RuntimeError(f"not one token: {', '.join(split)}")
    return encoder


def batches(corpus: Corpus, encoder: tokenizers.Tokenizer, rng: Random) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (tokens, targets), each [BATCH, CONTEXT]: texts one behind the other; -100 where nothing is learned."""
    (end,) = encoder.encode(END).ids
    tokens: list[int] = []
    targets: list[int] = []
    while True:
        while len(tokens) < BATCH * CONTEXT + 1:
            begin, rest = corpus.text(rng)
            before, after = encoder.encode(f"{begin},").ids, [*encoder.encode(f" {rest}").ids, end]
            tokens += before + after
            targets += [-100] * len(before) + after
        size = BATCH * CONTEXT
        yield torch.tensor(tokens[:size]).view(BATCH, CONTEXT), torch.tensor(targets[1 : size + 1]).view(BATCH, CONTEXT)
        tokens, targets = tokens[size:], targets[size:]


def initialised(params: Gpt2Params) -> Gpt2:
    """A GPT-2 with the usual first weights."""
    network = Gpt2(params)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 2:
            deviation = 0.02 / (2 * params.layers) ** 0.5 if name.endswith("c_proj.weight") else 0.02
            nn.init.normal_(parameter, std=deviation)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    return network


def write(folder: Path, run: Path, params: Gpt2Params, encoder: tokenizers.Tokenizer, words: Sequence[str]) -> None:
    """The files of the published layout."""
    folder.mkdir(parents=True, exist_ok=True)
    encoder.model.save(str(folder))
    (end,) = encoder.encode(END).ids
    config = {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new",
        "vocab_size": params.vocabulary, "n_positions": params.positions, "n_embd": params.width,
        "n_layer": params.layers, "n_head": params.heads, "bos_token_id": end, "eos_token_id": end,
        "tie_word_embeddings": True,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    # That the end may be chosen makes texts as long as they want to be.
    (folder / "positive.txt").write_text("\n".join([*words, END]) + "\n", encoding="utf-8")
    tensors = {f"transformer.{name}": tensor for name, tensor in average_of(run).items()}
    save(tensors, folder / "model.safetensors", {"format": "pt", "modelspec.license": "Apache-2.0"}, torch.float16)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the built-in prompt expansion, and write its files.")
    parser.add_argument("--run", type=Path, default=Path("training/runs/expansion.pt"))
    parser.add_argument("--steps", type=int, default=1_500)
    parser.add_argument("--minutes", type=float, default=15.0, help="then it is saved, to be gone on with")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    torch.manual_seed(1)
    corpus = Corpus()
    encoder = trained_tokenizer(corpus)
    params = Gpt2Params(vocabulary=encoder.get_vocab_size(), positions=CONTEXT, width=WIDTH, layers=LAYERS)
    network = initialised(params)
    run = Run(args.run, network, Schedule(steps=args.steps, rate=3e-3), decay=0.995)
    run.resume()
    supply = batches(corpus, encoder, Random(run.step + 2))

    def loss() -> Tensor:
        tokens, targets = next(supply)
        scores = network.scores(network(tokens))
        return F.cross_entropy(scores.flatten(0, 1), targets.flatten(), ignore_index=-100)

    for _ in run.train(loss, minutes=args.minutes):
        pass
    write(args.out, args.run, params, encoder, sorted(corpus.words))


if __name__ == "__main__":
    main()
