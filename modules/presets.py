"""Presets: JSON files that set parameters, and the values a page starts with; knows no page and no engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from modules.choices import NO_MODEL
from modules.controls import Slider
from modules.files import ModelFiles
from modules.parameters import BUILT_IN_MODEL, LORA_ROWS, GenerationParameters, ParameterError, leaf, leaves
from modules.settings import Settings

DEFAULT_PRESET = "default"
MINI_PRESET = "mini"
INITIAL_PRESET = "initial"

# the field's key -> the parameter it sets
PRESET_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "default_model": "base_model",
        "default_refiner": "refiner_model",
        "default_refiner_switch": "refiner_switch",
        "default_vae": "advanced.vae_name",
        "default_overwrite_switch": "advanced.overwrite_switch",
        "default_cfg_scale": "guidance_scale",
        "default_sample_sharpness": "sharpness",
        "default_cfg_tsnr": "advanced.adaptive_cfg",
        "default_clip_skip": "advanced.clip_skip",
        "default_sampler": "advanced.sampler_name",
        "default_scheduler": "advanced.scheduler_name",
        "default_overwrite_step": "advanced.overwrite_step",
        "default_output_format": "advanced.output_format",
        "default_performance": "performance_selection",
        "default_image_number": "image_number",
        "default_prompt": "prompt",
        "default_prompt_negative": "negative_prompt",
        "default_styles": "style_selections",
        "default_aspect_ratio": "aspect_ratios_selection",
    }
)
SWITCH = "refiner_switch"
LORAS = "default_loras"
LORA_NUMBER = "default_max_lora_number"
PREVIOUS_MODELS = "previous_default_models"
# What sets the range of a slider elsewhere; here weights have one range, which the engine knows.
WEIGHT_LIMITS = frozenset({"default_loras_min_weight", "default_loras_max_weight"})
# What presets of other programs also hold, and what nothing here depends on.
UNUSED = frozenset(
    {
        "checkpoint_downloads", "lora_downloads", "embeddings_downloads", "vae_downloads",
        "default_inpaint_engine_version", "default_save_metadata_to_images",
    }
)  # fmt: skip
OTHER_KEYS = frozenset({PREVIOUS_MODELS, LORAS, LORA_NUMBER}) | WEIGHT_LIMITS | UNUSED
BELONGS_TO_MODEL = frozenset(
    {"default_refiner", "default_refiner_switch", "default_overwrite_switch", "default_vae", LORAS, LORA_NUMBER}
)


class PresetError(ValueError):
    """A preset that is missing or wrong; the message names the file, the key and the value."""


@dataclass(frozen=True)
class StartingPoint:
    """Parameters to show, the preset they come from, and sentences the user should read about them."""

    parameters: GenerationParameters
    preset: str
    notes: tuple[str, ...] = ()


def preset_names(folder: Path) -> list[str]:
    """``initial`` (as at start) followed by the presets in ``folder``, sorted."""
    return [INITIAL_PRESET, *sorted((path.stem for path in folder.glob("*.json")), key=str.casefold)]


def read_preset(folder: Path, name: str) -> dict[str, Any]:
    """The keys of a preset as they are in its file; raises ``PresetError`` on unknown keys and on what is not JSON."""
    path = folder / f"{name}.json"
    if name not in preset_names(folder):
        raise PresetError(f"There is no preset {name!r} in {folder}; there are {', '.join(preset_names(folder))}.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PresetError(f"The preset {path.name} cannot be read as JSON: {error}") from None
    if not isinstance(values, dict):
        raise PresetError(f"The preset {path.name} must be a JSON object.")
    strange = [key for key in values if key not in PRESET_KEYS and key not in OTHER_KEYS]
    if strange:
        raise PresetError(f"The preset {path.name} has keys that are not known here: {', '.join(strange)}.")
    return values


def apply_preset(
    name: str, settings: Settings, models: ModelFiles, base: GenerationParameters | None = None
) -> StartingPoint:
    """The parameters a preset asks for.

    ``name`` may be empty or ``initial``: the preset of the settings, or ``default``. Below the preset lie the built-in
    values, ``default.json`` and the settings' own defaults. ``base`` are the parameters on the page: they keep what no
    preset ever sets (such as the seed), and the prompt when the preset's is empty.

    When the preset's model is not on the disk, the first of its ``previous_default_models`` that is there replaces it;
    failing that, the miniature's preset is applied, and a note says so. Raises ``PresetError``.
    """
    chosen = settings.preset or DEFAULT_PRESET if name in ("", INITIAL_PRESET) else name
    merged: dict[str, Any] = {}
    layers = [read_preset(settings.presets, DEFAULT_PRESET), _config_layer(settings)]
    if chosen != DEFAULT_PRESET:
        layers.append(read_preset(settings.presets, chosen))
    for layer in layers:
        if layer.get("default_model"):
            merged.pop(PREVIOUS_MODELS, None)  # a list of older versions belongs to the model it came with
        merged |= {key: value for key, value in layer.items() if value is not None}
    parameters = _applied(merged, chosen, base)
    notes = _left_out(merged, chosen)
    previous = merged.get(PREVIOUS_MODELS, [])
    for model in [parameters.base_model, *map(str, previous)]:
        if models.has(model):
            return StartingPoint(parameters.with_values({"base_model": model}), chosen, notes)
    if chosen == MINI_PRESET or not models.has(BUILT_IN_MODEL):
        return StartingPoint(parameters, chosen, (f"The model {parameters.base_model} is not on the disk.", *notes))
    mini = read_preset(settings.presets, MINI_PRESET)
    note = (
        f"{parameters.base_model} is not in {' or '.join(str(folder) for folder in models.folders)}: "
        "the built-in miniature model is used instead. It makes small pictures of simple things."
    )
    # What belongs to the model that is missing would not fit this one.
    kept = {key: value for key, value in merged.items() if key not in BELONGS_TO_MODEL}
    return StartingPoint(_applied({**kept, **mini}, MINI_PRESET, base), MINI_PRESET, (note,))


def _config_layer(settings: Settings) -> dict[str, Any]:
    """The keys of the configuration file that set parameters; its other ``default_*`` keys belong to the page."""
    return {key: value for key, value in settings.defaults.items() if key in PRESET_KEYS or key in (LORAS, LORA_NUMBER)}


def _applied(values: Mapping[str, Any], name: str, base: GenerationParameters | None) -> GenerationParameters:
    changes = {PRESET_KEYS[key]: value for key, value in values.items() if key in PRESET_KEYS}
    changes |= _lora_rows(_loras(values, name)[0])
    changes |= _switch(changes)
    if base is not None:
        set_by_presets = {*PRESET_KEYS.values(), *_lora_rows([])}
        kept = [each.path for each in leaves() if each.path not in set_by_presets]
        kept += [] if changes.get("prompt") else ["prompt"]
        kept += [] if "image_number" in changes else ["image_number"]
        kept += [] if "advanced.output_format" in changes else ["advanced.output_format"]
        changes |= {path: base.get(path) for path in kept}
    try:
        return GenerationParameters().with_values(changes)
    except ParameterError as error:
        raise PresetError(f"The preset {name}: {error}") from None


def _switch(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The refiner's switch where a preset gives it below the control's range, which begins at 0.1: at its beginning."""
    asked = changes.get(SWITCH)
    lowest = cast("Slider", leaf(SWITCH).control).minimum
    return {SWITCH: lowest} if isinstance(asked, (int, float)) and 0 <= asked < lowest else {}


def _left_out(values: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """What a preset asks for and does not get, in sentences."""
    notes: list[str] = []
    rows, beyond = _loras(values, name)
    lost = [row[1] for row in beyond if row[0] and row[1] != NO_MODEL and row[2]]
    if lost:
        named = ", ".join(map(str, lost))
        notes.append(f"The preset {name} has more LoRAs than there is room for; left out: {named}.")
    asked = values.get("default_refiner_switch")
    if values.get("default_refiner", NO_MODEL) != NO_MODEL and (used := _switch({SWITCH: asked})):
        notes.append(f"The preset {name} switches to the refiner at {asked}; the earliest is {used[SWITCH]}.")
    return tuple(notes)


def _loras(values: Mapping[str, Any], name: str) -> tuple[list[list[Any]], list[list[Any]]]:
    """The field's list of [enabled, name, weight], or of [name, weight] for enabled ones: what has room, and the rest.

    A preset may ask for fewer rows than there are.
    """
    listed = values.get(LORAS, [])
    rows = [[True, *row] if isinstance(row, list) and len(row) == 2 else row for row in _as_list(listed)]
    if not isinstance(listed, list) or not all(isinstance(row, list) and len(row) == 3 for row in rows):
        raise PresetError(f"The preset {name}: {LORAS} must be a list of [enabled, name, weight], not {listed!r}.")
    asked = str(values.get(LORA_NUMBER, len(LORA_ROWS)))  # text where it comes from the environment
    if not asked.isdecimal() or int(asked) < 1:
        raise PresetError(f"The preset {name}: {LORA_NUMBER} must be a whole number from 1 on, not {asked}.")
    room = min(int(asked), len(LORA_ROWS))
    return rows[:room], rows[room:]


def _lora_rows(rows: list[list[Any]]) -> dict[str, Any]:
    """Every row of LoRAs as parameters; those that are not given are empty."""
    padded = [*rows, *([True, NO_MODEL, 1.0] for _ in LORA_ROWS)]
    keys = ("enabled", "name", "weight")
    return {
        f"{place}.{key}": value
        for place, row in zip(LORA_ROWS, padded, strict=False)
        for key, value in zip(keys, row, strict=True)
    }


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
