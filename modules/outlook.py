"""How the unfinished tasks stand and when they will be done; knows no engine and no page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modules.events import PictureRecord, Preview
from modules.files import ModelFileError, ModelFiles
from modules.forecast import Timing, Work, ends, expected, work_of
from modules.line import Line
from modules.parameters import GenerationParameters
from modules.store import TaskRecord

State = tuple[Preview, tuple[PictureRecord, ...]]
UNKNOWN: State = (Preview(0, ""), ())


@dataclass(frozen=True)
class Place:
    """An unfinished task and how it stands.

    ``lasting`` are the seconds that it will take (running: that are left), ``ready_in`` those until it is done, with
    what is before it; None where nothing is known.
    """

    task: TaskRecord
    parameters: GenerationParameters
    preview: Preview
    pictures: tuple[PictureRecord, ...]
    lasting: float | None
    ready_in: float | None


class Outlook:
    """What is to be expected of the tasks in ``line``, which ``engines`` engines do."""

    def __init__(self, line: Line, models: ModelFiles, engines: int) -> None:
        self._line = line
        self._models = models
        self._engines = engines
        self._history: list[Timing] | None = None

    def forget(self) -> None:
        """Another task has ended: what tasks took is read again."""
        self._history = None

    def places(self, tasks: Sequence[TaskRecord], owner: str, states: Mapping[str, State]) -> list[Place]:
        """Those of an owner among all unfinished tasks in their order; the others count in the times only."""
        told = [GenerationParameters.from_json(task.parameters) for task in tasks]
        found = [states.get(task.id, UNKNOWN) for task in tasks]
        lasting = [self._lasting(*each) for each in zip(tasks, told, found, strict=True)]
        active = [number for number, task in enumerate(tasks) if not task.held]
        ready = dict(zip(active, ends([lasting[number] for number in active], self._engines), strict=True))
        return [
            Place(task, told[number], *found[number], lasting[number], ready.get(number))
            for number, task in enumerate(tasks)
            if task.owner == owner
        ]

    def seconds(self, wanted: Sequence[GenerationParameters]) -> float | None:
        """What tasks that are not there yet will take in all; None if nothing is known of one of them."""
        each = [self._each(parameters) for parameters in wanted]
        known = [seconds * parameters.image_number for seconds, parameters in zip(each, wanted, strict=True) if seconds]
        return sum(known) / self._engines if len(known) == len(each) else None

    def _each(self, parameters: GenerationParameters) -> float | None:
        work = self._work_of(parameters)
        return None if work is None else expected(work, self._timings())

    def _lasting(self, task: TaskRecord, parameters: GenerationParameters, state: State) -> float | None:
        preview, pictures = state
        if task.state == "running" and preview.eta is not None:
            return preview.eta
        each = self._each(parameters)
        if each is None:
            return None
        if task.state == "running":
            return each * parameters.image_number * (1 - preview.percent / 100)
        return each * max(0, parameters.image_number - len(pictures))

    def _timings(self) -> list[Timing]:
        history = self._history
        if history is None:
            laps = [(self._work_of(GenerationParameters.from_json(lap.parameters)), lap) for lap in self._line.laps()]
            history = [Timing(work, lap.seconds) for work, lap in laps if work is not None]
            self._history = history
        return history

    def _work_of(self, parameters: GenerationParameters) -> Work | None:
        try:
            return work_of(parameters, self._models.facts(parameters.base_model))
        except ModelFileError:
            return None
