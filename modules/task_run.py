"""Doing one task: from its parameters to its pictures, through whatever happens to the engine; knows no queue."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from modules.channel import TaskChannel
from modules.engine_messages import Conditions, Note, Progress, RunRequest, Saved, Skipped, TaskMessage, Wish
from modules.engines import Engine, EngineDied
from modules.events import FinalState, PictureRecord
from modules.explaining import Explaining
from modules.files import ModelFiles, check_base_model
from modules.grid import grid_path, save_grid
from modules.metadata import picture_facts
from modules.outputs import OutputError, picture_path, remove_leftovers
from modules.pace import Pace
from modules.parameters import GenerationParameters
from modules.plan import ImageJob, pack_texts, plan, unpack_texts
from modules.prompts import Sources
from modules.store import Store, StoreError, TaskRecord, picture_id
from modules.timings import with_stages

log = logging.getLogger(__name__)

MAX_ENGINE_DEATHS = 2  # at one and the same picture
MAX_ENDED_FROM_OUTSIDE = 12  # likewise
MAX_APP_DEATHS = 5  # likewise
OUTSIDE_PER_MODE = 3  # a guard of the memory that is not the system's own looks like somebody from outside


class TaskFailed(ValueError):
    """A task is given up; the message says why."""


class Closing(Exception):
    """The application ends while a task is being done."""


class Live:
    """What is known of a task only while it is in this process: those who follow it, and what its user wishes."""

    def __init__(self, channel: TaskChannel) -> None:
        self.channel = channel
        self.wish: Wish | None = None
        self.wished_at = 0.0
        self.engine: Engine | None = None
        self.trouble: StoreError | None = None
        self.mishaps = 0
        self.ended_from_outside = Counter[str]()  # how often the engine was, by where it stood
        self.notes: list[str] = []
        self.delays: dict[str, float] = {}
        self.asked_at: float | None = None
        self.native = 0

    @property
    def stopping(self) -> bool:
        """Whether the user wants the task to end."""
        return self.wish == "stop"

    def answered(self) -> None:
        """The engine says something; how long it took to begin is kept."""
        if self.asked_at is not None:
            self.delays["start"] = self.delays.get("start", 0.0) + time.monotonic() - self.asked_at
            self.asked_at = None

    def note(self, sentence: str) -> None:
        """Keeps a sentence that the user should not miss, and tells those who follow; each one once."""
        if sentence not in self.notes:
            self.notes.append(sentence)
            self.channel.note(" ".join(self.notes))


class TaskRunner:
    """Does tasks, one at a time in each thread that asks; remembers only how long pictures of a kind take."""

    def __init__(
        self, store: Store, models: ModelFiles, sources: Callable[[], Sources], in_use: Callable[[ImageJob], None]
    ) -> None:
        self._store = store
        self._in_use = in_use
        self._models = models
        self._sources = sources
        self._overheads: dict[tuple[str, int, int], float] = {}

    def make(self, task: TaskRecord, live: Live, engine: Engine, closing: Callable[[], bool]) -> tuple[FinalState, str]:
        """Makes the pictures of a task that are not there yet; returns how it ended and a sentence about that.

        Raises ``ValueError`` with a sentence when the task failed, and ``Closing`` when the engine ended because the
        application does, as ``closing`` tells.
        """
        parameters, jobs = self._planned(task, live)
        kind = (parameters.base_model, jobs[0].width, jobs[0].height)
        todo = self._todo(task, parameters, jobs)
        lowered = task.engine_deaths
        if len(todo) == len(jobs):
            live.delays["wait"] = max(0.0, time.time() - task.created)
        shown = not parameters.advanced.disable_intermediate_results
        while todo and not live.stopping:
            if shown:
                live.channel.show(self._store.pictures(task.id))
            pace = Pace(len(jobs), len(jobs) - len(todo), self._overheads.get(kind, 0.0))
            live.channel.tell(pace.percent, f"Preparing picture {todo[0].index + 1} of {len(jobs)}")
            output_format = parameters.advanced.output_format
            request = RunRequest(task.id, tuple(todo), task.folder, output_format, task.parameters, lowered)
            try:
                engine.run(request, self._listener(live, engine, pace, jobs, shown), lambda: live.wish)
            except EngineDied as death:
                if closing():
                    raise Closing from None
                todo = self._todo(task, parameters, jobs)
                if todo and not live.stopping:
                    lowered += self._mourn(task, live, death, f"picture {todo[0].index + 1} of {len(jobs)}")
                continue
            if live.trouble is not None:
                raise live.trouble
            self._overheads[kind] = pace.overhead
            todo = self._todo(task, parameters, jobs)
            if todo and not live.stopping:
                raise TaskFailed(f"The engine made {len(jobs) - len(todo)} of {len(jobs)} pictures and no more.")
        if parameters.advanced.generate_image_grid and not todo:
            self._add_grid(task, len(jobs), parameters.advanced.output_format, live)
        again = "once" if live.mishaps == 1 else f"{live.mishaps} times"
        restarts = [f"The engine had to be started again {again} during this task."] if live.mishaps else []
        return ("stopped" if todo else "done"), " ".join([*restarts, *live.notes])

    def _planned(self, task: TaskRecord, live: Live) -> tuple[GenerationParameters, list[ImageJob]]:
        """What a task asks for, with the texts that were drawn when it was first begun."""
        parameters = GenerationParameters.from_json(task.parameters)
        facts = self._models.facts(parameters.base_model)
        check_base_model(parameters.base_model, facts)
        live.native = facts.native
        jobs = plan(parameters, facts, self._sources(), live.note, unpack_texts(task.texts))
        if not task.texts:
            self._store.keep_texts(task.id, pack_texts(jobs))
        remove_leftovers(task.folder, task.id)
        if task.app_deaths >= MAX_APP_DEATHS:
            raise TaskFailed(f"Pinhole ended {task.app_deaths} times over this task: it is not tried again by itself.")
        return parameters, jobs

    def _add_grid(self, task: TaskRecord, count: int, output_format: str, live: Live) -> None:
        """Records one more picture with all of a task on it. That it cannot be made is said, and no reason to fail."""
        path = grid_path(task.folder, task.id, output_format)
        try:
            size = save_grid([each.path for each in self._store.pictures(task.id) if each.index < count], path)
        except OutputError as error:
            live.note(str(error))
            return
        if size is not None:
            identity = picture_id(task.id, count)
            facts = {"task": task.id, "grid": count}
            self._store.add_picture(PictureRecord(identity, task.id, count, path, 0, *size, time.time(), facts))

    def _mourn(self, task: TaskRecord, live: Live, death: EngineDied, place: str) -> bool:
        """Says that the engine died; returns whether it is to go on in the next lower memory mode.

        Raises ``TaskFailed`` if the picture is the reason as far as can be told: it died before over the same one, or
        was ended from outside too often to be chance.
        """
        live.ended_from_outside[place] += death.from_outside
        deaths = live.ended_from_outside[place] if death.from_outside else self._store.count_engine_death(task.id)
        if deaths >= (MAX_ENDED_FROM_OUTSIDE if death.from_outside else MAX_ENGINE_DEATHS):
            raise TaskFailed(
                f"{death} It happened {deaths} times at {place}, so the task is given up. "
                "Finished pictures are kept; a smaller size or another model may work for the rest."
            )
        log.warning("%s", death)
        live.mishaps += 1
        lower = not death.from_outside or deaths % OUTSIDE_PER_MODE == 0
        live.channel.note(
            f"{death} It is being started again{' in the next lower memory mode' if lower else ''}; the task goes on "
            f"at {place}, and nothing that is finished is lost."
        )
        return lower

    def _todo(self, task: TaskRecord, parameters: GenerationParameters, jobs: Sequence[ImageJob]) -> list[ImageJob]:
        """The jobs that are not settled.

        A picture that lies on the disk but was not recorded, because somebody was killed between the two, is recorded.
        """
        settled = self._store.settled(task.id)
        todo = []
        for job in jobs:
            if job.index in settled:
                continue
            path = picture_path(task.folder, task.id, job.index, parameters.advanced.output_format)
            facts = picture_facts(path, task.id, job.index) if path.exists() else None
            if facts is not None:
                facts = {"job": asdict(job), **facts}  # where the file does not tell it
                self._store.add_picture(_record(job, task.id, path, facts))
            else:
                todo.append(job)
        return todo

    def _listener(
        self, live: Live, engine: Engine, pace: Pace, jobs: Sequence[ImageJob], shown: bool
    ) -> Callable[[TaskMessage], None]:
        """What to do with each message of the engine about a task; ``shown``: pictures as they are finished."""
        by_index = {job.index: job for job in jobs}
        live.asked_at = time.monotonic()
        explaining = Explaining(pace, jobs[0].width * jobs[0].height, live.native**2)

        def hear(message: TaskMessage) -> None:
            live.answered()
            match message:
                case Progress():
                    self._advance(message, by_index, live, pace)
                case Note():
                    live.note(message.text)
                case Conditions():
                    live.channel.because(explaining.hear(message))
                case Saved():
                    pace.settle(message.index)
                    self._keep(message, by_index[message.index], live)
                    if shown:
                        live.channel.show(self._store.pictures(message.task_id))
                case Skipped():
                    pace.settle(message.index)
                    self._store.add_skipped(message.task_id, message.index)

        def listen(message: TaskMessage) -> None:
            try:
                hear(message)
            except StoreError as error:  # the picture is on the disk and will be found there; more cannot be promised
                live.trouble = live.trouble or error
                engine.wish(message.task_id, "stop")

        return listen

    def _advance(self, message: Progress, jobs: Mapping[int, ImageJob], live: Live, pace: Pace) -> None:
        """Tells how far a task is."""
        pace.step(message.index, message.step, message.steps)
        if message.step == 1:  # its files are in memory now: who reads them again delays nothing
            self._in_use(jobs[message.index])
        place = f", picture {message.index + 1} of {len(jobs)}" if len(jobs) > 1 else ""
        live.channel.tell(pace.percent, message.text + place, pace.eta, message.image, message.index)

    def _keep(self, message: Saved, job: ImageJob, live: Live) -> None:
        """Records a picture that lies on the disk, and with it what its task had to wait for: that is the first's."""
        facts = with_stages(message.facts, **live.delays)
        live.delays.clear()
        self._store.add_picture(_record(job, message.task_id, Path(message.path), facts))


def _record(job: ImageJob, task_id: str, path: Path, facts: Mapping[str, Any]) -> PictureRecord:
    identity = picture_id(task_id, job.index)
    return PictureRecord(identity, task_id, job.index, path, job.seed, job.width, job.height, time.time(), facts)
