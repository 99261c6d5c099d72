"""The developer-mode group of a picture's parameters; part of ``GenerationParameters``, never used alone."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict

from modules.choices import (
    MAX_CLIP_SKIP,
    METADATA_SCHEMES,
    OUTPUT_FORMATS,
    OWN_VAE,
    REFINER_SWAP_METHODS,
    SAMPLERS,
    SCHEDULERS,
    metadata_scheme_label,
)
from modules.controls import Checkbox, Choice, ModelFile, Slider


class AdvancedParameters(BaseModel):
    """Parameters that most people never touch. Order of declaration = order of ``ctrls``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    disable_preview: Annotated[
        bool, Checkbox(label="Disable Preview", hint="Saves the time that previews of unfinished pictures take")
    ] = False
    disable_intermediate_results: Annotated[
        bool, Checkbox(label="Disable Intermediate Results", hint="Finished pictures appear when all of them are")
    ] = False
    output_format: Annotated[str, Choice(label="Output Format", choices=OUTPUT_FORMATS, style="radio")] = "png"
    save_metadata_to_images: Annotated[
        bool,
        Checkbox(label="Save Metadata to Images", hint="Off: a picture file does not tell how it was made"),
    ] = True
    metadata_scheme: Annotated[
        str,
        Choice(
            label="Metadata Scheme", choices=METADATA_SCHEMES, style="radio", text=metadata_scheme_label,
            hint="What other programs read in your pictures. Pinhole finds everything in either",
        ),
    ] = "fooocus"  # fmt: skip
    sampler_name: Annotated[str, Choice(label="Sampler", choices=SAMPLERS)] = "dpmpp_2m_sde_gpu"
    scheduler_name: Annotated[str, Choice(label="Scheduler", choices=SCHEDULERS)] = "karras"
    generate_image_grid: Annotated[
        bool,
        Checkbox(
            label="Generate Image Grid for Each Batch", hint="All pictures of a task on one more, saved beside them"
        ),
    ] = False
    overwrite_step: Annotated[
        int,
        Slider(
            label="Forced Overwrite of Sampling Step", minimum=1, maximum=200, step=1, off=-1,
            hint="-1: as the performance mode says",
        ),
    ] = -1  # fmt: skip
    overwrite_switch: Annotated[
        int,
        Slider(
            label="Forced Overwrite of Refiner Switch Step", minimum=1, maximum=200, step=1, off=-1,
            hint="Steps before the refiner takes over. -1: as Refiner Switch At says",
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
    read_wildcards_in_order: Annotated[
        bool,
        Checkbox(
            label="Read wildcards in order",
            hint="Picture by picture, the next line of each list, instead of one drawn by the seed",
        ),
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
    guidance_rescale: Annotated[
        float,
        Slider(
            label="CFG Rescale", minimum=0.0, maximum=1.0, step=0.01,
            hint="Against burnt colours at a high guidance scale, and for v-prediction models",
        ),
    ] = 0.0  # fmt: skip
    guidance_begin: Annotated[float, Slider(label="Guidance Begins At", minimum=0.0, maximum=1.0, step=0.01)] = 0.0
    guidance_end: Annotated[
        float,
        Slider(
            label="Guidance Ends At", minimum=0.0, maximum=1.0, step=0.01,
            hint="A part of the run without guidance takes half the time",
        ),
    ] = 1.0  # fmt: skip
    refiner_swap_method: Annotated[
        str,
        Choice(
            label="Refiner Swap Method", choices=REFINER_SWAP_METHODS,
            hint="joint: the sampler goes on as if nothing had happened. separate: it begins anew. vae: it begins anew "
            "with the finished picture, as SD 1.5 refiners always do",
        ),
    ] = "joint"  # fmt: skip
    vae_name: Annotated[str, ModelFile(label="VAE", folder="vae", none=OWN_VAE)] = OWN_VAE
    freeu_enabled: Annotated[bool, Checkbox(label="FreeU")] = False
    freeu_b1: Annotated[float, Slider(label="FreeU B1", minimum=0.0, maximum=2.0, step=0.01)] = 1.01
    freeu_b2: Annotated[float, Slider(label="FreeU B2", minimum=0.0, maximum=2.0, step=0.01)] = 1.02
    freeu_s1: Annotated[float, Slider(label="FreeU S1", minimum=0.0, maximum=4.0, step=0.01)] = 0.99
    freeu_s2: Annotated[float, Slider(label="FreeU S2", minimum=0.0, maximum=4.0, step=0.01)] = 0.95
