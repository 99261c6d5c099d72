"""The big place where pictures appear, with the progress line under it; knows no parameter."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from modules.ui.view import View

# Sentences of the built-in miniature's world; a real model understands them as well.
EXAMPLES = (
    "a red cat on the left, in a meadow, watercolor",
    "a small yellow boat on a beach, oil painting",
    "a purple rocket at night, neon",
    "a blue butterfly in the forest, flat illustration",
)

MARKUP = Path(__file__).with_name("assets") / "stage.html"


def build(assets: str) -> gr.HTML:
    """The canvas; ``assets`` is the address under which the page's own scripts are served."""
    return gr.HTML(
        View().to_json(),
        html_template=MARKUP.read_text(encoding="utf-8"),
        js_on_load=f'import("{assets}/page.js").then(() => pinhole.mount(element, props, watch));',
        apply_default_css=False,
        elem_id="canvas",
        examples=list(EXAMPLES),
    )
