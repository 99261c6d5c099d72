"""What lies in the model folders, read from file headers in pure Python; loads no weights and knows no engine."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from modules.controls import check_file_name
from modules.model_folders import ModelFolders
from modules.plan import SDXL_NATIVE, ModelFacts

MAX_HEADER_BYTES = (
    25_000_000  # published ones have up to 4 million; of 100 million, JSON would take gigabytes of memory
)
SD15_NATIVE = 512
NATIVE_SIDES = range(64, 4097)  # pixels; what a header states beyond them is nonsense

# Names of the tensor of a LoRA that reads the network's own input.
LORA_DOWN = (
    ".lora_down.weight", ".lora.down.weight", "_lora.down.weight", ".lora_linear_layer.down.weight", ".hada_w1_b",
)  # fmt: skip
LORA_DOWN_PEFT = re.compile(r"\.lora_A(?:\.\w+)?\.weight$")
PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # how its protocols begin
REFINER_VECTOR = 5 * 256
"""How wide the numbers are that a refiner is told, beside the summary of the text."""
MAX_WIDTH = 100_000  # no network of these families is as wide

# kind -> words for it; the tensors decide, not the name of the file
KINDS: Mapping[str, str] = {
    "sdxl-base": "an SDXL checkpoint",
    "sdxl-refiner": "an SDXL refiner",
    "sd15": "a Stable Diffusion 1.5 checkpoint",
    "lora": "a LoRA",
    "vae": "a VAE alone",
    "unet": "a UNet without text encoders",
    "unknown": "something else",
}


class ModelFileError(ValueError):
    """A model file that is missing, damaged or not what it should be; the message is fit for the user's eyes."""


class Unreadable(ModelFileError):
    """A file that the system does not give now. Nothing is known of its contents, and another time it may be read."""


@dataclass(frozen=True)
class Header:
    """The header of a safetensors file: its metadata, and the shape of each tensor by name."""

    metadata: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]


def read_header(path: Path) -> Header:
    """The header of ``path``, checked against the length of the file; raises ``ModelFileError``.

    Format: 8 bytes little-endian length, JSON of that length, then the tensors' bytes.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if size < 8:
                raise ModelFileError(f"{path.name} is damaged: it has only {size} bytes. Please get it again.")
            if length > min(MAX_HEADER_BYTES, size - 8):
                raise ModelFileError(_not_safetensors(path.name, start, length, size))
            values = json.loads(file.read(length))
    except OSError as error:
        raise Unreadable(f"{path.name} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(_not_safetensors(path.name, start, length, size)) from None
    return _checked(path.name, values, size - 8 - length)


def kind_of(header: Header) -> str:
    """What a file looks like, from the names of its tensors: a key of ``KINDS``."""
    names = header.shapes.keys()

    def has(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in names)

    if has("model.diffusion_model."):
        if has("conditioner.embedders.1."):
            return "sdxl-base"
        if has("conditioner.embedders.0."):
            return "sdxl-refiner"
        if has("cond_stage_model."):
            return "sd15"
        return "sdxl-refiner" if _reads_as_refiner(header) else "unet"
    if any(".lora_" in name or "lora_up" in name or ".hada_" in name or ".lokr_" in name for name in names):
        return "lora"
    if has("decoder.conv_in") or has("first_stage_model.") or has("decoder.up"):
        return "vae"
    return "unet" if has("input_blocks.") or has("down_blocks.") else "unknown"


def _reads_as_refiner(header: Header) -> bool:
    """Whether a UNet reads one text as wide as its summary, and a refiner's numbers: a base reads a wider one."""
    vector = header.shapes.get("model.diffusion_model.label_emb.0.0.weight", ())
    return len(vector) == 2 and vector[1] - (text_width(header) or 0) == REFINER_VECTOR


def native_size(header: Header, kind: str) -> int:
    """The side, in pixels, of the squares a checkpoint was trained on: ``modelspec.resolution``, else by its kind."""
    stated = re.fullmatch(r"(\d{2,5})x(\d{2,5})", header.metadata.get("modelspec.resolution", "").strip())
    side = round(math.sqrt(int(stated[1]) * int(stated[2]))) if stated else 0
    return side if side in NATIVE_SIDES else SD15_NATIVE if kind == "sd15" else SDXL_NATIVE


def text_width(header: Header) -> int | None:
    """The width of the text states that cross-attention reads, of a checkpoint or of a LoRA; None if not to be seen.

    2048 for SDXL, 768 for Stable Diffusion 1.5: a LoRA fits where it is the same.
    """
    for name, shape in header.shapes.items():
        if "attn2" not in name or "to_k" not in name or not 2 <= len(shape) <= 4:
            continue
        width = 0
        if name.endswith(("to_k.weight", "to_k.diff", *LORA_DOWN)) or LORA_DOWN_PEFT.search(name):
            width = shape[1]
        elif name.endswith((".lokr_w1", ".lokr_w1_b")):
            stem = name[: name.index(".lokr_w1")]
            second = header.shapes.get(f"{stem}.lokr_w2") or header.shapes.get(f"{stem}.lokr_w2_b") or (0,)
            width = shape[-1] * second[-1]
        if 0 < width < MAX_WIDTH:
            return width
    return None


class ModelFiles:
    """The model files of one kind, in one or several folders; an earlier folder wins. Safe to share among threads."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)
        self._lock = Lock()
        self._facts: dict[tuple[Path, int, int], ModelFacts] = {}

    def names(self) -> list[str]:
        """Names relative to their folder with forward slashes, folder by folder, sorted without regard to case."""
        found: dict[str, None] = {}
        for folder in self.folders:
            found |= dict.fromkeys(sorted(_walk(folder), key=str.casefold))
        return list(found)

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return any((folder / name).is_file() for folder in self.folders)

    def find(self, name: str) -> Path:
        """The file of this name; raises ``ModelFileError`` naming the folders that were searched."""
        try:
            check_file_name(name)
        except ValueError as error:
            raise ModelFileError(str(error)) from None
        for folder in self.folders:
            if (folder / name).is_file():
                return folder / name
        searched = " or ".join(str(folder) for folder in self.folders)
        raise ModelFileError(f"The file {name} is not in {searched}. Put it there or choose another one.")

    def facts(self, name: str) -> ModelFacts:
        """What the header of a file tells, read again only when the file changes; raises ``ModelFileError``."""
        path = self.find(name)
        try:
            status = path.stat()
        except OSError as error:
            raise ModelFileError(f"{name} cannot be read: {error.strerror or error}") from None
        key = (path, status.st_size, status.st_mtime_ns)
        with self._lock:
            if key not in self._facts:
                header = read_header(path)
                kind = kind_of(header)
                self._facts[key] = ModelFacts(native_size(header, kind), kind, text_width(header))
            return self._facts[key]


class ModelLibrary:
    """The model files of every kind that is chosen by name."""

    def __init__(self, folders: ModelFolders) -> None:
        self._kinds = {kind: ModelFiles(folders.of(kind)) for kind in ("checkpoints", "loras", "vae", "embeddings")}

    @property
    def checkpoints(self) -> ModelFiles:
        """The checkpoints: base models and refiners."""
        return self._kinds["checkpoints"]

    def names(self, kind: str) -> list[str]:
        """The names of a kind, as its controls list them."""
        return self._kinds[kind].names()

    def find(self, kind: str, name: str) -> Path:
        """The file of this kind and name; raises ``ModelFileError`` naming the folders that were searched."""
        return self._kinds[kind].find(name)


def check_base_model(name: str, facts: ModelFacts) -> None:
    """Refuses, in words, a file that cannot be a base model; what is unclear is left to the engine to say."""
    if facts.kind in ("lora", "vae", "unet"):
        raise ModelFileError(
            f"{name} cannot be the base model: it looks like {KINDS[facts.kind]}, needed is {KINDS['sdxl-base']}."
        )


def _walk(folder: Path) -> Iterator[str]:
    for path, _, names in os.walk(folder, followlinks=True):
        for name in names:
            if name.lower().endswith(".safetensors") and not name.startswith(".") and name.isprintable():
                yield (Path(path) / name).relative_to(folder).as_posix()


def _not_safetensors(name: str, start: bytes, length: int, size: int) -> str:
    # Read as a length, the beginning of a pickle is astronomic; that of a cut-off safetensors file may begin like one.
    if start[:4] == b"PK\x03\x04" or (start[:2] in PICKLES and length > MAX_HEADER_BYTES):
        return (
            f"{name} is a pickle (.ckpt, .pt) under another name and could run foreign code: it is not loaded. "
            "Needed is a safetensors file."
        )
    if start[:1] == b"<":
        return f"{name} is a web page, not a model: the download went wrong. Please get it again."
    again = "Please get it again."
    if length > MAX_HEADER_BYTES:
        return f"{name} is not a safetensors file: its first 8 bytes announce a header of {length} bytes. {again}"
    return f"{name} is damaged: its header of {length} bytes is cut off or unreadable (file of {size} bytes). {again}"


def _checked(name: str, values: Any, data_bytes: int) -> Header:
    """The header as typed values; every tensor must lie inside the ``data_bytes`` that are there."""
    if not isinstance(values, dict):
        raise ModelFileError(f"{name} is not a safetensors file: its header is not a JSON object.")
    stated = values.pop("__metadata__", None)
    metadata = stated if isinstance(stated, dict) else {}
    shapes: dict[str, tuple[int, ...]] = {}
    end = 0
    for tensor, facts in values.items():
        try:
            shapes[tensor] = tuple(int(side) for side in facts["shape"])
            end = max(end, int(facts["data_offsets"][1]))
        except (TypeError, KeyError, IndexError, ValueError, OverflowError):
            raise ModelFileError(f"{name} is damaged: its header says nothing sensible about {tensor!r}.") from None
    if end > data_bytes:
        raise ModelFileError(
            f"{name} is cut off: {data_bytes} of {end} bytes of its tensors are there. Please get it again."
        )
    return Header({str(key): str(value) for key, value in metadata.items()}, shapes)
