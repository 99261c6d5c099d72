"""What the tests of the application share: a miniature home for it, and workers that are closed again."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modules.async_worker import AsyncWorker
from modules.parameters import BUILT_IN_MODEL
from modules.settings import Settings, built_in_settings
from modules.workplace import create_worker
from tests.modules.stand_in import build

ROOT = Path(__file__).resolve().parents[2]


def safetensors(path: Path, names: list[str], metadata: dict[str, str] | None = None) -> Path:
    """A file of one-element tensors with these names."""
    header: dict[str, object] = {
        name: {"dtype": "F16", "shape": [1], "data_offsets": [2 * number, 2 * number + 2]}
        for number, name in enumerate(names)
    }
    if metadata:
        header["__metadata__"] = metadata
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(2 * len(names)))
    return path


REFINER_NAMES = ["model.diffusion_model.out.0.weight", "conditioner.embedders.0.model.ln_final.weight"]
SDXL_NAMES = ["model.diffusion_model.out.0.weight", "conditioner.embedders.1.model.ln_final.weight"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The settings of an application in an empty folder, with a checkpoint for 64-pixel squares."""
    found = built_in_settings(tmp_path)
    safetensors(found.models.checkpoints[0] / BUILT_IN_MODEL, SDXL_NAMES, {"modelspec.resolution": "64x64"})
    found.presets.mkdir()
    for name in ("default", "mini"):
        (found.presets / f"{name}.json").write_bytes((ROOT / "presets" / f"{name}.json").read_bytes())
    # The styles of the built-in values, saying only what to avoid: the prompt decides what the stand-in does.
    styles = [{"name": name, "negative_prompt": "blurry"} for name in ("fooocus-enhance", "fooocus-sharp")]
    found.styles[0].mkdir()
    (found.styles[0] / "some.json").write_text(json.dumps(styles))
    return found


@pytest.fixture
def open_worker(settings: Settings) -> Iterator[Callable[[], AsyncWorker]]:
    """Opens workers over one and the same store, each with an engine process of its own running the stand-in."""
    opened: list[AsyncWorker] = []

    def open_one() -> AsyncWorker:
        worker = create_worker(settings, factory=build)
        opened.append(worker)
        worker.start()
        return worker

    yield open_one
    for worker in opened:
        worker.close()


@pytest.fixture
def worker(open_worker: Callable[[], AsyncWorker]) -> AsyncWorker:
    """One worker, already at work."""
    return open_worker()
