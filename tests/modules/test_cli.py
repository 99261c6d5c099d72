"""The command ``generate``: files on standard output, words on standard error, and exit codes a script can use."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from modules.async_worker import AsyncWorker, Preview
from modules.cli import ProgressBar, main
from modules.metadata import read_picture
from modules.parameters import BUILT_IN_MODEL, GenerationParameters
from modules.settings import Settings, built_in_settings
from tests.modules.conftest import ROOT
from tests.modules.stand_in import build

QUICK = ["--set", "overwrite_step=4", "--set", "image_number=2", "--set", "image_seed=7"]
WITHOUT = "import sys, modules.cli, modules.async_worker; print(sorted({'torch', 'transformers', 'gradio', 'numpy'} & set(sys.modules)))"  # noqa: E501


def start(settings: Settings, *arguments: str, command: str = "generate") -> subprocess.Popen[str]:
    whole = [sys.executable, "-m", "tests.modules.cli_process", str(settings.root), command, *arguments]
    return subprocess.Popen(
        whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    )


def generate(settings: Settings, *arguments: str, command: str = "generate") -> tuple[int, str, str]:
    process = start(settings, *arguments, command=command)
    out, errors = process.communicate()
    return process.returncode, out, errors


def test_files_are_printed_and_hold_what_was_asked_for(settings: Settings, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    code, printed, errors = generate(
        settings, "--prompt", "pace=0.001 größer", "--set", "sharpness=3.5", "--out", str(out), *QUICK
    )
    files = [Path(line) for line in printed.splitlines()]
    assert code == 0, errors
    assert sorted(out.iterdir()) == files and len(files) == 2
    info = read_picture(files[1])
    assert (info.parameters.prompt, info.parameters.sharpness) == ("pace=0.001 größer", 3.5)
    assert info.facts["job"]["seed"] == 8 and info.parameters.guidance_scale == 3.0
    assert "miniature" in errors


def test_each_sentence_is_said_once(settings: Settings) -> None:
    wanted = ("--prompt", "pace=0.001 __gone__ <lora:gone:1>", "--set", "style_selections=Gone")
    code, printed, errors = generate(settings, *wanted, *QUICK)
    assert code == 0 and printed
    assert [errors.count(f"There is no {what}") for what in ("list", "style", "LoRA")] == [1, 1, 1], errors


def test_it_works_while_the_application_runs_and_shares_its_history(settings: Settings, worker: AsyncWorker) -> None:
    busy = worker.submit(GenerationParameters(prompt="pace=0.05", image_number=2, image_seed=1), "me")
    code, printed, errors = generate(settings, "--prompt", "pace=0.001", *QUICK)
    assert code == 0, errors
    files = printed.splitlines()
    assert all(Path(file).is_relative_to(settings.outputs) for file in files)
    assert [str(picture.path) for picture in reversed(worker.latest("command"))] == files
    *_, end = worker.follow(busy)
    assert len(end.pictures) == 2  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "sharpness=31"], "sharpness: 31 is outside 0 to 30"),
        (["--set", "sharpness=nan"], "sharpness: 'nan' is not a finite number"),
        (["--set", "shrpness=3"], "did you mean sharpness?"),
        (["--set", "base_model=missing.safetensors"], "The file missing.safetensors is not in"),
        (["--preset", "missing"], "There is no preset 'missing'"),
        (["--prompt", "a" * 100_000], "prompt: has 100000 characters, more than the limit of 20000"),
        (["--out", "/proc/nothing"], "--out: the folder /proc/nothing cannot be made"),
    ],
)
def test_bad_input_is_refused_in_words_with_code_2(
    settings: Settings, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments, settings.root, build) == 2
    printed, errors = capsys.readouterr()
    assert printed == "" and words in errors


def test_a_failure_is_said_in_words_with_code_1(settings: Settings) -> None:
    code, printed, errors = generate(settings, "--prompt", "fail=2 pace=0.001", *QUICK)
    assert code == 1 and len(printed.splitlines()) == 1
    assert "This picture is refused." in errors and "--set image_seed=7" in errors and "Traceback" not in errors


def test_ctrl_c_keeps_what_is_finished(settings: Settings) -> None:
    process = start(settings, "--prompt", "pace=0.1", "--set", "image_number=4", "--set", "overwrite_step=10")
    assert process.stdout is not None
    first = process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    rest, errors = process.communicate()
    assert process.returncode == 130, errors
    files = [first.strip(), *rest.split()]
    assert all(Path(file).is_file() for file in files) and len(files) < 4
    assert "Traceback" not in errors


def test_nothing_heavy_is_loaded_in_the_application() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


class Terminal(io.StringIO):
    """A terminal that remembers."""

    def isatty(self) -> bool:
        return True


def test_the_bar_is_one_line_and_silent_without_a_terminal() -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        bar = ProgressBar(stream)
        bar.show(Preview(50, "Sampling", 75.0))
        bar.show(Preview(51, "S", None))
        bar.clear()
    shown = terminal.getvalue()
    assert "[############............]  50 %  Sampling, 75 s left" in shown and "\n" not in shown
    assert file.getvalue() == ""


@pytest.mark.skipif(
    not (built_in_settings(ROOT).models.checkpoints[0] / BUILT_IN_MODEL).exists(), reason="the miniature is not there"
)
def test_the_miniature_paints(tmp_path: Path, open_real: Callable[[Path, list[str]], str]) -> None:
    arguments = ["--prompt", "a red ball", "--preset", "mini", "--set", "image_number=2", "--set", "overwrite_step=3"]
    printed = open_real(tmp_path, [*arguments, "--set", "image_seed=5"])
    files = [Path(line) for line in printed.splitlines()]
    assert len(files) == 2
    again = open_real(tmp_path / "again", [*arguments, "--set", "image_seed=6"])
    with Image.open(files[1]) as second, Image.open(again.splitlines()[0]) as alone:  # seed 6 twice
        assert second.tobytes() == alone.tobytes()
    same = open_real(tmp_path / "same", ["--from", str(files[1])])
    with Image.open(files[1]) as second, Image.open(same.splitlines()[0]) as remade:  # everything from the file
        assert len(same.splitlines()) == 1 and second.tobytes() == remade.tobytes()


def test_from_what_is_no_picture(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note = tmp_path / "note.png"
    note.write_text("a red ball")
    assert main(["--from", str(note)], settings.root, build) == 2
    assert main(["--from", str(tmp_path / "gone.png")], settings.root, build) == 2
    assert "--from" in (told := capsys.readouterr().err) and "not a PNG, JPEG or WEBP" in told and "gone.png" in told


@pytest.fixture
def open_real() -> Callable[[Path, list[str]], str]:
    """Runs the command with the real engine, and with its queue in a folder of the test's own."""

    def run(folder: Path, arguments: list[str]) -> str:
        folder.mkdir(exist_ok=True)
        script = "import sys; from modules import cli; sys.exit(cli.main(sys.argv[1:]))"
        command = [sys.executable, "-c", script, *arguments, "--out", str(folder / "out")]
        environ = {**os.environ, "path_data": str(folder / "data")}
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environ)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_a_list_of_prompts_makes_a_task_of_each(settings: Settings, tmp_path: Path) -> None:
    table, out = tmp_path / "mine.csv", tmp_path / "out"
    table.write_text("prompt,image_number,model\npace=0.001 a,1,\n\npace=0.001 b,2,\nc,99,\nd,1,gone.safetensors\n")
    wanted = ("--prompt", "soft light", "--list", str(table), "--out", str(out), "--set", "overwrite_step=4")
    code, printed, errors = generate(settings, *wanted, "--dry-run")
    assert code == 2 and printed == (
        "2 tasks, 3 pictures: how long that takes is not known yet: nothing like it was made on this machine.\n"
    )
    assert "Line 5 (c" in errors and "image_number: 99 is outside" in errors and "gone.safetensors" in errors
    assert not list(out.iterdir())
    code, printed, errors = generate(settings, *wanted)
    assert code == 2 and "Line 5" in errors
    prompts = [read_picture(Path(line)).parameters.prompt for line in printed.splitlines()]
    assert prompts == ["pace=0.001 a, soft light", *["pace=0.001 b, soft light"] * 2]
    code, printed, errors = generate(settings, *wanted, "--dry-run")
    assert re.fullmatch(
        r"2 tasks, 3 pictures: about \d+ seconds?, learned from the last 3 pictures on this machine\.\n", printed
    )


@pytest.mark.parametrize(("name", "text", "words"), [("a.txt", "# no", "no prompt"), ("a.csv", "sed\n1", "seed")])
def test_a_list_that_cannot_be_read(settings: Settings, tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    for path in (tmp_path / name, tmp_path / "gone.txt"):
        code, printed, errors = generate(settings, "--list", str(path))
        assert code == 2 and not printed and (words if path.exists() else "No such file") in errors


PLOT = ("--prompt", "pace=0.001 a red cat", "--x", "guidance_scale=2-4 (+1)", "--y", "s/r=red, blue", *QUICK[:2])


def test_a_plot_prints_its_pictures_and_its_grid(settings: Settings) -> None:
    code, printed, errors = generate(settings, *PLOT, "--dry-run", command="plot")
    assert code == 0 and printed.startswith("6 tasks, 6 pictures: how long"), errors
    code, printed, errors = generate(settings, *PLOT, "--set", "image_seed=7", command="plot")
    assert code == 0, errors
    files = printed.splitlines()
    assert len(files) == 7 and "grid" in files[-1]
    told = [read_picture(Path(file)).parameters for file in files[:6]]
    assert [(each.guidance_scale, each.image_seed, each.prompt[11:]) for each in told] == [
        (scale, 7, f"a {colour} cat") for colour in ("red", "blue") for scale in (2, 3, 4)
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--x", "base_model=pinhole-mini-base, gone"], "there is no file 'gone'"),
        (["--x", "lora_1.weight=0,1"], "LoRA 1 Weight changes nothing here"),
        (["--x", "guidance_scale=0.5, 99"], "outside 1 to 30"),
        (["--x", "seed=1,2", "--list", "list.txt"], "only one of them"),
        (["--x", "seed=1-40", "--y", "sharpness=1-40 [40]"], "1600 pictures"),
    ],
)
def test_a_plot_that_cannot_be_is_refused_before_anything_is_made(
    settings: Settings, arguments: list[str], words: str
) -> None:
    code, printed, errors = generate(settings, *arguments, command="plot")
    assert code == 2 and words in errors and not printed
    assert not settings.outputs.exists() or not list(settings.outputs.rglob("*.png"))
