"""Every declared parameter becomes a component, once."""

from __future__ import annotations

import gradio as gr
import pytest

from modules.controls import Control
from modules.parameters import GenerationParameters, Leaf, leaves, parameters_from_ctrls
from modules.ui.components import Wording, component, element_id
from modules.ui.panel import LayoutError, Panel

WORDING = Wording(model_files=lambda folder: ["a.safetensors"])


@pytest.mark.parametrize("leaf", leaves(), ids=lambda leaf: leaf.path)
def test_each_parameter_has_a_component_that_shows_its_default(leaf: Leaf) -> None:
    with gr.Blocks():
        made = component(leaf, leaf.default, WORDING)
    assert made.elem_id == element_id(leaf.path) and made.label == leaf.label
    assert made.value == leaf.control.to_browser(leaf.default)


def test_what_components_hold_is_what_parameters_accept() -> None:
    panel = Panel(GenerationParameters(image_seed=2**62), WORDING)
    with gr.Blocks():
        panel.place_remaining()
    assert parameters_from_ctrls([made.value for made in panel.ctrls()]).image_seed == 2**62


def test_a_parameter_is_placed_exactly_once() -> None:
    panel = Panel(GenerationParameters(), WORDING)
    with gr.Blocks():
        panel.place("sharpness")
        with pytest.raises(LayoutError, match="sharpness is placed twice"):
            panel.place("sharpness")
        with pytest.raises(LayoutError, match="no parameter sharpnes$"):
            panel.place("sharpnes")
    with pytest.raises(LayoutError, match="never placed: prompt, "):
        panel.ctrls()


def test_the_order_is_that_of_the_declaration_however_the_page_is_laid_out() -> None:
    panel = Panel(GenerationParameters(), WORDING)
    with gr.Blocks():
        panel.place("advanced.clip_skip")
        panel.place("sharpness")
        panel.place_remaining()
    assert [made.elem_id for made in panel.ctrls()] == [element_id(leaf.path) for leaf in leaves()]


def test_a_control_nobody_knows_is_an_error() -> None:
    with pytest.raises(TypeError, match="strange has a control"):
        component(Leaf("strange", Control(label="Strange"), 0), 0, WORDING)


def test_a_model_that_is_gone_stays_visible() -> None:
    leaf = next(each for each in leaves() if each.path == "base_model")
    with gr.Blocks():
        made = component(leaf, "gone.safetensors", WORDING)
    assert isinstance(made, gr.Dropdown)
    assert made.choices == [("gone.safetensors", "gone.safetensors"), ("a.safetensors", "a.safetensors")]
