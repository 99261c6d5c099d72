"""The tab of styles: a search, and all of them, the chosen ones first; knows no text of a style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from modules.styles import read_styles, sorted_names
from modules.ui.panel import Panel

MAX_NOTES = 20


def build(panel: Panel, folders: Sequence[Path], event: Mapping[str, Any]) -> None:
    """Place the parameters of this tab and wire what happens in it; ``event`` is what all events have in common.

    The styles are looked up in ``folders`` each time they are sorted: when something is searched, and when the list is
    left, which the page's script tells by pressing a button that nobody sees.
    """
    with gr.Column(elem_id="styles_tab"):
        with gr.Row(elem_id="style_head", equal_height=True):
            search = gr.Textbox(
                label="Search styles", placeholder="Search styles", elem_id="style_search", lines=1, max_lines=1,
                min_width=80,
            )  # fmt: skip
            none = gr.Button("Clear", size="md", elem_id="no_styles", min_width=60, scale=0)
        notes = gr.HTML(notes_html(read_styles(folders).notes), elem_id="style_notes", padding=False)
        styles: Any = panel.place("style_selections")
        sort = gr.Button("Sort", visible="hidden", elem_id="sort_styles")
        panel.place("advanced.read_wildcards_in_order")
    last: dict[str, Any] = {**event, "trigger_mode": "always_last"}
    search.input(partial(sorted_anew, folders), [search, styles], styles, **last)
    sort.click(partial(sorted_anew, folders), [search, styles], styles, **last)
    for event_of in (search.input, sort.click):
        event_of(lambda: gr.update(value=notes_html(read_styles(folders).notes)), None, notes, **last)
    none.click(None, None, styles, js="() => [[]]", **event)


def sorted_anew(folders: Sequence[Path], query: Any, chosen: Any) -> dict[str, Any]:
    """The styles as they are on the disk now: what the search finds, then what is chosen, then the rest."""
    names = [name for name in chosen if isinstance(name, str)] if isinstance(chosen, list) else []
    listed = sorted_names(read_styles(folders).names(), names, query if isinstance(query, str) else "")
    return gr.update(choices=[(name, name) for name in listed])


def notes_html(notes: Sequence[str]) -> str:
    """What is wrong with style files, as HTML; the sentences quote the files and may hold anything."""
    return "".join(f"<p>{escape(note)}</p>" for note in notes[:MAX_NOTES])
