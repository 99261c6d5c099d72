"""By what a low-rank product is scaled: alpha / rank. Knows no network.

Most files hold `alpha` as a tensor. Recent files of diffusers hold PEFT's configuration in the header instead, as JSON:
{"unet.lora_alpha": 16, "unet.alpha_pattern": {"to_q": 8}, "unet.use_rslora": false, ...}. Where neither says a thing,
alpha is the rank.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ldm_patched.modules.state_dict import WeightsError

_KEY = "lora_adapter_metadata"


@dataclass(frozen=True)
class AdapterAlphas:
    """The configuration in a file's header. settings: by prefix of module names, as `unet`."""

    file: str
    settings: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, file: str, metadata: Mapping[str, str]) -> AdapterAlphas:
        """From the metadata of a file. Raises WeightsError for a configuration that cannot be read."""
        try:
            fields = json.loads(metadata.get(_KEY, "{}"))
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"{file} is damaged: its adapter metadata cannot be read") from error
        if not isinstance(fields, dict):
            raise WeightsError(f"{file} is damaged: its adapter metadata is no table")
        settings: dict[str, dict[str, Any]] = {}
        for name, value in fields.items():
            prefix, _, key = name.rpartition(".")
            settings.setdefault(prefix, {})[key] = value
        return cls(file, settings)

    def scale(self, module: str, alpha: Tensor | None, rank: int) -> float:
        """What the product of a module is multiplied by. alpha: the module's tensor, if the file has one."""
        if alpha is not None:
            if alpha.numel() != 1:
                raise WeightsError(f"{self.file} is damaged: alpha of {module} is {list(alpha.shape)}, not one number")
            return self._number(module, alpha.item()) / rank
        prefix = next((prefix for prefix in self.settings if prefix and module.startswith(prefix + ".")), None)
        if prefix is None:
            return 1.0
        settings = self.settings[prefix]
        root = math.sqrt(rank) if settings.get("use_rslora") is True else rank
        return self._number(module, self._alpha(settings, module, rank)) / root

    def _alpha(self, settings: Mapping[str, Any], module: str, rank: int) -> Any:
        patterns = settings.get("alpha_pattern") or {}
        if not isinstance(patterns, dict):
            raise WeightsError(f"{self.file} is damaged: alpha_pattern in its adapter metadata is no table")
        own = (value for name, value in patterns.items() if module == name or module.endswith("." + name))
        return next(own, settings.get("lora_alpha", rank))

    def _number(self, module: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise WeightsError(f"{self.file} is damaged: alpha of {module} is {value!r}")
        return float(value)
