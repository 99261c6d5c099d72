"""Where model files of each kind lie; knows no file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ModelFolders:
    """The folders of the kinds that are chosen by name, each searched in order, and the one of preview decoders.

    ``expansion`` are folders of one prompt expansion each; the first that holds one is used, the last is the built-in.
    """

    checkpoints: tuple[Path, ...]
    loras: tuple[Path, ...]
    vae: tuple[Path, ...]
    embeddings: tuple[Path, ...]
    previews: Path
    expansion: tuple[Path, ...]

    @staticmethod
    def under(models: Path) -> ModelFolders:
        """The usual names, all in one folder."""
        return ModelFolders(
            checkpoints=(models / "checkpoints",),
            loras=(models / "loras",),
            vae=(models / "vae",),
            embeddings=(models / "embeddings",),
            previews=models / "vae_approx",
            expansion=tuple(models / "prompt_expansion" / name for name in ("fooocus_expansion", "pinhole-mini")),
        )

    def of(self, kind: str) -> tuple[Path, ...]:
        """The folders of a kind, by the name that the controls call it."""
        return {
            "checkpoints": self.checkpoints,
            "loras": self.loras,
            "vae": self.vae,
            "embeddings": self.embeddings,
        }[kind]
