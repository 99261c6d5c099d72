"""Names and writing of picture files: whole or not at all, and never over another one."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path

import pytest

from modules.outputs import (
    OutputError,
    OutputExists,
    day_folder,
    new_task_id,
    picture_path,
    remove_leftovers,
    write_once,
)

TASK = "20261122-181907-3f9c2a1b77aa"
FILE_LIMIT = """
import resource, sys
from pathlib import Path
from modules.outputs import OutputError, write_once
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_once(Path(sys.argv[1]), bytes(5000))
except OutputError as error:
    print(error)
"""
SMALL_DISK = """
import sys
from pathlib import Path
from modules.outputs import OutputError, write_once
try:
    write_once(Path(sys.argv[1]) / "x.png", bytes(2_000_000))
except OutputError as error:
    print(error, [path.name for path in Path(sys.argv[1]).iterdir()])
"""


def test_names_follow_from_the_task() -> None:
    folder = day_folder(Path("outputs"), TASK)
    assert folder == Path("outputs/2026-11-22")
    assert picture_path(folder, TASK, 0, "png").name == "2026-11-22_18-19-07_3f9c2a1b77aa_01.png"
    assert picture_path(folder, TASK, 31, "jpeg").name == "2026-11-22_18-19-07_3f9c2a1b77aa_32.jpg"
    with pytest.raises(ValueError, match="is not a task id"):
        picture_path(folder, "../../x", 0, "png")


def test_task_ids_never_collide_and_sort_by_time() -> None:
    now = datetime(2026, 11, 22, 18, 19, 7)
    ids = {new_task_id(now) for _ in range(2000)}
    assert len(ids) == 2000
    assert all(re.fullmatch(r"20261122-181907-[0-9a-f]{12}", each) for each in ids)
    assert max(ids) < new_task_id(datetime(2026, 11, 22, 18, 19, 8))


def test_a_file_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.png"
    write_once(path, b"first")
    with pytest.raises(OutputExists, match="was not overwritten"):
        write_once(path, b"second")
    assert path.read_bytes() == b"first"
    assert os.listdir(path.parent) == ["a.png"]


def test_of_many_writers_one_wins_and_the_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    outcomes: list[str] = []

    def write(number: int) -> None:
        try:
            write_once(path.with_name("a.png"), bytes([number]) * 100_000)
            outcomes.append("written")
        except OutputError:
            outcomes.append("refused")

    # One process has one temporary name, so the writers take turns within it; between processes the link decides.
    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
        thread.join()
    assert sorted(outcomes) == ["refused", "refused", "refused", "written"]
    assert len(set(path.read_bytes())) == 1 and path.stat().st_size == 100_000


def test_without_hard_links_a_file_is_still_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "link", no_links)
    write_once(tmp_path / "a.png", b"first")
    with pytest.raises(OutputError):
        write_once(tmp_path / "a.png", b"second")
    assert os.listdir(tmp_path) == ["a.png"] and (tmp_path / "a.png").read_bytes() == b"first"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_no_room_is_said_in_words_and_nothing_remains(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILE_LIMIT, str(tmp_path / "a.png")], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("The disk is full: a.png could not be saved in")
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_said_in_words_and_nothing_remains(tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare to mount a small disk")
    script = 'mount -t tmpfs -o size=1m none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path), sys.executable, SMALL_DISK]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    assert done.stdout.startswith("The disk is full: x.png could not be saved in")
    assert "2.0 MB are needed" in done.stdout and done.stdout.endswith("[]\n")


def test_a_folder_that_cannot_be_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="could not be saved"):
        write_once(tmp_path / "file" / "a.png", b"x")


def test_leftovers_of_one_task_are_removed(tmp_path: Path) -> None:
    path = picture_path(tmp_path, TASK, 0, "png")
    mine = path.with_name(f".{path.name}.123.part")
    other = tmp_path / ".2026-11-22_18-19-07_aaaaaaaaaaaa_01.png.123.part"
    for each in (mine, other, path):
        each.write_bytes(b"x")
    remove_leftovers(tmp_path, TASK)
    assert sorted(os.listdir(tmp_path)) == sorted([other.name, path.name])
