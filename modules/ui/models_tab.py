"""The tab of model files: base, refiner, LoRAs, and under each what it is; knows what no file holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from modules.api.front import owner_of
from modules.controls import ModelFile
from modules.model_cards import Catalogue
from modules.parameters import LORA_ROWS, leaf, leaves
from modules.ui.components import Wording, choices_of
from modules.ui.model_notes import LISTING_SECONDS, PATIENT_SECONDS, MadeWith, ModelNotes, file_lists
from modules.ui.panel import Panel


@dataclass(frozen=True)
class ModelsTab:
    """What the page wires. ``chosen`` are the controls of base, refiner and LoRAs, ``notes`` what stands under them."""

    refresh: gr.Button
    chosen: tuple[Any, ...]
    notes: tuple[gr.HTML, ...]

    def wire(
        self,
        tab: gr.Tab,
        panel: Panel,
        catalogue: Catalogue,
        made_with: MadeWith,
        refreshing: Sequence[gr.Button],
        event: Mapping[str, Any],
    ) -> None:
        """Says at once what is chosen and whether it works together, and lists the LoRAs that fit the base first.

        The button, like those that are ``refreshing`` elsewhere, lists what lies in the folders now, in every control
        of the page that names a file.
        """
        last = {**event, "trigger_mode": "always_last"}
        changes = [each.change for each in self.chosen]
        notes = ModelNotes(catalogue, made_with)

        def say(request: gr.Request, *names: object) -> list[dict[str, Any]]:
            base, refiner, *loras = (name if isinstance(name, str) else "" for name in names)
            return [gr.update(value=each) for each in notes.of(owner_of(request.cookies), base, refiner, loras)]

        gr.on([tab.select, *changes], say, list(self.chosen), list(self.notes), **last)
        base, _, *loras = self.chosen
        rows = tuple(f"{row}.name" for row in LORA_ROWS)
        base.change(partial(files_listed, catalogue, rows, LISTING_SECONDS), [base, *loras], loras, **last)
        paths = tuple(each.path for each in leaves() if isinstance(each.control, ModelFile))
        files = [panel.get(path) for path in paths]
        listed = partial(files_listed, catalogue, paths, PATIENT_SECONDS)
        for button in (self.refresh, *refreshing):
            button.click(listed, [base, *files], files, **event)


def files_listed(
    catalogue: Catalogue, paths: Sequence[str], seconds: float, base: str, *chosen: str
) -> list[dict[str, Any]]:
    """What lies in the model folders now, for each of these parameters; what is chosen stays chosen.

    LoRAs that fit the base come first. Headers of files that are not known yet are read for so many seconds.
    """
    names, text = file_lists(catalogue, base, seconds)
    wording = Wording(names, file_text=text)
    rows = zip(paths, chosen, strict=True)
    return [gr.update(choices=choices_of(leaf(path), wording, value)) for path, value in rows]


def build(panel: Panel) -> ModelsTab:
    """Place the parameters of this tab."""
    notes = []
    with gr.Column(elem_classes=["model"]):
        panel.place("base_model")
        notes.append(_note("base_note"))
    with gr.Column(elem_classes=["model"]):
        panel.place("refiner_model")
        notes.append(_note("refiner_note"))
    panel.place("refiner_switch")
    with gr.Column(elem_id="loras"):
        for row in LORA_ROWS:
            with gr.Column(elem_classes=["model", "lora-box"]):
                with gr.Row(elem_classes=["lora"], equal_height=True):
                    panel.place(f"{row}.enabled")
                    panel.place(f"{row}.name")
                    panel.place(f"{row}.weight")
                notes.append(_note(f"{row}-note"))
    refresh = gr.Button("Look for new files", size="md", elem_id="refresh_files")
    chosen = ("base_model", "refiner_model", *(f"{row}.name" for row in LORA_ROWS))
    return ModelsTab(refresh, tuple(map(panel.get, chosen)), tuple(notes))


def _note(identity: str) -> gr.HTML:
    return gr.HTML("", elem_id=identity, elem_classes=["model-place"], padding=False)
