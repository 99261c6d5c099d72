"""How much room a disk has, and numbers of bytes in words; knows no file."""

from __future__ import annotations

import shutil
from pathlib import Path


def free_bytes(folder: Path) -> int:
    """How much is free on the disk of ``folder``, which need not be there yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def in_words(count: float) -> str:
    """A number of bytes: ``6.9 GB``, in units of a thousand, as disks are sold."""
    for unit in ("bytes", "kB", "MB"):
        if count < 999.5:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
