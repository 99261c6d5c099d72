"""The chip and card of models that a preset names and that are not here; knows no network, only its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

MARKUP = Path(__file__).with_name("assets") / "downloads.html"


@dataclass(frozen=True)
class DownloadsPanel:
    """What the page wires; neither is seen. The panel's script presses ``refresh`` when a file has arrived, and ``use``
    when the preset is to be applied again."""

    refresh: gr.Button
    use: gr.Button

    def wire(
        self, preset: Any, ctrls: list[Any], note: Any, chosen: Callable[..., list[Any]], event: dict[str, Any]
    ) -> None:
        """The panel follows the preset, and has it ``chosen`` anew when asked; ``event`` is how events are here."""
        use: Any = self.use
        preset.input(None, preset, None, js="(name) => pinhole.downloads.look(name)", **event)
        use.click(None, preset, preset, js="() => pinhole.downloads.preset", **event)
        again = "(name, ...values) => [pinhole.downloads.preset, ...values]"
        use.click(chosen, [preset, *ctrls], [*ctrls, note], js=again, **event)


def build(assets: str) -> DownloadsPanel:
    """Place it; ``assets`` is the address under which the page's own scripts are served."""
    gr.HTML(
        html_template=MARKUP.read_text(encoding="utf-8"),
        js_on_load=f'import("{assets}/page.js").then(() => pinhole.downloads.mount(element));',
        apply_default_css=False,
        elem_id="downloads",
    )
    return DownloadsPanel(
        gr.Button("Look again", visible="hidden", elem_id="downloads_refresh"),
        gr.Button("Use this preset", visible="hidden", elem_id="downloads_use"),
    )
