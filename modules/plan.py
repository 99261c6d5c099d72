"""Parameters -> jobs in which nothing is left open; touches no file (but by the sources it is given) and no network."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath

from modules.choices import MAX_SEED, NO_MODEL, OWN_VAE, parse_aspect_ratio
from modules.parameters import LORA_ROWS, GenerationParameters
from modules.performance import MODES
from modules.prompts import NO_SOURCES, Sources, Texts, Wish, texts_of

SDXL_NATIVE = 1024
SIZE_MULTIPLE = 8  # pixels per latent pixel of every VAE in use


class PlanError(ValueError):
    """Parameters of which no picture can be made; the message is fit for the user's eyes."""


@dataclass(frozen=True)
class ModelFacts:
    """What must be known of a checkpoint to plan for it.

    ``native`` is the side, in pixels, of the squares it was trained on; ``kind`` is what its tensors look like
    (``files.KINDS``); ``text_width`` is the width of text states it reads, None where that cannot be seen.
    """

    native: int
    kind: str = "sdxl-base"
    text_width: int | None = None


@dataclass(frozen=True)
class ImageJob:
    """One picture, completely decided; JSON-able with ``dataclasses.asdict``.

    ``width`` and ``height`` are in pixels, multiples of 8. ``positive`` and ``negative`` are texts that are encoded one
    by one and joined after that; ``styles`` names those whose texts are among them. ``expand`` is the text to which the
    engine adds words, empty for none; what comes of it is ``expansion`` and the last of ``positive``. ``denoise`` and
    ``adm_scaler_end`` are fractions 0..1. ``checkpoint`` is relative to the checkpoint folders. ``refiner`` is
    likewise, empty for none, and takes over after ``switch`` steps. ``vae`` is relative to the VAE folder, empty for
    the checkpoint's own. ``loras`` are (name, strength). ``freeu`` is (b1, b2, s1, s2), None to leave it.
    """

    index: int
    seed: int
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    styles: tuple[str, ...]
    expand: str
    checkpoint: str
    width: int
    height: int
    steps: int
    sampler: str
    scheduler: str
    denoise: float
    guidance_scale: float
    sharpness: float
    adaptive_cfg: float
    adm_scaler_positive: float
    adm_scaler_negative: float
    adm_scaler_end: float
    clip_skip: int
    preview: bool
    guidance_rescale: float
    guidance_begin: float
    guidance_end: float
    refiner: str
    switch: int
    swap_method: str
    vae: str
    loras: tuple[tuple[str, float], ...]
    freeu: tuple[float, float, float, float] | None
    expansion: str = ""


def plan(
    parameters: GenerationParameters,
    facts: ModelFacts,
    sources: Sources = NO_SOURCES,
    note: Callable[[str], None] = lambda sentence: None,
    drawn: Sequence[Texts] = (),
) -> list[ImageJob]:
    """The jobs of a task, in order of their index.

    Job i has seed ``image_seed + i`` modulo 2**63. ``sources`` are what the prompt may refer to; ``note`` is told in a
    sentence what of that is not there. ``drawn`` are the texts of an earlier plan, which are used again. Raises
    ``PlanError`` when the seed has not been drawn yet: a plan must give the same jobs each time it is made.
    """
    if parameters.image_seed < 0:
        raise PlanError("image_seed: a seed must be drawn before the plan is made")
    mode = MODES[parameters.performance_selection]
    parameters = parameters.with_values(mode.overrides) if mode.overrides else parameters
    advanced = parameters.advanced
    if advanced.guidance_begin > advanced.guidance_end:
        raise PlanError(
            f"Guidance begins at {advanced.guidance_begin:g} and ends at {advanced.guidance_end:g}: "
            "it must end after it begins. For none at all, set the guidance scale to 1."
        )
    width, height = picture_size(parameters, facts)
    steps = advanced.overwrite_step if advanced.overwrite_step > 0 else mode.steps
    freeu = (advanced.freeu_b1, advanced.freeu_b2, advanced.freeu_s1, advanced.freeu_s2)
    seeds = [
        (parameters.image_seed + (0 if advanced.disable_seed_increment else index)) % (MAX_SEED + 1)
        for index in range(parameters.image_number)
    ]
    told = drawn or texts_of(wish_of(parameters, mode_loras(parameters, facts, sources)), seeds, sources, note)
    return [
        ImageJob(
            index=index,
            seed=seed,
            positive=texts.positive,
            negative=texts.negative,
            styles=texts.styles,
            expand=texts.expand,
            checkpoint=parameters.base_model,
            width=width,
            height=height,
            steps=steps,
            sampler=advanced.sampler_name,
            scheduler=advanced.scheduler_name,
            denoise=1.0,
            guidance_scale=parameters.guidance_scale,
            sharpness=parameters.sharpness,
            adaptive_cfg=advanced.adaptive_cfg,
            adm_scaler_positive=advanced.adm_scaler_positive,
            adm_scaler_negative=advanced.adm_scaler_negative,
            adm_scaler_end=advanced.adm_scaler_end,
            clip_skip=advanced.clip_skip,
            preview=not advanced.disable_preview,
            guidance_rescale=advanced.guidance_rescale,
            guidance_begin=advanced.guidance_begin,
            guidance_end=advanced.guidance_end,
            refiner="" if parameters.refiner_model == NO_MODEL else parameters.refiner_model,
            switch=switch_step(parameters, steps),
            swap_method=advanced.refiner_swap_method,
            vae="" if advanced.vae_name == OWN_VAE else advanced.vae_name,
            loras=texts.loras,
            freeu=freeu if advanced.freeu_enabled else None,
        )
        for index, (seed, texts) in enumerate(zip(seeds, told, strict=True))
    ]


def pack_texts(jobs: Sequence[ImageJob]) -> str:
    """What was drawn for jobs, as JSON."""
    drawn = [Texts(job.positive, job.negative, job.loras, job.styles, job.expand) for job in jobs]
    return json.dumps([asdict(texts) for texts in drawn])


def unpack_texts(packed: str) -> list[Texts]:
    """The inverse of ``pack_texts``; nothing for an empty string."""
    return [
        Texts(
            positive=tuple(texts["positive"]),
            negative=tuple(texts["negative"]),
            loras=tuple((name, weight) for name, weight in texts["loras"]),
            styles=tuple(texts["styles"]),
            expand=texts.get("expand", ""),
        )
        for texts in json.loads(packed or "[]")
    ]


def mode_loras(parameters: GenerationParameters, facts: ModelFacts, sources: Sources) -> tuple[tuple[str, float], ...]:
    """(name, strength) of the LoRA that the performance mode brings, nothing where it needs none.

    Raises ``PlanError`` in words when none of the mode's files is there, or none of them fits the base model.
    """
    mode = parameters.performance_selection
    wanted = MODES[mode].lora
    if wanted is None:
        return ()
    there: dict[str, str] = {}
    for name in sources.loras():
        there.setdefault(PurePosixPath(name).name, name)
    found = [there[file] for file in wanted.files if file in there]
    for name in found:
        if None in (facts.text_width, width := sources.lora_text_width(name)) or facts.text_width == width:
            return ((name, wanted.strength),)
    misfit = f" {' and '.join(found)} {'is' if len(found) == 1 else 'are'} there but made for another kind of model."
    raise PlanError(
        f"{mode} needs one of these files, made for {parameters.base_model}: {', '.join(wanted.files)}."
        f"{misfit if found else ''} Put it into {sources.lora_folder}, or choose Speed."
    )


def wish_of(parameters: GenerationParameters, first: tuple[tuple[str, float], ...] = ()) -> Wish:
    """What the texts of these parameters are made of. ``first`` are LoRAs before the chosen ones, none twice."""
    taken = {name for name, _ in first}
    return Wish(
        prompt=parameters.prompt,
        negative_prompt=parameters.negative_prompt,
        styles=parameters.style_selections,
        in_order=parameters.advanced.read_wildcards_in_order,
        loras=(*first, *(lora for lora in parameters.loras() if lora[0] not in taken)),
        max_loras=len(LORA_ROWS) + len(first),
    )


def switch_step(parameters: GenerationParameters, steps: int) -> int:
    """After how many of ``steps`` the refiner takes over; all of them where there is none."""
    if parameters.refiner_model == NO_MODEL:
        return steps
    forced = parameters.advanced.overwrite_switch
    return min(steps, forced if forced > 0 else round(steps * parameters.refiner_switch))


def picture_size(parameters: GenerationParameters, facts: ModelFacts) -> tuple[int, int]:
    """Width and height in pixels.

    The aspect ratio is written for SDXL's 1024 and scaled to the side of the model in use; an overwritten side is taken
    as it is, rounded down to a multiple of 8.
    """
    sides = parse_aspect_ratio(parameters.aspect_ratios_selection)
    forced = (parameters.advanced.overwrite_width, parameters.advanced.overwrite_height)
    width, height = (
        side // SIZE_MULTIPLE * SIZE_MULTIPLE if side > 0 else _scaled(ratio, facts.native)
        for ratio, side in zip(sides, forced, strict=True)
    )
    return width, height


def _scaled(side: int, native: int) -> int:
    return max(1, round(side * native / SDXL_NATIVE / SIZE_MULTIPLE)) * SIZE_MULTIPLE
