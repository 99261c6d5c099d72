"""The tab of what shapes a picture finely, and everything else that is declared in a closed drawer."""

from __future__ import annotations

import gradio as gr

from modules.ui.panel import Panel


def build(panel: Panel) -> None:
    """Place the parameters of this tab; it comes last, because its drawer takes every parameter that is left."""
    panel.place("guidance_scale")
    panel.place("sharpness")
    panel.place("advanced.sampler_name")
    panel.place("advanced.scheduler_name")
    with gr.Accordion("Developer", open=False, elem_id="developer"):
        panel.place_remaining()
