"""Presets: JSON files that set parameters, and the values a page starts with; knows no page and no engine.

Two folders hold them: what comes along, and the user's own, whose files stand in for those of the same name. Nothing
here writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from modules.choices import NO_MODEL
from modules.controls import Slider, shown
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
        "default_metadata_scheme": "advanced.metadata_scheme",
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
# Heard where the machine's owner says it: in the presets of others it is only what their program had by default.
OWNER_KEYS: Mapping[str, str] = MappingProxyType(
    {"default_save_metadata_to_images": "advanced.save_metadata_to_images"}
)
# Ours, beside the field's keys: an object of the parameters for which the field has no key, by their paths.
OWN_KEY = "pinhole"
OTHER_KEYS = frozenset({PREVIOUS_MODELS, LORAS, LORA_NUMBER, OWN_KEY}) | WEIGHT_LIMITS | UNUSED
BELONGS_TO_MODEL = frozenset(
    {"default_refiner", "default_refiner_switch", "default_overwrite_switch", "default_vae", LORAS, LORA_NUMBER}
)
TYPED = ("prompt", "image_seed")
"""What a user has put in: in a preset only where it was asked for."""
HABITS = (
    *TYPED, "image_number", "advanced.output_format", "advanced.save_metadata_to_images", "advanced.metadata_scheme",
    "advanced.disable_preview", "advanced.disable_intermediate_results", "advanced.generate_image_grid",
    "advanced.disable_seed_increment", "advanced.read_wildcards_in_order",
)  # fmt: skip
"""What is about working rather than about the look of pictures: another preset leaves it unless it names it."""
MAX_BYTES = 1_000_000
_MAX_NAMED = 8
_LORA_PARTS = ("enabled", "name", "weight")


class PresetError(ValueError):
    """A preset that is missing or wrong; the message names the file, the key and the value."""


@dataclass(frozen=True)
class StartingPoint:
    """Parameters to show, the preset they come from, and sentences the user should read about them."""

    parameters: GenerationParameters
    preset: str
    notes: tuple[str, ...] = ()


def preset_names(folders: Sequence[Path]) -> list[str]:
    """``initial`` (as at start), then the presets of the last folder (the user's own), then the others, each sorted."""
    found: dict[str, None] = {INITIAL_PRESET: None}
    for folder in reversed(folders):
        found |= dict.fromkeys(names_in(folder))
    return list(found)


def names_in(folder: Path) -> list[str]:
    """The presets of one folder, sorted; none where there is no such folder, or it cannot be read."""
    try:
        files = [path.stem for path in folder.glob("*.json") if path.is_file() and not path.name.startswith(".")]
    except OSError:
        return []
    return sorted((name for name in files if name.isprintable()), key=str.casefold)


def preset_path(folders: Sequence[Path], name: str) -> Path:
    """The file of a preset, the user's own before the other; raises ``PresetError`` where there is none."""
    for folder in reversed(folders):
        if name in names_in(folder):
            return folder / f"{name}.json"
    there = ", ".join(preset_names(folders))
    raise PresetError(f"There is no preset {shown(name)} in {folders[0]}; there are {there}.")


def read_preset(folders: Sequence[Path], name: str) -> dict[str, Any]:
    """The keys of a preset as they are in its file; raises ``PresetError`` in words if it cannot be read."""
    path = preset_path(folders, name)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PresetError(f"The preset {path.name} has more than {MAX_BYTES} bytes: it is no preset.")
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, PresetError):
            raise
        raise PresetError(f"The preset {path.name} cannot be read as JSON: {error}") from None
    if not isinstance(values, dict):
        raise PresetError(f"The preset {path.name} must be a JSON object.")
    return values


def start_file(settings: Settings) -> Path:
    """Where it is kept with which preset the page starts, if the user has chosen one."""
    return settings.data / "start.json"


def chosen_start(settings: Settings) -> str:
    """The preset that the user wants the page to start with; empty: none, so that it shows what was used last."""
    try:
        kept = json.loads(start_file(settings).read_text(encoding="utf-8"))["preset"]
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return ""
    return kept if isinstance(kept, str) and kept in preset_names(settings.preset_folders)[1:] else ""


def resolved(name: str, settings: Settings) -> str:
    """The preset meant by ``name``: for nothing, or ``initial``, the flag's, else the user's choice, or ``default``."""
    return name if name not in ("", INITIAL_PRESET) else settings.preset or chosen_start(settings) or DEFAULT_PRESET


def layers(name: str, settings: Settings) -> list[dict[str, Any]]:
    """The keys of a preset, last, and what lies under it: ``default`` as it comes along, and the settings' own.

    A user's own ``default`` is a preset like others: it changes none of them. Raises ``PresetError``.
    """
    config = {
        key: value
        for key, value in settings.defaults.items()
        if key in PRESET_KEYS
        or key in OWNER_KEYS
        or key in (LORAS, LORA_NUMBER)  # its other ``default_*`` keys belong to the page
    }
    below = [_heard(read_preset((settings.presets,), DEFAULT_PRESET)), config]
    if preset_path(settings.preset_folders, name) == settings.presets / f"{DEFAULT_PRESET}.json":
        return [{**below[0], **config}]
    return [*below, _heard(read_preset(settings.preset_folders, name))]


def _heard(values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a preset without those that only the machine's owner sets."""
    return {key: value for key, value in values.items() if key not in OWNER_KEYS}


def apply_preset(
    name: str,
    settings: Settings,
    models: ModelFiles,
    base: GenerationParameters | None = None,
    keep: Sequence[str] = HABITS,
) -> StartingPoint:
    """The parameters a preset asks for.

    ``name`` as in ``resolved``. Below the preset lie the built-in values, ``default.json`` and the settings' own
    defaults. ``base`` are the parameters on the page: of them, those in ``keep`` stay that the preset itself does not
    name, and the prompt when the preset's is empty.

    When the preset's model is not on the disk, the first of its ``previous_default_models`` that is there replaces it;
    failing that, the miniature's preset is applied, and a note says so. Raises ``PresetError``.
    """
    chosen = resolved(name, settings)
    stack = layers(chosen, settings)
    merged = merge(stack)
    kept = _kept(base, keep, stack[-1])
    parameters = _applied(merged, chosen, kept)
    unknown = _unknown(stack[-1], chosen)
    notes = (*_left_out(merged, chosen), *unknown)
    for model in [parameters.base_model, *map(str, _as_list(merged.get(PREVIOUS_MODELS)))]:
        if models.has(model):
            return StartingPoint(_with(parameters, {"base_model": model}, chosen), chosen, notes)
    if chosen == MINI_PRESET or not models.has(BUILT_IN_MODEL):
        return StartingPoint(parameters, chosen, (f"The model {parameters.base_model} is not on the disk.", *notes))
    mini = read_preset((settings.presets,), MINI_PRESET)
    note = (
        f"{parameters.base_model} is not in {' or '.join(str(folder) for folder in models.folders)}: "
        "the built-in miniature model is used instead. It makes small pictures of simple things."
    )
    # What belongs to the model that is missing would not fit this one.
    fitting = {key: value for key, value in merged.items() if key not in BELONGS_TO_MODEL}
    return StartingPoint(_applied({**fitting, **mini}, MINI_PRESET, kept), MINI_PRESET, (note, *unknown))


def merge(stack: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Layers as one; a later one wins where it says something."""
    merged: dict[str, Any] = {}
    for layer in stack:
        if layer.get("default_model"):
            merged.pop(PREVIOUS_MODELS, None)  # a list of older versions belongs to the model it came with
        merged |= {key: value for key, value in layer.items() if value is not None}
    return merged


def preset_values(parameters: GenerationParameters, typed: Sequence[str] = ()) -> dict[str, Any]:
    """The keys of a preset that asks for exactly these parameters: the inverse of ``apply_preset``.

    Of ``TYPED``, only what is in ``typed`` becomes part of it.
    """
    left_out = set(TYPED) - set(typed)
    plain = {each.path: each.control.to_browser(parameters.get(each.path)) for each in leaves()}
    values = {key: plain[path] for key, path in PRESET_KEYS.items() if path not in left_out}
    rows = [[plain[f"{row}.{part}"] for part in _LORA_PARTS] for row in LORA_ROWS]
    elsewhere = {*PRESET_KEYS.values(), *_lora_rows([]), *left_out}
    own = {path: value for path, value in plain.items() if path not in elsewhere}
    return {**values, LORAS: rows, LORA_NUMBER: len(rows), OWN_KEY: own}


def strange_keys(values: Mapping[str, Any]) -> list[str]:
    """The keys of a preset that mean nothing here."""
    return [key for key in values if key not in PRESET_KEYS and key not in OTHER_KEYS]


def _own_parameters(values: Mapping[str, Any], name: str) -> tuple[dict[str, Any], list[str]]:
    """The parameters under our own key, and the keys there that are none."""
    listed = values.get(OWN_KEY, {})
    if not isinstance(listed, dict):
        raise PresetError(f"The preset {name}: {OWN_KEY} must be an object of parameters, not {shown(listed)}.")
    paths = {each.path for each in leaves()}
    return {key: value for key, value in listed.items() if key in paths}, [key for key in listed if key not in paths]


def _unknown(values: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A sentence on the keys of a preset that mean nothing here, if there are any."""
    strange = [*strange_keys(values), *_own_parameters(values, name)[1]]
    if not strange:
        return ()
    more = f" and {len(strange) - _MAX_NAMED} more" if len(strange) > _MAX_NAMED else ""
    named = ", ".join(shown(key)[1:-1] for key in strange[:_MAX_NAMED])
    return (f"The preset {name} also holds what is not known here and was left alone: {named}{more}.",)


def _kept(base: GenerationParameters | None, keep: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the page that a preset with these keys leaves as they are."""
    if base is None:
        return {}
    named = {path for key, path in PRESET_KEYS.items() if values.get(key) is not None}
    named |= set(_as_dict(values.get(OWN_KEY)))
    if not values.get("default_prompt"):
        named.discard("prompt")
    return {path: base.get(path) for path in keep if path not in named}


def _applied(values: Mapping[str, Any], name: str, kept: Mapping[str, Any]) -> GenerationParameters:
    keys = {**PRESET_KEYS, **OWNER_KEYS}
    changes = {keys[key]: value for key, value in values.items() if key in keys}
    changes |= _own_parameters(values, name)[0]
    changes |= _lora_rows(_loras(values, name)[0])
    changes |= _switch(changes)
    return _with(GenerationParameters(), {**changes, **kept}, name)


def _with(parameters: GenerationParameters, changes: Mapping[str, Any], name: str) -> GenerationParameters:
    try:
        return parameters.with_values(changes)
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
        raise PresetError(f"The preset {name}: {LORAS} must be a list of [enabled, name, weight], not {shown(listed)}.")
    asked = str(values.get(LORA_NUMBER, len(LORA_ROWS)))  # text where it comes from the environment
    if not asked.isdecimal() or len(asked) > 9 or int(asked) < 1:
        raise PresetError(f"The preset {name}: {LORA_NUMBER} must be a whole number from 1 on, not {asked[:60]}.")
    room = min(int(asked), len(LORA_ROWS))
    return rows[:room], rows[room:]


def _lora_rows(rows: list[list[Any]]) -> dict[str, Any]:
    """Every row of LoRAs as parameters; those that are not given are empty."""
    padded = [*rows, *([True, NO_MODEL, 1.0] for _ in LORA_ROWS)]
    return {
        f"{place}.{key}": value
        for place, row in zip(LORA_ROWS, padded, strict=False)
        for key, value in zip(_LORA_PARTS, row, strict=True)
    }


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
