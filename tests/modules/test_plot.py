"""Plots: what an axis may say, the cells in their order, and that no text is answered with a crash."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as some

from modules.parameters import GenerationParameters
from modules.plot import MAX_CELLS, Plot, PlotError, axes_from, axis_choices, read_axis, read_plot

BASE = GenerationParameters(prompt="a red cat", image_seed=5, image_number=4)
NONE = ("", "")


def read(x: tuple[str, str], y: tuple[str, str] = NONE, z: tuple[str, str] = NONE) -> Plot:
    return read_plot(BASE, x, y, z)


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("guidance_scale", "2, 4.5 ,7", ["2", "4.5", "7"]),
        ("Guidance Scale", "2-5", ["2", "3", "4", "5"]),
        ("guidance_scale", "5-2 (-1.5)", ["5", "3.5", "2"]),
        ("guidance_scale", "2-8 [4], 30", ["2", "4", "6", "8", "30"]),
        ("guidance_scale", "2-3 (+0.1)", [f"{2 + place / 10:g}" for place in range(11)]),
        ("lora_1.weight", "-1-1 [3]", ["-1", "0", "1"]),
        ("image_seed", "1-3", ["1", "2", "3"]),
        ("seed", "9223372036854775807", ["9223372036854775807"]),
        ("Steps", "10-20 [3]", ["10", "15", "20"]),
        ("Sampler", "EULER, dpmpp_2m", ["euler", "dpmpp_2m"]),
        ("FreeU", "", []),
        ("advanced.freeu_enabled", "yes, off", ["true", "false"]),
        ("prompt", '"a, b", c', ["a, b", "c"]),
        ("s/r", "red, green\n blue", ["red", "green", "blue"]),
        ("sharpness", "1, 1, 2", ["1", "2"]),
    ],
)
def test_values(name: str, text: str, values: list[str]) -> None:
    if values:
        assert list(read_axis(name, text, BASE.prompt).values) == values
    else:
        with pytest.raises(PlotError):
            read_axis(name, text, BASE.prompt)


def test_cells_come_row_by_row_with_one_seed() -> None:
    plot = read_plot(
        BASE.with_values({"image_seed": -1}), ("guidance_scale", "2,4"), ("s/r", "red,blue"), ("sharpness", "1,2,3")
    )
    told = [(cell.guidance_scale, cell.prompt, cell.sharpness) for cell in plot.cells]
    red, blue = "a red cat", "a blue cat"
    assert told[:5] == [(2, red, 1), (4, red, 1), (2, blue, 1), (4, blue, 1), (2, red, 2)]
    assert len(told) == 12 and len({cell.image_seed for cell in plot.cells}) == 1 and plot.cells[0].image_seed >= 0
    assert {cell.image_number for cell in plot.cells} == {1}
    assert axes_from(json.loads(json.dumps(plot.axes()))) == (plot.x, plot.y, plot.z)
    assert plot.x.words == ("Guidance Scale: 2", "Guidance Scale: 4")
    assert read(("styles", "Fooocus V2 + Gone, None")).cells[0].style_selections == ("Fooocus V2", "Gone")
    assert [cell.image_seed for cell in read(("image_seed", "7,9")).cells] == [7, 9]


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (NONE, NONE, "at least one axis"),
        (("guidance_scale", " , "), NONE, "write its values"),
        (("guidance_scale", "2, 99"), NONE, "99 is outside 1 to 30"),
        (("guidance_scale", "2"), ("Guidance Scale", "3"), "two axes"),
        (("gone", "1"), NONE, "no such parameter"),
        (("Image Number", "1"), NONE, "cannot be an axis"),
        (("s/r", "dog, cat"), NONE, "not in the prompt"),
        (("seed", "1-51"), NONE, "51 values"),
        (("seed", "1-9999999999"), NONE, "9,999,999,999 values"),
        (("seed", "1-5 (-1)"), NONE, "never comes"),
        (("seed", "1-5 (+0)"), NONE, "never comes"),
        (("seed", "1-5 [51]"), NONE, "51 values"),
        (("sampler_name", "gone"), NONE, "gone"),
        (("prompt", '"a'), NONE, "cannot be read"),
        (("seed", "1-50"), ("sharpness", "1-9"), str(50 * 9)),
    ],
)
def test_a_plot_that_cannot_be(x: tuple[str, str], y: tuple[str, str], words: str) -> None:
    with pytest.raises(PlotError) as raised:
        read(x, y)
    assert words in str(raised.value)


def test_every_choice_is_an_axis_with_an_example() -> None:
    for label, path in axis_choices():
        assert label
        with pytest.raises(PlotError, match="for example"):
            read_axis(path, "", BASE.prompt)
    assert MAX_CELLS >= 100


NAMES = some.sampled_from([path for _, path in axis_choices()]) | some.text(max_size=8)
PIECES = some.sampled_from(
    ["1", "-", "(", "+", ")", "[", "]", ",", '"', " ", ".", "5", "99999999999999999999", "e", "\n"]
)
TEXTS = some.lists(PIECES | some.text(max_size=3), max_size=12).map("".join)


@hypothesis_settings(max_examples=400, deadline=None)
@given(x=some.tuples(NAMES, TEXTS), y=some.tuples(NAMES, TEXTS))
def test_no_text_is_answered_with_a_crash(x: tuple[str, str], y: tuple[str, str]) -> None:
    try:
        plot = read(x, y)
    except PlotError as error:
        assert str(error)
    else:
        assert 1 <= len(plot.cells) == len(plot.x.values) * len(plot.y.values) <= MAX_CELLS
