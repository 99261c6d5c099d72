"""The command ``encode``: what it keeps is what pictures need, and bad input is told in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from modules import encode
from modules.parameters import BUILT_IN_MODEL
from modules.settings import built_in_settings
from tests.modules.conftest import ROOT


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An application with the built-in family, and data of its own."""
    monkeypatch.setenv("path_data", str(tmp_path / "data"))
    return ROOT


@pytest.mark.skipif(
    not (built_in_settings(ROOT).models.checkpoints[0] / BUILT_IN_MODEL).exists(), reason="the miniature is not there"
)
def test_prompts_are_encoded_once(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\ufeffa red cat\n\n  a blue boat  \na red cat\n", encoding="utf-8")
    arguments = [str(prompts), "--preset", "mini"]
    assert encode.main(arguments, home) == encode.DONE
    # Two prompts, and the empty negative one.
    assert capsys.readouterr().out == "3 prompts: 3 texts were encoded, all others were there.\n"
    assert len(list((tmp_path / "data" / "texts").glob("*/*.safetensors"))) == 3
    assert encode.main([*arguments, "--set", "guidance_scale=1"], home) == encode.DONE
    assert ": 0 texts" in capsys.readouterr().out
    assert encode.main([*arguments, "--set", "clip_skip=1"], home) == encode.DONE
    assert ": 3 texts" in capsys.readouterr().out


@pytest.mark.skipif(
    not (built_in_settings(ROOT).models.checkpoints[0] / BUILT_IN_MODEL).exists(), reason="the miniature is not there"
)
def test_texts_that_cannot_be_kept_are_told_of(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prompts.txt").write_text("a red cat\na blue boat\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "texts").touch()  # a disk that takes nothing
    assert encode.main([str(tmp_path / "prompts.txt"), "--preset", "mini"], home) == encode.BAD_INPUT
    told = capsys.readouterr()
    assert f"cannot be kept in {tmp_path / 'data' / 'texts'}: " in told.err and told.out == ""


@pytest.mark.parametrize(
    ("content", "words"), [(None, "cannot be read"), (b"", "has no prompts"), (b"\xff\xfe\x00", "not a text file")]
)
def test_bad_input_is_told_in_words(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "prompts.txt").write_bytes(content)
    assert encode.main([str(tmp_path / "prompts.txt")], home) == encode.BAD_INPUT
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
