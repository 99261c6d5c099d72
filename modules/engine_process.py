"""The loop inside an engine process: takes requests, makes and saves pictures, reports; knows no queue and no page.

It runs in a process of its own (``engines.LocalEngine`` starts it) and loads the pipeline, and with it torch, in there.
It ends when the application ends: then the pipe to it closes.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ldm_patched.modules.memory import ran_out
from modules.conditions import Computing
from modules.connections import Connections, watch_connections
from modules.engine_messages import (
    Ended,
    EngineConfig,
    EngineMessage,
    Expanded,
    ExpandRequest,
    Note,
    Progress,
    RunRequest,
    Saved,
    Skipped,
    Wish,
    pack_message,
    unpack,
    unpack_run,
)
from modules.expansion import completed
from modules.ladder import NotEnoughMemory
from modules.metadata import (
    SchemeText,
    describe,
    describe_place,
    encode_picture,
    encode_preview,
    picture_facts,
)
from modules.metadata_writing import scheme_text
from modules.model_hashes import told_of_all
from modules.observer import Observer
from modules.outputs import OutputError, OutputExists, picture_path, write_once
from modules.pace import PreviewPace
from modules.parameters import GenerationParameters
from modules.plan import ImageJob
from modules.reporter import reporting
from modules.stopwatch import Stopwatch
from modules.timings import with_stages

if TYPE_CHECKING:
    from modules.observer import Picture

log = logging.getLogger(__name__)

MOST_WORDS = 300  # characters of somebody else's error
MAX_UNSAVED = 4  # pictures that may wait for the disk before sampling has to wait for it
NICENESS = 5  # the page and other programs come first: one that stutters is worse than a picture that takes longer


class PipelineLike(Protocol):
    """What makes pictures. Errors that are ``ValueError`` have a message fit for users."""

    @property
    def computing(self) -> Computing | None:
        """What computes, as far as that is known. Asked by another thread."""

    def run(self, jobs: Sequence[ImageJob], observer: Observer, lowered: int = 0) -> None:
        """Makes the pictures of the jobs, in order, beginning so many memory modes below the usual one."""

    def expand(self, text: str, seed: int, note: Callable[[str], None]) -> str:
        """``text`` with the words that follow it; see ``modules.expansion.Expand``."""


Factory = Callable[[EngineConfig], PipelineLike]


def load_pipeline(config: EngineConfig) -> PipelineLike:
    """The real pipeline. Imported here, not above: the application process must never load torch."""
    from modules.pipeline import Pipeline

    pipeline: PipelineLike = Pipeline(config.models, config.texts, config.memory)
    return pipeline


def main(connection: Connection, config: EngineConfig, factory: Factory = load_pipeline) -> None:
    """The life of an engine process: until it is told to exit, or the application is gone."""
    # Before torch is loaded: threads that spin while they wait make a busy machine several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    watch_connections(Connections(), offline=True)  # an engine has nobody to speak with
    if hasattr(os, "nice"):  # Windows has it otherwise
        os.nice(NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C in the terminal is for the application, which then tells us
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="engine: %(message)s")
    courier = Courier(connection)
    wishes = Wishes()
    requests: queue.SimpleQueue[RunRequest | ExpandRequest | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, requests, wishes), daemon=True, name="listen").start()
    saver = Saver(courier, told_of_all(config))
    pipeline: PipelineLike | None = None
    try:
        pipeline = factory(config)  # ahead of the first request, so that this one does not wait for it
    except Exception:
        log.exception("the engine could not get ready; the first task will try again and say why")
    while (request := requests.get()) is not None:
        if isinstance(request, ExpandRequest):
            courier.send(answer(request, pipeline))
            continue
        message, broken = "", False
        try:
            pipeline = pipeline or factory(config)
            remaining = saver.save_kept(request)
            if remaining:
                watch = Stopwatch()
                with watch("encode"):
                    jobs = _expanded(request.task_id, remaining, pipeline, courier, wishes)
                request = replace(request, jobs=tuple(jobs))
                observer = RunObserver(request, courier, wishes, saver, watch.seconds)
                with reporting(request, partial(getattr, pipeline, "computing"), courier.send):
                    pipeline.run(request.jobs, observer, request.lowered)
        except Exception as error:  # noqa: BLE001 - the task's boundary: whatever happens, the task gets an answer
            message, broken = in_words(error)
        problem = saver.drain()
        courier.send(Ended(request.task_id, problem or message, broken and not problem))
        wishes.forget(request.task_id)
    courier.close()


def answer(request: ExpandRequest, pipeline: PipelineLike | None) -> Expanded:
    """The expansion of a text; whatever happens, there is an answer."""
    notes: list[str] = []
    try:
        text = pipeline.expand(request.text, request.seed, notes.append) if pipeline is not None else ""
    except Exception as error:  # noqa: BLE001 - somebody only wanted to see some words
        text, notes = "", [in_words(error)[0]]
    return Expanded(request.id, text, " ".join(notes))


def _expanded(
    task_id: str, jobs: Sequence[ImageJob], pipeline: PipelineLike, courier: Courier, wishes: Wishes
) -> list[ImageJob]:
    """The jobs with their expansions; when the user stops, as far as they are: the run will end at once."""
    if any(job.expand for job in jobs):
        courier.send(Progress(task_id, jobs[0].index, 0, jobs[0].steps, "Adding words to the prompt"))
    return completed(
        jobs, pipeline.expand, lambda text: courier.send(Note(task_id, text)), lambda: wishes.stopping(task_id)
    )


def in_words(error: Exception) -> tuple[str, bool]:
    """A sentence for the user, and whether the engine had better be started afresh."""
    if isinstance(error, ValueError) and type(error) is not ValueError:
        log.info("task refused: %s", error)
        return str(error), False
    log.error("a task failed", exc_info=error)
    if isinstance(error, NotEnoughMemory):
        return str(error), True
    if ran_out(error):
        return "There is not enough memory for this picture. A smaller size needs less.", True
    words = f"{error}".strip().partition("\n")[0][:MOST_WORDS]  # some libraries write pages
    return (
        f"Something went wrong that should not have ({type(error).__name__}: {words}). Finished pictures are kept, and "
        "the rest can be made once more. If it happens again, the terminal says more.",
        True,
    )


class Wishes:
    """Skip and Stop, by task: a wish that comes a moment too late for its task touches no other one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wishes: dict[str, Wish] = {}

    def add(self, task_id: str, wish: Wish) -> None:
        """Notes a wish; Stop outweighs Skip."""
        with self._lock:
            if self._wishes.get(task_id) != "stop":
                self._wishes[task_id] = wish

    def take(self, task_id: str) -> Literal["", "skip", "stop"]:
        """The wish for a task. A Skip is fulfilled by being taken, a Stop stays."""
        with self._lock:
            wish = self._wishes.get(task_id)
            if wish == "skip":
                del self._wishes[task_id]
            return wish or ""

    def stopping(self, task_id: str) -> bool:
        """Whether the task is to end; a Skip is left for who can fulfil it."""
        with self._lock:
            return self._wishes.get(task_id) == "stop"

    def forget(self, task_id: str) -> None:
        """The task is over."""
        with self._lock:
            self._wishes.pop(task_id, None)


class Courier:
    """Sends messages in order from a thread of its own: neither encoding nor a slow reader holds up a step."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._outbox: queue.SimpleQueue[tuple[EngineMessage, Picture | None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True, name="courier")
        self._thread.start()

    def send(self, message: EngineMessage, preview: Picture | None = None) -> None:
        """Sends a message; a ``Progress`` with the picture ``preview`` as its JPEG."""
        self._outbox.put((message, preview))

    def close(self) -> None:
        """Waits until everything is sent."""
        self._outbox.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (item := self._outbox.get()) is not None:
            message, preview = item
            if preview is not None and isinstance(message, Progress):
                image = encode_preview(preview)
                message = Progress(message.task_id, message.index, message.step, message.steps, message.text, image)
            try:
                self._connection.send_bytes(pack_message(message))
            except OSError:
                os._exit(1)  # the application is gone


class Saver:
    """Encodes and writes finished pictures in a thread of its own, off the critical path."""

    def __init__(self, courier: Courier, told: Callable[[ImageJob], Mapping[str, Any]] = lambda job: {}) -> None:
        self._courier = courier
        self._told = told
        self._problem = ""
        self._kept: dict[tuple[str, int], tuple[Saved, bytes]] = {}
        self._queue: queue.Queue[tuple[RunRequest, ImageJob, Picture, dict[str, float]]] = queue.Queue(MAX_UNSAVED)
        threading.Thread(target=self._work, daemon=True, name="saver").start()

    @property
    def failed(self) -> bool:
        """Whether a picture of the present run could not be saved."""
        return bool(self._problem)

    def put(self, request: RunRequest, job: ImageJob, picture: Picture, timings: dict[str, float]) -> None:
        """Takes a picture over to save it."""
        self._queue.put((request, job, picture, timings))

    def drain(self) -> str:
        """Waits until everything is saved; returns what went wrong in this run, and forgets it."""
        self._queue.join()
        problem, self._problem = self._problem, ""
        return problem

    def save_kept(self, request: RunRequest) -> list[ImageJob]:
        """Saves what an earlier run of this task could not save (the disk was full); returns the jobs still to do.

        What is kept for other tasks is forgotten: it can be made again from their parameters, and memory is precious.
        """
        kept = {key: value for key, value in self._kept.items() if key[0] == request.task_id}
        self._kept.clear()
        for message, data in kept.values():
            self._write(message, data, time.perf_counter())
        return [job for job in request.jobs if (request.task_id, job.index) not in kept]

    def _work(self) -> None:
        while True:
            request, job, picture, timings = self._queue.get()
            try:
                self._save(request, job, picture, timings)
            except Exception as error:  # noqa: BLE001 - the thread must live, and the task be told
                self._problem = self._problem or in_words(error)[0]
            finally:
                self._queue.task_done()

    def _save(self, request: RunRequest, job: ImageJob, picture: Picture, timings: dict[str, float]) -> None:
        begin = time.perf_counter()
        height, width, _ = picture.shape
        facts = {"task": request.task_id, "index": job.index, "job": asdict(job), "seconds": timings}
        facts |= self._told(job)
        parameters = GenerationParameters.from_json(request.parameters)
        scheme = parameters.advanced.metadata_scheme
        if parameters.advanced.save_metadata_to_images:
            common = SchemeText(scheme, scheme_text(scheme, parameters, facts))
            data = encode_picture(picture, request.output_format, describe(parameters, facts), common)
        else:
            place = describe_place(request.task_id, job.index)
            data = encode_picture(picture, request.output_format, place, SchemeText("", ""))
        path = picture_path(request.folder, request.task_id, job.index, request.output_format)
        self._write(Saved(request.task_id, job.index, str(path), width, height, facts), data, begin)

    def _write(self, message: Saved, data: bytes, begin: float) -> None:
        """Writes and reports a picture; one that cannot be written is kept for the next run of its task.

        ``begin`` is when saving it began: how long that took is told, but cannot stand in the file itself.
        """
        key = (message.task_id, message.index)
        try:
            write_once(Path(message.path), data)
        except OutputExists as error:
            # A process that was killed right after writing, or that outlived its application for a moment, has made it.
            if picture_facts(Path(message.path), *key) is None:
                self._problem = self._problem or str(error)
                return
        except OutputError as error:
            self._kept[key] = (message, data)
            self._problem = self._problem or f"{error} The picture is kept in memory until the task goes on."
            return
        self._courier.send(replace(message, facts=with_stages(message.facts, save=time.perf_counter() - begin)))


class RunObserver:
    """The pipeline's observer for one request."""

    def __init__(
        self, request: RunRequest, courier: Courier, wishes: Wishes, saver: Saver, before: Mapping[str, float]
    ) -> None:
        """before: what was spent for the first picture already, in seconds by stage."""
        self._before = before
        self._request = request
        self._courier = courier
        self._wishes = wishes
        self._saver = saver
        self._jobs = {job.index: job for job in request.jobs}
        self._open = [job.index for job in request.jobs]  # neither finished nor skipped
        self._current = self._open[0]
        self._previews = PreviewPace()

    def progress(self, job: int, step: int, steps: int, text: str, preview: Callable[[], Picture] | None) -> None:
        """Reports a step, with a preview if the last one is old enough."""
        self._current = job
        image = None if preview is None or not self._jobs[job].preview else self._previews.take(preview)
        self._courier.send(Progress(self._request.task_id, job, step, steps, text), image)

    def note(self, text: str) -> None:
        """Passes a sentence on to the user."""
        self._courier.send(Note(self._request.task_id, text))

    def cancelled(self) -> Literal["", "skip", "stop"]:
        """The user's wish; a picture that cannot be saved stops the run as well."""
        if self._saver.failed:
            return "stop"
        wish = self._wishes.take(self._request.task_id)
        if wish == "skip" and self._open:
            # Asked between two pictures, it is the next one that is left, not the one that is finished.
            skipped = self._current if self._current in self._open else self._open[0]
            self._open.remove(skipped)
            self._courier.send(Skipped(self._request.task_id, skipped))
        return wish

    def finished(self, job: int, picture: Picture, timings: dict[str, float]) -> None:
        """Hands a picture over to be saved."""
        self._open.remove(job)
        spent, self._before = self._before, {}
        added = {stage: seconds + timings.get(stage, 0.0) for stage, seconds in spent.items()}
        self._saver.put(self._request, self._jobs[job], picture, {**timings, **added})


def _listen(
    connection: Connection, requests: queue.SimpleQueue[RunRequest | ExpandRequest | None], wishes: Wishes
) -> None:
    """Takes what the application says, also while a picture is being made."""
    while True:
        try:
            header, _ = unpack(connection.recv_bytes())
        except (EOFError, OSError):
            # The application is gone, however it went. Nothing to save that could be half-written: files get their name
            # only when they are whole.
            os._exit(0)
        match header.pop("do"):
            case "run":
                request = unpack_run(header)
                wishes.forget(request.task_id)  # one that came after the end of an earlier run of this task
                requests.put(request)
            case "expand":
                requests.put(ExpandRequest(**header))
            case "skip" | "stop" as wish:
                wishes.add(header["task_id"], wish)
            case "exit":
                requests.put(None)
