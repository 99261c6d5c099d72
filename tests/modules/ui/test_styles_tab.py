"""The tab of styles: what is listed, in which order, whatever the browser sends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from modules.parameters import GenerationParameters
from modules.ui.components import Wording
from modules.ui.panel import Panel
from modules.ui.styles_tab import build, sorted_anew


@pytest.mark.parametrize(
    ("query", "chosen", "expected"),
    [
        ("", [], ["Fooocus V2", "Random Style", "Ink", "SAI Anime"]),
        ("ink", ["Random Style", "Gone"], ["Ink", "Random Style", "Gone", "Fooocus V2", "SAI Anime"]),
        (None, "Ink", ["Fooocus V2", "Random Style", "Ink", "SAI Anime"]),
        (7, [None, {}, "Ink"], ["Ink", "Fooocus V2", "Random Style", "SAI Anime"]),
    ],
)
def test_found_then_chosen_then_the_rest(tmp_path: Path, query: Any, chosen: Any, expected: list[str]) -> None:
    (tmp_path / "some.json").write_text(json.dumps([{"name": "ink"}, {"name": "sai-anime"}]))
    update = sorted_anew((tmp_path,), query, chosen)
    assert [name for name, _ in update["choices"]] == expected and "value" not in update


def test_the_list_shows_what_is_chosen_first_also_what_is_not_there(tmp_path: Path) -> None:
    panel = Panel(
        GenerationParameters(style_selections=("Gone", "Ink")), Wording(lambda folder: [], lambda: ["Oil", "Ink"])
    )
    with gr.Blocks():
        build(panel, (tmp_path,), {"api_visibility": "private"})
    styles = panel.get("style_selections")
    assert [name for name, _ in styles.choices] == ["Ink", "Gone", "Oil"] and styles.value == ["Gone", "Ink"]
