"""Safe reading of weights: safetensors files, memory-mapped, nothing unpickled. Knows no network and no kind of model.

The format: 8 bytes with the header's length (little endian), the header as JSON ({name: {dtype, shape,
data_offsets}}, and "__metadata__" with strings), then the data.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MAX_HEADER = 25_000_000
"""Largest header that is read, in bytes: several times the largest published; JSON takes 20 times as much memory."""

_DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_PIECE = 32_768
_MAP_NORESERVE = 0x4000 if sys.platform == "linux" else 0


class WeightsError(ValueError):
    """A file of weights cannot be used. The message names the file, what it looks like and what was expected."""


@dataclass(frozen=True)
class TensorInfo:
    """What the header says about a tensor. begin, end: byte offsets in the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


class TensorFile(Mapping[str, Tensor]):
    """The tensors of a safetensors file, as views on a memory map.

    A view holds the map; the file is closed when the last view is gone. Views are private: writing into one
    changes neither the file nor another process's view. Raises WeightsError for whatever is no intact
    safetensors file, before any tensor is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.infos, self.metadata = read_header(path)
        self._map = _map_file(path)
        if len(self._map) < max((info.end for info in self.infos.values()), default=0):
            raise WeightsError(f"{path.name} was cut short while it was being opened")

    def __getitem__(self, name: str) -> Tensor:
        info = self.infos[name]
        if info.begin == info.end:
            return torch.empty(info.shape, dtype=info.dtype)
        if info.begin % info.dtype.itemsize:  # old writers do not pad the header; such tensors need a copy
            raw = torch.frombuffer(self._map, dtype=torch.uint8, count=info.end - info.begin, offset=info.begin)
            return raw.clone().view(info.dtype).view(info.shape)
        flat = torch.frombuffer(self._map, dtype=info.dtype, count=math.prod(info.shape), offset=info.begin)
        return flat.view(info.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.infos)

    def __len__(self) -> int:
        return len(self.infos)

    def prefetch(self, names: Iterable[str]) -> None:
        """Ask the system to read the tensors into memory: in large pieces, while something else is computed."""
        self._advise(names, "MADV_WILLNEED")

    def release(self, names: Iterable[str]) -> None:
        """Give back the memory of tensors that were copied. A view that still exists reads the file again."""
        self._advise(names, "MADV_DONTNEED")

    def _advise(self, names: Iterable[str], advice: str) -> None:
        option = getattr(mmap, advice, None)
        if option is None:  # not on Windows
            return
        for begin, end in _joined(self.infos[name] for name in names):
            page = begin - begin % mmap.PAGESIZE
            self._map.madvise(option, page, end - page)


def _joined(infos: Iterable[TensorInfo]) -> list[tuple[int, int]]:
    """Byte ranges of tensors, neighbours joined: one system call instead of dozens."""
    ranges: list[tuple[int, int]] = []
    for begin, end in sorted((info.begin, info.end) for info in infos if info.end > info.begin):
        if ranges and begin - ranges[-1][1] < mmap.PAGESIZE:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((begin, end))
    return ranges


def _map_file(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        if sys.platform == "win32":
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        # Private and writable, because torch has no read-only tensors. "Noreserve" keeps a machine with less memory
        # than the file from refusing the map: the pages are the file's, nobody writes to them.
        flags = mmap.MAP_PRIVATE | _MAP_NORESERVE
        return mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def with_prefix(names: Iterable[str], prefix: str) -> dict[str, str]:
    """The names that begin with a prefix, as {name without it: name}."""
    return {name[len(prefix) :]: name for name in names if name.startswith(prefix)}


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """`tensor.to(dtype)`, and on a processor more than twice as fast from float16 to bfloat16.

    torch converts that pair number by number, but either of them from and to float32 with vector instructions.
    In pieces that stay in the cache and under torch's limit for using several threads, whose start and end would
    take longer than the work.
    """
    if tensor.device.type != "cpu" or (tensor.dtype, dtype) != (torch.float16, torch.bfloat16):
        return tensor.to(dtype)
    source = tensor.contiguous().view(-1)
    target = torch.empty(source.shape, dtype=dtype)
    middle = torch.empty(min(_PIECE, len(source)))
    for begin in range(0, len(source), _PIECE):
        piece = source[begin : begin + _PIECE]
        target[begin : begin + _PIECE] = middle[: len(piece)].copy_(piece)
    return target.view(tensor.shape)


# The header


def read_header(path: Path) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """Tensors and metadata of a safetensors file, checked against its size. Raises WeightsError."""
    if not path.exists():
        raise WeightsError(f"{path.name} does not exist in {path.parent}")
    if path.is_dir():
        raise WeightsError(f"{path.name} is a folder; expected a safetensors file")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length > min(MAX_HEADER, size - 8):
                raise WeightsError(f"{path.name} {_looks(path, start, size)}; expected a safetensors file")
            header = file.read(length)
    except OSError as error:
        raise WeightsError(f"{path.name} cannot be read: {error.strerror or error}") from error
    fields = _parse(path, header, start, size)
    metadata = fields.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict):
        raise WeightsError(f"{path.name} is damaged: its metadata is no table")
    infos = {name: _info(path, name, field, 8 + length) for name, field in fields.items()}
    _check_data(path, infos, 8 + length, size)
    return infos, {str(key): str(value) for key, value in metadata.items()}


def _parse(path: Path, header: bytes, start: bytes, size: int) -> dict[str, Any]:
    try:
        fields = json.loads(header.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        if header[:1] == b"{":
            raise WeightsError(f"{path.name} is damaged: its header cannot be read") from error
        raise WeightsError(f"{path.name} {_looks(path, start, size)}; expected a safetensors file") from error
    if not isinstance(fields, dict):
        raise WeightsError(f"{path.name} is damaged: its header is no table of tensors")
    return fields


def _looks(path: Path, start: bytes, size: int) -> str:
    """What a file that is no safetensors file seems to be, as the rest of a sentence."""
    if size == 0:
        return "is empty (0 bytes): the download or copy did not finish"
    if zipfile.is_zipfile(path):
        return "is a zip archive, as PyTorch's .ckpt and .pt files are, and not safe to open whatever its name says"
    if start[:2] in {b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"}:
        return "is a Python pickle (.ckpt, .pt), and not safe to open whatever its name says"
    if start[:4] == b"GGUF":
        return "is a GGUF file"
    if start[:5].lower() in {b"<!doc", b"<html"}:
        return "is a web page: the download gave an error page instead of the file"
    if start[:7] == b"version":
        return "is a Git LFS pointer, not the file itself"
    if len(start) == 8 and 2 <= int.from_bytes(start, "little") <= MAX_HEADER and _second(path) == b"{":
        return f"is cut short: it ends after {size:,} bytes, inside its header"
    return "is no safetensors file"


def _second(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(9)[8:]


def _info(path: Path, name: str, field: Any, data: int) -> TensorInfo:
    try:
        dtype, shape, (begin, end) = field["dtype"], field["shape"], field["data_offsets"]
        whole = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path.name} is damaged: the header's entry of {name!r} is not a tensor's") from error
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise WeightsError(f"{path.name} stores {name!r} as {dtype}; known are {', '.join(_DTYPES)}")
    kind = _DTYPES[dtype]
    if not whole or end - begin != math.prod(shape) * kind.itemsize:
        raise WeightsError(f"{path.name} is damaged: {name!r} is said to be {dtype} {shape} in bytes {begin} to {end}")
    return TensorInfo(kind, tuple(shape), data + begin, data + end)


def _check_data(path: Path, infos: Mapping[str, TensorInfo], data: int, size: int) -> None:
    expected = data
    for info in sorted(infos.values(), key=lambda info: (info.begin, info.end)):
        if info.begin != expected:
            raise WeightsError(f"{path.name} is damaged: its tensors overlap or leave gaps at byte {expected:,}")
        expected = info.end
    if expected > size:
        missing = expected - size
        raise WeightsError(
            f"{path.name} is cut short: {missing:,} of {expected:,} bytes are missing; download it again"
        )
    if expected < size:
        raise WeightsError(f"{path.name} is damaged: {size - expected:,} bytes follow the last tensor")
