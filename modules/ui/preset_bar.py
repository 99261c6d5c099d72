"""The preset, what can be done with it, and what the page starts with; knows no file, only the user's presets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from secrets import token_hex
from typing import Any

import gradio as gr

from modules.files import ModelFiles
from modules.own_presets import MAX_NAME, OwnPresets, PresetExists
from modules.parameters import (
    BUILT_IN_MODEL,
    GenerationParameters,
    ParameterError,
    leaves,
    parameters_from_ctrls,
    parameters_to_ctrls,
)
from modules.presets import (
    DEFAULT_PRESET,
    HABITS,
    INITIAL_PRESET,
    MINI_PRESET,
    TYPED,
    PresetError,
    StartingPoint,
    apply_preset,
    chosen_start,
    preset_names,
    preset_values,
)
from modules.ui.components import Wording, shown_anew, with_labels
from modules.ui.header import note_update
from modules.ui.panel import Panel

Update = dict[str, Any]
WORDS = {INITIAL_PRESET: "As at start"}


@dataclass(frozen=True)
class PresetDesk:
    """What happens with presets. One instance serves everybody; of calls it keeps nothing."""

    own: OwnPresets
    models: ModelFiles
    wording: Callable[[str], Wording]

    def start(self) -> StartingPoint:
        """What the page shows at first; a broken preset is said in words, and what lies under it is shown."""
        notes: list[str] = []
        for name in ("", DEFAULT_PRESET, MINI_PRESET):
            try:
                point = apply_preset(name, self.own.settings, self.models)
            except PresetError as error:
                notes += [str(error)] if str(error) not in notes else []
            else:
                return replace(point, notes=(*notes, *point.notes))
        return StartingPoint(GenerationParameters(base_model=BUILT_IN_MODEL), "", tuple(notes))

    def opened(self, built: StartingPoint) -> list[Update]:
        """The lists and values of right now, for a page that was built with others; then the line of notes."""
        start = self.start()
        lists = self._lists(start.preset)
        if start == built:
            return [*lists, gr.skip(), *(gr.skip() for _ in leaves())]
        return [*lists, note_update((*start.notes, *self.own.settings.notes)), *self.filled(start.parameters)]

    def chosen(self, name: str, *args: Any, keep: Sequence[str] = HABITS) -> list[Update]:
        """The values a preset asks for, and what is to be said about it; wrong values in the page are no obstacle."""
        try:
            base = parameters_from_ctrls(args)
        except ParameterError:
            base = None
        try:
            point = apply_preset(name, self.own.settings, self.models, base, keep)
        except PresetError as error:
            return [gr.skip() for _ in args] + [note_update((str(error),))]
        return [*self.filled(point.parameters), note_update(point.notes)]

    def looked_at(self, name: str) -> list[Update]:
        """The name in the form and what can be done with this preset; one that is gone is not shown any more."""
        own = name in self.own.names()
        gone = not own and name not in preset_names(self.own.settings.preset_folders)
        update = gr.update(value=INITIAL_PRESET) if gone and name else gr.skip()
        return [update, gr.update(value=name if own else ""), gr.update(visible=own), gr.update(visible=own)]

    def save(
        self, may_replace: bool, shown: str, name: str, prompt: bool, seed: bool, at_start: bool, *args: Any
    ) -> list[Update]:
        """Saves what is on the page; ``prompt`` and ``seed`` say whether these are part of the preset."""
        typed = [path for path, wanted in zip(TYPED, (prompt, seed), strict=True) if wanted is True]
        try:
            saved = self.own.save(name, preset_values(parameters_from_ctrls(args), typed), may_replace)
            if at_start is True:
                self.own.start_with(saved)
        except PresetExists as error:
            return self._answer(shown, f"{error} Replace it?", "preset-exists")
        except (PresetError, ParameterError) as error:
            return self._answer(shown, with_labels(str(error)), "preset-problem")
        stands_in = saved in preset_names((self.own.settings.presets,))
        more = " It stands in for the one that comes with Pinhole, until you delete it." if stands_in else ""
        return self._answer(saved, f"{saved} is saved.{more}")

    def rename(self, shown: str, name: str) -> list[Update]:
        """Gives the preset on show another name."""
        try:
            renamed = self.own.rename(shown, name)
        except PresetError as error:
            return self._answer(shown, str(error), "preset-problem")
        return self._answer(renamed, f"{shown} is called {renamed} now." if renamed != shown else "")

    def remove(self, shown: str) -> list[Update]:
        """Removes the preset on show; the values on the page stay."""
        try:
            self.own.remove(shown)
        except PresetError as error:
            return self._answer(shown, str(error), "preset-problem")
        left = shown if shown in preset_names(self.own.settings.preset_folders) else INITIAL_PRESET
        return self._answer(left, f"{shown} is deleted. Its file lies in the folder “removed” beside your presets.")

    def start_with(self, shown: str, name: str) -> list[Update]:
        """Keeps with what the page starts."""
        try:
            self.own.start_with(name)
        except PresetError as error:
            return self._answer(shown, str(error), "preset-problem")
        words = f"New pages start with {name} from now on." if name else "New pages start where the last one was left."
        return self._answer(shown, words)

    def presets(self) -> list[tuple[str, str]]:
        """(words, name) of every preset."""
        own = set(self.own.names())
        names = preset_names(self.own.settings.preset_folders)
        return [(WORDS.get(name) or (f"{name} · yours" if name in own else name), name) for name in names]

    def starts(self) -> list[tuple[str, str]]:
        """(words, value) of everything the page can start with."""
        return [("Where I left off", ""), *self.presets()[1:]]

    def _lists(self, preset: str) -> list[Update]:
        """The lists of presets and of starts, as they are now."""
        starts = gr.update(choices=self.starts(), value=chosen_start(self.own.settings))
        return [gr.update(choices=self.presets(), value=preset), starts]

    def _answer(self, preset: str, words: str, kind: str = "") -> list[Update]:
        # The page notices changes only: the same words twice are two answers.
        html = f'<p class="{kind}" role="status" data-answer="{token_hex(4)}">{escape(words)}</p>' if words else ""
        return [*self._lists(preset), gr.update(value=html)]

    def filled(self, parameters: GenerationParameters) -> list[Update]:
        """The form with these parameters in it: an update for every control, in order of declaration."""
        wording = self.wording(parameters.base_model)
        return [
            shown_anew(leaf, value, wording)
            for leaf, value in zip(leaves(), parameters_to_ctrls(parameters), strict=True)
        ]


@dataclass(frozen=True)
class PresetBar:
    """What the page wires. ``ticks``: with the prompt, with the seed, start with it."""

    preset: Any
    reset: Any
    name: Any
    ticks: tuple[Any, ...]
    save: Any
    replace: Any
    rename: Any
    remove: Any
    said: Any
    start: Any

    def wire(
        self, page: gr.Blocks, panel: Panel, note: Any, desk: PresetDesk, built: StartingPoint, event: Mapping[str, Any]
    ) -> Any:
        """Connects the bar with the form, and the form with the browser's memory of it.

        Returns the event after which the page shows what it starts with.
        """
        ctrls, preset, start = panel.ctrls(), self.preset, self.start
        names, habits = json.dumps([leaf.path for leaf in leaves()]), json.dumps(HABITS)
        preset.input(desk.chosen, [preset, *ctrls], [*ctrls, note], **event)
        preset.change(desk.looked_at, preset, [preset, self.name, self.rename, self.remove], **event)
        self.reset.click(partial(desk.chosen, keep=TYPED), [preset, *ctrls], [*ctrls, note], **event)
        answered = [preset, start, self.said]
        anew = "(...all) => pinhole.mayStartAnew(...all)"
        form = [preset, self.name, *self.ticks, *ctrls]
        for saves, may_replace in ((self.save.click, False), (self.name.submit, False), (self.replace.click, True)):
            saves(partial(desk.save, may_replace), form, answered, js=anew, **event)
        self.rename.click(desk.rename, [preset, self.name], answered, **event)
        self.remove.click(desk.remove, preset, answered, **event)
        start.input(desk.start_with, [preset, start], answered, js=anew, **event)
        for ctrl in (preset, *ctrls):
            ctrl.change(None, [preset, *ctrls], None, js=f"(...all) => pinhole.remember({names}, ...all)", **event)
        # Not queued: until it is answered, the page shows what it was built with.
        opened = page.load(partial(desk.opened, built), None, [preset, start, note, *ctrls], queue=False, **event)
        recall = f"(...all) => pinhole.recall({names}, {habits}, ...all)"
        return opened.then(None, [preset, start, *ctrls], [preset, *ctrls], js=recall, **event)


def build(desk: PresetDesk, preset: str) -> PresetBar:
    """Place the list of presets, and the form of what can be done with them, closed."""
    own = preset in desk.own.names()
    chosen = gr.Dropdown(
        desk.presets(), value=preset or None, label="Preset", filterable=False, elem_id="preset",
        elem_classes=["parameter"],
    )  # fmt: skip
    with gr.Row(elem_id="preset_deeds"):
        gr.Button("Save and manage", size="sm", elem_id="preset_manage", min_width=60)
        reset = gr.Button("Reset to preset", size="sm", elem_id="preset_reset", min_width=60)
    with gr.Column(elem_id="preset_form"):
        name = gr.Textbox(
            preset if own else "", label="Save what is set here as", placeholder="A name", lines=1, max_lines=1,
            max_length=MAX_NAME, elem_id="preset_name",
        )  # fmt: skip
        with gr.Column(elem_id="preset_ticks"):
            ticks = tuple(
                gr.Checkbox(False, label=label, elem_id=f"preset_with_{key}", container=False, interactive=True)
                for label, key in (("With the prompt", "prompt"), ("With the seed", "seed"), ("Start with it", "start"))
            )
        with gr.Row(elem_id="preset_buttons"):
            save = gr.Button("Save", variant="primary", size="sm", elem_id="preset_save", min_width=60)
            replace_it = gr.Button("Replace", variant="primary", size="sm", elem_id="preset_replace", min_width=60)
            rename = gr.Button("Rename", size="sm", elem_id="preset_rename", min_width=60, visible=own)
            remove = gr.Button("Delete", size="sm", elem_id="preset_remove", min_width=60, visible=own)
        said = gr.HTML("", elem_id="preset_said", padding=False)
        start = gr.Dropdown(
            desk.starts(), value=chosen_start(desk.own.settings), label="Start with", filterable=False,
            info="In a new tab. A refresh keeps everything as it is", elem_id="start_with",
        )  # fmt: skip
    return PresetBar(chosen, reset, name, ticks, save, replace_it, rename, remove, said, start)
