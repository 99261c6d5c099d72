"""How long a picture took, stage by stage, in words; knows not who measured it."""

from __future__ import annotations

import math
from collections.abc import Mapping

# The stages in the order in which a picture goes through them, by the names under which they are kept. Up to the texts
# they are the first picture's of a run: the others find it done.
STAGES: Mapping[str, str] = {
    "wait": "Waiting for its turn",
    "start": "Starting the engine",
    "load": "Loading models",
    "encode": "Reading the prompt",
    "sample": "Sampling",
    "refine": "Refining",
    "decode": "Painting the picture",
    "save": "Saving",
}
LEAST = 0.005  # seconds; what took less is not worth a line


def told(facts: Mapping[str, object]) -> list[tuple[str, float]]:
    """The stages of a picture with their seconds, by what is kept of it; nothing for one of which nothing is known.

    What a file says of itself may be anything: only sensible numbers under known names are taken.
    """
    seconds = facts.get("seconds")
    if not isinstance(seconds, Mapping):
        return []
    return [
        (words, round(float(value), 3))
        for stage, words in STAGES.items()
        if isinstance(value := seconds.get(stage), (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value >= LEAST
    ]


def with_stages(facts: Mapping[str, object], **seconds: float) -> dict[str, object]:
    """Facts of a picture with more stages in them, or with more seconds in those that are there."""
    known = facts.get("seconds")
    merged: dict[str, float] = dict(known) if isinstance(known, Mapping) else {}
    for stage, value in seconds.items():
        merged[stage] = merged.get(stage, 0.0) + value
    return {**facts, "seconds": merged}
