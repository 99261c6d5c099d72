"""The queue with a real engine process that runs the stand-in pipeline: life, wishes, failures and deaths."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modules import async_worker
from modules.async_worker import AsyncWorker, Event, Finish, Preview, Results
from modules.metadata import read_picture
from modules.parameters import BUILT_IN_MODEL, GenerationParameters
from modules.plan import ModelFacts, plan
from modules.settings import Settings
from modules.workplace import create_worker
from tests.modules.conftest import ROOT, SDXL_NAMES, safetensors
from tests.modules.stand_in import build, paint

PATIENCE = 120  # seconds; the machine that runs the tests may be busy


def task(prompt: str = "pace=0.002", pictures: int = 2, **values: Any) -> GenerationParameters:
    return GenerationParameters.from_mapping(
        {"prompt": prompt, "image_number": pictures, "image_seed": 11, "advanced.overwrite_step": 10, **values}
    )


def end_of(worker: AsyncWorker, task_id: str) -> Finish:
    last = list(worker.follow(task_id))[-1]
    assert isinstance(last, Finish)
    return last


def until(events: Iterator[Event], wanted: Callable[[Event], bool]) -> Event:
    return next(event for event in events if wanted(event))


def at_picture(number: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, Preview) and f"picture {number}" in event.text and "Sampling" in event.text


def saved(number: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, Results) and len(event.pictures) == number


def assert_complete(finish: Finish, parameters: GenerationParameters, state: str = "done") -> None:
    """All pictures asked for are there, none twice, and each is the one that its seed gives."""
    assert finish.state == state, finish.message
    jobs = plan(parameters, ModelFacts(64))
    assert [picture.index for picture in finish.pictures] == [job.index for job in jobs]
    for picture, job in zip(finish.pictures, jobs, strict=True):
        with Image.open(picture.path) as image:
            assert np.array_equal(np.asarray(image), paint(job))
        assert read_picture(picture.path).facts["job"]["seed"] == picture.seed == job.seed
    files = [path for path in finish.pictures[0].path.parent.iterdir() if finish.pictures[0].task_id[-12:] in path.name]
    assert len(files) == len(jobs)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def exists(process_id: int) -> bool:
    """Whether a process runs; one that has ended but was not buried by its parent does not count."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def engine_of() -> int:
    (process,) = multiprocessing.active_children()
    assert process.pid is not None
    return process.pid


def test_a_task_from_submit_to_finish(worker: AsyncWorker) -> None:
    parameters = task("pace=0.05", pictures=2)
    task_id = worker.submit(parameters, "me")
    assert worker.running("me") == task_id and worker.running("you") is None
    events = list(worker.follow(task_id))
    finish = events[-1]
    assert isinstance(finish, Finish) and finish.message == ""
    assert_complete(finish, parameters)
    previews = [event for event in events if isinstance(event, Preview)]
    assert [event.percent for event in previews] == sorted(event.percent for event in previews)
    assert any(event.image is not None and event.image.startswith(b"\xff\xd8") for event in previews)
    assert any(event.eta is not None and 0 < event.eta < PATIENCE for event in previews)
    assert [len(event.pictures) for event in events if isinstance(event, Results)] == [1, 2]
    assert worker.running("me") is None
    assert worker.picture(finish.pictures[1].id) == finish.pictures[1]
    assert [picture.id for picture in worker.latest("me")] == [picture.id for picture in reversed(finish.pictures)]
    assert list(worker.follow(task_id)) == [Results(finish.pictures), finish]
    info = read_picture(finish.pictures[0].path)
    assert info.parameters == parameters and set(info.facts["seconds"]) == {"encode", "sampling"}
    log = finish.pictures[0].path.parent / "log.html"
    wait_for(log.exists)
    assert all(picture.path.name in log.read_text(encoding="utf-8") for picture in finish.pictures)


def test_what_an_engine_left_out_is_said_once_while_it_works_and_at_the_end(worker: AsyncWorker) -> None:
    events = list(worker.follow(worker.submit(task("pace=0.05 note=left-out", pictures=2))))
    assert any(isinstance(event, Preview) and event.note == "left-out" for event in events)
    finish = events[-1]
    assert isinstance(finish, Finish) and (finish.state, finish.message) == ("done", "left-out")


def test_a_random_seed_is_drawn_at_submit(worker: AsyncWorker) -> None:
    task_id = worker.submit(task(pictures=1, image_seed=-1))
    record = worker.task(task_id)
    assert record is not None
    drawn = GenerationParameters.from_json(record.parameters).image_seed
    finish = end_of(worker, task_id)
    assert drawn == finish.pictures[0].seed >= 0


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
def test_other_formats(worker: AsyncWorker, output_format: str) -> None:
    finish = end_of(worker, worker.submit(task(pictures=1, **{"advanced.output_format": output_format})))
    with Image.open(finish.pictures[0].path) as image:
        assert image.format == output_format.upper()


def test_skip_leaves_one_picture(worker: AsyncWorker) -> None:
    parameters = task("pace=0.1", pictures=3)
    task_id = worker.submit(parameters)
    events = worker.follow(task_id)
    until(events, at_picture(2))
    worker.skip(task_id)
    finish = list(events)[-1]
    assert isinstance(finish, Finish) and finish.state == "done"
    assert [picture.index for picture in finish.pictures] == [0, 2]
    assert end_of(worker, task_id) == finish


def test_stop_takes_effect_within_a_step_and_touches_nothing_else(worker: AsyncWorker) -> None:
    mine, theirs = task("pace=0.2", pictures=3), task(pictures=2)
    mine_id, theirs_id = worker.submit(mine, "me"), worker.submit(theirs, "you")
    events = worker.follow(mine_id)
    until(events, at_picture(1))
    asked = time.monotonic()
    worker.stop(mine_id)
    worker.skip(theirs_id)
    finish = list(events)[-1]
    assert isinstance(finish, Finish) and (finish.state, finish.pictures) == ("stopped", ())
    assert time.monotonic() - asked < 5
    assert_complete(end_of(worker, theirs_id), theirs)
    worker.stop(mine_id)
    assert worker.retry(mine_id) and not worker.retry(theirs_id)
    until(worker.follow(mine_id), at_picture(1))
    worker.stop(mine_id)
    assert end_of(worker, mine_id).state == "stopped"


def test_an_engine_that_hangs_is_ended_by_a_second_stop(worker: AsyncWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_worker, "PATIENCE", 0.2)
    task_id = worker.submit(task("pace=1000", pictures=1))
    wait_for(lambda: bool(multiprocessing.active_children()))
    worker.stop(task_id)
    time.sleep(0.3)
    worker.stop(task_id)
    assert end_of(worker, task_id).state == "stopped"
    assert_complete(end_of(worker, worker.submit(task())), task())


def test_people_hold_replace_and_duplicate_what_waits(worker: AsyncWorker) -> None:
    first = worker.submit(task("pace=0.2", pictures=1), "you")
    until(worker.follow(first), at_picture(1))
    a, b = (worker.submit(task(pictures=1, image_seed=seed), "me") for seed in (-1, 5))
    assert worker.hold(a, "me", held=True) and not worker.hold(b, "you", held=True)
    assert next(iter(worker.follow(a))) == Preview(0, "Held until you release it")
    assert next(iter(worker.follow(b))) == Preview(0, "Waiting: 1 task is before this one")
    copies = [worker.duplicate(each, "me") for each in (a, b)]
    assert worker.duplicate(a, "you") is None and worker.duplicate("missing", "me") is None
    places = worker.places("me")
    assert [place.task.id for place in places] == [a, b, *copies]
    seeds = [place.parameters.image_seed for place in places]
    assert seeds[1] == seeds[3] == 5 and seeds[0] != seeds[2], "a seed that was drawn is drawn anew"
    assert [place.task.random_seed for place in places] == [True, False, True, False]
    new = worker.replace(b, task("pace=0 edited", pictures=1), "me")
    assert end_of(worker, b) == Finish((), "stopped", "It was queued again with other settings.")
    assert [place.parameters.prompt for place in worker.places("me")] == [
        "pace=0.002",
        "pace=0 edited",
        *["pace=0.002"] * 2,
    ]
    worker.stop(first)
    assert end_of(worker, new).state == "done"
    assert end_of(worker, str(copies[1])).state == "done" and [each.id for each in worker.waiting("me")] == [a]
    late = worker.replace(new, task(pictures=1), "me")
    assert late != new and end_of(worker, late).state == "done", "what has begun is not replaced"


def test_when_tasks_will_be_done_is_learned_from_those_that_were(worker: AsyncWorker) -> None:
    def asked(pictures: int = 1) -> str:
        return worker.submit(task("pace=0.05", pictures=pictures), "me")

    end_of(worker, asked())
    running = worker.submit(task("pace=0.5", pictures=1), "you")
    until(worker.follow(running), at_picture(1))
    asked(4)
    (place,) = worker.places("me")
    assert place.lasting is not None and place.ready_in is not None
    assert 4 * 0.5 < place.lasting < 4 * PATIENCE and place.ready_in > place.lasting
    worker.stop(running)


def test_a_waiting_task_can_be_stopped_moved_and_seen(worker: AsyncWorker) -> None:
    first = worker.submit(task("pace=0.2", pictures=1))
    until(worker.follow(first), at_picture(1))
    a, b, c = (worker.submit(task(pictures=1), "me") for _ in range(3))
    assert [each.id for each in worker.waiting("me")] == [a, b, c]
    assert next(iter(worker.follow(b))) == Preview(0, "Waiting: 2 tasks are before this one")
    assert worker.shift(c, "me", -2) and not worker.shift(c, "you", 1)
    worker.stop(b)
    assert end_of(worker, b) == Finish((), "stopped", "Stopped before it began.")
    assert [each.id for each in worker.waiting()] == [c, a]
    worker.stop(first)
    assert end_of(worker, c).pictures[0].created < end_of(worker, a).pictures[0].created


def test_a_failing_task_says_why_and_the_next_one_is_done(worker: AsyncWorker, settings: Settings) -> None:
    folder = settings.models.checkpoints[0]
    safetensors(folder / "lora.safetensors", ["lora_unet_x.lora_up.weight"])
    (folder / "empty.safetensors").write_bytes(b"")
    expected = {
        worker.submit(task("fail=2 pace=0.001")): "This picture is refused.",
        worker.submit(task("crash=1 pace=0.001")): "RuntimeError: gears are broken",
        worker.submit(task(base_model="missing.safetensors")): "The file missing.safetensors is not in",
        worker.submit(task(base_model="lora.safetensors")): "looks like a LoRA",
        worker.submit(task(base_model="empty.safetensors")): "empty.safetensors is damaged",
    }
    good = task()
    good_id = worker.submit(good)
    for task_id, words in expected.items():
        finish = end_of(worker, task_id)
        assert finish.state == "failed" and words in finish.message
    assert [len(end_of(worker, task_id).pictures) for task_id in expected] == [1, 0, 0, 0, 0]
    assert_complete(end_of(worker, good_id), good)


def test_unknown_tasks_are_answered(worker: AsyncWorker) -> None:
    worker.stop("missing")
    worker.skip("missing")
    assert not worker.retry("missing")
    assert list(worker.follow("missing")) == [Finish((), "failed", "There is no such task.")]


def test_an_engine_killed_mid_run_is_started_again_and_the_task_resumed(worker: AsyncWorker) -> None:
    parameters = task("pace=0.1", pictures=3)
    task_id = worker.submit(parameters)
    events = worker.follow(task_id)
    until(events, saved(1))
    before = engine_of()
    os.kill(before, signal.SIGSEGV)
    told = until(events, lambda event: isinstance(event, Preview) and event.note != "")
    assert isinstance(told, Preview)
    assert "killed (signal 11)" in told.note and "goes on at picture 2 of 3" in told.note
    assert "in the next lower memory mode" in told.note
    finish = list(events)[-1]
    assert isinstance(finish, Finish)
    assert finish.message == "The engine had to be started again once during this task. lowered=1"
    assert_complete(finish, parameters)
    assert engine_of() != before
    assert end_of(worker, worker.submit(task())).message == "", "the next task is done as usual"


def test_a_task_that_goes_on_is_told_what_was_drawn_for_it(worker: AsyncWorker, settings: Settings) -> None:
    """Also when the list it was drawn from has changed meanwhile."""
    settings.wildcards.mkdir()
    (settings.wildcards / "colour.txt").write_text("red\n")
    task_id = worker.submit(task("pace=0.1 __colour__", pictures=3, style_selections=()))
    events = worker.follow(task_id)
    until(events, at_picture(2))
    (settings.wildcards / "colour.txt").write_text("blue\n")
    worker.stop(task_id)
    assert end_of(worker, task_id).state == "stopped" and worker.retry(task_id)
    told = [picture.facts["job"]["positive"] for picture in end_of(worker, task_id).pictures]
    assert told == [["pace=0.1 red"]] * 3
    fresh = end_of(worker, worker.submit(task("pace=0.001 __colour__", pictures=1, style_selections=())))
    assert fresh.pictures[0].facts["job"]["positive"] == ["pace=0.001 blue"]


def test_an_engine_killed_while_idle_is_started_again_silently(worker: AsyncWorker) -> None:
    assert_complete(end_of(worker, worker.submit(task())), task())
    os.kill(engine_of(), signal.SIGKILL)
    wait_for(lambda: not multiprocessing.active_children())
    finish = end_of(worker, worker.submit(task()))
    assert_complete(finish, task())
    assert finish.message == ""


def test_a_task_that_kills_the_engine_twice_at_one_picture_is_given_up(worker: AsyncWorker) -> None:
    bad, good = worker.submit(task("die=2 pace=0.3", pictures=3)), worker.submit(task())
    finish = end_of(worker, bad)
    assert finish.state == "failed" and [picture.index for picture in finish.pictures] == [0]
    assert "It happened 2 times at picture 2 of 3, so the task is given up." in finish.message
    assert_complete(end_of(worker, good), task())


def test_deaths_at_different_pictures_are_forgiven(worker: AsyncWorker, tmp_path: Path) -> None:
    parameters = task(f"die-once=1 mark={tmp_path}/a pace=0.1", pictures=2)
    task_id = worker.submit(parameters)
    events = worker.follow(task_id)
    until(events, saved(1))
    os.kill(engine_of(), signal.SIGSEGV)
    finish = list(events)[-1]
    assert isinstance(finish, Finish)
    assert_complete(finish, parameters)
    assert "2 times" in finish.message


def test_a_picture_on_the_disk_that_was_not_recorded_is_found(
    open_worker: Callable[[], AsyncWorker], settings: Settings
) -> None:
    worker = open_worker()
    parameters = task("pace=0.1", pictures=2)
    task_id = worker.submit(parameters)
    events = worker.follow(task_id)
    until(events, at_picture(2))
    worker.stop(task_id)
    first = end_of(worker, task_id).pictures[0]
    worker._store._connection.execute("DELETE FROM pictures")
    written = first.path.stat().st_mtime_ns
    assert worker.retry(task_id)
    finish = end_of(worker, task_id)
    assert_complete(finish, parameters)
    assert first.path.stat().st_mtime_ns == written


def test_closing_and_opening_goes_on_where_it_was(open_worker: Callable[[], AsyncWorker]) -> None:
    first = open_worker()
    parameters = task("pace=0.1", pictures=3)
    task_id, waiting_id = first.submit(parameters, "me"), first.submit(task(), "me")
    events = first.follow(task_id)
    until(events, at_picture(2))
    first.close()
    assert not any(isinstance(event, Finish) for event in events)
    second = open_worker()
    assert second.running("me") in (task_id, waiting_id)
    assert_complete(end_of(second, task_id), parameters)
    assert_complete(end_of(second, waiting_id), task())
    record = second.task(task_id)
    assert record is not None and record.app_deaths == 0


def test_two_applications_on_one_queue_leave_each_other_alone(open_worker: Callable[[], AsyncWorker]) -> None:
    first = open_worker()
    slow = task("pace=0.1", pictures=2)
    slow_id = first.submit(slow, "me")
    until(first.follow(slow_id), at_picture(1))
    second = open_worker()
    assert second.running("me") is None
    assert_complete(end_of(second, second.submit(task(), "me")), task())
    assert_complete(end_of(first, slow_id), slow)


def test_what_a_killed_command_wanted_is_not_done_later(
    settings: Settings, open_worker: Callable[[], AsyncWorker]
) -> None:
    command = create_worker(settings, kind="command", factory=build)
    task_id = command.submit(task())
    command._alive.close()  # what the system does when a process is killed
    worker = open_worker()
    assert end_of(worker, task_id).state == "stopped"
    command.close()


def app(root: Path, prompt: str, pictures: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.modules.app_process", str(root), prompt, str(pictures)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True)


def test_an_application_killed_mid_run_goes_on_at_the_next_start(
    settings: Settings, open_worker: Callable[[], AsyncWorker]
) -> None:
    killed = app(settings.root, "pace=0.05", 4)
    assert killed.stdout is not None
    task_id, engine = killed.stdout.readline().strip(), int(killed.stdout.readline())
    assert killed.stdout.readline() == "1 pictures\n" and killed.stdout.readline() == "2 pictures\n"
    killed.kill()
    killed.communicate()
    wait_for(lambda: not exists(engine))
    worker = open_worker()
    assert worker.running("me") == task_id
    finish = end_of(worker, task_id)
    parameters = GenerationParameters(prompt="pace=0.05", image_number=4, image_seed=11)
    assert_complete(finish, parameters)
    assert not list(settings.outputs.rglob("*.part"))
    record = worker.task(task_id)
    assert record is not None and record.app_deaths == 0 and record.state == "done"


def test_ctrl_c_is_for_the_application_and_the_engine_ends_with_it(settings: Settings) -> None:
    running = app(settings.root, "pace=0.2", 1)
    assert running.stdout is not None
    running.stdout.readline()
    engine = int(running.stdout.readline())
    os.kill(engine, signal.SIGINT)
    time.sleep(1)
    assert exists(engine)
    running.kill()
    running.communicate()
    wait_for(lambda: not exists(engine))


def test_an_application_that_died_five_times_over_a_picture_gives_it_up(
    settings: Settings, open_worker: Callable[[], AsyncWorker]
) -> None:
    worker = open_worker()
    blocker = worker.submit(task("pace=0.3", pictures=1))
    until(worker.follow(blocker), at_picture(1))
    task_id = worker.submit(task())
    worker._store._connection.execute("UPDATE tasks SET app_deaths = 5 WHERE id = ?", (task_id,))
    worker.stop(blocker)
    finish = end_of(worker, task_id)
    assert finish.state == "failed" and "Pinhole ended 5 times over this task" in finish.message
    assert worker.retry(task_id)
    assert_complete(end_of(worker, task_id), task())


def test_any_number_may_follow_and_leave(worker: AsyncWorker) -> None:
    task_id = worker.submit(task("pace=0.05", pictures=2))
    ends: list[Event] = []

    def follow(leave: bool) -> None:
        for event in worker.follow(task_id, poll=0.1):
            if leave:
                return
            last = event
        ends.append(last)

    threads = [threading.Thread(target=follow, args=(number % 2 == 0,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert ends == [end_of(worker, task_id)] * 5


def test_what_cannot_be_saved_is_not_lost(worker: AsyncWorker, settings: Settings, tmp_path: Path) -> None:
    blocked = tmp_path / "pictures"
    blocked.write_text("a file where the folder should be")
    parameters = task(pictures=2)
    task_id = worker.submit(parameters, folder=blocked)
    finish = end_of(worker, task_id)
    assert finish.state == "failed" and "could not be saved" in finish.message
    blocked.unlink()
    assert worker.retry(task_id)
    assert_complete(end_of(worker, task_id), parameters)


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare to mount a small disk")
    script = 'mount -t tmpfs -o size=4m none "$1" && exec "$2" -m tests.modules.small_disk "$1"'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path), sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    told = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert told["first"].startswith("failed") and "The disk is full" in told["first"], done.stderr
    assert told["leftovers"] == "[]"
    assert "The disk is full: the queue" in told["queue"]
    assert (told["retried"], told["then"]) == ("True", "done [3, 4, 5, 6] 4")


def test_the_model_is_read_at_its_own_size(worker: AsyncWorker, settings: Settings) -> None:
    safetensors(settings.models.checkpoints[0] / "half.safetensors", SDXL_NAMES, {"modelspec.resolution": "128x128"})
    sizes = []
    for name in (BUILT_IN_MODEL, "half.safetensors"):
        picture = end_of(worker, worker.submit(task(pictures=1, base_model=name))).pictures[0]
        sizes.append((picture.width, picture.height))
    assert sizes == [(72, 56), (144, 112)]
    assert replace(settings).outputs in picture.path.parents
