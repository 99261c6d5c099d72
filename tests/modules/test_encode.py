"""The command ``encode``: what it keeps is what pictures need, and bad input is told in words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modules import encode
from modules.expansion import completed
from modules.files import ModelFiles
from modules.parameters import BUILT_IN_MODEL, GenerationParameters
from modules.pipeline import Pipeline
from modules.plan import plan
from modules.presets import apply_preset
from modules.prompt_sources import prompt_sources
from modules.settings import built_in_settings, load_settings
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
def test_a_seed_has_everything_encoded_that_its_pictures_are_told(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prompts.txt").write_text("a [[red, blue]] cat\na boat\n")
    sets = ["image_number=3", 'style_selections=["Fooocus V2"]']
    arguments = [str(tmp_path / "prompts.txt"), "--preset", "mini", *(f"--set={each}" for each in sets)]
    assert encode.main(arguments, home) == encode.DONE
    told = capsys.readouterr().err
    assert told.count("Left out: the words that Fooocus V2 adds.") == 1 and "--set image_seed=NUMBER" in told
    assert encode.main([*arguments, "--set", "image_seed=7"], home) == encode.DONE
    assert "Left out" not in capsys.readouterr().err
    settings = load_settings(home, {}, os.environ)
    pipeline = Pipeline(settings.models, settings.texts, settings.memory)
    mini = apply_preset("mini", settings, ModelFiles(settings.models.checkpoints)).parameters.with_set(sets)
    wanted = mini.with_values({"prompt": "a [[red, blue]] cat", "image_seed": 7})
    facts = ModelFiles(settings.models.checkpoints).facts(mini.base_model)
    jobs = completed(plan(wanted, facts, prompt_sources(settings)), pipeline.expand, print)
    assert len({job.expansion for job in jobs}) == 3 and all(job.expansion for job in jobs)
    assert pipeline.encode(jobs, encode.Narrator()) == 0, "all of it was there"


def test_what_comes_from_a_seed_is_told_of() -> None:
    plain = GenerationParameters(style_selections=())
    prompts = ["a cat", "a __color__ cat"]
    told = "Left out: most of what is drawn from lists. With --set image_seed=NUMBER it is encoded too."
    assert encode.left_out(prompts, plain) == (told,)
    assert encode.left_out(["a cat"], plain.with_values({"style_selections": ("Random Style",)})) == (told,)
    assert encode.left_out(prompts[:1], plain) == ()
    assert encode.left_out(prompts, plain.with_values({"image_seed": 0})) == ()
    assert encode.left_out(prompts, plain.with_values({"advanced.read_wildcards_in_order": True})) == ()


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
