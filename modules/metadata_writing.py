"""The texts in which other programs look for a picture's parameters; knows no file, and nothing of reading them.

Two are in use in the field: a JSON object (``fooocus``) and lines of text (``a1111``). Neither can hold every parameter
of ours, so they are written for others and stand beside our own complete text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from modules import __version__
from modules.choices import A1111_SAMPLERS
from modules.parameters import GenerationParameters

SOFTWARE = f"Pinhole {__version__}"
_KARRAS = " Karras"

Hashes = Mapping[str, Mapping[str, str]]


def stem(name: str) -> str:
    """The name of a model as other programs write it: without folders and without the ending."""
    return PurePosixPath(name).stem


def scheme_text(scheme: str, parameters: GenerationParameters, facts: Mapping[str, Any]) -> str:
    """The text of ``scheme`` about one picture; ``facts`` are those of ``metadata.describe``, with its job.

    ``facts["hashes"]`` may give the short hash of a model by its kind and name; what has none is written without.
    ``facts["created_by"]`` is the name of who made it.
    """
    write = {"fooocus": _fooocus, "a1111": _a1111}[scheme]
    return write(parameters, facts["job"], facts.get("hashes", {}), facts.get("created_by"))


def _fooocus(parameters: GenerationParameters, job: Mapping[str, Any], hashes: Hashes, created_by: str | None) -> str:
    advanced = parameters.advanced
    models, lora_hashes = hashes.get("checkpoints", {}), hashes.get("loras", {})
    values: dict[str, Any] = {
        "prompt": parameters.prompt,
        "negative_prompt": parameters.negative_prompt,
        "styles": str(list(parameters.style_selections)),
        "performance": parameters.performance_selection,
        "steps": job["steps"],
        "resolution": f"({job['width']}, {job['height']})",
        "guidance_scale": job["guidance_scale"],
        "sharpness": job["sharpness"],
        "adm_guidance": _tuple(job["adm_scaler_positive"], job["adm_scaler_negative"], job["adm_scaler_end"]),
        "base_model": stem(job["checkpoint"]),
        "base_model_hash": models.get(job["checkpoint"]),
        "refiner_model": stem(job["refiner"]) or "None",
        "refiner_switch": parameters.refiner_switch,
        "adaptive_cfg": job["adaptive_cfg"],
        "clip_skip": job["clip_skip"],
        "sampler": job["sampler"],
        "scheduler": job["scheduler"],
        "vae": stem(job["vae"]) or "Default (model)",
        "seed": str(job["seed"]),
        "full_prompt": list(job["positive"]),
        "full_negative_prompt": list(job["negative"]),
        "loras": [[stem(name), weight, lora_hashes.get(name, "")] for name, weight in job["loras"]],
        "metadata_scheme": "fooocus",
        "version": SOFTWARE,
        "created_by": created_by,
    }
    if job["refiner"]:
        values["refiner_model_hash"] = models.get(job["refiner"])
        values["refiner_swap_method"] = job["swap_method"]
        if advanced.overwrite_switch > 0:
            values["overwrite_switch"] = advanced.overwrite_switch
    if job["freeu"] is not None:
        values["freeu"] = _tuple(*job["freeu"])
    for row, (name, weight) in enumerate(job["loras"], 1):
        values[f"lora_combined_{row}"] = f"{stem(name)} : {weight}"
    present = {key: value for key, value in values.items() if value is not None}
    return json.dumps(present, sort_keys=True, ensure_ascii=True, allow_nan=False)


def _a1111(parameters: GenerationParameters, job: Mapping[str, Any], hashes: Hashes, created_by: str | None) -> str:
    advanced = parameters.advanced
    models, lora_hashes = hashes.get("checkpoints", {}), hashes.get("loras", {})
    sampler = A1111_SAMPLERS.get(job["sampler"])
    karras = _KARRAS if sampler and job["scheduler"] == "karras" else ""
    loras: Sequence[tuple[str, float]] = job["loras"]
    values: dict[str, Any] = {
        "Steps": job["steps"],
        "Sampler": (sampler or job["sampler"]) + karras,
        "Seed": job["seed"],
        "Size": f"{job['width']}x{job['height']}",
        "CFG scale": job["guidance_scale"],
        "Sharpness": job["sharpness"],
        "ADM Guidance": _tuple(job["adm_scaler_positive"], job["adm_scaler_negative"], job["adm_scaler_end"]),
        "Model": stem(job["checkpoint"]),
        "Model hash": models.get(job["checkpoint"]),
        "Performance": parameters.performance_selection,
        "Scheduler": job["scheduler"],
        "VAE": stem(job["vae"]) or None,
        "Raw prompt": parameters.prompt,
        "Raw negative prompt": parameters.negative_prompt,
        "Refiner": stem(job["refiner"]) or None,
        "Refiner hash": models.get(job["refiner"]),
        "Adaptive CFG": job["adaptive_cfg"],
        "Clip skip": job["clip_skip"],
        "Overwrite Switch": advanced.overwrite_switch if job["refiner"] and advanced.overwrite_switch > 0 else None,
        "Refiner Swap Method": job["swap_method"] if job["refiner"] else None,
        "FreeU": _tuple(*job["freeu"]) if job["freeu"] is not None else None,
        "Lora hashes": ", ".join(f"{stem(name)}: {lora_hashes.get(name, '')}" for name, _ in loras) or None,
        "Lora weights": ", ".join(f"{stem(name)}: {weight}" for name, weight in loras) or None,
        "Version": SOFTWARE,
        "User": created_by,
    }
    told = ", ".join(f"{key}: {_quoted(value)}" for key, value in values.items() if value is not None)
    negative = ", ".join(job["negative"])
    lines = [", ".join(job["positive"]), *([f"Negative prompt: {negative}"] if negative else []), told]
    return "\n".join(lines)


def _quoted(value: Any) -> str:
    """A value as a part of the last line: as JSON text where its own characters would end it."""
    text = str(value)
    ends = not text or text != text.strip() or any(character in text for character in ',:"\n\r')
    return json.dumps(text, ensure_ascii=False) if ends else text


def _tuple(*numbers: float) -> str:
    return f"({', '.join(str(number) for number in numbers)})"
