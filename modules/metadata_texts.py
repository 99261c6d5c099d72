"""Any text that a picture carries -> what it says of the parameters; knows no picture file and no page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from modules.controls import ModelFile
from modules.metadata import SCHEME, MetadataError, split_known
from modules.metadata_reading import Reading, find_file, is_a1111, read_a1111, read_fooocus
from modules.model_search import Here
from modules.parameters import leaf

MAX_CHARACTERS = 1_000_000
SEED = "image_seed"


def read_told(text: str, here: Here) -> Reading:
    """What a text of ours or of another program says; ``here`` is what it may refer to. Raises ``MetadataError``."""
    if len(text) > MAX_CHARACTERS:
        raise MetadataError(f"This text is too long: {len(text):,} characters, and {MAX_CHARACTERS:,} are the limit.")
    try:
        record = json.loads(text)
    except RecursionError:
        raise MetadataError("This text is nested too deeply to be read.") from None
    except ValueError:
        if not is_a1111(text):
            raise MetadataError("This is not a text that pictures carry: neither JSON nor lines of settings.") from None
        return read_a1111(text, here)
    if not isinstance(record, dict):
        raise MetadataError("This is JSON, but not the settings of a picture.")
    try:
        ours = isinstance(record.get("parameters"), dict)
        return _read_ours(record, here) if ours else read_fooocus(record, here)
    except RecursionError:
        raise MetadataError("This text is nested too deeply to be read.") from None


def _read_ours(record: Mapping[str, Any], here: Here) -> Reading:
    """Our own record, value by value: one that is wrong costs no other. The seed is that of this one picture."""
    reading = Reading(SCHEME)
    known, unknown = split_known(record["parameters"], "")
    if (seed := _seed_of(record)) is not None:
        known[SEED] = seed
    for path, value in known.items():
        control = leaf(path).control
        if isinstance(control, ModelFile) and not (control.none and value == control.none):
            # A file that is missing must not leave another picture's in its place.
            named = (control.folder, value, _hash_in(record, control.folder, value))
            found = find_file(reading, title(path), named, here) or control.none
            if not found:
                continue
            reading.take(title(path), {path: found})
        else:
            reading.take(title(path), {path: value})
    reading.unknown = dict.fromkeys(unknown)
    return reading


def _hash_in(record: Mapping[str, Any], kind: str, name: Any) -> Any:
    """The hash of a model that the picture was made with, if it says one."""
    place: Any = record
    for key in ("picture", "hashes", kind, name):
        place = place.get(key) if isinstance(place, dict) and isinstance(key, str) else None
    return place


def _seed_of(record: Mapping[str, Any]) -> int | None:
    picture = record.get("picture")
    job = picture.get("job") if isinstance(picture, dict) else None
    seed = job.get("seed") if isinstance(job, dict) else None
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else None


def title(path: str) -> str:
    """What a parameter is called in sentences: its label, in a row of LoRAs with the row before it."""
    row, _, name = path.rpartition(".")
    return (
        f"LoRA {row.removeprefix('lora_')} {leaf(path).label}" if row.startswith("lora_") and name else leaf(path).label
    )
