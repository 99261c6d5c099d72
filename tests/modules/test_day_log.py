"""The log of a day: every picture in it, newest first, and nothing in it that runs."""

from __future__ import annotations

import html
import json
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given, settings, strategies as st

from modules.day_log import NAME, write_log
from modules.events import PictureRecord
from modules.store import DATABASE, Store
from tests.modules.test_history import make

EVIL = '</pre></details><script>alert(1)</script><img src=x onerror="alert(2)">&amp;\'"'


class Reader(HTMLParser):
    """What a browser makes of it: elements with their attributes, and the text of headings and facts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.said.append((self.elements[-1][0], data))

    def texts(self, tag: str) -> list[str]:
        return [text for name, text in self.said if name == tag]


def record(folder: Path, name: str, **facts: object) -> PictureRecord:
    return PictureRecord("task-01", "task", 0, folder / name, 7, 256, 128, 1.0, facts)


def read(folder: Path) -> Reader:
    return Reader((folder / NAME).read_text(encoding="utf-8"))


def test_pictures_stand_with_what_made_them_newest_first(tmp_path: Path) -> None:
    store = Store(tmp_path / DATABASE)
    outputs = tmp_path / "outputs"
    for moment, prompt in enumerate(("a fox", "雪の中の狐")):
        make(store, outputs, prompt, created=moment, base_model="dream.safetensors")
    folder = outputs / "2026-11-22"
    write_log(folder, store.day(folder))
    seen = read(folder)
    assert seen.texts("h2") == ["雪の中の狐", "a fox"]
    images = [unquote(attributes["src"] or "") for tag, attributes in seen.elements if tag == "img"]
    assert len(images) == 2 and all((folder / name).is_file() for name in images)
    assert seen.texts("dd").count("dream.safetensors") == 2
    assert json.loads(seen.texts("pre")[0])["job"]["checkpoint"] == "dream.safetensors"
    assert [path.name for path in folder.iterdir() if path.name.endswith(".part")] == []
    store.close()


@settings(max_examples=50, deadline=None)
@given(st.one_of(st.just(EVIL), st.text()), st.one_of(st.just(EVIL), st.text()))
def test_nothing_that_was_written_becomes_an_element(
    tmp_path_factory: pytest.TempPathFactory, said: str, name: str
) -> None:
    folder = tmp_path_factory.mktemp("day")
    write_log(
        folder, [(record(folder, "a.png", job={"positive": [said], "styles": [name], "loras": [[name, 1.0]]}), said)]
    )
    text = (folder / NAME).read_text(encoding="utf-8")
    plain = folder / "plain"
    plain.mkdir()
    write_log(plain, [(record(plain, "a.png", job={"positive": ["x"], "styles": ["x"], "loras": [["x", 1.0]]}), "x")])
    wanted = [tag for tag, _ in read(plain).elements if tag not in ("dt", "dd")]
    assert [tag for tag, _ in Reader(text).elements if tag not in ("dt", "dd")] == wanted
    assert html.escape(EVIL) in text or EVIL not in (said, name)


def test_a_file_s_name_can_break_out_of_nothing(tmp_path: Path) -> None:
    write_log(tmp_path, [(record(tmp_path, 'a" onload="alert(1)#?.png'), "a fox")])
    ((_, attributes),) = [each for each in read(tmp_path).elements if each[0] == "img"]
    assert attributes.keys() == {"src", "loading", "alt"} and unquote(attributes["src"] or "").startswith('a" onload')
