"""Encoded texts on the disk: found again, kept within bounds, and never in the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from ldm_patched.modules.conditioning import Conditioning
from ldm_patched.modules.text_cache import TextCache

CPU = torch.device("cpu")


def text(seed: int, pooled: bool = True, tokens: int = 77) -> Conditioning:
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(1, 8, generator=generator) if pooled else None
    return [(torch.randn(1, tokens, 16, generator=generator), {"pooled_output": vector})]


@pytest.mark.parametrize("pooled", [True, False])
def test_what_is_put_is_got_bit_by_bit(tmp_path: Path, pooled: bool) -> None:
    TextCache(tmp_path).put(("a", 1), text(0, pooled))
    found = TextCache(tmp_path).get(("a", 1), CPU)
    ((hidden, extras),), ((wanted, more),) = found or [], text(0, pooled)
    assert torch.equal(hidden, wanted)
    assert (extras["pooled_output"] is None) is (more["pooled_output"] is None) is not pooled
    hidden.zero_()  # a copy: what is done with it does not reach the file
    assert TextCache(tmp_path).get(("a", 1), CPU)[0][0].any()  # type: ignore[index]
    assert TextCache(tmp_path).get(("a", 2), CPU) is None


@pytest.mark.parametrize("damage", [b"", b"x" * 100, b"\x80\x04."])
def test_a_damaged_file_is_one_that_is_not_there(tmp_path: Path, damage: bytes) -> None:
    cache = TextCache(tmp_path)
    cache.put("key", text(0))
    (path,) = tmp_path.glob("*/*.safetensors")
    path.write_bytes(damage)
    assert cache.get("key", CPU) is None
    cache.put("key", text(0))
    assert cache.get("key", CPU) is not None


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    size = 77 * 16 * 4
    cache = TextCache(tmp_path, limit=20 * size)
    for number in range(130):
        cache.put(number, text(number))
        for path in tmp_path.glob("*/*"):  # as if a minute had passed
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 60))
        assert cache.get(0, CPU) is not None, "used all the time"
    kept = sum(path.stat().st_size for path in tmp_path.glob("*/*"))
    assert kept < (20 + 64) * 1.2 * size
    assert cache.get(129, CPU) is not None and cache.get(1, CPU) is None
    assert not list(tmp_path.glob("*/*.part"))


def test_a_disk_that_takes_nothing_is_no_obstacle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    (tmp_path / "file").touch()
    cache = TextCache(tmp_path / "file" / "below")
    assert cache.trouble == ""
    for key in ("key", "another", "third"):
        cache.put(key, text(0))
        assert cache.get(key, CPU) is None
    assert cache.trouble.startswith(f"Encoded texts cannot be kept in {tmp_path / 'file' / 'below'}: ")
    assert [record.message for record in caplog.records] == [cache.trouble], "one quiet line"
