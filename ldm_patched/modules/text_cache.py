"""Encoded texts on the disk, found again by everything they depend on. Knows no text encoder."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path

import torch
from safetensors.torch import save

from ldm_patched.modules.conditioning import Conditioning
from ldm_patched.modules.state_dict import TensorFile, WeightsError

log = logging.getLogger(__name__)

LIMIT = 512 << 20
"""Bytes that a folder may hold; SDXL's 77 tokens take 0.6 MB."""

_SWEEP_EVERY = 64
"""New texts between two looks at how much there is."""


class TextCache:
    """A folder of encoded texts. What was not used for the longest time goes first when it is full.

    Several processes may share it. A file that is damaged counts as one that is not there, and so does a disk that
    takes nothing: the text is encoded again.
    """

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self._folder = folder
        self._limit = limit
        self._added = 0
        self.trouble = ""
        """Why the first text that could not be kept was not, as a sentence; empty if all were."""

    def get(self, key: Hashable, device: torch.device) -> Conditioning | None:
        """The conditioning kept under a key (of plain values: its `repr` is what counts), on a device."""
        path = self._path(key)
        try:
            file = TensorFile(path)
            hidden = file["hidden"].to(device, copy=True)
            pooled = file["pooled"].to(device, copy=True) if "pooled" in file.infos else None
        except (OSError, WeightsError, KeyError):
            return None
        with suppress(OSError):  # whose file it is does not matter
            os.utime(path)
        return [(hidden, {"pooled_output": pooled})]

    def put(self, key: Hashable, conditioning: Conditioning) -> None:
        """Keep a conditioning of one text, if the disk takes it; `trouble` tells."""
        ((hidden, extras),) = conditioning
        pooled = extras["pooled_output"]
        tensors = {"hidden": hidden} if pooled is None else {"hidden": hidden, "pooled": pooled}
        path = self._path(key)
        part = path.with_suffix(f".{secrets.token_hex(4)}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}))
            part.replace(path)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            if not self.trouble:  # a disk that is full would else be told of with every text
                self.trouble = f"Encoded texts cannot be kept in {self._folder}: {error.strerror or error}."
                log.info("%s", self.trouble)
            return
        self._added += 1
        if self._added % _SWEEP_EVERY == 1:
            self._sweep()

    def _path(self, key: Hashable) -> Path:
        name = hashlib.sha256(repr(key).encode()).hexdigest()
        return self._folder / name[:2] / f"{name[2:]}.safetensors"

    def _sweep(self) -> None:
        """Remove what was used longest ago, until a tenth of the room is free."""
        found: list[tuple[float, int, Path]] = []
        for path in self._folder.glob("*/*"):
            try:
                status = path.stat()
            except OSError:  # another process has removed it
                continue
            found.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in found)
        if total <= self._limit:
            return
        for _, size, path in sorted(found):
            with suppress(OSError):  # another process uses it
                path.unlink()
                total -= size
            if total <= 0.9 * self._limit:
                return
