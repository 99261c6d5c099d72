"""A list of prompts on its way into the queue: what it comes to, asked before; knows no line of it and no store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

import gradio as gr

from modules.api.front import owner_of
from modules.async_worker import AsyncWorker
from modules.feasible import Feasible
from modules.parameters import leaves, parameters_from_ctrls
from modules.prompt_list import PromptList, PromptListError, read_list
from modules.ui.components import with_labels

Update = dict[str, Any]
MARKUP = """
<dialog class="list-box" aria-labelledby="list_title">
  <h2 id="list_title">A list of prompts</h2>
  <p class="list-sum"></p>
  <ul class="list-problems"></ul>
  <div class="list-buttons">
    <button class="list-cancel" type="button">Cancel</button>
    <button class="list-run" type="button">Queue them</button>
  </div>
</dialog>
"""


@dataclass(frozen=True)
class PromptListDesk:
    """What happens with a list in the form. ``feasible`` says what can be made now."""

    worker: AsyncWorker
    feasible: Callable[[], Feasible]

    def look(self, *args: Any) -> Update:
        """What the list comes to: how many tasks and pictures, about how long they take, and what is wrong with it."""
        try:
            found = self._read(args)
            time = self.worker.expectation(found.tasks).words
        except ValueError as error:
            return answer("refused", message=with_labels(str(error)))
        problems = [with_labels(problem) for problem in found.problems]
        return answer("looked", tasks=len(found.tasks), pictures=found.pictures, time=time, problems=problems)

    def run(self, request: gr.Request, *args: Any) -> Update:
        """Queues the tasks of the list, but for lines with which something is wrong."""
        try:
            found = self._read(args)
            if not found.tasks:
                raise PromptListError(" ".join(found.problems))
            tasks = self.worker.submit_all(found.tasks, owner_of(request.cookies))
        except ValueError as error:
            return answer("refused", message=with_labels(str(error)))
        return answer("queued", last=tasks[-1])

    def _read(self, args: Sequence[Any]) -> PromptList:
        # A list may be longer than a prompt.
        place = [leaf.path for leaf in leaves()].index("prompt")
        prompt, others = args[place], [*args[:place], "", *args[place + 1 :]]
        found = read_list(str(prompt or ""), parameters_from_ctrls(others))
        return self.feasible().list_of(found)


@dataclass(frozen=True)
class PromptListPanel:
    """What is wired. Only ``panel`` is seen: the page's script presses the buttons."""

    panel: gr.HTML
    look: gr.Button
    run: gr.Button

    def wire(self, desk: PromptListDesk, ctrls: Sequence[Any], event: Mapping[str, Any]) -> None:
        """Connect the dialog with the form; ``event`` is what all events have in common."""
        self.look.click(desk.look, list(ctrls), self.panel, **event)
        self.run.click(desk.run, list(ctrls), self.panel, **event)


def build(assets: str) -> PromptListPanel:
    """Place the dialog, closed; ``assets`` is the address of the page's own scripts."""
    panel = gr.HTML(
        {"state": "empty"},
        html_template=MARKUP,
        js_on_load=f'import("{assets}/page.js").then(() => pinhole.lists.mount(element, props, watch));',
        apply_default_css=False,
        elem_id="prompt_list",
    )
    return PromptListPanel(
        panel,
        gr.Button("Look at the list", visible="hidden", elem_id="list_look"),
        gr.Button("Queue the list", visible="hidden", elem_id="list_run"),
    )


def answer(state: str, **values: Any) -> Update:
    """What the dialog is told."""
    # The page notices changes only: the same answer twice must be two values.
    return gr.update(value={"state": state, **values, "stream": token_hex(4)})
