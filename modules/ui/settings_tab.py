"""The tab of what most people change: preset, performance, size, number, format, negative prompt, seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from modules.parameters import leaf
from modules.performance import MODES
from modules.ui import preset_bar
from modules.ui.panel import Panel
from modules.ui.preset_bar import PresetBar, PresetDesk


@dataclass(frozen=True)
class SettingsTab:
    """What the page wires: the presets, and the switch between a random seed and one that stays."""

    presets: PresetBar
    random: gr.Checkbox
    seed: Any


def build(panel: Panel, desk: PresetDesk, preset: str, event: Mapping[str, Any], metadata: bool = True) -> SettingsTab:
    """Place the parameters of this tab; ``event`` is what all events have in common.

    ``metadata``: whether pictures may tell how they were made, so that there is something to choose.
    """
    presets = preset_bar.build(desk, preset)
    panel.place("performance_selection")
    with gr.Column(elem_id="aspect_ratios"):
        # Not an accordion: what is in a closed one does not exist in the page, and the canvas needs the chosen size.
        gr.Button("Aspect ratio", size="md", elem_id="ratio_button")
        panel.place("aspect_ratios_selection")
    panel.place("image_number")
    panel.place("advanced.output_format")
    with gr.Column(visible=metadata, elem_id="metadata_choice"):
        panel.place("advanced.save_metadata_to_images")
        scheme = panel.place("advanced.metadata_scheme")
    saved = panel.get("advanced.save_metadata_to_images")
    saved.change(lambda on: gr.update(interactive=bool(on)), saved, scheme, **event)
    panel.place("negative_prompt")
    with gr.Row(elem_id="seed_row"):
        random = gr.Checkbox(
            panel.values.image_seed < 0, label="Random seed", elem_id="seed_random", container=False, min_width=140
        )
        seed = panel.place("image_seed")
    return SettingsTab(presets, random, seed)


def locked_paths() -> list[str]:
    """The parameters over which some performance mode decides."""
    return sorted({path for mode in MODES.values() for path in mode.overrides})


def locks(mode: str) -> list[dict[str, Any]]:
    """For each of ``locked_paths``: locked, with a word on what the mode sets it to, or free with its own hint."""
    overrides = MODES[mode].overrides if mode in MODES else {}
    return [
        gr.update(interactive=False, info=f"{mode} sets this to {_in_words(overrides[path])}")
        if path in overrides
        else gr.update(interactive=True, info=leaf(path).control.hint)
        for path in locked_paths()
    ]


def _in_words(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
