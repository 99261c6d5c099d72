"""The tab of what shapes a picture finely; everything else that is declared is behind the switch of its second half."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from modules.performance import MODES
from modules.ui import plot_panel
from modules.ui.panel import Panel
from modules.ui.plot_panel import PlotPanel

# The order in which users of Fooocus look for them; what it does not have stands beside its nearest kin.
DEBUG_TOOLS = (
    "adm_scaler_positive", "adm_scaler_negative", "adm_scaler_end", "refiner_swap_method", "adaptive_cfg",
    "guidance_rescale", "guidance_begin", "guidance_end", "clip_skip", "sampler_name", "scheduler_name", "vae_name",
    "generate_image_grid", "overwrite_step", "overwrite_switch", "overwrite_width", "overwrite_height",
    "disable_preview", "disable_intermediate_results", "disable_seed_increment",
)  # fmt: skip
FREEU = ("freeu_enabled", "freeu_b1", "freeu_b2", "freeu_s1", "freeu_s2")


def build(page: gr.Blocks, panel: Panel, event: Mapping[str, Any]) -> PlotPanel:
    """Place the parameters of this tab; it comes last, because its tools take every parameter that is left."""
    panel.place("guidance_scale")
    panel.place("sharpness")
    plot = plot_panel.build()
    developer: Any = gr.Checkbox(
        False, label="Developer Debug Mode", elem_id="developer_mode", container=False, interactive=True
    )
    with gr.Column(elem_id="developer"), gr.Tabs(elem_id="developer_tabs"):
        with gr.Tab("Debug Tools"):
            for name in DEBUG_TOOLS:
                panel.place(f"advanced.{name}")
            for leaf in panel.missing():
                if leaf.name not in FREEU:
                    panel.place(leaf.path)
        with gr.Tab("FreeU"):
            for name in FREEU:
                panel.place(f"advanced.{name}")
    page.load(None, None, developer, js="() => pinhole.developerWasOpen()", **event)
    # Chosen by hand only: a preset and the last session bring a value of their own.
    mode, intermediate = panel.get("performance_selection"), panel.get("advanced.disable_intermediate_results")
    mode.input(hides_intermediate, mode, intermediate, **event)
    return plot


def hides_intermediate(mode: str) -> bool:
    """Whether somebody who chooses this mode sees the pictures when all are there, which is soon."""
    return mode in MODES and MODES[mode].lora is not None
