"""Plots end to end with the stand-in engine: every cell a task, one labelled grid, also when something goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from modules.async_worker import AsyncWorker, Finish, Preview
from modules.history import History, Query
from modules.metadata import MetadataError, read_picture
from modules.outputs import OutputError
from modules.parameters import BUILT_IN_MODEL, GenerationParameters
from modules.plot import Plot, read_plot
from modules.plot_grid import INK, PAPER, Cell, Labels, draw_plot
from modules.settings import Settings
from modules.store import Store
from modules.workplace import create_worker
from tests.modules.conftest import settings
from tests.modules.stand_in import build

__all__ = ["settings"]  # fixtures
BASE = GenerationParameters(prompt="pace=0.001 a red cat", image_seed=3, base_model=BUILT_IN_MODEL).with_values(
    {"advanced.overwrite_step": 2}
)


@pytest.fixture
def worker(settings: Settings) -> Iterator[AsyncWorker]:
    made = create_worker(settings, factory=build)
    made.start()
    yield made
    made.close()


def plot_of(x: tuple[str, str], y: tuple[str, str] = ("", "")) -> Plot:
    return read_plot(BASE, x, y, ("", ""))


def queued(worker: AsyncWorker, plot: Plot, owner: str = "me") -> list[str]:
    return worker.submit_all(plot.cells, owner, plot=plot)


def finished(worker: AsyncWorker, task: str) -> Finish:
    end = list(worker.follow(task))[-1]
    assert isinstance(end, Finish)
    return end


def test_a_plot_ends_in_one_labelled_picture(worker: AsyncWorker) -> None:
    plot = plot_of(("guidance_scale", "2,4,6"), ("Prompt S/R", "red, blue"))
    tasks = queued(worker, plot)
    ends = [finished(worker, task) for task in tasks]
    assert [len(end.pictures) for end in ends] == [1, 1, 1, 1, 1, 2], "the grid comes with the last"
    grid = ends[-1].pictures[1]
    with Image.open(grid.path) as sheet, Image.open(ends[0].pictures[0].path) as first:
        assert sheet.size == (grid.width, grid.height)
        assert sheet.width > 3 * first.width and sheet.height > 2 * first.height
    info = read_picture(grid.path)
    assert info.parameters.guidance_scale == 6 and info.facts["plot"]["x"][0] == "Guidance Scale: 2"
    assert worker.picture(grid.id) is not None and grid in worker.latest("me")


@pytest.mark.parametrize("places", [(0, 1), (1, 0)])
def test_a_cell_that_fails_is_empty_and_the_rest_is_made(worker: AsyncWorker, places: tuple[int, int]) -> None:
    names = [("gone.safetensors", BUILT_IN_MODEL)[place] for place in places]
    ends = [finished(worker, task) for task in queued(worker, plot_of(("base_model", ", ".join(names))))]
    failed, made = (ends[place] for place in places)
    assert made.state == "done" and failed.state == "failed" and "gone.safetensors" in failed.message
    grids = [record for end in ends for record in end.pictures if "plot" in record.facts]
    assert grids == [ends[-1].pictures[-1]], "the grid comes with what ends last, whatever became of it"
    assert grids[0] in worker.latest("me")


def test_stop_ends_the_whole_plot_which_goes_on_when_asked_to(worker: AsyncWorker) -> None:
    slow = BASE.with_values({"prompt": "pace=0.1 a red cat", "advanced.overwrite_step": 10})
    plot = read_plot(slow, ("image_seed", "1-4"), ("", ""), ("", ""))
    other = worker.submit(BASE, "you")
    tasks = queued(worker, plot)
    assert len(finished(worker, tasks[0]).pictures) == 1
    next(event for event in worker.follow(tasks[1]) if isinstance(event, Preview) and "Sampling" in event.text)
    worker.stop(tasks[1])
    ends = [finished(worker, task) for task in tasks]
    assert [end.state for end in ends] == ["done", "stopped", "stopped", "stopped"]
    assert ["plot" in record.facts for record in ends[1].pictures] == [True], "of what there was"
    assert finished(worker, other).state == "done"
    assert worker.retry(tasks[1])
    ends = [finished(worker, task) for task in tasks]
    assert [end.state for end in ends] == ["done"] * 4
    last = ends[3].pictures
    assert len(last) == 2 and last[1].path.is_file() and "plot" in last[1].facts


def test_a_waiting_cell_can_be_cancelled_alone_and_nothing_is_drawn_of_nothing(worker: AsyncWorker) -> None:
    first, second = queued(worker, plot_of(("image_seed", "1-2")))
    worker.hold(second, "me", held=True)
    finished(worker, first)
    assert not [record for record in worker.latest("me") if "plot" in record.facts]
    worker.stop(second)
    assert len([record for record in worker.latest("me") if "plot" in record.facts]) == 1
    none = queued(worker, plot_of(("base_model", "gone.safetensors, also.safetensors")), "you")
    assert all(finished(worker, task).state == "failed" for task in none)
    assert not worker.latest("you")


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_a_lost_database_finds_the_grid_again(settings: Settings, tmp_path: Path, output_format: str) -> None:
    worker = create_worker(settings, factory=build)
    worker.start()
    base = BASE.with_values({"advanced.output_format": output_format})
    tasks = queued(worker, read_plot(base, ("image_seed", "1, 2"), ("", ""), ("", "")))
    pictures = {record.path for task in tasks for record in finished(worker, task).pictures}
    worker.close()
    store = Store(tmp_path / "other.sqlite3")
    assert History(store).take_in(settings.outputs) == len(pictures) == 3
    found, _ = History(store).page(None, Query())
    assert {entry.path for entry in found} == pictures and {entry.model for entry in found} == {BUILT_IN_MODEL}
    store.close()


def test_a_plot_of_pictures_that_tell_nothing_tells_nothing(worker: AsyncWorker) -> None:
    silent = BASE.with_values({"advanced.save_metadata_to_images": False})
    tasks = queued(worker, read_plot(silent, ("image_seed", "1, 2"), ("", ""), ("", "")))
    grid = finished(worker, tasks[-1]).pictures[1]
    with pytest.raises(MetadataError):
        read_picture(grid.path)
    assert b"red cat" not in grid.path.read_bytes()


def test_what_an_application_could_not_draw_any_more_is_drawn_at_the_next_start(settings: Settings) -> None:
    before = create_worker(settings, factory=build)
    before.start()
    tasks = queued(before, plot_of(("image_seed", "1,2")))
    for task in tasks:
        finished(before, task)
    (grid,) = [record for record in before.latest("me") if "plot" in record.facts]
    with before._store.transaction("forget") as database:  # as if it had been killed right before
        database.execute("UPDATE plots SET done = 0")
        database.execute("DELETE FROM pictures WHERE id = ?", (grid.id,))
    before.close()
    after = create_worker(settings, factory=build)
    after.start()
    finished(after, after.submit(BASE, "me"))
    assert grid.id in {record.id for record in after.latest("me")}
    after.close()


def picture(folder: Path, name: str, size: tuple[int, int], colour: str) -> Cell:
    path = folder / f"{name}.png"
    Image.new("RGB", size, colour).save(path)
    return Cell(path)


def test_every_cell_is_at_its_place(tmp_path: Path) -> None:
    colours = ["#ff0000", "#00ff00", "#0000ff", "#ffff00"]
    cells = [picture(tmp_path, str(place), (64, 48), colour) for place, colour in enumerate(colours)]
    sheet = draw_plot(cells, Labels(["a", "b"], ["c", "d"], [""]))
    found: dict[str, list[tuple[int, int]]] = {}
    for y in range(sheet.height):
        for x in range(sheet.width):
            pixel = sheet.getpixel((x, y))
            assert isinstance(pixel, tuple)
            found.setdefault("#{:02x}{:02x}{:02x}".format(*pixel), []).append((x, y))
    assert all(len(found[colour]) == 64 * 48 for colour in colours)
    red, green, blue = (found[colour][0] for colour in colours[:3])
    assert red[0] == blue[0] < green[0] and red[1] == green[1] < blue[1]
    assert PAPER in found and INK in found, "there are words"


def test_sizes_may_differ_and_labels_may_be_long(tmp_path: Path) -> None:
    cells = [
        picture(tmp_path, "wide", (64, 16), "red"),
        picture(tmp_path, "high", (16, 64), "blue"),
        Cell(None, "x" * 999),
    ]
    sheet = draw_plot(cells, Labels(["雪の中の狐" * 50, "\u202eevil", "w" * 500], [""], ["a title " * 100]))
    assert sheet.width >= 3 * 64 and sheet.height < 64 * 10


def test_a_plot_that_is_too_large_is_made_smaller_or_refused(tmp_path: Path) -> None:
    cell = picture(tmp_path, "large", (1200, 1200), "red")
    sheet = draw_plot([cell] * 40, Labels(["x"] * 40, [""], [""]))
    assert sheet.width <= 16_383 and sheet.height < 600
    with pytest.raises(OutputError, match="do not go into one picture"):
        draw_plot([cell] * 2000, Labels(["x"] * 2000, [""], [""]))
    with pytest.raises(OutputError, match="no picture"):
        draw_plot([Cell(None)], Labels(["x"], [""], [""]))


def test_a_plot_of_many_large_pictures_can_still_be_opened(tmp_path: Path) -> None:
    cell = picture(tmp_path, "large", (1152, 896), "red")
    labels = [f"Sampler: dpmpp_2m_sde_gpu {number}" for number in range(14)]
    sheet = draw_plot([cell] * 196, Labels(labels, labels, [""]))
    assert Image.MAX_IMAGE_PIXELS is not None and sheet.width * sheet.height < Image.MAX_IMAGE_PIXELS


def test_a_picture_that_went_away_meanwhile_is_an_empty_cell(tmp_path: Path) -> None:
    there, broken = picture(tmp_path, "there", (64, 64), "red"), picture(tmp_path, "broken", (64, 64), "blue")
    assert broken.path is not None
    broken.path.write_bytes(b"no picture")
    sheet = draw_plot([there, broken, Cell(tmp_path / "gone.png")], Labels(["a", "b", "c"], [""], [""]))
    colours = {pixel for _, pixel in sheet.getcolors(1_000_000) or ()}
    assert (255, 0, 0) in colours and (0, 0, 255) not in colours
    with pytest.raises(OutputError, match="no picture"):
        draw_plot([broken], Labels(["x"], [""], [""]))
