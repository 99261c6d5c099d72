"""The panel of running and waiting tasks, and Generate while one runs; knows no engine and no store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

import gradio as gr

from modules.api.front import owner_of
from modules.async_worker import AsyncWorker
from modules.line import asked_for
from modules.parameters import GenerationParameters
from modules.ui.components import with_labels

Update = dict[str, Any]
SWITCHES = """
<div class="queue-switches">
  <button id="forever_switch" type="button" role="switch" aria-checked="false"
    title="When a run ends, begins the next one of what is in the form">Generate forever</button>
  <button id="queue_switch" type="button" aria-expanded="false" aria-controls="queue"
    >Queue<span class="queue-sum"></span></button>
</div>
"""
MARKUP = """
<section class="queue-box" aria-label="Queue">
  <ol class="queue-tasks"></ol>
  <p class="queue-empty">Nothing waits. Press Generate while pictures are being made, and the next ones wait here.</p>
  <div class="queue-foot">
    <p class="queue-note" role="status"><span class="queue-said"></span>
      <button class="queue-undo" type="button" hidden></button></p>
    <button class="queue-hold" type="button" hidden>Hold all</button>
    <button class="queue-clear" type="button" hidden>Clear the queue</button>
  </div>
  <p class="queue-bell">When everything is done:
    <label><input type="checkbox" data-bell="sound"> <span>Play a sound</span></label>
    <label><input type="checkbox" data-bell="note"> <span>Notify me</span></label>
  </p>
</section>
"""


@dataclass(frozen=True)
class QueueDesk:
    """What happens with the form. ``check`` gives the parameters of the ctrls, or says in words why it cannot."""

    worker: AsyncWorker
    check: Callable[[Sequence[Any]], GenerationParameters]
    filled: Callable[[GenerationParameters], list[Update]]

    def add(self, request: gr.Request, edited: str, *args: Any) -> Update:
        """Queues what is in the form: in the place of the task ``edited``, or at the end where that is empty."""
        owner = owner_of(request.cookies)
        try:
            parameters = self.check(args)
            if edited and owner:
                task = self.worker.replace(edited, parameters, owner)
            else:
                task = self.worker.submit(parameters, owner)
        except ValueError as error:
            return _answer("refused", message=with_labels(str(error)))
        return _answer("queued", task=task, edited=edited)

    def edit(self, request: gr.Request, task_id: str, *args: Any) -> list[Update]:
        """Holds a waiting task of this browser and puts its settings into the form."""
        owner = owner_of(request.cookies)
        try:
            task = self.worker.task(task_id) if owner and self.worker.hold(task_id, owner, held=True) else None
            if task is None:
                message = "This task does not wait any more: it cannot be edited."
                return [*(gr.skip() for _ in args), _answer("lost", task=task_id, message=message)]
            return [*self.filled(asked_for(task)), _answer("editing", task=task_id)]
        except ValueError as error:
            return [*(gr.skip() for _ in args), _answer("lost", task=task_id, message=str(error))]


@dataclass(frozen=True)
class QueuePanel:
    """What is wired. Only ``panel`` is seen: the page's script presses the buttons."""

    panel: gr.HTML
    add: gr.Button
    edit: gr.Button
    restore: gr.Button

    def wire(
        self,
        desk: QueueDesk,
        task: Any,
        ctrls: Sequence[Any],
        names: str,
        event: Mapping[str, Any],
    ) -> Any:
        """Connect the panel with the form. ``names`` are the ctrls' paths as JSON. Returns the event that gives the
        form back after an edit."""
        sent = f"(task, ...values) => pinhole.queue.sent({names}, values)"
        self.add.click(desk.add, [task, *ctrls], self.panel, js=sent, **event)
        begun = "(task, ...values) => pinhole.queue.editBegins(values)"
        self.edit.click(desk.edit, [task, *ctrls], [*ctrls, self.panel], js=begun, **event)
        return self.restore.click(
            None, list(ctrls), list(ctrls), js="(...values) => pinhole.queue.formBefore(values)", **event
        )


def build_switches() -> None:
    """Place the button that opens the panel, and Generate forever."""
    gr.HTML(SWITCHES, elem_id="queue_line", apply_default_css=False, js_on_load=None)


def build(assets: str) -> QueuePanel:
    """Place the panel, closed; ``assets`` is the address of the page's own scripts."""
    panel = gr.HTML(
        {"state": "empty"},
        html_template=MARKUP,
        js_on_load=f'import("{assets}/page.js").then(() => pinhole.queue.mount(element, props, watch));',
        apply_default_css=False,
        elem_id="queue",
    )
    return QueuePanel(
        panel,
        gr.Button("Add to the queue", visible="hidden", elem_id="queue_add"),
        gr.Button("Edit", visible="hidden", elem_id="queue_edit"),
        gr.Button("Put the form back", visible="hidden", elem_id="queue_restore"),
    )


def _answer(state: str, **values: str) -> Update:
    # The page notices changes only: the same answer twice must be two values.
    return gr.update(value={"state": state, **values, "stream": token_hex(4)})
