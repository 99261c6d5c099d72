"""What parts of a model and files are called, wherever something is meant for one of them. Knows no tensor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TowerPart = Literal["clip_l", "clip_g"]
"""OpenAI's text tower (the smaller one of SDXL, the only one of SD 1.5), and open_clip's (of SDXL and its refiner)."""

Part = Literal["unet", "clip_l", "clip_g"]


@dataclass(frozen=True, order=True)
class FileIdentity:
    """A file as it was at one moment: where it is, its bytes, when it was written (ns since 1970).

    Equal identities mean that nothing has to be read again.
    """

    path: str
    size: int
    modified: int

    @classmethod
    def of(cls, path: Path) -> FileIdentity:
        """The identity of a file as it is now. Raises OSError if there is none."""
        status = path.stat()
        return cls(str(path), status.st_size, status.st_mtime_ns)

    @property
    def name(self) -> str:
        """The file's name without its folder, for messages."""
        return Path(self.path).name
