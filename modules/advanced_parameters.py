"""The developer-mode group of a picture's parameters; part of ``GenerationParameters``, never used alone."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict

from modules.choices import MAX_CLIP_SKIP, OUTPUT_FORMATS, SAMPLERS, SCHEDULERS
from modules.controls import Checkbox, Choice, Slider


class AdvancedParameters(BaseModel):
    """Parameters that most people never touch. Order of declaration = order of ``ctrls``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    disable_preview: Annotated[bool, Checkbox(label="Disable Preview")] = False
    output_format: Annotated[str, Choice(label="Output Format", choices=OUTPUT_FORMATS, style="radio")] = "png"
    sampler_name: Annotated[str, Choice(label="Sampler", choices=SAMPLERS)] = "dpmpp_2m_sde_gpu"
    scheduler_name: Annotated[str, Choice(label="Scheduler", choices=SCHEDULERS)] = "karras"
    overwrite_step: Annotated[
        int,
        Slider(
            label="Forced Overwrite of Sampling Step", minimum=1, maximum=200, step=1, off=-1,
            hint="-1: as the performance mode says",
        ),
    ] = -1  # fmt: skip
    overwrite_width: Annotated[
        int,
        Slider(
            label="Forced Overwrite of Generating Width", minimum=64, maximum=2048, step=8, off=-1,
            hint="In pixels, rounded down to a multiple of 8. -1: as the aspect ratio says",
        ),
    ] = -1  # fmt: skip
    overwrite_height: Annotated[
        int,
        Slider(
            label="Forced Overwrite of Generating Height", minimum=64, maximum=2048, step=8, off=-1,
            hint="In pixels, rounded down to a multiple of 8. -1: as the aspect ratio says",
        ),
    ] = -1  # fmt: skip
    disable_seed_increment: Annotated[
        bool, Checkbox(label="Disable seed increment", hint="Every picture of a task uses the same seed")
    ] = False
    clip_skip: Annotated[int, Slider(label="CLIP Skip", minimum=1, maximum=MAX_CLIP_SKIP, step=1)] = 2
    adm_scaler_positive: Annotated[
        float, Slider(label="Positive ADM Guidance Scaler", minimum=0.1, maximum=3.0, step=0.001)
    ] = 1.5
    adm_scaler_negative: Annotated[
        float, Slider(label="Negative ADM Guidance Scaler", minimum=0.1, maximum=3.0, step=0.001)
    ] = 0.8
    adm_scaler_end: Annotated[float, Slider(label="ADM Guidance End At Step", minimum=0.0, maximum=1.0, step=0.001)] = (
        0.3
    )
    adaptive_cfg: Annotated[float, Slider(label="CFG Mimicking from TSNR", minimum=1.0, maximum=30.0, step=0.01)] = 7.0
