"""X/Y/Z plots on their way: kept until the tasks of all their cells have ended, then drawn; knows no engine."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO

from modules.events import PictureRecord
from modules.grid import grid_path
from modules.metadata import describe, encode_image
from modules.outputs import OutputError, OutputExists, write_once
from modules.parameters import GenerationParameters
from modules.plot import Axis, Plot, axes_from
from modules.plot_grid import Cell, Labels, draw_plot
from modules.store import Store, StoreError, TaskRecord, picture_id

log = logging.getLogger(__name__)

UNFINISHED = "SELECT id, axes, tasks FROM plots WHERE NOT done"
ALIVE = (
    "SELECT count(*) AS alive FROM tasks WHERE state IN ('waiting', 'running')"
    " AND id IN (SELECT value FROM json_each(?))"
)


class Plots:
    """The plots in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, plot: Plot, tasks: Sequence[str]) -> None:
        """Keeps a plot whose cells are these tasks, in the order of its cells."""
        with self._store.transaction("keep the plot") as database:
            values = (json.dumps(plot.axes()), json.dumps(list(tasks)))
            database.execute("INSERT INTO plots (axes, tasks) VALUES (?, ?)", values)

    def draw_ended(self) -> None:
        """Draws the plots whose last task has ended. What cannot be drawn is logged; it is tried once."""
        try:
            for plot, axes, tasks in self._ended():
                self._draw(axes_from(json.loads(axes)), json.loads(tasks))
                with self._store.transaction("end the plot") as database:
                    database.execute("UPDATE plots SET done = 1 WHERE id = ?", (plot,))
        except StoreError as error:
            log.error("%s", error)

    def _ended(self) -> list[tuple[int, str, str]]:
        with self._store.transaction("be read", "DEFERRED") as database:
            rows = [(int(row["id"]), str(row["axes"]), str(row["tasks"])) for row in database.execute(UNFINISHED)]
            return [row for row in rows if not database.execute(ALIVE, (row[2],)).fetchone()["alive"]]

    def _draw(self, axes: tuple[Axis, Axis, Axis], ids: Sequence[str]) -> None:
        """Saves the grid beside the picture that was made last, and records it as one more picture of that task."""
        tasks = [self._store.task(each) for each in ids]
        made = [self._store.pictures(each)[:1] for each in ids]
        pictures = [record for records in made for record in records]
        if not pictures:
            return
        last = max(pictures, key=lambda record: record.created)
        cells = [
            Cell(records[0].path) if records else Cell(None, _reason(task))
            for records, task in zip(made, tasks, strict=True)
        ]
        x, y, z = axes
        try:
            self._save(cells, Labels(x.words, y.words, z.words), last, {"x": x.words, "y": y.words, "z": z.words})
        except (OutputError, OSError, ValueError, MemoryError) as error:
            log.error("a plot could not be drawn: %s", error)

    def _save(self, cells: Sequence[Cell], labels: Labels, last: PictureRecord, told: dict[str, object]) -> None:
        task = self._store.task(last.task_id)
        assert task is not None
        parameters = GenerationParameters.from_json(task.parameters)
        index = parameters.image_number
        sheet = draw_plot(cells, labels)
        facts = {"task": task.id, "grid": index, "plot": told}
        path = grid_path(task.folder, task.id, parameters.advanced.output_format)
        buffer = BytesIO()
        encode_image(sheet, parameters.advanced.output_format, describe(parameters, facts), None, buffer)
        with suppress(OutputExists):  # made by a run that was killed before it could record it
            write_once(path, buffer.getvalue())
        identity = picture_id(task.id, index)
        record = PictureRecord(identity, task.id, index, path, last.seed, *sheet.size, time.time(), facts)
        self._store.add_picture(record)


def _reason(task: TaskRecord | None) -> str:
    """Why a cell is empty."""
    if task is None:
        return "It is gone."
    return task.message or ("Skipped" if task.state == "done" else "Stopped")
