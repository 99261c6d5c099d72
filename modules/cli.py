"""The command ``generate``: a sentence on the command line becomes pictures; knows the queue, not how it works."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TextIO

from modules.async_worker import AsyncWorker, Finish, Preview, Results
from modules.engine_process import Factory, load_pipeline
from modules.feasible import Feasible
from modules.files import ModelFiles, ModelLibrary
from modules.flags import add_memory_flags, policy_of
from modules.forecast import Expectation
from modules.metadata import MetadataError, read_text
from modules.metadata_texts import read_told
from modules.model_search import Here, here_with
from modules.parameters import GenerationParameters
from modules.plot import Plot, read_plot
from modules.presets import StartingPoint, apply_preset
from modules.prompt_list import PromptList, common_of, is_list, read_file, read_list, tasks_of
from modules.prompt_sources import prompt_sources
from modules.settings import Settings, load_settings
from modules.workplace import create_worker

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
BAR_WIDTH = 24
POLL = 0.5  # seconds


def main(
    argv: Sequence[str], root: Path | None = None, factory: Factory = load_pipeline, command: str = "generate"
) -> int:
    """Runs ``generate``, or ``plot``, with the arguments ``argv``; returns the exit code.

    Standard output gets the files written, one a line, and nothing else; progress and notes go to standard error. Works
    while the application runs: the task has an engine of its own, and its pictures are in the common history.
    """
    arguments = parser(command).parse_args(argv)
    try:
        settings = load_settings(
            root or Path(__file__).resolve().parent.parent, {"memory": policy_of(arguments)}, os.environ
        )
        start = starting_point(arguments, settings)
        plot = plot_of(arguments, start.parameters, settings)
        wanted = wanted_of(arguments, start.parameters, settings) if plot is None else PromptList(plot.cells, ())
        folder = None if arguments.out is None else usable_folder(arguments.out)
        worker = create_worker(settings, kind="command", factory=factory)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_INPUT
    for note in (*settings.notes, *start.notes):
        sys.stderr.write(f"{note}\n")
    for problem in wanted.problems:
        sys.stderr.write(f"{problem}\n")
    try:
        if arguments.dry_run:
            sys.stdout.write(f"{_in_all(wanted, worker.expectation(wanted.tasks))}\n")
            return BAD_INPUT if wanted.problems else DONE
        worker.start()
        tasks = [parameters.with_seed() for parameters in wanted.tasks]
        ids = worker.submit_all(tasks, "command", folder, plot)
        codes = _watch_all(worker, ids, tasks)
        return max([*codes, *([BAD_INPUT] if wanted.problems else [])])
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        worker.close()


def parser(command: str = "generate") -> argparse.ArgumentParser:
    """The flags of ``generate``, which are those of ``plot`` as well."""
    does = "Makes pictures" if command == "generate" else "Makes an X/Y/Z plot, a labelled grid of pictures,"
    made = argparse.ArgumentParser(prog=f"entry.py {command}", description=f"{does} without the page.")
    made.add_argument("--prompt", default=None, metavar="TEXT", help="what the picture shows")
    made.add_argument(
        "--set", action="append", default=[], dest="assignments", metavar="KEY=VALUE",
        help="any parameter, for example image_number=4 or sampler_name=euler; may be given several times",
    )  # fmt: skip
    made.add_argument("--preset", default="", metavar="NAME", help="the preset to start from")
    made.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where the pictures go (without it: outputs/ and a date)"
    )
    made.add_argument(
        "--from", type=Path, dest="picture", metavar="PICTURE",
        help="a PNG, JPEG or WebP whose settings and seed are used, Pinhole's own or another program's",
    )  # fmt: skip
    made.add_argument(
        "--list", type=Path, dest="prompts", metavar="FILE",
        help="prompts, one a line, or a .csv or .tsv table whose first row names parameters; a task is made of each",
    )  # fmt: skip
    for axis, what in (("x", "columns"), ("y", "rows"), ("z", "grids")):
        made.add_argument(
            f"--{axis}", metavar="KEY=VALUES", required=axis == "x" and command == "plot",
            help=f"the {what} of an X/Y/Z plot: any parameter and its values, for example "
            "guidance_scale=2,4,7 or seed=1-4 or \"s/r=red, blue\"",
        )  # fmt: skip
    made.add_argument(
        "--dry-run", action="store_true", help="say how many pictures would be made and about how long it would take"
    )
    add_memory_flags(made)
    return made


def starting_point(arguments: argparse.Namespace, settings: Settings) -> StartingPoint:
    """The parameters meant by the flags, over those of a picture, over those of the preset.

    Raises ``ValueError`` in words.
    """
    models = ModelFiles(settings.models.checkpoints)
    start = apply_preset(arguments.preset, settings, models)
    if arguments.picture is not None:
        start = as_in(arguments.picture, start, here_with(settings, ModelLibrary(settings.models).names))
    parameters: GenerationParameters = start.parameters
    if arguments.prompt is not None:
        parameters = parameters.with_values({"prompt": arguments.prompt})
    parameters = parameters.with_set(arguments.assignments)
    models.find(parameters.base_model)
    chosen_here = any(each.partition("=")[0].strip() == "base_model" for each in arguments.assignments)
    return StartingPoint(parameters, start.preset, () if chosen_here else start.notes)


def plot_of(arguments: argparse.Namespace, parameters: GenerationParameters, settings: Settings) -> Plot | None:
    """The plot meant by the flags, if there is one; raises ``ValueError`` in words."""
    told = [(text or "").partition("=") for text in (arguments.x, arguments.y, arguments.z)]
    x, y, z = ((name, values) for name, _, values in told)
    if not any((x[0], y[0], z[0])):
        return None
    if arguments.prompts is not None:
        raise ValueError("--list and a plot: only one of them is possible at once")
    library = ModelLibrary(settings.models)
    feasible = Feasible(library.checkpoints, prompt_sources(settings))
    return feasible.plot(read_plot(parameters, x, y, z, library.names))


def wanted_of(arguments: argparse.Namespace, parameters: GenerationParameters, settings: Settings) -> PromptList:
    """The tasks meant by the flags: one, or those of a list. Raises ``ValueError`` in words."""
    if arguments.prompts is not None:
        found = list_of(arguments.prompts, common_of(arguments.prompt or ""), parameters)
    elif is_list(parameters.prompt):
        found = read_list(parameters.prompt, parameters)
    else:
        return PromptList((parameters,), ())
    wanted = Feasible(ModelFiles(settings.models.checkpoints), prompt_sources(settings)).list_of(found)
    if not wanted.tasks:
        raise ValueError("\n".join(wanted.problems))
    return wanted


def list_of(path: Path, common: str, parameters: GenerationParameters) -> PromptList:
    """The tasks of a file's lines; raises ``ValueError`` in words."""
    try:
        lines = read_file(path.read_bytes(), path.suffix.lower() in (".csv", ".tsv"))
        found = tasks_of(lines.lines, common, parameters)
    except (OSError, ValueError) as error:
        raise ValueError(f"--list {path}: {getattr(error, 'strerror', None) or error}") from None
    return PromptList(found.tasks, (*lines.problems, *found.problems))


def as_in(picture: Path, start: StartingPoint, here: Here) -> StartingPoint:
    """What a picture file says of the parameters, over ``start``; raises ``ValueError`` in words.

    A picture that says which model it was made with needs no note about the preset's.
    """
    try:
        reading = read_told(read_text(picture), here)
    except MetadataError as error:
        raise ValueError(f"--from {picture}: {error}") from None
    parameters = start.parameters.with_values({**reading.values, "image_number": 1})
    notes = () if "base_model" in reading.values else start.notes
    return StartingPoint(parameters, start.preset, (*notes, *reading.problems))


def usable_folder(folder: Path) -> Path:
    """``folder`` as an absolute path, made if it is not there; raises ``ValueError`` in words."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out: the folder {folder} cannot be made: {error.strerror or error}") from None
    if not os.access(folder, os.W_OK):
        raise ValueError(f"--out: writing to {folder} is not allowed")
    return folder.resolve()


class _Interrupt:
    """Ctrl+C while a task is being done: the first one stops the task, the second one ends everything."""

    def __init__(self, worker: AsyncWorker, task_id: str) -> None:
        self._worker = worker
        self._task_id = task_id
        self.asked = False

    def __enter__(self) -> _Interrupt:
        self._before = signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        # Only noted here: the interrupted thread may hold the very lock that stopping the task needs.
        self.asked = True

    def act(self) -> None:
        """Passes the wish on, from outside the signal handler."""
        if self.asked:
            self._worker.stop(self._task_id)


def _in_all(wanted: PromptList, expected: Expectation) -> str:
    """What tasks come to, in words."""
    counts = ((len(wanted.tasks), "task"), (wanted.pictures, "picture"))
    many = (f"{count:,} {name}{'' if count == 1 else 's'}" for count, name in counts)
    return f"{', '.join(many)}: {expected.words}."


def _watch_all(worker: AsyncWorker, ids: Sequence[str], tasks: Sequence[GenerationParameters]) -> Iterator[int]:
    """The exit codes of tasks, one after the other; whoever interrupts one means those after it too."""
    for place, (task_id, parameters) in enumerate(zip(ids, tasks, strict=True)):
        code = _watch(worker, task_id, parameters.image_seed)
        yield code
        if code == INTERRUPTED:
            for left in ids[place + 1 :]:
                worker.stop(left)
            return


def _watch(worker: AsyncWorker, task_id: str, seed: int) -> int:
    """Shows how a task goes on and prints its files; returns the exit code."""
    bar = ProgressBar(sys.stderr)
    printed = 0
    note = ""
    with _Interrupt(worker, task_id) as interrupt:
        for event in worker.follow(task_id, poll=POLL):
            interrupt.act()
            match event:
                case Preview():
                    if event.note != note:  # one that stands grows by every new sentence
                        bar.line(event.note.removeprefix(note).strip())
                        note = event.note
                    bar.show(event)
                case Results() | Finish():
                    bar.clear()
                    for picture in event.pictures[printed:]:
                        sys.stdout.write(f"{picture.path}\n")
                    sys.stdout.flush()
                    printed = len(event.pictures)
            if isinstance(event, Finish):
                if last := event.message.removeprefix(note).strip():
                    bar.line(last)
                if event.state == "failed":
                    bar.line(f"The same pictures again: --set image_seed={seed}")
                return {"done": DONE, "stopped": INTERRUPTED, "failed": FAILED}[event.state]
    return INTERRUPTED


class ProgressBar:
    """One line of a terminal that is written again and again; nothing but sentences where there is no terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._shown = ""

    def show(self, event: Preview) -> None:
        """Draws the bar."""
        if not self._live:
            return
        filled = event.percent * BAR_WIDTH // 100
        rest = "" if event.eta is None else f", {_duration(event.eta)} left"
        line = f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {event.percent:3d} %  {event.text}{rest}"
        line = line[: shutil.get_terminal_size().columns - 1]
        if line != self._shown:
            self._stream.write("\r" + line + " " * max(0, len(self._shown) - len(line)))
            self._stream.flush()
            self._shown = line

    def clear(self) -> None:
        """Takes the bar away."""
        if self._shown:
            self._stream.write("\r" + " " * len(self._shown) + "\r")
            self._stream.flush()
            self._shown = ""

    def line(self, sentence: str) -> None:
        """Writes a sentence above the bar."""
        self.clear()
        self._stream.write(f"{sentence}\n")
        self._stream.flush()


def _duration(seconds: float) -> str:
    whole = max(1, round(seconds))
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60:02d} s"
