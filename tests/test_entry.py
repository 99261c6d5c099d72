"""The start, for real: a copy of the bootstrap in a folder of its own, with tiny packages instead of the real ones."""

from __future__ import annotations

import ast
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from modules import environment, installer
from modules.environment import SetupError, missing, read_pins
from tests import checks

ROOT = Path(__file__).resolve().parent.parent
BOOTSTRAP = ("entry.py", "modules/__init__.py", "modules/environment.py", "modules/installer.py", "modules/locks.py")
APP = "def main(argv, door):\n    import sys\n    print('started in', sys.prefix, 'with', argv)\n    return 7\n"
FLAGS = """
import argparse

def parser():
    made = argparse.ArgumentParser()
    made.add_argument("--port")
    return made

def read(root, argv, environ):
    if "taken" in argv:
        raise ValueError("Port taken is taken.")
    return argv, None
"""
posix_only = pytest.mark.skipif(os.name == "nt", reason="signals and symbolic links as POSIX has them")


@dataclass(frozen=True)
class Home:
    """A folder that holds the bootstrap, an app that tells where it runs, and packages to install."""

    folder: Path

    def environ(self, **more: str) -> dict[str, str]:
        """An environment in which pip sees the tiny packages and nothing else."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
        wheels = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.folder / "wheels"), "PIP_CONFIG_FILE": os.devnull}
        return {**own, **wheels, **more}

    def begin(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        """Start it and do not wait."""
        command = [sys.executable, "entry.py", *arguments]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environ(**environ), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def start(self, *arguments: str, **environ: str) -> tuple[int, str, str]:
        """Start it; the exit code, what it said, what it complained about."""
        with self.begin(*arguments, **environ) as process:
            said, complained = process.communicate(timeout=600)
        return process.returncode, said, complained

    def pin(self, *pins: str) -> None:
        """Write the requirements."""
        (self.folder / "requirements.txt").write_text("# comment\n" + "".join(f"{pin}\n" for pin in pins))

    def installed(self, name: str) -> list[str]:
        """The versions of a package in `.venv`."""
        return [
            path.name.split("-")[1].removesuffix(".dist") for path in self.folder.glob(f".venv/**/{name}-*.dist-info")
        ]


def new_home(folder: Path) -> Home:
    for name in BOOTSTRAP:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "webui.py").write_text(APP)
    (folder / "modules" / "flags.py").write_text(FLAGS)
    (folder / "wheels").mkdir()
    for name, number in (("brick", "1.0"), ("brick", "2.0"), ("mortar", "1.0")):
        wheel(folder / "wheels", name, number)
    home = Home(folder)
    home.pin("brick==1.0", "Mortar==1.0")
    return home


def wheel(folder: Path, name: str, number: str) -> None:
    """The smallest package there can be."""
    info = f"{name}-{number}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{number}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", f"number = {number!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


def one_sentence(complained: str, about: str) -> None:
    """What the user gets to read when it cannot go on."""
    last = complained.strip().splitlines()[-1]
    assert "Traceback" not in complained
    assert about in last, last
    assert last.endswith((".", "entry.py"))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, list[tuple[int, str, str]]]:
    """A home that has been started once, by two people at the same moment."""
    home = new_home(tmp_path_factory.mktemp("home"))
    both = [home.begin("--port", "1"), home.begin("--port", "2")]
    results = []
    for process in both:
        said, complained = process.communicate(timeout=600)
        results.append((process.returncode, said, complained))
    return home, results


@pytest.fixture
def home(first: tuple[Home, list[tuple[int, str, str]]]) -> Iterator[Home]:
    """The started home, with its first pins put back afterwards."""
    yield first[0]
    first[0].pin("brick==1.0", "Mortar==1.0")


def test_first_start_makes_the_environment_and_starts_inside_it(first: tuple[Home, list[tuple[int, str, str]]]) -> None:
    home, results = first
    for (code, said, _), port in zip(results, ("1", "2"), strict=True):
        assert (code, said) == (7, f"started in {home.folder / '.venv'} with ['--port', '{port}']\n")
    progress = "".join(complained for _, _, complained in results)
    assert re.search(r"^\d:\d\d  \[1/2\] brick 1\.0$", progress, re.MULTILINE)
    assert re.search(r"^\d:\d\d  \[2/2\] mortar 1\.0$", progress, re.MULTILINE)


def test_of_two_first_starts_one_installs(first: tuple[Home, list[tuple[int, str, str]]]) -> None:
    assert sum("Installing 2 of 2 packages" in complained for _, _, complained in first[1]) == 1
    assert not list(first[0].folder.glob("*.lock"))


@posix_only
def test_later_starts_lose_less_than_a_tenth_of_a_second(home: Home) -> None:
    import resource

    def seconds(command: list[str]) -> float:
        """Processor time, the least of some runs: other programs on this machine do not count."""
        took = []
        for _ in range(5):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, cwd=home.folder, env=home.environ(), stdout=subprocess.DEVNULL, check=False)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(took)

    assert home.start()[2] == "", "nothing is left to say"
    plain = seconds([sys.executable, "-c", "import webui; webui.main([], None)"])
    assert seconds([sys.executable, "entry.py"]) - plain < 0.1


def test_a_changed_pin_is_installed_and_nothing_else(home: Home) -> None:
    home.pin("brick==2.0", "mortar==1.0")
    code, _, complained = home.start()
    assert code == 7
    assert "Installing 1 of 2 packages" in complained
    assert "mortar" not in complained
    assert home.installed("brick") == ["2.0"]


def test_a_port_that_is_taken_is_one_sentence(home: Home) -> None:
    home.start()  # nothing is left to install, whatever was tested before
    assert home.start("--port", "taken") == (2, "", "Port taken is taken.\n")


def test_without_a_network_it_says_so_and_the_next_start_carries_on(home: Home) -> None:
    home.pin("brick==1.0", "mortar==1.0", "absent==1.0")
    code, said, complained = home.start()
    assert (code, said) == (2, "")
    one_sentence(complained, "No copy of absent==1.0 could be found: connect this computer to the network")
    home.pin("brick==1.0", "mortar==1.0")
    assert home.start()[0] == 7


def test_a_dead_network_is_told_from_a_missing_package(home: Home) -> None:
    home.pin("brick==1.0", "mortar==1.0", "absent==1.0")
    nobody = {"PIP_NO_INDEX": "0", "PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "1"}
    code, _, complained = home.start(**nobody)
    assert code == 2
    one_sentence(complained, "No connection to the package index")


def test_a_package_that_was_cut_off_is_installed_anew(home: Home) -> None:
    home.start()
    (record,) = home.folder.glob(".venv/**/mortar-1.0.dist-info/RECORD")
    record.unlink()
    (record.parent.parent / "mortar.py").unlink()
    (home.folder / ".venv" / "ready-requirements.txt").unlink()
    code, _, complained = home.start()
    assert code == 7
    assert "Installing 1 of 2 packages" in complained
    assert (record.parent.parent / "mortar.py").exists()


@posix_only
@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_installation_ends_with_its_pip_and_carries_on(
    home: Home, number: signal.Signals, expected: int
) -> None:
    home.pin("brick==1.0", "mortar==1.0", "absent==1.0")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # an index that takes the call and never answers
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        before = signal.signal(
            signal.SIGINT, signal.default_int_handler
        )  # else, begun in the background, it is ignored
        process = home.begin(PIP_NO_INDEX="0", PIP_INDEX_URL=address)
        signal.signal(signal.SIGINT, before)
        silent.settimeout(300)
        connection, _ = silent.accept()
        process.send_signal(number)
        _, complained = process.communicate(timeout=300)
        assert process.returncode == expected
        assert "Traceback" not in complained
        connection.settimeout(60)
        while connection.recv(65536):  # ends when the other side is gone: pip has not outlived its parent
            pass
        connection.close()
    home.pin("brick==1.0", "mortar==1.0")
    assert home.start()[0] == 7


@posix_only
def test_an_environment_whose_python_does_not_run_is_made_anew(home: Home) -> None:
    python = Path(environment.venv_python(str(home.folder / ".venv")))
    python.unlink()
    python.write_bytes(b"\x7fELF, but not really")
    python.chmod(0o755)
    code, said, _ = home.start()
    assert (code, said) == (7, f"started in {home.folder / '.venv'} with []\n")
    assert home.installed("brick") == ["1.0"]


@posix_only
def test_an_environment_that_lost_its_python_is_not_usable(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "pyvenv.cfg").touch()
    python = Path(environment.venv_python(str(tmp_path)))
    python.symlink_to(sys.executable)
    assert environment.usable(str(tmp_path))
    python.unlink()
    python.symlink_to("/nowhere/python3")
    assert not environment.usable(str(tmp_path))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_not_an_environment_is_left_alone(tmp_path: Path, kind: str) -> None:
    home = new_home(tmp_path)
    precious = tmp_path / ".venv" if kind == "file" else tmp_path / ".venv" / "thesis.txt"
    precious.parent.mkdir(exist_ok=True)
    precious.write_text("mine")
    code, _, complained = home.start()
    assert code == 2
    one_sentence(complained, "is in the way")
    assert precious.read_text() == "mine"


def test_an_environment_that_satisfies_the_pins_is_taken_as_it_is(tmp_path: Path) -> None:
    home = new_home(tmp_path)
    home.pin(f"pytest=={version('pytest')}", f"HYPOTHESIS=={version('hypothesis')}")
    code, said, complained = home.start()
    assert (code, said, complained) == (7, f"started in {sys.prefix} with []\n", "")
    assert not (tmp_path / ".venv").exists()


def test_a_python_that_cannot_make_environments(tmp_path: Path) -> None:
    home = new_home(tmp_path)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import sys\nsys.modules['ensurepip'] = None\n")
    code, _, complained = home.start(PYTHONPATH=str(tmp_path / "site"))
    assert code == 2
    one_sentence(complained, "apt install python3-venv")
    assert not (tmp_path / ".venv").exists()


def test_flags_are_checked_before_anything_is_installed(tmp_path: Path) -> None:
    home = new_home(tmp_path)
    assert home.start("--help")[0] == 0
    code, _, complained = home.start("--prot", "1")
    assert code == 2
    assert "unrecognized arguments: --prot 1" in complained
    assert not (tmp_path / ".venv").exists()


def test_an_old_python_is_told_so() -> None:
    program = "import runpy, sys; sys.version_info = (3, 9, 2); runpy.run_path('entry.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    one_sentence(done.stderr, "Pinhole needs Python 3.11 or newer and this is Python 3.9")


def test_old_pythons_can_read_the_file_that_refuses_them() -> None:
    tree = ast.parse((ROOT / "entry.py").read_text(), feature_version=(3, 4))
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.JoinedStr, ast.AnnAssign))]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert not [each for each in functions if each.returns or any(argument.annotation for argument in each.args.args)]


@pytest.mark.parametrize(
    ("afterwards", "told"),
    [
        ("true", "The disk is full"),
        ("mount -o remount,ro,bind .", "cannot be written to: move Pinhole to a folder of your own"),
    ],
    ids=["full", "read-only"],
)
def test_a_disk_that_takes_nothing(tmp_path: Path, afterwards: str, told: str) -> None:
    """On a disk of two megabytes of its own, which nobody else sees and which ends with the shell."""
    inside = ["unshare", "-rm", "sh", "-c"]
    mount = 'mount -t tmpfs -o size=2m none "$1"'
    disk = str(tmp_path / "disk")
    os.mkdir(disk)
    if not shutil.which("unshare") or subprocess.run([*inside, mount, "sh", disk], check=False).returncode:
        pytest.skip("only Linux, where it allows it, lets a test have a small disk")
    home = new_home(tmp_path / "home")
    script = f'{mount} && cp -r "$2/." "$1" && cd "$1" && {afterwards} && exec "$3" entry.py'
    command = [*inside, script, "sh", disk, str(home.folder), sys.executable]
    done = subprocess.run(command, env=home.environ(), capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    one_sentence(done.stderr, told)


def test_pins_are_read_in_order_and_through_other_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("# torch first\ntorch==2.13.0  # why\n\nOpencv_Python.headless == 5.0\n")
    (tmp_path / "b.txt").write_text("-r a.txt\nruff==1\n")
    pins = read_pins(str(tmp_path / "b.txt"))
    assert list(pins.items()) == [("torch", "2.13.0"), ("opencv-python-headless", "5.0"), ("ruff", "1")]


@pytest.mark.parametrize(
    "line", ["torch", "torch>=2", "gradio==6.*", "a==1; python_version>'3'", "==1", "--index-url x"]
)
def test_only_exact_pins_are_pins(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.txt").write_text(f"{line}\n")
    with pytest.raises(SetupError, match="line 1: .* is not of the form package==version"):
        read_pins(str(tmp_path / "a.txt"))


def test_the_projects_own_pins_are_exact_and_begin_with_torch() -> None:
    assert next(iter(read_pins(str(ROOT / "requirements.txt")).items())) == ("torch", "2.13.0")
    assert "torchvision" not in read_pins(str(ROOT / "requirements-dev.txt"))


def test_what_counts_as_installed(tmp_path: Path) -> None:
    for name in ("torch-2.13.0+cpu.dist-info", "opencv_python_headless-5.0.dist-info", "old-1.0-py3.11.egg-info"):
        (tmp_path / name).mkdir()
    pins = {"torch": "2.13.0", "opencv-python-headless": "5.0", "old": "1.0", "absent": "1"}
    assert missing(pins, [str(tmp_path / "nowhere"), str(tmp_path)]) == ["absent"]
    assert missing({"torch": "2.13.0+cu130"}, [str(tmp_path)]) == ["torch"]
    assert missing({"torch": "2.13"}, [str(tmp_path)]) == ["torch"]
    assert missing({"torch": "2.13.0"}, [str(tmp_path)], complete=True) == ["torch"]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_progress_is_one_line_rewritten() -> None:
    stream = Terminal()
    progress = installer.Progress(stream, 3)
    progress.begin(1, "torch 2.13.0")
    progress.detail("downloading torch-2.13.0.whl (200 MB)")
    progress.tick()
    progress.begin(2, "numpy")
    progress.end()
    first, *rest = stream.getvalue().split("\r")
    assert first == ""
    assert [text.split("  ", 1)[1].strip() for text in rest] == [
        "[1/3] torch 2.13.0", "[1/3] torch 2.13.0  downloading torch-2.13.0.whl (200 MB)", "[2/3] numpy",
    ]  # fmt: skip
    assert stream.getvalue().count("\n") == 1
    assert len(rest[2]) > len(rest[1]), "the longer line before it is wiped out"


def test_elsewhere_progress_is_a_line_per_package(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    progress = installer.Progress(stream, 3)
    progress.begin(1, "torch 2.13.0")
    progress.detail("downloading")
    progress.tick()
    assert stream.getvalue() == "0:00  [1/3] torch 2.13.0\n"
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + installer.HEARTBEAT + 1)
    progress.tick()
    assert stream.getvalue().splitlines()[1] == "0:31  [1/3] torch 2.13.0  downloading"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "The disk is full ("),
        ("ERROR: Could not install packages: [Errno 13] Permission denied: '/x'", "cannot be written to"),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...)'\n"
            "ERROR: Could not find a version that satisfies the requirement torch==2.13.0 (from versions: none)",
            "No connection to the package index",
        ),
        ("ERROR: ... the requirement torch==2.13.0 (from versions: 2.14.0, 2.15.0)", "does not exist for Python 3."),
        ("/x/.venv/bin/python: No module named pip", "delete the folder"),
        ("building\nerror: command 'gcc' failed: Error 1\nbye", "pip said: \"error: command 'gcc' failed: Error 1\""),
        ("", "could not be installed (pip said: ''; more in /x/log): start again"),
    ],
)  # fmt: skip
def test_every_failure_is_one_sentence(said: str, told: str, tmp_path: Path) -> None:
    sentence = installer._explain(said.splitlines(), "torch==2.13.0", str(tmp_path / ".venv"), "/x/log")
    assert told in sentence
    assert sentence.endswith(".")
    assert "{" not in sentence


def test_two_processes_run_the_tests_unless_the_caller_decides() -> None:
    assert checks._workers(["-n", "4"]) == checks._workers(["--pdb"]) == []
    assert checks._workers(["-k", "entry"]) in ([], ["-n", "2", "--dist", "loadfile"])
