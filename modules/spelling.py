"""What people call parameters, and how they write their values, in lists and plots; knows no page and no file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import PurePosixPath

from modules.controls import Checkbox, Choice, ModelFile, shown
from modules.parameters import Leaf, ParameterError, full_path, leaves

# What other programs and people call the same, in lists that they already have.
ALIASES: Mapping[str, str] = {
    "seed": "image_seed",
    "steps": "advanced.overwrite_step",
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "guidance": "guidance_scale",
    "negative": "negative_prompt",
    "width": "advanced.overwrite_width",
    "height": "advanced.overwrite_height",
    "sampler": "advanced.sampler_name",
    "scheduler": "advanced.scheduler_name",
    "styles": "style_selections",
    "style": "style_selections",
    "performance": "performance_selection",
    "aspect_ratio": "aspect_ratios_selection",
    "size": "aspect_ratios_selection",
    "number": "image_number",
    "count": "image_number",
    "model": "base_model",
    "checkpoint": "base_model",
    "refiner": "refiner_model",
}
_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")

Files = Callable[[str], Sequence[str]]
"""The files of a kind (``checkpoints``, ``loras``, ``vae``) that there are."""


def path_named(name: str) -> str:
    """The path of the parameter that is meant by its key, its label on the page or another name for it.

    Raises ``ParameterError`` with the nearest names.
    """
    key = _folded(name)
    found = _labels().get(key) or ALIASES.get(key)
    if found or any(key in (each.path, each.name) for each in leaves()):
        return found or full_path(key)
    try:
        return full_path(name.strip())
    except ParameterError:
        near = get_close_matches(key[:100], [*ALIASES, *_labels(), *(each.name for each in leaves())], n=1)
        asked = f"; did you mean {near[0]}?" if near else ""
        raise ParameterError(f"{shown(name.strip())[1:-1]}: there is no such parameter{asked}") from None


def spelt(told: Leaf, text: str, files: Files | None = None) -> str:
    """A value as the parameter has it: choices and files by their names however they are written.

    What is not recognised is returned as it is. ``files`` are those that there are: of no other one can anything be
    made, and that is said as ``ParameterError``.
    """
    match told.control:
        case Choice(choices=choices, text=words):
            wanted = _size(text)
            return next((each for each in choices if wanted in (_size(each), _size(words(each)))), text)
        case Checkbox():
            answer = text.casefold()
            return "true" if answer in _YES else "false" if answer in _NO else text
        case ModelFile(none=none) if none and text.casefold() == none.casefold():
            return none
        case ModelFile(folder=folder) if files is not None:
            return _file(told, text, files(folder))
        case _:
            return text


def _file(told: Leaf, text: str, there: Sequence[str]) -> str:
    """A file by its name, with or without folder and ending."""
    wanted = text.casefold()
    for name_of in (str, _without_folder, _without_ending, lambda name: _without_ending(_without_folder(name))):
        found = [each for each in there if name_of(each).casefold() == wanted]
        if len(found) == 1:
            return found[0]
    near = get_close_matches(text[:100], [each for name in there for each in (name, _without_ending(name))], n=1)
    asked = f" Did you mean {near[0]}?" if near else ""
    raise ParameterError(f"{told.path}: there is no file {shown(text)}.{asked}")


def _without_folder(name: str) -> str:
    return PurePosixPath(name).name


def _without_ending(name: str) -> str:
    return str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).name else name


@cache
def _labels() -> Mapping[str, str]:
    """Label, as it is compared -> path; of labels that several have, none."""
    names = [_folded(each.label) for each in leaves()]
    return {name: each.path for name, each in zip(names, leaves(), strict=True) if name and names.count(name) == 1}


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip().casefold())


def _size(text: str) -> str:
    """A choice as it is compared: 1152×896 is 1152*896."""
    return re.sub(r"(?<=\d)\s*[x×*]\s*(?=\d)", "*", text.strip().casefold())
