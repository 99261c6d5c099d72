"""The expansion of prompts as jobs ask for it: whose model adds the words, and words that were added before.

Knows no network and no page. The model is read in the engine process, when words are first asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ldm_patched.modules.parts import FileIdentity
from modules.plan import ImageJob
from modules.styles import EXPANSION_STYLE

if TYPE_CHECKING:
    from ldm_patched.modules.expansion import Expander

KEPT = 1_000  # texts
WEIGHTS, PICKLE, WORDS = "model.safetensors", "pytorch_model.bin", "positive.txt"
CONVERT = (
    'python -c "import torch, safetensors.torch as s; s.save_file({name: tensor.clone() for name, tensor in '
    f"torch.load('{PICKLE}', map_location='cpu', weights_only=True).items()}}, '{WEIGHTS}')\""
)
"""torch and safetensors are Pinhole's own. With ``weights_only`` torch reads tensors and refuses everything else."""

Note = Callable[[str], None]
Identity = tuple[FileIdentity, ...]


class Expand(Protocol):
    """What adds words to texts."""

    def __call__(self, text: str, seed: int, note: Note) -> str:
        """``text`` and the words that follow it; empty, with a sentence for the user, when there are none."""


def completed(
    jobs: Iterable[ImageJob], expand: Expand, note: Note, stopped: Callable[[], bool] = lambda: False
) -> list[ImageJob]:
    """The jobs, with the expansion of those that ask for one; once ``stopped`` is true, as they are."""
    done = []
    for job in jobs:
        text = expand(job.expand, job.seed, note) if job.expand and not stopped() else ""
        done.append(replace(job, positive=(*job.positive, text), expansion=text) if text else job)
    return done


def added_words(text: str, expansion: str) -> str:
    """What an expansion has added to the text."""
    return expansion.removeprefix(text).lstrip(", ")


class Expansions:
    """Adds words by the first of the folders that can, and keeps the texts that were asked for last."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)
        self._loaded: tuple[Identity, Expander] | None = None
        self._texts: OrderedDict[tuple[Identity, str, int], str] = OrderedDict()

    def __call__(self, text: str, seed: int, note: Note) -> str:
        """See ``Expand``. The same files, text and seed give the same words.

        Of a model that cannot be used the reason is told, and the next one adds the words.
        """
        for folder in self._folders:
            if not (folder / WEIGHTS).is_file():
                if (folder / PICKLE).is_file():
                    note(
                        f"{PICKLE} in {folder.name} is a pickle, which could run foreign code: it is not opened. "
                        f"Needed is {WEIGHTS}. Entered in that folder, this command makes it without running any: "
                        f"{CONVERT}"
                    )
                continue
            try:
                found = self._expanded(folder, text, seed)
            except (ValueError, OSError) as error:
                note(f"The prompt expansion in {folder.name} cannot be used: {error}.")
            else:
                return "" if found == text else found
        note(f"{EXPANSION_STYLE} adds nothing: there is no model of it. The prompt is used as written.")
        return ""

    def _expanded(self, folder: Path, text: str, seed: int) -> str:
        """The text with the words of the model in a folder, kept for the next time."""
        identity, expander = self._model(folder)
        key = (identity, text, seed)
        found = self._texts.pop(key, None)
        if found is None:
            found = expander.expand(text, seed)
        self._texts[key] = found
        while len(self._texts) > KEPT:
            self._texts.popitem(last=False)
        return found

    def _model(self, folder: Path) -> tuple[Identity, Expander]:
        """The model in a folder, read again when one of its files is another one."""
        from ldm_patched.modules.expansion import Expander  # here, not above: it loads torch

        words = self._folders[-1] / WORDS
        used = [folder / WEIGHTS, *filter(Path.is_file, (folder / WORDS, words))]
        identity = tuple(map(FileIdentity.of, used))
        if self._loaded is None or self._loaded[0] != identity:
            self._loaded = (identity, Expander.load(folder, words))
        return self._loaded
