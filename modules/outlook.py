"""How the unfinished tasks stand and when they will be done; knows no engine and no page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from modules.events import PictureRecord, Preview
from modules.files import ModelFileError, ModelFiles
from modules.forecast import Expectation, Timing, Work, ends, expected, similar, work_of
from modules.line import Line
from modules.parameters import GenerationParameters
from modules.store import TaskRecord

MOST_READ = 4096  # tasks whose parameters are remembered
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
        self._past: _Past | None = None

    def forget(self) -> None:
        """Another task has ended: what tasks took is read again."""
        self._past = None

    def places(self, tasks: Sequence[TaskRecord], owner: str, states: Mapping[str, State]) -> list[Place]:
        """Those of an owner among all unfinished tasks in their order; the others count in the times only."""
        told = [_read(task.parameters) for task in tasks]
        found = [states.get(task.id, UNKNOWN) for task in tasks]
        lasting = [self._lasting(*each) for each in zip(tasks, told, found, strict=True)]
        active = [number for number, task in enumerate(tasks) if not task.held]
        ready = dict(zip(active, ends([lasting[number] for number in active], self._engines), strict=True))
        return [
            Place(task, told[number], *found[number], lasting[number], ready.get(number))
            for number, task in enumerate(tasks)
            if task.owner == owner
        ]

    def expectation(self, wanted: Sequence[GenerationParameters]) -> Expectation:
        """What tasks that are not there yet will take in all."""
        each = [self._each(parameters) for parameters in wanted]
        known = [seconds * parameters.image_number for seconds, parameters in zip(each, wanted, strict=True) if seconds]
        if not wanted or len(known) < len(each):
            return Expectation(None)
        works = {work for parameters in wanted if (work := self._work_of(parameters)) is not None}
        return Expectation(sum(known) / self._engines, self._what_was().pictures(works))

    def _each(self, parameters: GenerationParameters) -> float | None:
        work = self._work_of(parameters)
        return None if work is None else self._what_was().expected(work)

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

    def _what_was(self) -> _Past:
        past = self._past
        if past is None:
            laps = [(self._work_of(_read(lap.parameters)), lap) for lap in self._line.laps()]
            past = _Past([Timing(work, lap.seconds, lap.pictures) for work, lap in laps if work is not None])
            self._past = past
        return past

    def _work_of(self, parameters: GenerationParameters) -> Work | None:
        try:
            return work_of(parameters, self._models.facts(parameters.base_model))
        except ModelFileError:
            return None


class _Past:
    """What tasks took, and what that lets expect of others."""

    def __init__(self, history: Sequence[Timing]) -> None:
        self._history = history
        self._known: dict[Work, float | None] = {}

    def expected(self, work: Work) -> float | None:
        """Seconds of a picture; None if nothing is known."""
        if work not in self._known:
            self._known[work] = expected(work, self._history)
        return self._known[work]

    def pictures(self, works: Iterable[Work]) -> int:
        """How many pictures say how long these take."""
        asked = {id(timing): timing for work in works for timing in similar(work, self._history)}
        return sum(timing.pictures for timing in asked.values())


@lru_cache(MOST_READ)
def _read(parameters: str) -> GenerationParameters:
    """Everybody who looks at the queue asks for all of it, again and again."""
    return GenerationParameters.from_json(parameters)
