"""Performance modes, one row of data each; knows nothing of how a mode is shown or carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class ModeLora:
    """The LoRA that makes few steps enough: the first of ``files`` that is there and fits the base model."""

    files: tuple[str, ...]
    strength: float


@dataclass(frozen=True)
class PerformanceSpec:
    """What a mode decides for the user.

    ``steps`` is the number of sampling steps of a new picture. ``overrides`` maps the path of a parameter
    (``"sharpness"``, ``"advanced.sampler_name"``) to the value it takes in this mode whatever the user chose; the page
    locks exactly these controls. ``lora`` comes before the LoRAs that the user chose.
    """

    steps: int
    overrides: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    lora: ModeLora | None = None


# What every few-step LoRA wants: no guidance and nothing that shapes it, and one model for all steps.
_FEW_STEPS: Mapping[str, object] = MappingProxyType(
    {
        "sharpness": 0.0,
        "guidance_scale": 1.0,
        "refiner_model": "None",
        "refiner_switch": 1.0,
        "advanced.adaptive_cfg": 1.0,
        "advanced.adm_scaler_positive": 1.0,
        "advanced.adm_scaler_negative": 1.0,
        "advanced.adm_scaler_end": 0.0,
    }
)

MODES: Mapping[str, PerformanceSpec] = MappingProxyType(
    {
        "Quality": PerformanceSpec(steps=60),
        "Speed": PerformanceSpec(steps=30),
        "Extreme Speed": PerformanceSpec(
            steps=8,
            overrides=MappingProxyType(
                {**_FEW_STEPS, "advanced.sampler_name": "lcm", "advanced.scheduler_name": "lcm"}
            ),
            lora=ModeLora(("sdxl_lcm_lora.safetensors", "pinhole-mini-lcm-lora.safetensors"), 1.0),
        ),
        "Lightning": PerformanceSpec(
            steps=4,
            overrides=MappingProxyType(
                {**_FEW_STEPS, "advanced.sampler_name": "euler", "advanced.scheduler_name": "sgm_uniform"}
            ),
            lora=ModeLora(("sdxl_lightning_4step_lora.safetensors", "pinhole-mini-lightning-lora.safetensors"), 1.0),
        ),
        "Hyper-SD": PerformanceSpec(
            steps=4,
            overrides=MappingProxyType(
                {**_FEW_STEPS, "advanced.sampler_name": "dpmpp_sde_gpu", "advanced.scheduler_name": "karras"}
            ),
            lora=ModeLora(("sdxl_hyper_sd_4step_lora.safetensors", "pinhole-mini-lightning-lora.safetensors"), 0.8),
        ),
    }
)
