"""What a user is told when something breaks: each failure is really provoked, and the sentence read."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import webui
from modules.async_worker import AsyncWorker, Event, Finish, Preview
from modules.engines import LocalEngine
from modules.flags import bind
from modules.history import History, Query
from modules.metadata import read_picture
from modules.parameters import GenerationParameters
from modules.settings import Settings
from modules.store import DATABASE, Store, StoreError
from modules.store_file import in_words
from modules.task_run import MAX_ENDED_FROM_OUTSIDE
from tests.modules.conftest import ROOT

Opener = Callable[[], AsyncWorker]


def task(prompt: str = "pace=0.01", pictures: int = 2, **values: Any) -> GenerationParameters:
    told = {"prompt": prompt, "image_number": pictures, "image_seed": 11, "advanced.overwrite_step": 10}
    return GenerationParameters.from_mapping({**told, **values})


def made(worker: AsyncWorker, asked: GenerationParameters, hear: Callable[[Event], None] = lambda _: None) -> Finish:
    for event in worker.follow(worker.submit(asked, "me")):
        hear(event)
    assert isinstance(event, Finish)
    return event


def engine_of(worker: AsyncWorker) -> int:
    engine = worker._engines[0]
    assert isinstance(engine, LocalEngine) and engine.process_id is not None
    return engine.process_id


def test_a_damaged_queue_is_put_aside_and_the_history_comes_back(open_worker: Opener, settings: Settings) -> None:
    worker = open_worker()
    assert len(made(worker, task()).pictures) == 2
    worker.close()
    path = settings.data / DATABASE
    path.write_bytes(b"this is no database" * 100)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)

    again = open_worker()
    assert len(again.notes) == 1
    said = again.notes[0]
    (aside,) = settings.data.glob(f"{DATABASE}.damaged-*")
    assert str(aside) in said and "Pictures are found again" in said and aside.read_bytes().startswith(b"this is no")
    store = Store(path)
    history = History(store)
    assert history.take_in(settings.outputs) == 2 and len(history.page(None, Query())[0]) == 2
    assert store.note == "" and made(again, task(pictures=1)).state == "done"
    store.close()


def test_damage_that_is_found_later_is_told_and_mended_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / DATABASE
    store = Store(path)
    for number in range(400):
        store.add_task(f"t{number}", "me", "home", '{"prompt": "' + "x" * 500 + '"}', tmp_path)
    store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    data = bytearray(path.read_bytes())
    data[8192:] = os.urandom(len(data) - 8192)
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"the file is damaged\. End Pinhole and start it again") as raised:
        broken = Store(path)
        for number in range(400):
            broken.task(f"t{number}")
            broken.waiting("home")
    assert "No picture is lost." in str(raised.value)
    with closing(Store(path)) as whole:
        assert "was damaged: it was put aside" in whole.note and whole.waiting("home") == []
    with closing(Store(path)) as whole:
        assert whole.note == ""


def test_a_queue_that_another_program_holds_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / DATABASE
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as holder,
        closing(sqlite3.connect(path, timeout=0)) as other,
    ):
        holder.execute("CREATE TABLE x (a)")
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError) as raised:
            other.execute("SELECT * FROM x")
    assert "another program holds on to the file" in in_words(raised.value, "be opened", path)


def test_a_start_that_cannot_be_ends_with_a_sentence(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    settings.data.write_text("somebody's file")
    with bind("127.0.0.1", 0, search=False) as door:
        assert isinstance(door, socket.socket)
        assert webui.main(settings, door) == 2
    said = capsys.readouterr().err
    assert f"{settings.data} is not a folder. Rename what is there, or choose another folder" in said
    assert "Traceback" not in said


@pytest.mark.skipif(shutil.which("setpriv") is None or os.geteuid() != 0, reason="needs root and setpriv")
def test_a_data_folder_that_may_not_be_written_is_told_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    code = f"from pathlib import Path; from modules.store import Store; Store(Path({str(tmp_path)!r}) / 'data' / 'x')"
    command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    tmp_path.chmod(0o755)
    assert f"writing to {tmp_path / 'data'} is not allowed. Allow it, or choose another folder" in done.stderr


def test_outputs_that_are_no_folder(worker: AsyncWorker, settings: Settings) -> None:
    settings.outputs.write_text("somebody's file")
    end = made(worker, task(pictures=1))
    assert end.state == "failed" and "is not a folder. Rename what is there." in end.message
    assert "The picture is kept in memory until the task goes on." in end.message
    settings.outputs.unlink()
    with closing(Store(settings.data / DATABASE)) as store, store.transaction("be read") as database:
        (row,) = database.execute("SELECT id FROM tasks").fetchall()
    assert worker.retry(row["id"])
    *_, last = worker.follow(row["id"])
    assert isinstance(last, Finish) and last.state == "done"
    assert read_picture(last.pictures[0].path).facts["index"] == 0


@pytest.mark.parametrize(
    ("number", "words", "lowered"),
    [
        (signal.SIGTERM, "The engine was ended from outside. It is being started again; the task goes on", False),
        (signal.SIGSEGV, "a fault in a driver or in a library. It is being started again in the next lower", True),
        (signal.SIGBUS, "a model file was cut short or replaced while it was read", True),
        (signal.SIGILL, "this PyTorch is built for another processor", True),
    ],
)
def test_an_engine_that_is_killed(worker: AsyncWorker, number: signal.Signals, words: str, lowered: bool) -> None:
    notes: list[str] = []
    killed: list[int] = []

    def hear(event: Event) -> None:
        if isinstance(event, Preview):
            notes.append(event.note)
            if event.index == 1 and not killed:
                killed.append(engine_of(worker))
                os.kill(killed[0], number)

    end = made(worker, task("pace=0.05"), hear)
    assert end.state == "done" and len(end.pictures) == 2, end.message
    assert any(words in note and "nothing that is finished is lost" in note for note in notes), notes
    assert ("lowered=1" in end.message) is lowered


def killing(worker: AsyncWorker, times: int, task_id: str) -> Finish:
    """Kills the engine again and again over the second picture of a task, as somebody from outside does."""
    killed: set[int] = set()
    engine = worker._engines[0]
    assert isinstance(engine, LocalEngine)
    for event in worker.follow(task_id, poll=0.02):
        if isinstance(event, Preview) and event.index == 1 and len(killed) < times:
            found = engine.process_id
            if found is not None and found not in killed:
                killed.add(found)
                os.kill(found, signal.SIGKILL)
        if isinstance(event, Finish):
            assert len(killed) == times
            return event
    raise AssertionError("the task has no end")


def test_who_kills_the_engine_again_and_again_does_not_cost_the_picture(worker: AsyncWorker) -> None:
    """The system tells that memory did not run out; the third time Pinhole goes down a mode all the same."""
    end = killing(worker, 4, worker.submit(task("pace=0.05", pictures=3)))
    assert end.state == "done" and len(end.pictures) == 3, end.message
    assert "4 times" in end.message and "lowered=1" in end.message and "lowered=2" not in end.message


def test_an_engine_that_the_system_killed_for_its_memory_goes_down_a_mode(worker: AsyncWorker) -> None:
    engine = worker._engines[0]
    assert isinstance(engine, LocalEngine)
    engine._memory_kills = iter(range(1_000_000, 2_000_000)).__next__  # one more at every look
    end = killing(worker, 1, worker.submit(task("pace=0.05", pictures=3)))
    assert end.state == "done" and "once" in end.message and "lowered=1" in end.message
    end = killing(worker, 2, worker.submit(task("pace=0.05", pictures=3)))
    assert end.state == "failed" and "Mostly this means that memory ran out." in end.message
    assert "It happened 2 times at picture 2 of 3, so the task is given up." in end.message


def test_who_never_stops_killing_it_is_told_so(worker: AsyncWorker) -> None:
    end = killing(worker, MAX_ENDED_FROM_OUTSIDE, worker.submit(task("pace=0.05", pictures=2)))
    assert end.state == "failed" and len(end.pictures) == 1
    assert f"It happened {MAX_ENDED_FROM_OUTSIDE} times at picture 2 of 2" in end.message


def test_what_nobody_has_foreseen_says_what_is_kept(worker: AsyncWorker) -> None:
    end = made(worker, task("crash=2 pace=0.001"))
    assert end.state == "failed" and len(end.pictures) == 1
    assert "(RuntimeError: gears are broken). Finished pictures are kept" in end.message


def test_what_breaks_again_and_again_is_given_up_with_advice(worker: AsyncWorker) -> None:
    end = made(worker, task("die=2 pace=0.001"))
    assert end.state == "failed" and len(end.pictures) == 1
    assert "Finished pictures are kept; a smaller size or another model may work for the rest." in end.message


def test_a_checkpoint_that_goes_while_its_task_waits(worker: AsyncWorker, settings: Settings) -> None:
    folder = settings.models.checkpoints[0]
    shutil.copy(next(folder.glob("*.safetensors")), folder / "mine.safetensors")
    first = worker.submit(task("pace=0.05"))
    second = worker.submit(task(base_model="mine.safetensors"))
    (folder / "mine.safetensors").unlink()
    *_, end = worker.follow(second)
    assert isinstance(end, Finish) and end.state == "failed"
    assert end.message == f"The file mine.safetensors is not in {folder}. Put it there or choose another one."
    *_, end = worker.follow(first)
    assert isinstance(end, Finish) and end.state == "done"
