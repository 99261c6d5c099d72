"""An X/Y/Z plot: axes in words -> the parameters of every cell; pure, knows no queue and no picture.

An axis is a parameter and its values: ``2, 4, 7``, a range ``4-10 (+2)`` or ``4-10 [4]`` (that many, evenly spread),
names of choices, or, on the axis Prompt S/R, words of the prompt: the first is replaced by each of them in turn.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import product

from modules.controls import Checkbox, Choice, Seed, Slider, shown
from modules.parameters import GenerationParameters, Leaf, ParameterError, leaf, leaves
from modules.spelling import Files, path_named, spelt

REPLACE = "prompt_sr"
REPLACE_LABEL = "Prompt S/R"
MAX_VALUES = 50
MAX_CELLS = 400
# What is decided for the plot as a whole.
NO_AXIS = ("image_number", "advanced.output_format", "advanced.generate_image_grid", "advanced.metadata_scheme")
_NUMBER = r"([+-]?\d{1,19}(?:\.\d{1,15})?)"
_RANGE = re.compile(rf"{_NUMBER}-{_NUMBER}(?:\({_NUMBER}\)|\[(\d{{1,9}})\])?")


class PlotError(ValueError):
    """A plot that cannot be; the message is for the user."""


@dataclass(frozen=True)
class Axis:
    """A parameter's path (or ``REPLACE``), what it is called, and its values as texts; no axis has one value."""

    path: str = ""
    label: str = ""
    values: tuple[str, ...] = ("",)

    @property
    def words(self) -> tuple[str, ...]:
        """What stands beside the cells of each value."""
        return tuple(f"{self.label}: {value}" if self.path else "" for value in self.values)


@dataclass(frozen=True)
class Plot:
    """Columns, rows and grids, and the parameters of each cell: x quickest, z slowest."""

    x: Axis
    y: Axis
    z: Axis
    cells: tuple[GenerationParameters, ...]

    def axes(self) -> dict[str, object]:
        """The axes as plain data."""
        return {name: asdict(axis) for name, axis in (("x", self.x), ("y", self.y), ("z", self.z))}


def axes_from(told: Mapping[str, Mapping[str, object]]) -> tuple[Axis, Axis, Axis]:
    """The inverse of ``Plot.axes``, as JSON gives it back."""
    x, y, z = (told[name] for name in "xyz")
    made = [
        Axis(str(each["path"]), str(each["label"]), tuple(map(str, each["values"])))  # type: ignore[call-overload]
        for each in (x, y, z)
    ]
    return made[0], made[1], made[2]


def axis_choices() -> list[tuple[str, str]]:
    """(label, path) of everything that can be an axis."""
    found = [(each.label or each.name, each.path) for each in leaves() if each.path not in NO_AXIS]
    return [(REPLACE_LABEL, REPLACE), *sorted(found, key=lambda pair: pair[0].casefold())]


def read_plot(
    parameters: GenerationParameters,
    x: tuple[str, str],
    y: tuple[str, str],
    z: tuple[str, str],
    files: Files | None = None,
) -> Plot:
    """The plot over (name, values) of up to three axes; an empty name is no axis. Raises ``PlotError``.

    A random seed is drawn once: all cells have the same, unless it is an axis.
    """
    axes = [read_axis(name, text, parameters.prompt, files) for name, text in (x, y, z)]
    named = [axis.path for axis in axes if axis.path]
    if not named:
        raise PlotError("A plot needs at least one axis: choose a parameter for X and write its values.")
    if twice := {path for path in named if named.count(path) > 1 and path != REPLACE}:
        raise PlotError(f"{_label(min(twice))} is on two axes.")
    count = len(axes[0].values) * len(axes[1].values) * len(axes[2].values)
    if count > MAX_CELLS:
        raise PlotError(f"This plot has {count} pictures; {MAX_CELLS} is the most.")
    base = parameters.with_values({"image_number": 1}).with_seed()
    cells = [
        _cell(base, [(axes[0], first), (axes[1], second), (axes[2], third)])
        for third, second, first in product(axes[2].values, axes[1].values, axes[0].values)
    ]
    return Plot(axes[0], axes[1], axes[2], tuple(cells))


def read_axis(name: str, text: str, prompt: str, files: Files | None = None) -> Axis:
    """An axis by the key or the label of its parameter. Raises ``PlotError`` naming what is wrong.

    files: those of a kind that there are, where that is known.
    """
    if not name.strip():
        return Axis()
    path = _path_of(name.strip())
    label = REPLACE_LABEL if path == REPLACE else _label(path)
    values = tuple(dict.fromkeys(_values(path, label, text, files)))
    if not values:
        raise PlotError(f"{label}: write its values, for example {_example(path)}.")
    if len(values) > MAX_VALUES:
        raise PlotError(f"{label}: {len(values)} values are more than {MAX_VALUES}.")
    if path == REPLACE and values[0] not in prompt:
        raise PlotError(f"{label}: {shown(values[0])} is not in the prompt, so there is nothing to replace.")
    return Axis(path, label, values)


def _path_of(name: str) -> str:
    if name.casefold() in (REPLACE, REPLACE_LABEL.casefold(), "s/r"):
        return REPLACE
    try:
        path = path_named(name)
    except ParameterError as error:
        raise PlotError(str(error)) from None
    if path in NO_AXIS:
        raise PlotError(f"{_label(path)} cannot be an axis: it is the same for the whole plot.")
    return path


def _values(path: str, label: str, text: str, files: Files | None) -> Iterator[str]:
    """The values of a text, in the form in which the command line takes them."""
    try:
        rows = list(csv.reader([text.replace("\n", ", ")], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise PlotError(f"{label}: its values cannot be read: {error}.") from None
    parts = [part.strip() for row in rows for part in row if part.strip()]
    if path == REPLACE:
        yield from parts
        return
    told = leaf(path)
    for part in parts:
        found = _RANGE.fullmatch("".join(part.split())) if isinstance(told.control, (Slider, Seed)) else None
        try:
            yield from _spread(label, part, found, told) if found else [spelt(told, part, files)]
        except ParameterError as error:
            raise PlotError(str(error)) from None


def _spread(label: str, part: str, found: re.Match[str], told: Leaf) -> Iterator[str]:
    """The numbers of a range."""
    first, last, step, count = found.groups()
    start, end, whole = Fraction(first), Fraction(last), isinstance(told.default, int)  # seeds have 63 bits
    if count is not None:
        number = int(count)
        if not 1 <= number <= MAX_VALUES:
            raise PlotError(f"{label}: {part} asks for {number} values; 1 to {MAX_VALUES} are possible.")
        numbers = [start + (end - start) * place / max(1, number - 1) for place in range(number)]
    else:
        pace = Fraction(step) if step else Fraction(1 if end >= start else -1)
        if pace == 0 or (end - start) * pace < 0:
            raise PlotError(f"{label}: {part} never comes to its end.")
        steps = int((end - start) / pace)
        if steps >= MAX_VALUES:
            raise PlotError(f"{label}: {part} has {steps + 1:,} values; {MAX_VALUES} is the most.")
        numbers = [start + pace * place for place in range(steps + 1)]
    for value in numbers:
        yield f"{round(value)}" if whole else f"{round(float(value), 6):g}"


def _cell(base: GenerationParameters, places: Sequence[tuple[Axis, str]]) -> GenerationParameters:
    values, prompt = {}, base.prompt
    for axis, value in places:
        if axis.path == REPLACE:
            prompt = prompt.replace(axis.values[0], value)
        elif axis.path == "prompt":
            prompt = value
        elif axis.path == "style_selections":
            values[axis.path] = value.replace(" + ", ", ")  # several at once
        elif axis.path:
            values[axis.path] = value
    try:
        return base.with_values({**values, "prompt": prompt})
    except ParameterError as error:
        raise PlotError(str(error)) from None


def _label(path: str) -> str:
    told = leaf(path)
    return told.label or told.name


def _example(path: str) -> str:
    if path == REPLACE:
        return "red, green, blue: the first is replaced by each"
    match leaf(path).control:
        case Slider(minimum=low, maximum=high, step=step):
            middle = low + (high - low) / 2
            return f"{low:g}, {middle:g} or {low:g}-{high:g} [3]" if step < 1 else f"{low:g}, {high:g}"
        case Choice(choices=choices):
            return ", ".join(choices[:2])
        case Checkbox():
            return "true, false"
        case Seed():
            return "1, 2, 3"
        case _:
            return "two of them, with a comma between"
