"""The queue at work: takes tasks, has an engine do them, tells those who follow; knows neither page nor torch."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Condition, RLock, Thread

from modules.channel import TaskChannel
from modules.day_log import DayLogs
from modules.engine_messages import Expanded
from modules.engine_process import in_words
from modules.engines import Engine
from modules.events import Event, FinalState, Finish, PictureRecord, Preview, Results, TaskState
from modules.files import ModelFiles
from modules.forecast import Expectation
from modules.line import REPLACED, STOPPED_WAITING, Line, asked_for
from modules.locks import Alive, is_alive
from modules.outlook import Outlook, Place
from modules.outputs import day_folder, new_task_id
from modules.parameters import GenerationParameters
from modules.plan import ImageJob
from modules.plot import Plot
from modules.plots import Plots, keep_plot
from modules.prompts import Sources
from modules.store import ModelRole, NewTask, Store, StoreError, TaskRecord
from modules.store_file import in_words as in_file_words
from modules.task_run import Closing, Live, TaskRunner

__all__ = ["AsyncWorker", "Event", "Finish", "PictureRecord", "Preview", "Results", "TaskState"]

log = logging.getLogger(__name__)

PATIENCE = 5.0  # seconds after which a second Stop ends the engine itself


class AsyncWorker:
    """The queue with one worker thread per engine. All methods may be called from any thread.

    ``home`` is the name under which this process answers for its tasks. One of kind ``app`` takes over, when made, the
    unfinished tasks of applications that are no more. ``in_use`` is told of each job once its models are loaded.
    """

    def __init__(
        self,
        store: Store,
        engines: Sequence[Engine],
        models: ModelFiles,
        outputs: Path,
        *,
        sources: Callable[[], Sources] = Sources,
        in_use: Callable[[ImageJob], None] = lambda job: None,
        kind: str = "app",
    ) -> None:
        self._store = store
        self._engines = tuple(engines)
        self._runner = TaskRunner(store, models, sources, in_use)
        self._outputs = outputs
        self.home = f"{kind}-{os.getpid()}-{secrets.token_hex(6)}"
        self._homes = store.path.parent / "running"
        self.notes: tuple[str, ...] = (store.note,) if store.note else ()
        try:
            self._alive = Alive(self._homes, self.home)
        except OSError as error:
            raise StoreError(in_file_words(error, "be used", store.path)) from None
        self._queue_changed = Condition(RLock())
        self._live: dict[str, Live] = {}
        self._unsettled: list[tuple[str, FinalState, str]] = []
        self._line = Line(store, self.home)
        self._outlook = Outlook(self._line, models, len(self._engines))
        self._plots = Plots(store)
        self._logs = DayLogs(outputs, store.day)
        self._closing = False
        self._threads: list[Thread] = []
        if kind == "app":
            self._adopt()
        self._refresh_waiting()

    def start(self) -> None:
        """Begins to work; without effect when that has been done, or after ``close``."""
        with self._queue_changed:
            if self._threads or self._closing:
                return
            self._threads = [
                Thread(target=self._work, args=(engine,), daemon=True, name=f"worker-{number}")
                for number, engine in enumerate(self._engines)
            ]
            for thread in self._threads:
                thread.start()

    def warm_up(self) -> None:
        """Lets the engines load their libraries ahead of the first task; returns at once."""
        for engine in self._engines:
            engine.warm_up()

    def close(self) -> None:
        """Ends the work. A task that is being done goes on where it was at the next start."""
        with self._queue_changed:
            if self._closing:
                return
            self._closing = True
            self._queue_changed.notify_all()
        for engine in self._engines:
            engine.close()
        for thread in self._threads:
            thread.join(10)
        for live in list(self._live.values()):
            live.channel.close()
        self._store.close()
        self._alive.close()

    def submit(self, parameters: GenerationParameters, owner: str = "", folder: Path | None = None) -> str:
        """Puts a task into the queue and returns its id; from then on it survives every crash.

        A random seed is drawn now, so that the task is repeatable. ``folder`` is where the pictures go, by default the
        day's folder of the outputs. Raises ``StoreError``.
        """
        return self.submit_all([parameters], owner, folder)[0]

    def submit_all(
        self, wanted: Sequence[GenerationParameters], owner: str, folder: Path | None = None, plot: Plot | None = None
    ) -> list[str]:
        """Puts tasks into the queue in their order, all or none, and returns their ids; see ``submit``.

        ``plot`` is the one whose cells they are: its grid is made when all of them have ended.
        """
        tasks = []
        for parameters in wanted:
            task_id = new_task_id(datetime.now())
            place = folder or day_folder(self._outputs, task_id)
            tasks.append(NewTask(task_id, parameters.with_seed().to_json(), place, parameters.image_seed < 0))
        ids = [task.id for task in tasks]
        with self._queue_changed:
            self._store.add_tasks(tasks, owner, self.home, partial(keep_plot, plot=plot, tasks=ids))
            self._welcome(*ids)
        return ids

    def expectation(self, wanted: Sequence[GenerationParameters]) -> Expectation:
        """How long tasks like these will take, by what was done here."""
        return self._outlook.expectation(wanted)

    def replace(self, task_id: str, parameters: GenerationParameters, owner: str) -> str:
        """Queues a task in the place of a waiting one of its owner, or at the end if that one does not wait any more.

        Returns the new one's id. Raises ``StoreError``.
        """
        new_id, random_seed = new_task_id(datetime.now()), parameters.image_seed < 0
        told = parameters.with_seed().to_json()
        folder = day_folder(self._outputs, new_id)
        with self._queue_changed:
            if not self._line.replace(owner, task_id, new_id, told, folder, random_seed):
                return self.submit(parameters, owner)
            live = self._live.pop(task_id, None)
            if live is not None:
                live.channel.end(self._stored_finish(task_id, "stopped", REPLACED))
            self._welcome(new_id)
        return new_id

    def shift(self, task_id: str, owner: str, places: int) -> bool:
        """Moves a waiting task among its owner's, negative places towards the head; False if it does not wait."""
        moved = self._line.shift(owner, task_id, places)
        self._refresh_waiting()
        return moved

    def hold(self, task_id: str, owner: str, held: bool) -> bool:
        """Lets a waiting task of an owner wait until it is released, or releases it; False if it does not wait."""
        with self._queue_changed:
            changed = self._line.hold(owner, task_id, held)
            self._queue_changed.notify_all()
        self._refresh_waiting()
        return changed

    def duplicate(self, task_id: str, owner: str) -> str | None:
        """Queues an unfinished or finished task of an owner once more, with a new seed unless it was chosen."""
        task = self._store.task(task_id)
        if task is None or task.owner != owner:
            return None
        return self.submit(asked_for(task), owner)

    def stop(self, task_id: str) -> None:
        """Ends a task, within a step if it is being done; what it has made stays. Of a plot, the rest waits no more.

        Asked again after a while, it ends the engine itself: for one that hangs. No other task is touched.
        """
        with self._queue_changed:
            waited = self._stop_waiting(task_id)
            live = None if waited else self._live.get(task_id)
            engine = None if live is None else live.engine
            impatient = live is not None and live.wish == "stop" and time.monotonic() - live.wished_at > PATIENCE
            if live is not None and live.wish != "stop":
                live.wish, live.wished_at = "stop", time.monotonic()
                waited = self._stop_waiting(*self._plots.beside(task_id))
            if waited:
                self._refresh_waiting()
        if engine is not None and impatient:
            engine.kill()
        elif engine is not None:
            engine.wish(task_id, "stop")
        self._plots.draw_ended()

    def _stop_waiting(self, *tasks: str) -> bool:
        """Ends those of the tasks that wait; whether there was one. The caller holds the condition."""
        ended = [each for each in tasks if self._store.cancel(each, STOPPED_WAITING)]
        for each in ended:
            if (live := self._live.pop(each, None)) is not None:
                live.channel.end(self._stored_finish(each, "stopped", STOPPED_WAITING))
        return bool(ended)

    def skip(self, task_id: str) -> None:
        """Leaves the picture that is being made, within a step, and goes on with the next one of the task."""
        with self._queue_changed:
            live = self._live.get(task_id)
            engine = None if live is None else live.engine
        if engine is not None:
            engine.wish(task_id, "skip")

    def retry(self, task_id: str) -> bool:
        """Lets a failed or stopped task go on with its missing pictures; False if it is neither.

        Of a plot, what was stopped with it goes on as well.
        """
        with self._queue_changed:
            if not self._store.requeue(task_id, self.home, ("failed", "stopped")):
                return False
            rest = [each for each in self._plots.beside(task_id) if self._store.requeue(each, self.home, ("stopped",))]
            self._plots.reopen(task_id)
            self._welcome(task_id, *rest)
        return True

    def put_back(self, task_id: str, owner: str) -> bool:
        """Undoes an owner's ``stop``: in its old place where the task had not begun, else it goes on at the end."""
        with self._queue_changed:
            if self._line.put_back(owner, task_id):
                self._plots.reopen(task_id)
                self._welcome(task_id)
                return True
            task = self._store.task(task_id)
            return task is not None and task.owner == owner and self.retry(task_id)

    def follow(self, task_id: str, poll: float | None = None) -> Iterator[Event]:
        """The present state of a task (preview, pictures so far), then every change, up to its ``Finish``.

        Any number may follow, and come and go. ``poll``: see ``TaskChannel.follow``. When the application is being
        closed the events end without a ``Finish``.
        """
        with self._queue_changed:
            live = self._live.get(task_id)
            task = None if live is not None else self._store.task(task_id)
        if live is not None:
            yield from live.channel.follow(poll)
            return
        if task is None:
            yield Finish((), "failed", "There is no such task.")
            return
        pictures = self._store.pictures(task_id)
        if pictures:
            yield Results(pictures)
        if task.state == "waiting" or task.state == "running":
            yield Finish(pictures, "stopped", "Another running Pinhole is at work on this task.")
        else:
            yield Finish(pictures, task.state, task.message)

    def expand(self, text: str, seed: int) -> Expanded | None:
        """What the expansion makes of a text, by the first engine that has time for it; None if none has."""
        answers = (engine.expand(text, seed) for engine in self._engines)
        return next(filter(None, answers), None)

    def running(self, owner: str) -> str | None:
        """The task of an owner that is running or next: what a page that was refreshed comes back to."""
        return self._store.foremost(self.home, owner)

    def waiting(self, owner: str | None = None) -> list[TaskRecord]:
        """The waiting tasks in their order, all or one owner's."""
        return self._store.waiting(self.home, owner)

    def places(self, owner: str) -> list[Place]:
        """The unfinished tasks of an owner and how they stand: what is running, then what waits in its order."""
        tasks = self._line.all()
        with self._queue_changed:
            states = {each.id: live.channel.state for each in tasks if (live := self._live.get(each.id)) is not None}
        return self._outlook.places(tasks, owner, states)

    def task(self, task_id: str) -> TaskRecord | None:
        """The task of this id, in whatever state."""
        return self._store.task(task_id)

    def picture(self, identity: str) -> PictureRecord | None:
        """The picture of this id."""
        return self._store.picture(identity)

    def pictures(self, task_id: str) -> tuple[PictureRecord, ...]:
        """The finished pictures of a task."""
        return self._store.pictures(task_id)

    def latest(self, owner: str, limit: int = 100) -> tuple[PictureRecord, ...]:
        """The newest pictures of an owner, newest first."""
        return self._store.latest(owner, limit)

    def made_with(self, owner: str, role: ModelRole, model: str, limit: int = 4) -> tuple[PictureRecord, ...]:
        """The newest pictures of an owner in which a model file played this role, newest first."""
        return self._store.made_with(owner, role, model, limit)

    def _welcome(self, *tasks: str) -> None:
        """Tasks were put into the queue; the caller holds the condition."""
        for task_id in tasks:
            self._live[task_id] = Live(TaskChannel("Waiting for the engine", self._store.pictures(task_id)))
        self._queue_changed.notify_all()
        self._refresh_waiting()

    def _adopt(self) -> None:
        ours, orphan = lambda home: is_alive(self._homes, home), lambda home: home.startswith("command-")
        dead = self._store.adopt(self.home, ours, orphan)
        for home in dead:
            (self._homes / f"{home}.lock").unlink(missing_ok=True)

    def _work(self, engine: Engine) -> None:
        """The life of a worker thread."""
        self._plots.draw_ended()
        while not self._closing:
            try:
                task = self._next_task()
            except StoreError as error:
                log.error("%s", error)
                time.sleep(1)  # a full disk, say; the queue is still there when it has room again
                continue
            if task is not None:
                self._handle(task, engine)

    def _next_task(self) -> TaskRecord | None:
        """The next task, or None after waiting for a while."""
        with self._queue_changed:
            while self._unsettled:
                self._store.finish(*self._unsettled[0])
                del self._unsettled[0]
            task = self._store.claim(self.home)
            if task is None and not self._closing:
                self._queue_changed.wait(10)
                return None
            if task is not None and task.id not in self._live:
                self._live[task.id] = Live(TaskChannel("", self._store.pictures(task.id)))
        return task

    def _handle(self, task: TaskRecord, engine: Engine) -> None:
        """Does a task, whatever comes; the next one is not concerned by it."""
        live = self._live[task.id]
        live.engine = engine
        self._refresh_waiting()
        state: FinalState
        try:
            state, message = self._runner.make(task, live, engine, lambda: self._closing)
        except Closing:
            with suppress(StoreError):
                self._store.release(task.id)
            return
        except Exception as error:  # noqa: BLE001 - the task's boundary: whatever happens, it is told and written down
            state, message = "failed", in_words(error)[0]
        self._settle(task, live, state, message)

    def _settle(self, task: TaskRecord, live: Live, state: FinalState, message: str) -> None:
        """Writes the end of a task down and tells it."""
        try:
            self._store.finish(task.id, state, message)
        except StoreError as error:
            log.error("%s", error)
            self._unsettled.append((task.id, state, message))
        self._outlook.forget()
        self._plots.draw_ended(task.id)
        with self._queue_changed:
            self._live.pop(task.id, None)
            live.channel.end(self._stored_finish(task.id, state, message))
        self._logs.write(task.folder)

    def _stored_finish(self, task_id: str, state: FinalState, message: str) -> Finish:
        try:
            pictures = self._store.pictures(task_id)
        except StoreError:
            pictures = ()
        return Finish(pictures, state, message)

    def _refresh_waiting(self) -> None:
        """Tells those who wait how many tasks are before theirs."""
        with self._queue_changed, suppress(StoreError):
            busy = sum(live.engine is not None for live in self._live.values())
            held = 0
            for place, task in enumerate(self._store.waiting(self.home), busy):
                live = self._live.get(task.id)
                if live is None:  # taken over from an earlier run of the application
                    live = self._live[task.id] = Live(TaskChannel("", self._store.pictures(task.id)))
                before = place - held
                held += task.held
                others = "1 task is" if before == 1 else f"{before} tasks are"
                text = f"Waiting: {others} before this one" if before else "Waiting for the engine"
                live.channel.tell(0, "Held until you release it" if task.held else text)
