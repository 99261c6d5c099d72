"""A declared parameter becomes a Gradio component; knows neither where it stands nor what the parameter does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from modules.controls import Checkbox, Choice, Control, ModelFile, Names, Seed, Slider, Text
from modules.parameters import Leaf, leaves
from modules.styles import sorted_names

RATIOS = "aspect_ratios_selection"


@dataclass(frozen=True)
class Wording:
    """What the words and choices on the page depend on besides the declaration.

    ``model_files`` gives the files of a model folder, ``file_text`` the words for one of them (folder, name);
    ``styles`` those that can be chosen; ``choice_text`` the words for one choice of a parameter (path, value, the
    declaration's own words).
    """

    model_files: Callable[[str], Sequence[str]]
    styles: Callable[[], Sequence[str]] = tuple
    choice_text: Callable[[str, str, str], str] = lambda path, value, text: text
    file_text: Callable[[str, str], str] = lambda folder, name: name


def element_id(path: str) -> str:
    """The id that a parameter's component has in the page: ``advanced.clip_skip`` -> ``advanced-clip_skip``."""
    return path.replace(".", "-")


def choices_of(leaf: Leaf, wording: Wording, value: Any = "") -> list[tuple[str, str]]:
    """(words, value) for every choice; a file or style that is gone stays listed while it is chosen, so it shows."""
    match leaf.control:
        case Choice(choices=choices, text=text):
            return [(wording.choice_text(leaf.path, each, text(each)), each) for each in choices]
        case ModelFile(folder=folder, none=none):
            names = list(wording.model_files(folder))
            rows = [(none, none)] if none else []
            rows += [(name, name) for name in (value,) if name and name not in (none, *names)]
            return rows + [(wording.file_text(folder, name), name) for name in names]
        case Names():
            return [(name, name) for name in sorted_names(wording.styles(), value or ())]
        case _:
            raise TypeError(f"{leaf.path} is not a choice")


def component(leaf: Leaf, value: Any, wording: Wording) -> Component:  # noqa: C901 - a row for each kind of control
    """The widget of a parameter, showing ``value``. What comes back is checked by the declaration, not by Gradio."""
    control = leaf.control
    common: dict[str, Any] = {
        "label": leaf.label,
        "info": control.hint or None,
        "value": control.to_browser(value),
        "elem_id": element_id(leaf.path),
        "elem_classes": ["parameter", f"is-{type(control).__name__.lower()}"],
    }
    match control:
        case Text(lines=lines, placeholder=placeholder):
            return gr.Textbox(lines=lines, max_lines=max(lines, 8), placeholder=placeholder or None, **common)
        case Seed():
            return gr.Textbox(lines=1, max_lines=1, **common)
        case Checkbox():
            return gr.Checkbox(**common)
        case Choice(style="radio"):
            return gr.Radio(choices=choices_of(leaf, wording), **common)
        case Choice():
            return gr.Dropdown(choices=choices_of(leaf, wording), filterable=False, **common)
        case ModelFile():
            return gr.Dropdown(choices=choices_of(leaf, wording, value), filterable=True, **common)
        case Names():
            return gr.CheckboxGroup(choices=choices_of(leaf, wording, value), **common)
        case Slider(off=None):
            return gr.Slider(
                minimum=control.minimum, maximum=control.maximum, step=control.step, buttons=["reset"], **common
            )
        case Slider():
            # "Not set" lies outside the scale, so a slider could only show it as one more number to slide past.
            return gr.Number(minimum=control.lowest, maximum=control.maximum, step=control.step, **common)
        case Control():
            raise TypeError(f"{leaf.path} has a control that the page does not know: {type(control).__name__}")


def shown_anew(leaf: Leaf, value: Any, wording: Wording) -> dict[str, Any]:
    """A parameter's new value; with its choices where those depend on more than the declaration."""
    if leaf.path == RATIOS or isinstance(leaf.control, (ModelFile, Names)):
        return gr.update(value=value, choices=choices_of(leaf, wording, value))
    return gr.update(value=value)


def with_labels(message: str) -> str:
    """A refusal in the page's words: parameters are called as their controls are labelled there."""
    labels = {leaf.path: leaf.label for leaf in leaves()}
    lines = (line.partition(": ") for line in message.split("\n"))
    return "\n".join(f"{labels.get(path, path)}{colon}{rest}" for path, colon, rest in lines)
