"""What a model file says of itself, on a card: kind, size, network, trigger words; knows no page and loads no weights.

Everything is read from the header of a safetensors file, which a stranger wrote: texts are cut and cleaned, numbers
checked, and what makes no sense is left out. A card is kept, also over restarts, until its file changes.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

from modules.files import (
    LORA_DOWN,
    LORA_DOWN_PEFT,
    MAX_WIDTH,
    Header,
    ModelFileError,
    ModelLibrary,
    Unreadable,
    kind_of,
    read_header,
    text_width,
)

MAX_TITLE = 80
MAX_WORD = 60
MAX_WORDS = 8
MAX_TAG_TEXT = 4_000_000  # characters of JSON; large training sets reach one million
CARD_VERSION = 1

# The width of the text that a network's cross-attention takes tells the families apart.
FAMILIES: Mapping[int, str] = {
    192: "miniature SDXL", 128: "miniature SDXL refiner", 768: "SD 1.5", 1024: "SD 2", 1280: "SDXL refiner",
    2048: "SDXL",
}  # fmt: skip
# What stands in names of tensors, or in what a file states of its architecture, of families without such a width.
_BY_TENSOR = (
    ("double_blocks", "FLUX"), ("single_transformer_blocks", "FLUX"), ("joint_blocks", "SD 3"),
    ("lora_te2_", "SDXL"), ("text_encoder_2.", "SDXL"),
)  # fmt: skip
_BY_STATEMENT = (
    ("flux", "FLUX"), ("stable-diffusion-3", "SD 3"), ("sd3", "SD 3"), ("stable-diffusion-xl", "SDXL"),
    ("sdxl", "SDXL"), ("stable-diffusion-v2", "SD 2"), ("sd_v2", "SD 2"), ("stable-diffusion-v1", "SD 1.5"),
    ("sd_v1", "SD 1.5"),
)  # fmt: skip
_NETWORKS = (
    ("LoHa", ".hada_w1_a"), ("LoKr", ".lokr_w"), ("GLoRA", ".b2.weight"), ("whole differences", ".diff"),
)  # fmt: skip
_FEW_STEPS = re.compile(r"(?<![a-z])(?:lightning|turbo|hyper-?sd\w*|lcm|dmd2?|tcd|[1-8]-?steps?)(?![a-z])", re.I)


@dataclass(frozen=True)
class Card:
    """What is known of a model file.

    ``kind`` is a key of ``files.KINDS``; ``problem`` a sentence if the file cannot be read, then all else is empty.
    ``width`` is that of the text its cross-attention takes, 0 unknown; ``family`` what it is or was trained for, in
    words, empty if unknown. ``few_step`` says how that is known ("by its name"), empty if it is none. ``network`` and
    ``rank`` are a LoRA's, 0 unknown. ``words`` are trigger words, or the tags it was trained with most often.
    """

    kind: str = "unknown"
    problem: str = ""
    width: int = 0
    family: str = ""
    v_prediction: bool = False
    few_step: str = ""
    network: str = ""
    rank: int = 0
    title: str = ""
    words: tuple[str, ...] = ()


def card_of(name: str, header: Header) -> Card:
    """The card of a file called ``name``. Never fails, whatever the header says."""
    kind = kind_of(header)
    kind = "lora" if kind == "unknown" and (_network(header) or _rank(header)) else kind
    width = text_width(header) or 0
    title = cleaned(header.metadata.get("modelspec.title", ""), MAX_TITLE)
    card = Card(
        kind=kind, width=width, family=_family(header, kind, width), title=title,
        v_prediction=_predicts_v(header), few_step=_few_step(name, title, header),
    )  # fmt: skip
    if kind != "lora":
        return card
    return replace(card, network=_network(header) or "LoRA", rank=_rank(header), words=trigger_words(header.metadata))


def cleaned(text: str, limit: int) -> str:
    """One line of printable text, at most ``limit`` characters."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text[: 4 * limit]).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def trigger_words(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """What brings a LoRA's subject about: the words its maker states, else the tags it was trained with most often."""
    stated = _usable(metadata.get("modelspec.trigger_phrase", "")[: 40 * MAX_WORD].split(","))
    return stated or _usable(_frequent_tags(metadata.get("ss_tag_frequency", "")))


class Catalogue:
    """The cards of all model files. A header is read once and again when its file changes. Safe to share."""

    def __init__(self, library: ModelLibrary, kept: Path | None = None) -> None:
        """``kept`` is the file in which the cards outlive the process; it may be lost or broken without harm."""
        self._library = library
        self._kept = kept
        self._lock = Lock()
        self._cards: dict[str, tuple[int, int, Card]] = _read_kept(kept) if kept is not None else {}
        self._changed = False

    def card(self, kind: str, name: str) -> Card:
        """The card of a file, by the name of its folder's kind and its own; one with a ``problem`` if there is none."""
        try:
            path = self._library.find(kind, name)
            status = path.stat()
        except ModelFileError as error:
            return Card(problem=str(error))
        except OSError as error:
            return Card(problem=f"{name} cannot be read: {error.strerror or error}")
        return self._known(path, status) or self._read(path, name, status)

    def names(self, kind: str) -> list[str]:
        """The names of the files of a kind."""
        return self._library.names(kind)

    def cards(self, kind: str, seconds: float) -> dict[str, Card | None]:
        """The cards of all files of a kind; None where reading headers has taken longer than ``seconds`` before."""
        end = time.monotonic() + seconds
        found: dict[str, Card | None] = {}
        for name in self._library.names(kind):
            found[name] = self._at_hand(kind, name) if time.monotonic() > end else self.card(kind, name)
        self.keep()
        return found

    def keep(self) -> None:
        """Writes the cards of the files that are still there to the disk. A disk that refuses costs only time later."""
        with self._lock:
            if self._kept is None or not self._changed:
                return
            self._cards = {path: entry for path, entry in self._cards.items() if os.path.exists(path)}
            entries = {path: [size, when, asdict(card)] for path, (size, when, card) in self._cards.items()}
            part = self._kept.with_name(f".{self._kept.name}.{os.getpid()}")
            with suppress(OSError):
                part.write_text(json.dumps({"version": CARD_VERSION, "cards": entries}), "ascii")
                part.replace(self._kept)
            self._changed = False

    def _at_hand(self, kind: str, name: str) -> Card | None:
        try:
            path = self._library.find(kind, name)
            return self._known(path, path.stat())
        except (ModelFileError, OSError):
            return None

    def _known(self, path: Path, status: os.stat_result) -> Card | None:
        with self._lock:
            size, when, card = self._cards.get(str(path), (0, 0, None))
        return card if (size, when) == (status.st_size, status.st_mtime_ns) else None

    def _read(self, path: Path, name: str, status: os.stat_result) -> Card:
        try:
            card = card_of(name, read_header(path))
        except Unreadable as error:
            return Card(problem=str(error))  # not kept: nothing of the file changes when it can be read again
        except ModelFileError as error:
            card = Card(problem=str(error))
        with self._lock:
            self._cards[str(path)] = (status.st_size, status.st_mtime_ns, card)
            self._changed = True
        return card


def _read_kept(path: Path) -> dict[str, tuple[int, int, Card]]:
    """The cards kept on the disk; none if anything about the file is not as it was written."""
    try:
        kept = json.loads(path.read_text("ascii"))
        if kept["version"] != CARD_VERSION:
            return {}
        return {
            name: (int(size), int(when), Card(**{**card, "words": tuple(map(str, card["words"]))}))
            for name, (size, when, card) in kept["cards"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return {}


def _family(header: Header, kind: str, width: int) -> str:
    if kind == "sdxl-refiner" and width not in FAMILIES:
        return "SDXL refiner"
    if width:
        return FAMILIES.get(width, f"a network for texts of width {width}")
    if kind != "lora":
        return {"sdxl-base": "SDXL", "sd15": "SD 1.5"}.get(kind, "")
    names = "\n".join(header.shapes)
    for part, family in _BY_TENSOR:
        if part in names:
            return family
    stated = " ".join(
        header.metadata.get(key, "")[:200].casefold() for key in ("modelspec.architecture", "ss_base_model_version")
    )
    return next((family for part, family in _BY_STATEMENT if part in stated), "")


def _predicts_v(header: Header) -> bool:
    stated = header.metadata.get("modelspec.prediction_type", "")[:20].strip().casefold()
    return "v_pred" in header.shapes or stated in ("v", "v_prediction", "v-prediction")


def _few_step(name: str, title: str, header: Header) -> str:
    """How it is known that a few steps are enough for this model; empty if it is not."""
    if any(
        tensor.endswith(("time_embed.cond_proj.weight", "time_embedding.cond_proj.weight")) for tensor in header.shapes
    ):
        return "by its tensors"
    return "by its name" if _FEW_STEPS.search(f"{name.replace('_', ' ')} {title}") else ""


def _network(header: Header) -> str:
    """What kind of change a file of the LoRA family holds; empty where it is none, or an ordinary LoRA."""
    for word, ending in _NETWORKS:
        if any(ending in name for name in header.shapes):
            return word
    return ""


def _rank(header: Header) -> int:
    ranks = [
        shape[0]
        for name, shape in header.shapes.items()
        if shape and (name.endswith(LORA_DOWN) or LORA_DOWN_PEFT.search(name))
    ]
    return rank if 0 < (rank := max(ranks, default=0)) < MAX_WIDTH else 0


def _frequent_tags(text: str) -> list[str]:
    """The tags of ``ss_tag_frequency`` ({"folder": {"tag": count}}), most frequent first."""
    if len(text) > MAX_TAG_TEXT:
        return []
    try:
        folders = json.loads(text)
    except (ValueError, RecursionError):
        return []
    counts: Counter[str] = Counter()
    for tag, count in _counted(folders):
        if type(count) is int and 0 < count < 10**9:
            counts[tag.strip()[: 2 * MAX_WORD]] += count
    return [tag for tag, _ in counts.most_common(4 * MAX_WORDS)]


def _counted(folders: Any) -> Iterator[tuple[str, Any]]:
    for tags in folders.values() if isinstance(folders, dict) else ():
        yield from tags.items() if isinstance(tags, dict) else ()


def _usable(words: list[str]) -> tuple[str, ...]:
    """Words as they can stand in a prompt; none that would be read as something else there than a word."""
    lines = (" ".join(word.split()) for word in words)
    plain = (line for line in lines if 0 < len(line) <= MAX_WORD and line.isprintable())
    kept = (line for line in plain if not any(sign in line for sign in ("<", ">", "[[", "]]", "__", ",")))
    return tuple(dict.fromkeys(kept))[:MAX_WORDS]
