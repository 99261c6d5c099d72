"""The grid of a task: layout, what is no grid, and a whole task with one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modules.async_worker import AsyncWorker
from modules.events import Finish, Results
from modules.grid import grid_path, save_grid
from modules.outputs import OutputError
from modules.parameters import GenerationParameters
from tests.modules.conftest import open_worker, settings, worker

__all__ = ["open_worker", "settings", "worker"]  # fixtures

TASK = "20261122-181907-3f9c2a1b77aa"


def pictures(folder: Path, count: int, width: int = 8, height: int = 4) -> list[Path]:
    paths = [folder / f"{index}.png" for index in range(count)]
    for index, path in enumerate(paths):
        Image.new("RGB", (width, height), (10 * index + 10, 0, 0)).save(path)
    return paths


@pytest.mark.parametrize(("count", "columns", "rows"), [(2, 2, 1), (3, 2, 2), (4, 2, 2), (5, 3, 2), (10, 4, 3)])
def test_pictures_lie_row_by_row(tmp_path: Path, count: int, columns: int, rows: int) -> None:
    path = grid_path(tmp_path, TASK, "png")
    assert path.name == "2026-11-22_18-19-07_3f9c2a1b77aa_grid.png"
    assert save_grid(pictures(tmp_path, count), path) == (8 * columns, 4 * rows)
    seen = np.asarray(Image.open(path))[2::4, 4::8, 0].ravel().tolist()
    assert seen == [10 * index + 10 for index in range(count)] + [0] * (columns * rows - count)
    assert save_grid(pictures(tmp_path, count), path) == (8 * columns, 4 * rows), "a second time changes nothing"


def test_what_makes_no_grid(tmp_path: Path) -> None:
    path = tmp_path / "grid.webp"
    assert save_grid(pictures(tmp_path, 1), path) is None
    odd = tmp_path / "odd.png"
    Image.new("RGB", (4, 4)).save(odd)
    assert save_grid([*pictures(tmp_path, 2), odd], path) is None
    with pytest.raises(OutputError, match="cannot be read"):
        save_grid([tmp_path / "gone.png", odd], path)
    assert not path.exists()


@pytest.mark.parametrize(("ending", "width", "most"), [("webp", 8192, 16383), ("jpg", 32768, 65535)])
def test_what_a_format_cannot_hold_is_told_in_words(tmp_path: Path, ending: str, width: int, most: int) -> None:
    """A grid of large pictures: the limit of WEBP is two of them side by side."""
    path = tmp_path / f"grid.{ending}"
    with pytest.raises(OutputError, match=f"it has {2 * width}×4 pixels, and (WEBP|JPEG) takes {most} a side"):
        save_grid(pictures(tmp_path, 2, width), path)
    assert not path.exists()


def test_too_little_memory_costs_the_grid_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = pictures(tmp_path, 2)
    monkeypatch.setattr(Image, "new", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(OutputError, match="not enough memory"):
        save_grid(paths, tmp_path / "grid.png")


def test_a_task_ends_with_its_grid_and_shows_nothing_before(worker: AsyncWorker) -> None:
    parameters = GenerationParameters(prompt="pace=0.01", image_number=3).with_values(
        {"advanced.generate_image_grid": True, "advanced.disable_intermediate_results": True}
    )
    task = worker.submit(parameters)
    events = list(worker.follow(task))
    last = events[-1]
    assert isinstance(last, Finish) and last.state == "done"
    shown = [len(event.pictures) for event in events if isinstance(event, Results)]
    assert all(count in (0, 4) for count in shown)
    *single, grid = last.pictures
    assert [each.index for each in single] == [0, 1, 2] and grid.index == 3
    assert (grid.width, grid.height) == Image.open(grid.path).size == (2 * single[0].width, 2 * single[0].height)
