"""The prompt with its buttons, and the line of switches under it; knows no other parameter."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from modules.ui import final_prompt, prompt_list_panel, queue_panel
from modules.ui.final_prompt import FinalPromptBar
from modules.ui.panel import Panel
from modules.ui.prompt_list_panel import PromptListPanel
from modules.ui.queue_panel import QueuePanel


@dataclass(frozen=True)
class PromptBar:
    """What the page wires. ``task`` is never seen: the page's script puts the id of the task on show into it."""

    generate: gr.Button
    stop: gr.Button
    skip: gr.Button
    resume: gr.Button
    retry: gr.Button
    advanced: gr.Checkbox
    task: gr.Textbox
    final: FinalPromptBar
    queue: QueuePanel
    list: PromptListPanel


def build(panel: Panel, assets: str) -> PromptBar:
    """Prompt, Generate, Skip and Stop, the line of switches, and what opens under it: final prompt and queue.

    ``assets`` is the address of the page's own scripts.
    """
    with gr.Row(elem_id="prompt_row", equal_height=True):
        panel.place("prompt")
        with gr.Column(elem_id="buttons", min_width=140, scale=0):
            generate = gr.Button("Generate", variant="primary", size="lg", elem_id="generate_button")
            skip = gr.Button("Skip", size="lg", elem_id="skip_button")
            stop = gr.Button("Stop", size="lg", elem_id="stop_button")
    with gr.Row(elem_id="switches"):
        advanced = gr.Checkbox(
            False,
            label="Advanced",
            elem_id="advanced_checkbox",
            container=False,
            min_width=120,
            interactive=True,
            scale=0,
        )
        final_prompt.build_switch()
        queue_panel.build_switches()
    final = final_prompt.build(assets)
    queue = queue_panel.build(assets)
    prompts = prompt_list_panel.build(assets)
    resume = gr.Button("Resume", visible="hidden", elem_id="resume_button")
    retry = gr.Button("Make the rest", visible="hidden", elem_id="retry_button")
    task = gr.Textbox("", visible="hidden", elem_id="task_box", label="Task")
    return PromptBar(generate, stop, skip, resume, retry, advanced, task, final, queue, prompts)
