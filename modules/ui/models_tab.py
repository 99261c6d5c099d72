"""The tab of model files: base, refiner, LoRAs, and a button that looks into their folders again."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from modules.parameters import LORA_ROWS
from modules.ui.panel import Panel


@dataclass(frozen=True)
class ModelsTab:
    """What the page wires."""

    refresh: gr.Button


def build(panel: Panel) -> ModelsTab:
    """Place the parameters of this tab."""
    panel.place("base_model")
    panel.place("refiner_model")
    panel.place("refiner_switch")
    with gr.Column(elem_id="loras"):
        for row in LORA_ROWS:
            with gr.Row(elem_classes=["lora"], equal_height=True):
                panel.place(f"{row}.enabled")
                panel.place(f"{row}.name")
                panel.place(f"{row}.weight")
    return ModelsTab(gr.Button("Look for new files", size="md", elem_id="refresh_files"))
