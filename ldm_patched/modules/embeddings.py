"""Textual-inversion embeddings (arXiv 2208.01618): files whose vectors stand in a text like tokens. Knows no tower.

`embedding:name` in a text means the file of that name, without its extension, in the folder of embeddings or below.
Names are looked up in a list of what is there, so none can lead out of the folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ldm_patched.modules.parts import FileIdentity, TowerPart
from ldm_patched.modules.state_dict import TensorFile, WeightsError

MAX_VECTORS = 750
"""Vectors of an embedding: ten chunks of a text. Published ones have 1 to 75."""

_WORD = re.compile(r"(?<!\w)embedding:([^\s,]+)", re.IGNORECASE)
_PUNCTUATION = ".;:!?'\"()[]{}"
_SAFETENSORS = ".safetensors"
_PICKLES = frozenset({".pt", ".bin", ".ckpt", ".pth"})
_KEYS: Mapping[TowerPart, tuple[str, ...]] = {
    "clip_l": ("clip_l", "text_encoders_0"),
    "clip_g": ("clip_g", "text_encoders_1"),
}
_WIDTHS = {768: "Stable Diffusion 1.5", 1024: "Stable Diffusion 2", 1280: "the SDXL refiner"}


@dataclass(frozen=True)
class Embedding:
    """The vectors of a file: [n, width] for each tower, the same n for all. Equal identities promise equal vectors."""

    identity: FileIdentity
    vectors: Mapping[TowerPart, Tensor]

    @property
    def count(self) -> int:
        """How many tokens it stands for."""
        return len(next(iter(self.vectors.values())))


@dataclass(frozen=True)
class Embeddings:
    """The embeddings that some texts may name, and what has to be said about those that are not there.

    found: by name, in lower case. The vectors of all are numbered through in this order.
    """

    found: Mapping[str, Embedding]
    warnings: tuple[str, ...] = ()

    def split(self, text: str) -> Iterator[str | range]:
        """The pieces of a text in order: words as they are, and for each embedding the numbers of its vectors.

        A name that is not found is left out. Punctuation after a name is text.
        """
        numbers = self._numbers()
        end = 0
        for match in _WORD.finditer(text):
            yield text[end : match.start()]
            name = self._named(match[1])
            if name is not None:
                yield numbers[_key(name)]
            end = match.start(1) + len(match[1] if name is None else name)
        yield text[end:]

    def used_in(self, pieces: Iterable[str]) -> tuple[FileIdentity, ...]:
        """Which files pieces of a text (without weights and brackets) depend on, besides their words."""
        named = (self._named(match[1]) for piece in pieces for match in _WORD.finditer(piece))
        keys = dict.fromkeys(_key(name) for name in named if name is not None)
        return tuple(self.found[key].identity for key in keys)

    def table(self, part: TowerPart) -> Tensor | None:
        """All vectors of a tower [n, width] by their numbers, or None if there are none."""
        vectors = [embedding.vectors[part] for embedding in self.found.values()]
        return torch.cat(vectors) if vectors else None

    def _named(self, word: str) -> str | None:
        """The part of a word that is the name of an embedding, as it is spelled there."""
        return next((name for name in _spellings(word) if _key(name) in self.found), None)

    def _numbers(self) -> dict[str, range]:
        numbers: dict[str, range] = {}
        first = 0
        for name, embedding in self.found.items():
            numbers[name] = range(first, first + embedding.count)
            first += embedding.count
        return numbers


NO_EMBEDDINGS = Embeddings({})


def _spellings(word: str) -> Iterator[str]:
    """What a word of a text may name: all of it, or less and less of the punctuation at its end."""
    yield word
    while word and word[-1] in _PUNCTUATION:
        word = word[:-1]
        yield word


def _key(name: str) -> str:
    """A name as it is looked up: in lower case, folders divided by /."""
    return name.replace("\\", "/").casefold()


def find_embeddings(pieces: Iterable[str], folders: Sequence[Path], widths: Mapping[TowerPart, int]) -> Embeddings:
    """The embeddings that pieces of texts (without weights and brackets) name.

    folders: where to look, the first one wins. widths: of the vectors of each of the model's text towers. A missing
    file is a warning. Raises WeightsError, with a sentence for the user, for a file that does not fit the model.
    """
    words = dict.fromkeys(match[1] for piece in pieces for match in _WORD.finditer(piece))
    if not words:
        return NO_EMBEDDINGS
    present = _present(folders)
    found: dict[str, Embedding] = {}
    warnings: list[str] = []
    for word in words:
        name = next((_key(name) for name in _spellings(word) if _key(name) in present), None)
        if name is None:
            places = ", ".join(str(folder) for folder in folders)
            warnings.append(f'There is no embedding "{word}" in {places}; the text is used without it.')
        elif present[name].suffix.lower() in _PICKLES:
            file = present[name].name
            warnings.append(
                f"The embedding {file} is a Python pickle, which is not safe to open; convert it to safetensors. "
                "The text is used without it."
            )
        elif name not in found:
            found[name] = read_embedding(present[name], widths)
    return Embeddings(found, tuple(warnings))


def _present(folders: Sequence[Path]) -> dict[str, Path]:
    """Files by the names that texts may use: with and without folder, with and without extension. In lower case.

    Of several files with one name, a safetensors file is preferred, then the earlier folder, then the outer one.
    """
    files = [
        (suffix in _PICKLES, order, len(path.parts), path, folder)
        for order, folder in enumerate(folders)
        for path in folder.rglob("*")
        if (suffix := path.suffix.lower()) == _SAFETENSORS or suffix in _PICKLES
    ]
    present: dict[str, Path] = {}
    for *_, path, folder in sorted(files):
        inside = path.relative_to(folder)
        for name in (inside.with_suffix("").as_posix(), inside.as_posix(), path.stem, path.name):
            present.setdefault(_key(name), path)
    return present


def read_embedding(path: Path, widths: Mapping[TowerPart, int]) -> Embedding:
    """The vectors of a safetensors file for towers of these widths. Raises WeightsError for what does not fit."""
    file = TensorFile(path)
    names = _tensor_names(file, widths)
    held = ", ".join(f"{name} {list(file.infos[name].shape)}" for name in sorted(file)[:3]) or "nothing"
    if names is None:
        raise WeightsError(
            f"{path.name} is no embedding for {_model(widths)}: it holds {held}; expected {_expected(widths)}"
        )
    vectors: dict[TowerPart, Tensor] = {}
    for part, name in names.items():
        tensor = torch.atleast_2d(file[name].to(torch.float32))
        if tensor.ndim != 2 or tensor.shape[1] != widths[part]:
            width = file.infos[name].shape[-1] if file.infos[name].shape else 1
            looks = f" (an embedding for {_WIDTHS[width]})" if width in _WIDTHS else ""
            raise WeightsError(
                f"{path.name} does not fit this model: its vectors {name!r} are {width} wide{looks}; "
                f"expected {_expected(widths)}"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{path.name} is damaged: {name!r} holds NaN or infinity")
        vectors[part] = tensor
    counts = {len(tensor) for tensor in vectors.values()}
    if len(counts) != 1 or not 1 <= max(counts) <= MAX_VECTORS:
        raise WeightsError(
            f"{path.name} has {' and '.join(map(str, sorted(counts)))} vectors; "
            f"expected 1 to {MAX_VECTORS}, the same number for each text encoder"
        )
    return Embedding(FileIdentity.of(path), vectors)


def _tensor_names(file: TensorFile, widths: Mapping[TowerPart, int]) -> dict[TowerPart, str] | None:
    """Which tensor holds the vectors of each tower; None if the file is for other towers."""
    own = {part: next((key for key in keys if key in file), None) for part, keys in _KEYS.items()}
    if len(widths) == 1 and not any(own.values()):
        only = "emb_params" if "emb_params" in file else min(file, default=None)
        return {next(iter(widths)): only} if only and (len(file) == 1 or only == "emb_params") else None
    if tuple(widths) == ("clip_l",) and own["clip_g"]:  # SDXL's smaller tower, but trained beside the larger one
        return None
    chosen = {part: name for part in widths if (name := own[part])}
    return chosen if len(chosen) == len(widths) else None


def _expected(widths: Mapping[TowerPart, int]) -> str:
    if len(widths) == 1:
        return f"vectors {next(iter(widths.values()))} wide"
    return " and ".join(f"{part} {width} wide" for part, width in widths.items())


def _model(widths: Mapping[TowerPart, int]) -> str:
    if len(widths) == 1:
        return _WIDTHS.get(next(iter(widths.values())), "a model with one text encoder")
    return "SDXL" if tuple(widths.values()) == (768, 1280) else "a model of SDXL's kind"
