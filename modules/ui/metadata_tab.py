"""The tab that reads pictures: what one says of its settings, and a button that fills the form with them.

Knows no picture file: the page's script sends the bytes to a route and writes the text that it gets into ``text``.
Everything that a text says is escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from modules.choices import NO_MODEL
from modules.controls import Choice, ModelFile, shown
from modules.metadata import MetadataError
from modules.metadata_reading import Reading
from modules.metadata_texts import SEED, read_told
from modules.model_search import Here
from modules.parameters import LORA_ROWS, GenerationParameters, Leaf, leaves
from modules.ui.components import Wording, choices_of, shown_anew
from modules.ui.panel import Panel

Update = dict[str, Any]
BASE, RATIOS = "base_model", "aspect_ratios_selection"
MAX_PROBLEMS, MAX_UNKNOWN = 20, 40
SCHEMES: Mapping[str, str] = {
    "pinhole": "Saved by Pinhole: complete.",
    "fooocus": "In Fooocus' form. What it does not say stays as it is in the form.",
    "a1111": "In the plain form that many programs write. What it does not say stays as it is in the form.",
}
ALWAYS = ("prompt", BASE, "performance_selection", RATIOS, SEED)  # shown also where they are as by default
USED = '<p class="told-used" role="status">These settings are in the form now.</p>'
DROP = """
<label class="told-drop">
  <input id="metadata_file" type="file" accept=".png,.jpg,.jpeg,.webp">
  <strong>Drop a picture here</strong><span>or click to choose one: PNG, JPEG or WebP</span>
  <span class="told-status" role="status"></span>
</label>
"""


@dataclass(frozen=True)
class MetadataTab:
    """What is wired."""

    text: Any
    answer: gr.HTML
    use: gr.Button

    @staticmethod
    def build() -> MetadataTab:
        """Place the tab's pieces."""
        with gr.Column(elem_id="metadata_tab"):
            gr.HTML(DROP, elem_id="metadata_drop", apply_default_css=False, js_on_load=None, padding=False)
            text = gr.Textbox(
                "",
                label="Or paste a text that a picture carries",
                elem_id="metadata_text",
                lines=3,
                max_lines=6,
                interactive=True,
            )
            use = gr.Button("Use these settings", variant="primary", elem_id="metadata_use", interactive=False)
            answer = gr.HTML("", elem_id="metadata_answer", apply_default_css=False, js_on_load=None, padding=False)
        return MetadataTab(text, answer, use)

    def wire(
        self,
        panel: Panel,
        here: Here,
        wording: Callable[[str], Wording],
        event: Mapping[str, Any],
    ) -> None:
        """A text is read as soon as it is there; the button puts what it says into the form.

        ``here`` is what a text may refer to, ``wording`` the choices for a base model, ``event`` is what all events
        have in common.
        """

        def look(text: object) -> list[Update]:
            try:
                reading = read_told(text.strip() if isinstance(text, str) else "", here)
            except MetadataError as error:
                said = _problems([str(error)]) if text else ""
                return [gr.update(value=said), gr.update(interactive=False)]
            return [gr.update(value=answer_html(reading)), gr.update(interactive=bool(reading.values))]

        def use(text: object, *args: Any) -> list[Update]:
            try:
                reading = read_told(text.strip() if isinstance(text, str) else "", here)
            except MetadataError as error:
                return [*(gr.skip() for _ in args), gr.update(value=_problems([str(error)]))]
            updates = form_updates(reading, args, wording)
            return [*updates, gr.update(value=USED + answer_html(reading))]

        ctrls = panel.ctrls()
        last = {**event, "trigger_mode": "always_last"}
        # Not `input`: that tells of keys only, not of what the page's script writes.
        self.text.change(look, self.text, [self.answer, self.use], **last)
        self.use.click(use, [self.text, *ctrls], [*ctrls, self.answer], **event)


def form_updates(
    reading: Reading,
    args: Sequence[Any],
    wording: Callable[[str], Wording],
) -> list[Update]:
    """For every control, in order of declaration: its value where the text says one, else nothing.

    ``args`` are the present values. The aspect ratios are listed in the pixels of the model there is afterwards.
    """
    said = GenerationParameters.from_mapping(reading.values)
    present = dict(zip((each.path for each in leaves()), args, strict=True))
    model = said.base_model if BASE in reading.values else present[BASE]
    words = wording(model if isinstance(model, str) else "")

    def update(each: Leaf) -> Update:
        if each.path in reading.values:
            return shown_anew(each, each.control.to_browser(said.get(each.path)), words)
        return gr.update(choices=choices_of(each, words)) if each.path == RATIOS else gr.skip()

    return [update(each) for each in leaves()]


def answer_html(reading: Reading) -> str:
    """What a text says, as HTML: sentences on what is wrong, the settings, those that are as by default, the rest."""
    said, default = GenerationParameters.from_mapping(reading.values), GenerationParameters()
    changed: list[tuple[str, str]] = []
    usual: list[tuple[str, str]] = []
    for each in leaves():
        if each.path not in reading.values or each.path.rpartition(".")[0] in LORA_ROWS:
            continue
        value = said.get(each.path)
        notable = each.path in ALWAYS or value != default.get(each.path)
        (changed if notable else usual).append((each.label, _in_words(each, value)))
    changed += [pair for row in LORA_ROWS if (pair := _lora(row, reading, said)) is not None]
    unknown = [(shown(key)[1:-1], "" if value is None else shown(value)) for key, value in reading.unknown.items()]
    parts = [_problems(reading.problems)]
    if changed or usual:
        parts.append(f'<p class="told-from">{escape(SCHEMES[reading.scheme])}</p>{_table(changed)}')
    else:
        parts.append('<p class="told-from">It says nothing that can be set here.</p>')
    if usual:
        parts.append(f"<details><summary>{len(usual)} more, as by default</summary>{_table(usual)}</details>")
    if unknown:
        more = f" ({MAX_UNKNOWN} of {len(unknown)})" if len(unknown) > MAX_UNKNOWN else ""
        parts.append(f'<p class="told-from">Not known here and not applied{more}:</p>')
        parts.append(_table(unknown[:MAX_UNKNOWN], "is-unknown"))
    return f'<div class="told">{"".join(parts)}</div>'


def _lora(row: str, reading: Reading, said: GenerationParameters) -> tuple[str, str] | None:
    name = said.get(f"{row}.name")
    if f"{row}.name" not in reading.values or name == NO_MODEL:
        return None
    off = "" if said.get(f"{row}.enabled") else ", switched off"
    return f"LoRA {row.removeprefix('lora_')}", f"{name}, weight {said.get(f'{row}.weight'):g}{off}"


def _in_words(each: Leaf, value: Any) -> str:
    match each.control:
        case Choice(text=text):
            return text(value)
        case ModelFile():
            return str(value)
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    if each.path == SEED and value < 0:
        return "random"
    if value == getattr(each.control, "off", None):
        return "not set"
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _problems(sentences: Sequence[str]) -> str:
    more = [f"And {len(sentences) - MAX_PROBLEMS} more."] if len(sentences) > MAX_PROBLEMS else []
    return "".join(f'<p class="told-problem">{escape(each)}</p>' for each in [*sentences[:MAX_PROBLEMS], *more])


def _table(rows: Iterable[tuple[str, str]], kind: str = "") -> str:
    cells = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td><div>{escape(value)}</div></td></tr>' for name, value in rows
    )
    return f'<table class="told-table {kind}"><tbody>{cells}</tbody></table>'
