"""Performance modes, one row of data each; knows nothing of how a mode is shown or carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class PerformanceSpec:
    """What a mode decides for the user.

    ``steps`` is the number of sampling steps of a new picture. ``overrides`` maps the path of a parameter
    (``"sharpness"``, ``"advanced.sampler_name"``) to the value it takes in this mode whatever the user chose; the page
    locks exactly these controls.
    """

    steps: int
    overrides: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))


MODES: Mapping[str, PerformanceSpec] = MappingProxyType(
    {
        "Quality": PerformanceSpec(steps=60),
        "Speed": PerformanceSpec(steps=30),
    }
)
