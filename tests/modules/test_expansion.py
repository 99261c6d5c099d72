"""Whose model adds the words, what is kept, and what is said when there is none."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from modules.expansion import Expansions, added_words, completed
from modules.plan import ImageJob
from tests.architecture import ROOT
from tests.modules.test_plan import jobs

MINI = ROOT / "models" / "prompt_expansion" / "pinhole-mini"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The user's folder, which is not there, and the built-in one."""
    built_in = tmp_path / "pinhole-mini"
    shutil.copytree(MINI, built_in)
    return tmp_path / "fooocus_expansion", built_in


def says(folders: tuple[Path, ...], text: str = "a red cat", seed: int = 3) -> tuple[str, list[str]]:
    notes: list[str] = []
    return Expansions(folders)(text, seed, notes.append), notes


def test_the_built_in_words_are_added_where_nobody_has_others(folders: tuple[Path, Path]) -> None:
    text, notes = says(folders)
    assert text.startswith("a red cat, ") and notes == []


def test_the_users_own_files_come_first_and_a_change_of_them_counts(folders: tuple[Path, Path]) -> None:
    own, _ = folders
    expansions, notes = Expansions(folders), list[str]()
    before = expansions("a red cat", 3, notes.append)
    shutil.copytree(MINI, own)
    (own / "positive.txt").write_text("cinematic\nglow\n")
    text = expansions("a red cat", 3, notes.append)
    assert set(added_words("a red cat", text).replace(",", " ").split()) == {"cinematic", "glow"}
    shutil.rmtree(own)
    assert expansions("a red cat", 3, notes.append) == before
    assert notes == []


def test_what_was_asked_before_is_not_computed_again(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    expansions = Expansions(folders)
    first = expansions("a red cat", 3, print)
    monkeypatch.setattr("ldm_patched.modules.expansion.Expander.expand", lambda *_: "other")
    assert expansions("a red cat", 3, print) == first
    assert expansions("a red cat", 4, print) == "other"


def test_a_pickle_or_a_damaged_file_is_named_and_the_built_in_one_used(folders: tuple[Path, Path]) -> None:
    own, _ = folders
    own.mkdir()
    (own / "pytorch_model.bin").write_bytes(b"\x80\x02")
    text, notes = says(folders)
    assert text and len(notes) == 1 and "pytorch_model.bin" in notes[0] and "model.safetensors" in notes[0]
    (own / "model.safetensors").write_bytes(b"")
    text, notes = says(folders)
    assert text and len(notes) == 1 and "fooocus_expansion cannot be used" in notes[0]


def test_damaged_weights_cost_no_picture(folders: tuple[Path, Path]) -> None:
    own, built_in = folders
    shutil.copytree(MINI, own)
    tensors = load_file(own / "model.safetensors")
    name = next(name for name in tensors if name.endswith("ln_f.weight"))
    save_file(tensors | {name: torch.full_like(tensors[name], torch.nan)}, own / "model.safetensors")
    text, notes = says(folders)
    assert text == says((built_in,))[0] and len(notes) == 1 and "fooocus_expansion cannot be used" in notes[0]
    shutil.rmtree(built_in)
    text, notes = says(folders)
    assert text == "" and len(notes) == 2


def test_the_sentence_about_a_pickle_holds_a_command_that_helps(folders: tuple[Path, Path]) -> None:
    own, built_in = folders
    shutil.copytree(MINI, own)
    tensors = load_file(own / "model.safetensors")
    torch.save(tensors, own / "pytorch_model.bin")
    (own / "model.safetensors").unlink()
    (sentence,) = says(folders)[1]
    command = shlex.split(sentence[sentence.index("python -c") :])
    subprocess.run([sys.executable, *command[1:]], cwd=own, check=True)
    shutil.rmtree(built_in)
    text, notes = says(folders)
    assert text.startswith("a red cat, ") and notes == []


def test_without_any_model_the_prompt_is_used_as_written(tmp_path: Path) -> None:
    text, notes = says((tmp_path / "nothing",))
    assert text == "" and notes == ["Fooocus V2 adds nothing: there is no model of it. The prompt is used as written."]


def test_jobs_are_completed_by_their_own_seeds() -> None:
    def expand(text: str, seed: int, note: object) -> str:
        return f"{text}, glow {seed}" if seed != 6 else ""

    wanted = jobs(prompt="a cat", style_selections=["Fooocus V2"], image_number=3)
    done: list[ImageJob] = completed(wanted, expand, print)
    assert [job.positive for job in done] == [("a cat", "a cat, glow 5"), ("a cat",), ("a cat", "a cat, glow 7")]
    assert [job.expansion for job in done] == ["a cat, glow 5", "", "a cat, glow 7"]
    asked = iter([False, True, True])
    stopped = completed(wanted, expand, print, lambda: next(asked))
    assert [job.expansion for job in stopped] == ["a cat, glow 5", "", ""]
    plain = jobs(prompt="a cat", style_selections=[])
    assert completed(plain, expand, print) == plain
