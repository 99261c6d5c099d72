"""The line under the prompt that opens to what the first picture would be told; knows no token and no style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from secrets import token_hex
from typing import Any

import gradio as gr

from modules.async_worker import AsyncWorker
from modules.files import ModelLibrary
from modules.look_ahead import look_ahead, vocabulary_rows
from modules.parameters import parameters_from_ctrls
from modules.prompt_list import first_task
from modules.prompt_sources import prompt_sources
from modules.settings import Settings

SWITCH = """
<button id="final_switch" type="button" aria-expanded="false" aria-controls="final_prompt">Final prompt</button>
"""
MAX_EXAMPLE = 2**53


@dataclass(frozen=True)
class FinalPromptBar:
    """What is wired. Only ``panel`` is seen; the page's script presses ``look`` and writes into ``example``."""

    panel: gr.HTML
    look: gr.Button
    example: gr.Textbox


@dataclass(frozen=True)
class Looker:
    """Says what the first picture of the form would be told."""

    settings: Settings
    library: ModelLibrary
    worker: AsyncWorker

    def look(self, example: Any, *args: Any) -> dict[str, Any]:
        """The panel's value for the ctrls in order of declaration. ``example`` is the seed of example draws."""
        seed = int(example) if isinstance(example, (int, float)) and 0 <= example < MAX_EXAMPLE else 0
        try:
            parameters = first_task(parameters_from_ctrls(args))
            model, checkpoints = parameters.base_model, self.library.checkpoints
            facts, rows = checkpoints.facts(model), vocabulary_rows(model, checkpoints)
            found = look_ahead(parameters, seed, facts, rows, prompt_sources(self.settings), self._ask)
        except ValueError as error:
            return {"state": "refused", "message": str(error), "stream": token_hex(4)}
        # The page notices changes only, and is to ask again when the words come later: no two answers are equal.
        return {**asdict(found), "stream": token_hex(4)}

    def _ask(self, text: str, seed: int) -> tuple[str, str] | None:
        answer = self.worker.expand(text, seed)
        return None if answer is None else (answer.text, answer.note)


def build_switch() -> None:
    """Place the button that opens and closes the panel."""
    gr.HTML(SWITCH, elem_id="final_line", apply_default_css=False, js_on_load=None)


def build(assets: str) -> FinalPromptBar:
    """Place the panel, closed; ``assets`` is the address of the page's own scripts."""
    panel = gr.HTML(
        {"state": "empty"},
        html_template='<section class="final-box" aria-label="Final prompt"></section>',
        js_on_load=f'import("{assets}/page.js").then(() => pinhole.mountFinalPrompt(element, props, watch));',
        apply_default_css=False,
        elem_id="final_prompt",
    )
    look = gr.Button("Look", visible="hidden", elem_id="look_button")
    example = gr.Textbox("", visible="hidden", elem_id="example_box", label="Example")
    return FinalPromptBar(panel, look, example)


def wire(bar: FinalPromptBar, looker: Looker, ctrls: Sequence[Any], event: Mapping[str, Any]) -> None:
    """Connect the panel with the form; ``event`` is what all events have in common."""
    last: dict[str, Any] = {**event, "trigger_mode": "always_last"}
    seeded = "(example, ...values) => [pinhole.exampleSeed(), ...values]"
    bar.look.click(looker.look, [bar.example, *ctrls], bar.panel, js=seeded, **last)
