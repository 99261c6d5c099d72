"""Expanding prompts: against transformers' own generation, and what must hold of every text that comes out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
import torch
from hypothesis import given, settings, strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, LogitsProcessorList, set_seed

from ldm_patched.modules.expansion import CHUNK, END, Expander, ExpansionError
from ldm_patched.modules.tokenizer import FULL_ROWS, Tokenizer
from tests.architecture import ROOT

MINI = ROOT / "models" / "prompt_expansion" / "pinhole-mini"
PROMPTS = (
    "a red cat", "portrait of a knight in armour", "snow", "Ein großer Bär, (blue:1.3) sky", "猫, 🐈", "a, b, c",
    "one two three four five six seven eight nine ten " * 30,
)  # fmt: skip


@pytest.fixture(scope="module")
def mini() -> Expander:
    return Expander.load(MINI)


@pytest.fixture(scope="module")
def encoder() -> tokenizers.Tokenizer:
    found = tokenizers.Tokenizer(models.BPE.from_file(str(MINI / "vocab.json"), str(MINI / "merges.txt")))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    return found


def listed() -> set[str]:
    return set((MINI / "positive.txt").read_text().split())


@pytest.mark.slow
def test_200_seeds_give_the_same_allowed_words_within_the_length(mini: Expander, encoder: tokenizers.Tokenizer) -> None:
    again = Expander.load(MINI)
    texts: set[str] = set()
    for seed in range(200):
        prompt = PROMPTS[seed % len(PROMPTS)].strip()
        text = mini.expand(prompt, seed)
        assert text.startswith(prompt)
        added = text.removeprefix(prompt)
        assert set(added.replace(",", " ").split()) <= listed() - {END}
        before, after = (len(encoder.encode(each).ids) for each in (f"{prompt},", text))
        assert after <= CHUNK * -(-before // CHUNK)
        assert ", ," not in text and not text.endswith((",", " "))
        if seed < 20:
            assert again.expand(prompt, seed) == text
        texts.add(added)
    assert len(texts) > 190


def test_it_adds_something_different_for_each_seed_and_ends_by_itself(mini: Expander) -> None:
    texts = [mini.expand("a lighthouse", seed) for seed in range(20)]
    counts = [len(text.split(",")) for text in texts]
    assert len(set(texts)) == 20
    assert min(counts) > 2 and max(counts) < 40


@given(st.text(max_size=60).filter(lambda text: bool(text.strip())), st.integers(0, 2**63 - 1))
@settings(max_examples=15, deadline=None)
def test_whatever_is_written_is_kept(mini: Expander, text: str, seed: int) -> None:
    assert mini.expand(text, seed).startswith(text)


def test_a_full_chunk_and_an_empty_text_stay_as_they_are(mini: Expander, encoder: tokenizers.Tokenizer) -> None:
    full = "cinematic" + " glow" * 200
    while len(encoder.encode(f"{full},").ids) % CHUNK:
        full = full.rpartition(" ")[0]
    assert mini.expand(full, 1) == full
    assert mini.expand(" ", 1) == " "


def test_the_list_of_the_built_in_words_is_clean() -> None:
    clip = Tokenizer(FULL_ROWS)
    words = (MINI / "positive.txt").read_text().split()
    assert words == [*sorted(words[:-1]), END] and len(set(words)) == len(words) > 350
    assert all(word.isascii() and word.islower() and clip.encode(word)[0][1:] == [] for word in words[:-1])


def test_the_built_in_files_are_small() -> None:
    assert sum(path.stat().st_size for path in MINI.iterdir()) < 8_000_000


class Allowed:
    """The rule of behaviour, written out once more: a large negative number on everything that is not allowed."""

    def __init__(self, ids: list[int], comma: int) -> None:
        self.ids, self.comma = ids, comma

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        bias = torch.full_like(scores, -8192.0)
        bias[:, self.ids] = 0
        bias[0, input_ids[0]] = -8192.0
        bias[:, self.comma] = 0
        return scores + bias


def published(folder: Path) -> GPT2LMHeadModel:
    """A random GPT-2 in the files of a published one, with the built-in vocabulary, and a list without an end."""
    vocabulary = json.loads((MINI / "vocab.json").read_text())
    torch.manual_seed(5)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(vocabulary), n_positions=160, n_embd=64, n_layer=2, n_head=1)
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(MINI / name, folder / name)
    (folder / "positive.txt").write_text("\n".join(sorted(listed() - {END})[:200]) + "\n")
    return model


def test_a_seed_draws_the_words_that_transformers_draws(tmp_path: Path, encoder: tokenizers.Tokenizer) -> None:
    model = published(tmp_path)
    words = (tmp_path / "positive.txt").read_text().split()
    vocabulary = encoder.get_vocab()
    ids = [vocabulary[f"\u0120{word}"] for word in words]
    allowed = LogitsProcessorList([Allowed(ids, vocabulary[","])])
    expander = Expander.load(tmp_path)
    for seed in (0, 7, 2**32 + 7):
        read = encoder.encode("a red cat, glow,").ids
        set_seed(seed % 2**32)
        wanted = model.generate(
            torch.tensor([read]), do_sample=True, top_k=100, max_new_tokens=CHUNK - len(read), logits_processor=allowed,
            pad_token_id=0, eos_token_id=None, attention_mask=torch.ones(1, len(read), dtype=torch.long),
        )[0]  # fmt: skip
        text = encoder.decode(wanted.tolist())
        pieces = [piece.strip() for piece in text.split(",") if piece.strip()]
        assert expander.expand("a red cat, glow", seed) == ", ".join(pieces)
        assert len(wanted) == CHUNK


def test_a_folder_without_a_list_uses_the_one_it_is_given(tmp_path: Path) -> None:
    published(tmp_path)
    (tmp_path / "positive.txt").unlink()
    words = tmp_path / "mine.txt"
    words.write_text("cinematic\nzzzznotaword\n")
    assert set(Expander.load(tmp_path, words).expand("a cat", 1).split(", ")) == {"a cat", "cinematic"}


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def rename(folder: Path) -> None:
    tensors = {
        name.replace("c_fc", "other"): tensor for name, tensor in load_file(folder / "model.safetensors").items()
    }
    save_file(tensors, folder / "model.safetensors")


def number_far(folder: Path) -> None:
    """A vocabulary that is as large as the network's, with an id that is not."""
    path = folder / "vocab.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"zebra": 10**6}))


def with_no_width(folder: Path) -> None:
    names = {"wte.weight": (9, 0), "wpe.weight": (80, 0), "h.0.attn.c_attn.weight": (0, 0)}
    save_file({name: torch.zeros(shape) for name, shape in names.items()}, folder / "model.safetensors")


def test_damaged_weights_are_said_when_words_are_drawn(tmp_path: Path) -> None:
    published(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["transformer.ln_f.weight"][0] = torch.nan
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ExpansionError, match=r"model\.safetensors gives invalid numbers"):
        Expander.load(tmp_path).expand("a red cat", 1)


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (truncate, "cut short"),
        (number_far, "has 1,000,001 tokens"),
        (with_no_width, "attention is not that of a GPT-2"),
        (rename, "is not a GPT-2"),
        (lambda folder: (folder / "merges.txt").unlink(), "merges.txt cannot be read"),
        (lambda folder: (folder / "vocab.json").write_text("[1]"), "not the vocabulary"),
        (lambda folder: (folder / "vocab.json").write_bytes(b"\xff\xfe"), "UTF-8"),
        (lambda folder: (folder / "positive.txt").write_text("zzzz\n"), "none of the words"),
        (lambda folder: save_file({"x": torch.zeros(1)}, folder / "model.safetensors"), "no tensor wte"),
    ],
)
def test_what_is_broken_is_said(tmp_path: Path, break_it: Callable[[Path], None], words: str) -> None:
    published(tmp_path)
    break_it(tmp_path)
    with pytest.raises(ExpansionError, match=words):
        Expander.load(tmp_path)
