"""Every text of the page has its translation: complete in Chinese, as far as first visits go in the others."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import webui
from modules.files import ModelLibrary
from modules.localization import Languages, read_language
from modules.settings import built_in_settings
from modules.workplace import create_worker
from tests.modules.stand_in import build
from tests.page_texts import ROOT, Found, page_texts, shape_of

FOLDER = ROOT / "language"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))
# What somebody sees who makes their first pictures: the page itself, and what is said while they are made.
FIRST_SEEN = frozenset(
    f"modules/{name}.py"
    for name in (
        "api/login", "async_worker", "choices", "engine_process", "line", "look_ahead", "pipeline", "preflight", "run",
        "slowness", "task_run", "timings",
    )
)  # fmt: skip
# Parts of sentences that stand alone in no code, what is said of other languages' forms, and Gradio's own words.
PARTS = frozenset(
    {
        "1 picture", "1 task is", "{} tasks are", "{}, finished.", "{}, picture {} of {}", "{} s", "♥ Favourites",
        "♥ Favourite", "♡ Favourite", "{}, {}:{}", "One file is not here yet.", "{} files are not here yet.", "not:",
        "checkpoint", "Reset to default value", "number input for {}", "range slider for {}", "fooocus (json)",
        "LoRA {} File", "LoRA {} Weight", "Really?", "More tabs", "Queue again", "Name", "Password", "Sign in",
    }
)  # fmt: skip


def page_config(home: Path) -> dict[str, Any]:
    """The page as Gradio gives it to the browser."""
    settings = replace(built_in_settings(ROOT), data=home / "data", outputs=home / "outputs")
    worker = create_worker(settings, factory=build)
    try:
        handlers = webui.Handlers(settings, ModelLibrary(settings.models), worker, lambda: None)
        return dict(webui.build_ui(handlers, "/pinhole/0").get_config_file())
    finally:
        worker.close()


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Found]:
    """Everything that the page can say."""
    return page_texts(page_config(tmp_path_factory.mktemp("home")))


@cache
def pattern(key: str) -> re.Pattern[str]:
    """What the page's script makes of a key with values."""
    pieces = [re.escape(piece) for piece in re.split(r"\{[a-z0-9_]+\}", key)]
    names = re.findall(r"\{[a-z0-9_]+\}", key)
    values = [r"[\d.,]+" if len(name) == 3 else ".*?" for name in names]
    return re.compile("".join(a + b for a, b in zip(pieces, [*values, ""], strict=True)))


def without(texts: dict[str, Found], name: str) -> list[str]:
    """The texts of the page that a language does not have."""
    keys = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    shapes = {shape_of(key) for key in keys}
    numbered = [key for key in keys if re.search(r"\{[a-z]\}", key)]
    return [
        f"{found.text!r} of {found.source}"
        for shape, found in texts.items()
        if shape not in shapes and not any(pattern(key).fullmatch(found.text) for key in numbered)
    ]


def test_chinese_is_complete(texts: dict[str, Found]) -> None:
    assert len(texts) > 700, "the texts of the page are not found any more"
    assert without(texts, "zh") == []


@pytest.mark.parametrize("name", [name for name in NAMES if name != "zh"])
def test_what_is_seen_first_is_complete_in_every_language(texts: dict[str, Found], name: str) -> None:
    first = {shape: found for shape, found in texts.items() if seen_first(found.source)}
    assert len(first) > 300
    assert without(first, name) == []


def seen_first(source: str) -> bool:
    return source in FIRST_SEEN or source in ("the built page", "webui.py") or source.startswith("modules/ui/")


def test_there_are_chinese_and_six_others_and_all_can_be_read() -> None:
    languages = Languages(FOLDER)
    assert set(languages.names()) >= {"en", "zh", "de", "es", "fr", "ja", "ko", "pt"}
    assert languages.notes() == ()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_translated_that_the_page_does_not_say(texts: dict[str, Found], name: str) -> None:
    left_over = [key for key in read_language(FOLDER / f"{name}.json").texts if shape_of(key) not in texts]
    assert [key for key in left_over if shape_of(key) not in PARTS] == []


@pytest.mark.parametrize("name", NAMES)
def test_no_value_is_lost(name: str) -> None:
    """A translation may leave out a value only where its grammar has none: no name of a file goes missing."""
    spoken = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    lost = {key: set(re.findall(r"\{\w+\}", key)) - set(re.findall(r"\{\w+\}", text)) for key, text in spoken.items()}
    assert {key: values for key, values in lost.items() if values} == {}


def test_a_text_that_no_language_has_is_noticed(texts: dict[str, Found]) -> None:
    assert without({"Nobody has said this.": Found("Nobody has said this.", "here")}, "zh") != []
