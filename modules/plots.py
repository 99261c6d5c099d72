"""X/Y/Z plots on their way: kept until the tasks of all their cells have ended, then drawn; knows no engine."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from sqlite3 import Connection
from threading import Lock

from PIL import Image

from modules.events import PictureRecord
from modules.grid import grid_path
from modules.metadata import SchemeText, describe, describe_place, encode_image
from modules.outputs import OutputError, OutputExists, write_once
from modules.parameters import GenerationParameters
from modules.plot import Axis, Plot, axes_from
from modules.plot_grid import Cell, Labels, draw_plot
from modules.store import Store, StoreError, TaskRecord, picture_id

log = logging.getLogger(__name__)

UNFINISHED = "SELECT id, axes, tasks FROM plots WHERE NOT done"
OF_TASK = "SELECT tasks FROM plots WHERE ? IN (SELECT value FROM json_each(tasks))"
ALIVE = (
    "SELECT count(*) AS alive FROM tasks WHERE state IN ('waiting', 'running')"
    " AND id IN (SELECT value FROM json_each(?))"
)


def keep_plot(database: Connection, plot: Plot | None, tasks: Sequence[str]) -> None:
    """Keeps a plot, if there is one, whose cells are these tasks in the order of its cells."""
    if plot is not None:
        values = (json.dumps(plot.axes()), json.dumps(list(tasks)))
        database.execute("INSERT INTO plots (axes, tasks) VALUES (?, ?)", values)


class Plots:
    """The plots in a store. Safe to use from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._drawing = Lock()

    def reopen(self, task: str) -> None:
        """Lets the plot that this task is a cell of be drawn once more: the task goes on after all."""
        with self._store.transaction("open the plot again") as database:
            database.execute("UPDATE plots SET done = 0 WHERE ? IN (SELECT value FROM json_each(tasks))", (task,))

    def beside(self, task: str) -> list[str]:
        """The other tasks of the plot that this one is a cell of; none where it is none."""
        with self._store.transaction("be read", "DEFERRED") as database:
            row = database.execute(OF_TASK, (task,)).fetchone()
        return [] if row is None else [each for each in json.loads(row["tasks"]) if each != task]

    def draw_ended(self, settled: str = "") -> None:
        """Draws the plots whose last task has ended. What cannot be drawn is logged; it is tried once.

        ``settled`` is the task that has just ended: the grid of its plot comes with it.
        """
        with self._drawing:
            try:
                for plot, axes, tasks in self._ended():
                    self._draw(axes_from(json.loads(axes)), json.loads(tasks), settled)
                    with self._store.transaction("end the plot") as database:
                        database.execute("UPDATE plots SET done = 1 WHERE id = ?", (plot,))
            except StoreError as error:
                log.error("%s", error)

    def _ended(self) -> list[tuple[int, str, str]]:
        with self._store.transaction("be read", "DEFERRED") as database:
            rows = [(int(row["id"]), str(row["axes"]), str(row["tasks"])) for row in database.execute(UNFINISHED)]
            return [row for row in rows if not database.execute(ALIVE, (row[2],)).fetchone()["alive"]]

    def _draw(self, axes: tuple[Axis, Axis, Axis], ids: Sequence[str], settled: str) -> None:
        """Saves the grid beside the pictures of a task, and records it as one more of them.

        The task is the one that has just ended, or else the one whose picture was made last.
        """
        tasks = {each: self._store.task(each) for each in ids}
        made = {each: self._store.pictures(each)[:1] for each in ids}
        pictures = [record for records in made.values() for record in records]
        if not pictures:
            return
        last = max(pictures, key=lambda record: record.created)
        cells = [Cell(made[each][0].path) if made[each] else Cell(None, _reason(tasks[each])) for each in ids]
        x, y, z = axes
        told = {"x": x.words, "y": y.words, "z": z.words}
        task = tasks[settled if settled in ids else last.task_id]
        try:
            if task is not None:
                self._save(draw_plot(cells, Labels(x.words, y.words, z.words)), task, last, told)
        except (OutputError, OSError, ValueError, MemoryError) as error:
            log.error("a plot could not be drawn: %s", error)

    def _save(self, sheet: Image.Image, task: TaskRecord, near: PictureRecord, told: Mapping[str, object]) -> None:
        """Writes and records the grid. The picture ``near`` tells how it was made, but for what the plot varies."""
        parameters = GenerationParameters.from_json(task.parameters)
        earlier = sum("plot" in record.facts for record in self._store.pictures(task.id))
        index = parameters.image_number + earlier
        job = {**near.facts.get("job", {}), "width": sheet.width, "height": sheet.height}
        facts = {"task": task.id, "index": index, "grid": index, "plot": told, "job": job}
        silent = not parameters.advanced.save_metadata_to_images
        text = describe_place(task.id, index) if silent else describe(parameters, facts)
        output_format = parameters.advanced.output_format
        path = grid_path(task.folder, task.id, output_format)
        path = path.with_stem(f"{path.stem}_{earlier + 1}") if earlier else path
        buffer = BytesIO()
        encode_image(sheet, output_format, text, SchemeText("", "") if silent else None, buffer)
        with suppress(OutputExists):  # made by a run that was killed before it could record it
            write_once(path, buffer.getvalue())
        identity = picture_id(task.id, index)
        record = PictureRecord(identity, task.id, index, path, near.seed, *sheet.size, time.time(), facts)
        self._store.add_picture(record)


def _reason(task: TaskRecord | None) -> str:
    """Why a cell is empty."""
    if task is None:
        return "It is gone."
    return task.message or ("Skipped" if task.state == "done" else "Stopped")
