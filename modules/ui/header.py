"""The line at the top: the name, what must be known about the model, the switch between light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr

from modules.ui import downloads_panel
from modules.ui.downloads_panel import DownloadsPanel

NAME = """
<header class="name">
  <svg viewBox="0 0 32 32" aria-hidden="true">
    <rect width="32" height="32" rx="9"/><path d="M4 8 28 24M4 24 28 8"/><circle cx="16" cy="16" r="4.4"/>
  </svg>
  <h1>Pinhole</h1>
</header>
"""
SWITCH = """
<button id="history_button" type="button">
  <svg viewBox="0 0 24 24" aria-hidden="true">
    <rect x="3.5" y="4.5" width="7" height="6.5" rx="1.6"/><rect x="13.5" y="4.5" width="7" height="6.5" rx="1.6"/>
    <rect x="3.5" y="13.5" width="7" height="6.5" rx="1.6"/><rect x="13.5" y="13.5" width="7" height="6.5" rx="1.6"/>
  </svg>
  <span>History</span>
</button>
<label id="language">
  <svg viewBox="0 0 24 24" aria-hidden="true">
    <path d="M3.8 12a8.2 8.2 0 1 0 16.4 0a8.2 8.2 0 1 0-16.4 0M4.4 9h15.2M4.4 15h15.2"
      fill="none" stroke="currentColor" stroke-width="1.6"/>
    <path d="M12 3.8c-5 5-5 11.4 0 16.4c5-5 5-11.4 0-16.4" fill="none" stroke="currentColor" stroke-width="1.6"/>
  </svg>
  <select id="language_select" aria-label="Language"></select>
</label>
<button id="owner_button" type="button" aria-label="Settings of this machine" title="Settings of this machine">
  <svg viewBox="0 0 24 24" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="1.8">
    <path stroke-linecap="round" d="M4 7h9m5 0h2M4 17h2m5 0h9"/>
    <circle cx="15.5" cy="7" r="2.3"/><circle cx="8.5" cy="17" r="2.3"/>
  </svg>
</button>
<button id="theme_button" type="button" aria-label="Light or dark" title="Light or dark">
  <svg viewBox="0 0 24 24" aria-hidden="true">
    <circle cx="12" cy="12" r="8.2" fill="none" stroke="currentColor" stroke-width="1.8"/>
    <path d="M12 3.8a8.2 8.2 0 0 1 0 16.4z" fill="currentColor"/>
  </svg>
</button>
"""
SIGN_OUT = """
<form method="post" action="/logout"><button id="logout_button" type="submit">Sign out</button></form>
"""


def build(note: str, assets: str, login: bool) -> tuple[gr.HTML, DownloadsPanel]:
    """Place the line; returns what the page wires.

    ``note`` is HTML, ``assets`` the address of the page's scripts, ``login`` whether somebody can sign out.
    """
    with gr.Row(elem_id="top"):
        gr.HTML(NAME, elem_id="name", apply_default_css=False, js_on_load=None)
        line = gr.HTML(note, elem_id="model_note", apply_default_css=False, js_on_load=None)
        downloads = downloads_panel.build(assets)
        gr.HTML(SWITCH + (SIGN_OUT if login else ""), elem_id="theme", apply_default_css=False, js_on_load=None)
    return line, downloads


def note_html(notes: Sequence[str]) -> str:
    """Sentences as HTML; they name files and may hold anything."""
    return "".join(f"<span>{escape(note)}</span> " for note in notes)


def note_update(notes: Sequence[str]) -> dict[str, Any]:
    """The line of notes, replaced."""
    return gr.update(value=note_html(notes))
