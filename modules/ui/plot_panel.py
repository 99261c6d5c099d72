"""The X/Y/Z plot: which parameters vary, and what that comes to; knows no task and no picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from modules.api.front import owner_of
from modules.async_worker import AsyncWorker
from modules.feasible import Feasible
from modules.parameters import parameters_from_ctrls
from modules.plot import Plot, axis_choices, read_plot
from modules.spelling import Files
from modules.ui.components import with_labels
from modules.ui.prompt_list_panel import Update, answer

AXES = ("X", "Y", "Z")
HINT = "2, 4, 7 or 2-8 [4]"


@dataclass(frozen=True)
class PlotDesk:
    """What happens with a plot. ``feasible`` says what can be made now, ``files`` which files of a kind there are."""

    worker: AsyncWorker
    feasible: Callable[[], Feasible]
    files: Files

    def look(self, *args: Any) -> Update:
        """What the plot comes to: how many pictures, and about how long they take."""
        try:
            plot = self._read(args)
            expected = self.worker.expectation(plot.cells)
        except ValueError as error:
            return answer("refused", message=with_labels(str(error)))
        count = len(plot.cells)
        return answer("looked", kind="plot", tasks=count, pictures=count, time=expected.words, problems=[])

    def run(self, request: gr.Request, *args: Any) -> Update:
        """Queues the cells of the plot; its grid is made when all of them have ended."""
        try:
            plot = self._read(args)
            tasks = self.worker.submit_all(plot.cells, owner_of(request.cookies), plot=plot)
        except ValueError as error:
            return answer("refused", message=with_labels(str(error)))
        return answer("queued", last=tasks[-1])

    def _read(self, args: Sequence[Any]) -> Plot:
        axes, ctrls = [str(each or "") for each in args[: 2 * len(AXES)]], args[2 * len(AXES) :]
        x, y, z = zip(axes[::2], axes[1::2], strict=True)
        return self.feasible().plot(read_plot(parameters_from_ctrls(ctrls), x, y, z, self.files))


@dataclass(frozen=True)
class PlotPanel:
    """What is wired."""

    fields: tuple[Any, ...]
    look: gr.Button
    run: gr.Button

    def wire(self, desk: PlotDesk, dialog: gr.HTML, ctrls: Sequence[Any], event: Mapping[str, Any]) -> None:
        """Connect the panel with the form and the dialog that asks before; ``event`` as all events have it."""
        told = [*self.fields, *ctrls]
        self.look.click(desk.look, told, dialog, **event)
        self.run.click(desk.run, told, dialog, **event)


def build() -> PlotPanel:
    """Place the panel, closed."""
    fields: list[Any] = []
    with gr.Accordion("X/Y/Z plot", open=False, elem_id="plot"):
        for axis in AXES:
            with gr.Row(elem_classes=["plot-axis"]):
                names: Any = gr.Dropdown(
                    [("None", ""), *axis_choices()], value=None, label=axis, filterable=False, interactive=True,
                    elem_id=f"plot_{axis.lower()}", min_width=0,
                )  # fmt: skip
                values: Any = gr.Textbox(
                    "", label="Values", placeholder=HINT if axis == "X" else "", interactive=True, max_lines=3,
                    elem_id=f"plot_{axis.lower()}_values", min_width=0,
                )  # fmt: skip
            fields += [names, values]
        look = gr.Button("Make the plot", elem_id="plot_look")
    run = gr.Button("Queue the plot", visible="hidden", elem_id="plot_run")
    return PlotPanel(tuple(fields), look, run)
