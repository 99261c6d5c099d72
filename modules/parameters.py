"""Every parameter of a picture, declared once; knows neither the page, nor the store, nor the engine.

Walking the fields of ``GenerationParameters`` depth first (``leaves``) gives everything else: the widgets, the order of
``ctrls``, the check of what comes back from the page, presets, metadata, the API's schema, ``--set key=value``.
Adding a parameter is: declare it here (or in ``advanced_parameters``), place it on the page, use it in the plan.
"""

from __future__ import annotations

import difflib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from modules.advanced_parameters import AdvancedParameters
from modules.choices import ASPECT_RATIOS, MAX_SEED, NO_MODEL, PERFORMANCE_MODES, aspect_ratio_label
from modules.controls import Checkbox, Choice, Control, ModelFile, Names, Seed, Slider, Text, shown

MAX_IMAGE_NUMBER = 32
BUILT_IN_MODEL = "pinhole-mini-base.safetensors"


class ParameterError(ValueError):
    """A parameter that is unknown or has an impossible value; the message is fit for the user's eyes."""


class LoraParameters(BaseModel):
    """One row of the list of LoRAs."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    enabled: Annotated[bool, Checkbox(label="")] = True
    name: Annotated[str, ModelFile(label="File", folder="loras", none=NO_MODEL)] = NO_MODEL
    weight: Annotated[float, Slider(label="Weight", minimum=-2.0, maximum=2.0, step=0.01)] = 1.0


LORA_ROWS: tuple[str, ...] = ("lora_1", "lora_2", "lora_3", "lora_4", "lora_5")


class GenerationParameters(BaseModel):
    """What a user asks for. Frozen and *partial*: ``plan`` turns it into jobs in which nothing is left open.

    Order of declaration = order of ``ctrls``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    prompt: Annotated[str, Text(label="Prompt", lines=3, placeholder="Type prompt here.")] = ""
    negative_prompt: Annotated[str, Text(label="Negative Prompt", lines=2, hint="What you do not want to see.")] = ""
    style_selections: Annotated[tuple[str, ...], Names(label="Styles")] = (
        "Fooocus V2", "Fooocus Enhance", "Fooocus Sharp",
    )  # fmt: skip
    performance_selection: Annotated[str, Choice(label="Performance", choices=PERFORMANCE_MODES, style="radio")] = (
        "Speed"
    )
    aspect_ratios_selection: Annotated[
        str,
        Choice(
            label="Aspect Ratios", choices=ASPECT_RATIOS, style="radio", text=aspect_ratio_label, hint="width × height"
        ),
    ] = "1152*896"
    image_number: Annotated[int, Slider(label="Image Number", minimum=1, maximum=MAX_IMAGE_NUMBER, step=1)] = 2
    image_seed: Annotated[int, Seed(label="Seed", hint="-1: a new one each time")] = -1
    sharpness: Annotated[
        float,
        Slider(
            label="Image Sharpness", minimum=0.0, maximum=30.0, step=0.001,
            hint="Higher value means image and texture are sharper.",
        ),
    ] = 2.0  # fmt: skip
    guidance_scale: Annotated[
        float,
        Slider(
            label="Guidance Scale", minimum=1.0, maximum=30.0, step=0.01,
            hint="Higher value means style is cleaner, vivider, and more artistic.",
        ),
    ] = 4.0  # fmt: skip
    base_model: Annotated[str, ModelFile(label="Base Model", folder="checkpoints")] = BUILT_IN_MODEL
    refiner_model: Annotated[
        str,
        ModelFile(
            label="Refiner",
            folder="checkpoints",
            none=NO_MODEL,
            hint="An SDXL refiner, a second SDXL model, or an SD 1.5 one",
        ),
    ] = NO_MODEL
    refiner_switch: Annotated[
        float,
        Slider(
            label="Refiner Switch At", minimum=0.1, maximum=1.0, step=0.0001,
            hint="The part of the steps that the base model makes. 0.8 suits SDXL refiners",
        ),
    ] = 0.8  # fmt: skip
    lora_1: LoraParameters = LoraParameters()
    lora_2: LoraParameters = LoraParameters()
    lora_3: LoraParameters = LoraParameters()
    lora_4: LoraParameters = LoraParameters()
    lora_5: LoraParameters = LoraParameters()
    advanced: AdvancedParameters = AdvancedParameters()

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], base: GenerationParameters | None = None) -> Self:
        """Parameters from a mapping, nested (``{"advanced": {...}}``) or dotted (``{"advanced.clip_skip": 1}``).

        What is not mentioned is taken from ``base``, or from the defaults. Raises ``ParameterError`` naming every
        unknown key and every value that is out of range.
        """
        tree = {} if base is None else base.model_dump()
        _merge(tree, values, "")
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            raise ParameterError("\n".join(_sentence(problem) for problem in error.errors())) from None

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The inverse of ``to_json``; raises ``ParameterError``. NaN and Infinity are refused, as JSON has it."""
        try:
            values = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise ParameterError(f"the parameters are not JSON: {error}") from None
        if not isinstance(values, dict):
            raise ParameterError(f"the parameters must be a JSON object, not {shown(values)}")
        return cls.from_mapping(values)

    def to_json(self) -> str:
        """All parameters as one JSON object; the seed is a JSON integer of up to 63 bits."""
        return json.dumps(self.model_dump(), ensure_ascii=True, allow_nan=False)

    def with_values(self, values: Mapping[str, Any]) -> GenerationParameters:
        """These parameters with some of them replaced; keys as in ``from_mapping``."""
        return GenerationParameters.from_mapping(values, base=self)

    def with_set(self, assignments: Sequence[str]) -> GenerationParameters:
        """These parameters changed by the command line's ``key=value``; ``advanced.`` may be left out of the key."""
        values: dict[str, str] = {}
        for assignment in assignments:
            key, equals, value = assignment.partition("=")
            if not equals:
                raise ParameterError(f"{shown(assignment)} is not of the form key=value")
            values[full_path(key.strip())] = value
        return self.with_values(values)

    def with_seed(self) -> GenerationParameters:
        """These parameters with a random seed drawn, if they ask for one; so that what is stored can be repeated."""
        return self if self.image_seed >= 0 else self.with_values({"image_seed": secrets.randbelow(MAX_SEED + 1)})

    def loras(self) -> tuple[tuple[str, float], ...]:
        """(name, weight) of each LoRA that is chosen, enabled and of any effect."""
        rows: list[LoraParameters] = [self.get(row) for row in LORA_ROWS]
        return tuple((row.name, row.weight) for row in rows if row.enabled and row.name != NO_MODEL and row.weight)

    def get(self, path: str) -> Any:
        """The value at a leaf's path, such as ``"advanced.clip_skip"``."""
        value: Any = self
        for name in path.split("."):
            value = getattr(value, name)
        return value


@dataclass(frozen=True)
class Leaf:
    """One parameter: its dotted path, its control and its built-in default."""

    path: str
    control: Control
    default: Any

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def label(self) -> str:
        """What it is called on the page: the control's label, for the row of a list after the number of the row."""
        row = self.path.partition(".")[0]
        place = f"LoRA {LORA_ROWS.index(row) + 1} " if row in LORA_ROWS else ""
        return f"{place}{self.control.label}".strip()


@cache
def leaves() -> tuple[Leaf, ...]:
    """All parameters in order of declaration, depth first: the order of ``ctrls``."""
    return tuple(_walk(GenerationParameters, ""))


def leaf(path: str) -> Leaf:
    """The parameter of this path; ``ParameterError`` with the nearest names if there is none."""
    for candidate in leaves():
        if candidate.path == path:
            return candidate
    raise ParameterError(_unknown(path))


def full_path(key: str) -> str:
    """The path meant by ``key``: itself, or the one parameter whose last part it is."""
    paths = [candidate.path for candidate in leaves() if key in (candidate.path, candidate.name)]
    if len(paths) == 1:
        return paths[0]
    raise ParameterError(_unknown(key) if not paths else f"{key} may mean {' or '.join(paths)}")


def parameters_to_ctrls(parameters: GenerationParameters) -> list[Any]:
    """The values of all leaves in order, in the form in which the browser holds them (the seed is text)."""
    return [each.control.to_browser(parameters.get(each.path)) for each in leaves()]


def parameters_from_ctrls(values: Sequence[Any]) -> GenerationParameters:
    """The inverse of ``parameters_to_ctrls``; raises ``ParameterError`` on a wrong count or an impossible value."""
    paths = [each.path for each in leaves()]
    if len(values) != len(paths):
        raise ParameterError(f"the page sent {len(values)} values for {len(paths)} parameters: please reload it")
    return GenerationParameters.from_mapping(dict(zip(paths, values, strict=True)))


def _walk(model: type[BaseModel], prefix: str) -> list[Leaf]:
    found: list[Leaf] = []
    for name, info in model.model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found += _walk(annotation, f"{prefix}{name}.")
            continue
        controls = [each for each in info.metadata if isinstance(each, Control)]
        if len(controls) != 1:
            raise TypeError(f"{prefix}{name} has {len(controls)} controls, needs one")
        found.append(Leaf(prefix + name, controls[0], info.get_default(call_default_factory=True)))
    return found


@cache
def _groups() -> frozenset[str]:
    return frozenset(each.path.rpartition(".")[0] for each in leaves())


def _merge(tree: dict[str, Any], values: Mapping[str, Any], prefix: str) -> None:
    """Writes ``values``, nested or dotted, into ``tree``; unknown keys are all named in one ``ParameterError``."""
    known = {each.path for each in leaves()}
    unknown: list[str] = []

    def put(path: str, value: Any) -> None:
        if path in _groups() and isinstance(value, Mapping):
            for key, inner in value.items():
                put(f"{path}.{key}", inner)
        elif path in known:
            *groups, name = path.split(".")
            place = tree
            for group in groups:
                place = place.setdefault(group, {})
            place[name] = value
        else:
            unknown.append(path)

    for key, value in values.items():
        put(f"{prefix}{key}", value)
    if unknown:
        raise ParameterError("\n".join(_unknown(path) for path in unknown[:10]))


def _unknown(path: str) -> str:
    if path in _groups():
        return f"{path}: is a group of parameters, needs an object of them"
    paths = {each.name: each.path for each in leaves()}
    near = difflib.get_close_matches(path.rpartition(".")[2][:100], paths, n=1)
    return f"{shown(path)[1:-1]}: there is no such parameter" + (f"; did you mean {paths[near[0]]}?" if near else "")


def _sentence(problem: ErrorDetails) -> str:
    """One problem found by pydantic, in words that name the parameter, the value and the limit."""
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "value_error":
        return f"{path}: {problem['ctx']['error']}"
    wanted = {
        "finite_number": "a finite number",
        "int_type": "a whole number", "int_parsing": "a whole number", "int_from_float": "a whole number",
        "int_parsing_size": "a whole number of usual size",
        "float_type": "a number", "float_parsing": "a number",
        "bool_type": "true or false", "bool_parsing": "true or false",
        "tuple_type": "a list of names",
        "string_type": "text", "string_unicode": "text of whole characters",
    }.get(problem["type"], "")  # fmt: skip
    return f"{path}: {shown(problem['input'])} " + (f"is not {wanted}" if wanted else f"is refused: {problem['msg']}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")
