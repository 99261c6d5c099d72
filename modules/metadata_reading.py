"""The texts of other programs -> parameters, value by value; knows no picture file. Nothing is ever evaluated.

What is valid is taken, what is known and wrong is named in a sentence, what is unknown is kept to be shown. A model in
such a text is only a name: it is looked for among the files that are here, and never a path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modules.choices import A1111_SAMPLERS, ASPECT_RATIOS, NO_MODEL, OWN_VAE
from modules.controls import shown
from modules.metadata_writing import stem
from modules.model_search import Here, find_model
from modules.parameters import LORA_ROWS, GenerationParameters, ParameterError
from modules.performance import MODES
from modules.style_recovery import is_drawn, recover

_LABELS: Mapping[str, str] = {
    "prompt": "Prompt", "negative_prompt": "Negative Prompt", "styles": "Styles", "performance": "Performance",
    "steps": "Steps", "resolution": "Resolution", "guidance_scale": "Guidance Scale", "sharpness": "Sharpness",
    "adm_guidance": "ADM Guidance", "base_model": "Base Model", "refiner_model": "Refiner Model",
    "refiner_switch": "Refiner Switch", "overwrite_switch": "Overwrite Switch",
    "refiner_swap_method": "Refiner Swap Method", "adaptive_cfg": "CFG Mimicking from TSNR", "clip_skip": "CLIP Skip",
    "sampler": "Sampler", "scheduler": "Scheduler", "vae": "VAE", "seed": "Seed", "freeu": "FreeU",
    "image_number": "Image Number", "metadata_scheme": "Metadata Scheme", "version": "Version",
    "prompt_expansion": "Fooocus V2 Expansion",
}  # fmt: skip
_PLAIN: Mapping[str, str] = {
    "prompt": "prompt", "negative_prompt": "negative_prompt", "performance": "performance_selection",
    "guidance_scale": "guidance_scale", "sharpness": "sharpness", "refiner_switch": "refiner_switch",
    "overwrite_switch": "advanced.overwrite_switch", "refiner_swap_method": "advanced.refiner_swap_method",
    "adaptive_cfg": "advanced.adaptive_cfg", "clip_skip": "advanced.clip_skip", "sampler": "advanced.sampler_name",
    "scheduler": "advanced.scheduler_name", "seed": "image_seed", "image_number": "image_number",
}  # fmt: skip
_NUMBERS: Mapping[str, tuple[str, ...]] = {
    "adm_guidance": ("advanced.adm_scaler_positive", "advanced.adm_scaler_negative", "advanced.adm_scaler_end"),
    "freeu": ("advanced.freeu_b1", "advanced.freeu_b2", "advanced.freeu_s1", "advanced.freeu_s2"),
}
_MODELS: Mapping[str, tuple[str, str, str]] = {
    "base_model": ("base_model", "checkpoints", ""),
    "refiner_model": ("refiner_model", "checkpoints", NO_MODEL),
    "vae": ("advanced.vae_name", "vae", OWN_VAE),
}
# What a record tells about a picture beside its parameters: nothing to set.
_TOLD = frozenset(
    {
        "full_prompt", "full_negative_prompt", "prompt_expansion", "metadata_scheme", "version", "created_by",
        "base_model_hash", "refiner_model_hash", "vae_hash",
    }
)  # fmt: skip
_A1111_KEYS: Mapping[str, str] = {
    "Steps": "steps", "Sampler": "sampler", "Seed": "seed", "Size": "resolution", "CFG scale": "guidance_scale",
    "Sharpness": "sharpness", "ADM Guidance": "adm_guidance", "Model": "base_model", "Model hash": "base_model_hash",
    "Performance": "performance", "Scheduler": "scheduler", "Schedule type": "scheduler", "VAE": "vae",
    "Raw prompt": "prompt", "Raw negative prompt": "negative_prompt", "Refiner": "refiner_model",
    "Refiner hash": "refiner_model_hash", "VAE hash": "vae_hash", "Refiner switch at": "refiner_switch",
    "Adaptive CFG": "adaptive_cfg",
    "Clip skip": "clip_skip", "Overwrite Switch": "overwrite_switch", "Refiner Swap Method": "refiner_swap_method",
    "FreeU": "freeu", "Lora hashes": "lora_hashes", "Lora weights": "lora_weights", "Version": "version",
    "User": "created_by",
}  # fmt: skip
_PAIR = re.compile(r'(\w[\w \-/]{0,99}):\s*("(?:\\.|[^"\\])*"|[^,]*)(?:,|$)')
_NEGATIVE = "Negative prompt:"
_LEAST_PAIRS = 3
_NUMBER = re.compile(r"[+-]?\d{1,12}(?:\.\d{1,20})?(?:e[+-]?\d{1,3})?", re.IGNORECASE)
_WEIGHTS = re.compile(r"([^:]{1,400}): ([-+.\de]{1,30})(?:, |$)")
_HASHES = re.compile(r"([^:]{1,400}): ([0-9a-fA-F]{10,64})(?:: [-+.\de]{1,30})?(?:, |$)")
_ROW = re.compile(r"lora_combined_(\d{1,3})")


@dataclass
class Reading:
    """What a text says: parameters by path, each of them valid; what is not known here; sentences on what is wrong."""

    scheme: str
    values: dict[str, Any] = field(default_factory=dict)
    unknown: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def take(self, key: str, values: Mapping[str, Any]) -> None:
        """Adds the parameters that ``key`` of the text means, or says what is wrong with them."""
        try:
            GenerationParameters.from_mapping(values)
        except ParameterError as error:
            reason = str(error).partition(": ")[2] or str(error)
            self.problems.append(f"{shown(key)[1:-1]} was left out: {reason}.")
        else:
            self.values |= values

    def refuse(self, key: str, value: object, wanted: str) -> None:
        """Says that the value of ``key`` is not ``wanted``."""
        self.problems.append(f"{shown(key)[1:-1]} was left out: {shown(value)} is not {wanted}.")


def read_fooocus(record: Mapping[str, Any], here: Here) -> Reading:
    """The parameters in a JSON record, by key or else by the label that a log gives it."""
    reading = Reading("fooocus")
    keys = {label: key for key, label in _LABELS.items()}
    keys |= {f"LoRA {row}": f"lora_combined_{row}" for row in range(1, 100)}
    values: dict[str, Any] = {}
    for name, value in record.items():
        key = keys.get(name, name)
        if key == name or key not in record:
            values[key] = value
    _apply(reading, values, here)
    return reading


def is_a1111(text: str) -> bool:
    """Whether the last line of a text lists at least three parameters."""
    return len(_pairs(text.strip().rpartition("\n")[2])) >= _LEAST_PAIRS


def read_a1111(text: str, here: Here) -> Reading:
    """The parameters in lines of text: a prompt, a negative prompt, and a last line of ``Key: value`` by commas."""
    reading = Reading("a1111")
    above, _, last = text.strip().rpartition("\n")
    # `Negative prompt:` begins a line; a prompt may speak of one.
    prompt, _, negative = f"\n{above}".partition(f"\n{_NEGATIVE}")
    told, avoided = prompt.strip(), negative.strip()
    values: dict[str, Any] = {_A1111_KEYS.get(label, label): value for label, value in _pairs(last)}
    values = {"prompt": told, "negative_prompt": avoided, "styles": []} | values
    values |= _without_styles(reading, told, avoided, dict(_pairs(last)), here)
    sampler = str(values.get("sampler", ""))
    if sampler.endswith(" Karras"):
        values.setdefault("scheduler", "karras")
        sampler = sampler.removesuffix(" Karras")
    if sampler:
        by_label = {label: name for name, label in reversed(list(A1111_SAMPLERS.items()))}
        values["sampler"] = by_label.get(sampler, sampler)
    if "scheduler" in values:
        values["scheduler"] = str(values["scheduler"]).lower()
    _apply(reading, values, here)
    return reading


def _without_styles(reading: Reading, told: str, avoided: str, pairs: Mapping[str, str], here: Here) -> dict[str, Any]:
    """The prompts and the styles, where it is sure that they make up the texts of a picture."""
    raw, raw_negative = pairs.get("Raw prompt"), pairs.get("Raw negative prompt", "")
    found = recover(told, avoided, here.styles(), raw, None if raw is None else raw_negative)
    if found is not None:
        return {"prompt": found.prompt, "negative_prompt": found.negative_prompt, "styles": list(found.styles)}
    if raw is not None and not is_drawn(raw):
        reading.problems.append("This picture was told more than was typed, by styles that are not known here.")
    return {} if raw is None else {"negative_prompt": raw_negative}


def _apply(reading: Reading, record: dict[str, Any], here: Here) -> None:
    loras: list[tuple[str, Any, Any]] = []
    for key, value in record.items():
        if key in _PLAIN:
            reading.take(key, {_PLAIN[key]: _joined(value)})
        elif key in _MODELS:
            _model(reading, key, (value, record.get(f"{key}_hash")), here)
        elif key in _SPECIAL:
            _SPECIAL[key](reading, key, value, record)
        elif key in ("loras", "lora_weights", "lora_hashes") or _ROW.fullmatch(key):
            loras += [row for row in _loras(reading, key, value, record) if not _of_mode(row[1], record)]
        elif key not in _TOLD:
            reading.unknown[key] = value
    if loras or "loras" in record:
        _rows(reading, loras, _lora_hashes(record), here)


def _loras(reading: Reading, key: str, value: Any, record: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The LoRAs of one entry, as (key, name, weight); the list of all repeats the rows, where there are any."""
    if key == "lora_weights":
        weighted = _WEIGHTS.findall(str(value))  # a name may have a comma
        if _WEIGHTS.sub("", str(value)) != "":
            weighted = [part.rpartition(":")[::2] for part in str(value).split(",")]
        return [(key, name, weight.strip()) for name, weight in weighted]
    if key == "lora_hashes":  # some write `name: hash: weight` and no weights apart
        found = [part.rsplit(":", 2) for part in str(value).split(",")] if "lora_weights" not in record else []
        return [(key, part[0].strip(), part[2].strip()) for part in found if len(part) == 3]
    if key == "loras":
        return [] if any(_ROW.fullmatch(other) for other in record) else _listed(reading, value)
    return _combined(reading, key, value)


def _lora_hashes(record: Mapping[str, Any]) -> dict[str, Any]:
    """The hashes of LoRAs by the names that the record gives them."""
    listed = record.get("loras")
    rows = [row for row in listed if isinstance(row, list) and len(row) == 3] if isinstance(listed, list) else []
    found = {row[0]: row[2] for row in rows if isinstance(row[0], str)}
    told = record.get("lora_hashes")
    return found | dict(_HASHES.findall(told) if isinstance(told, str) else ())


def _of_mode(name: Any, record: Mapping[str, Any]) -> bool:
    """Whether a LoRA is the one that the performance mode brings along: it needs no row."""
    mode = MODES.get(str(record.get("performance")))
    files = mode.lora.files if mode is not None and mode.lora is not None else ()
    return isinstance(name, str) and stem(name) in {stem(file) for file in files}


def _joined(value: Any) -> Any:
    """Texts may be a list of lines."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    return value


def _styles(reading: Reading, key: str, value: Any, record: Mapping[str, Any]) -> None:
    listed = value if isinstance(value, list) else quoted_names(str(value))
    if listed is None or not all(isinstance(name, str) for name in listed):
        reading.refuse(key, value, "a list of names")
    else:
        reading.take("styles", {"style_selections": tuple(listed)})


def quoted_names(text: str) -> list[str] | None:
    """The names in ``['a', "b"]``, as logs write lists; None when the text is not such a list."""
    inner = text.strip()
    if not (inner.startswith("[") and inner.endswith("]")):
        return None
    name = r"""'((?:\\.|[^'\\])*)'|"((?:\\.|[^"\\])*)\""""
    inner = inner[1:-1].strip()
    if inner and not re.fullmatch(rf"(?:{name})(?:\s*,\s*(?:{name}))*\s*,?", inner):
        return None
    return [re.sub(r"\\(.)", r"\1", one or other) for one, other in re.findall(name, inner)]


def _numbers_in(value: Any) -> list[float] | None:
    """The numbers in ``(1, 2.5)``, ``[1, 2.5]`` or a list of them; None when there is anything else."""
    if isinstance(value, list):
        parts = [str(each) for each in value]
    else:
        parts = str(value).strip().removeprefix("(").removeprefix("[").rstrip(")]").split(",")
    parts = [part.strip() for part in parts]
    return [float(part) for part in parts] if all(_NUMBER.fullmatch(part) for part in parts) else None


def _numbers(reading: Reading, key: str, value: Any, record: Mapping[str, Any]) -> None:
    numbers, paths = _numbers_in(value), _NUMBERS[key]
    if numbers is None or len(numbers) != len(paths):
        reading.refuse(key, value, f"{len(paths)} numbers")
        return
    on = {"advanced.freeu_enabled": True} if key == "freeu" else {}
    reading.take(key, {**dict(zip(paths, numbers, strict=True)), **on})


def _resolution(reading: Reading, key: str, value: Any, record: Mapping[str, Any]) -> None:
    numbers = _numbers_in(str(value).replace("x", ",").replace("×", ",").replace("*", ","))
    if numbers is None or len(numbers) != 2 or not all(side == int(side) for side in numbers):
        reading.refuse(key, value, "a width and a height")
        return
    width, height = (int(side) for side in numbers)
    ratio = f"{width}*{height}"
    if ratio in ASPECT_RATIOS:
        sides = {"advanced.overwrite_width": -1, "advanced.overwrite_height": -1}
        reading.take("resolution", {"aspect_ratios_selection": ratio, **sides})
    else:
        reading.take("resolution", {"advanced.overwrite_width": width, "advanced.overwrite_height": height})


def _steps(reading: Reading, key: str, value: Any, record: Mapping[str, Any]) -> None:
    performance = record.get("performance")
    mode = MODES.get(performance) if isinstance(performance, str) else None
    own = mode is not None and str(value).strip() == str(mode.steps)
    reading.take("steps", {"advanced.overwrite_step": -1 if own else value})


_SPECIAL: Mapping[str, Callable[[Reading, str, Any, Mapping[str, Any]], None]] = {
    "styles": _styles, "resolution": _resolution, "steps": _steps, "adm_guidance": _numbers, "freeu": _numbers,
}  # fmt: skip


def _model(reading: Reading, key: str, named: tuple[Any, Any], here: Here) -> None:
    path, kind, none = _MODELS[key]
    value, short_hash = named
    if none and value in ("", None, none, "None"):
        reading.values[path] = none
    elif (found := find_file(reading, key, (kind, value, short_hash), here)) is not None:
        reading.take(key, {path: found})


def find_file(reading: Reading, key: str, named: tuple[str, Any, Any], here: Here) -> str | None:
    """The file that a text means by (kind, name, hash); None, and said, where there is none."""
    kind, name, short_hash = named
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        reading.refuse(key, name, "the name of a model")
        return None
    found, sentence = find_model(here, kind, name, short_hash)
    if not found:
        sentence = f"The model {shown(name)} ({shown(key)[1:-1]}) is not among your files."
    if sentence:
        reading.problems.append(sentence)
    return found or None


def _combined(reading: Reading, key: str, value: Any) -> list[tuple[str, Any, Any]]:
    """``name : weight`` or ``enabled : name : weight``; one that is not enabled is no LoRA of this picture."""
    parts = str(value).split(" : ")
    if len(parts) == 3 and parts[0].strip().lower() in ("true", "false"):
        enabled, *parts = parts
        if enabled.strip().lower() == "false":
            return []
    if len(parts) != 2:
        reading.refuse(key, value, "of the form name : weight")
        return []
    return [] if parts[0].strip() == NO_MODEL else [(key, parts[0], parts[1].strip())]


def _listed(reading: Reading, value: Any) -> list[tuple[str, Any, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, list) and len(each) in (2, 3) for each in value):
        reading.refuse("loras", value, "a list of names and weights")
        return []
    return [("loras", each[0], each[1]) for each in value]


def _rows(reading: Reading, loras: Iterable[tuple[str, Any, Any]], hashes: Mapping[str, Any], here: Here) -> None:
    """The rows of LoRAs; those that are left over are emptied, so that none of another picture stays."""
    rows: dict[str, Any] = {}
    free = list(LORA_ROWS)
    for key, name, weight in loras:
        short_hash = hashes.get(name) if isinstance(name, str) else None
        if (file := find_file(reading, key, ("loras", name, short_hash), here)) is None:
            continue
        if not free:
            reading.problems.append(f"The LoRA {shown(name)} was left out: there are {len(LORA_ROWS)} rows for them.")
            continue
        row = {f"{free[0]}.enabled": True, f"{free[0]}.name": file, f"{free[0]}.weight": weight}
        before = len(reading.problems)
        reading.take(key, row)
        if len(reading.problems) == before:
            rows |= row
            free.pop(0)
    for row_name in free:
        reading.values |= {f"{row_name}.enabled": True, f"{row_name}.name": NO_MODEL, f"{row_name}.weight": 1.0}


def _pairs(line: str) -> list[tuple[str, str]]:
    """The ``Key: value`` of a line; a value in quotes is JSON text, one that is no such text is taken as it stands."""
    found = []
    for key, value in _PAIR.findall(line):
        text = value.strip()
        if text.startswith('"'):
            try:
                text = str(json.loads(text))
            except ValueError:
                text = text.strip('"')
        found.append((key.strip(), text))
    return found
