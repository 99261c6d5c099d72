"""A job's texts and noise levels, as the networks are told them; knows no sampler, no memory and no disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ldm_patched.modules.conditioning import SizeVectors, refiner_vector, size_vectors
from ldm_patched.modules.embeddings import NO_EMBEDDINGS, Embeddings
from ldm_patched.modules.model_sampling import ModelSampling
from ldm_patched.modules.samplers import Guidance, TextCondition, find_sampler
from ldm_patched.modules.schedulers import calculate_sigmas, choose_model_sampling, find_scheduler, is_for_others
from ldm_patched.modules.sd import CLIP, Checkpoint, Refiner
from ldm_patched.modules.state_dict import WeightsError
from modules.loaded import LoadedModel
from modules.plan import ImageJob

# The aesthetic scores that SDXL's refiner was published to be used with (arXiv 2307.01952).
POSITIVE_SCORE, NEGATIVE_SCORE = 6.0, 2.5
RENOISE = 1.4
"""How much higher than its schedule's the noise levels of a refiner are that begins with a finished picture."""

Note = Callable[[str], None]


class PipelineError(ValueError):
    """A picture that cannot be made; the message is fit for the user's eyes."""


@dataclass(frozen=True)
class Sides:
    """What both sides of guidance are told; one thing twice where there is no guidance."""

    cond: TextCondition
    uncond: TextCondition


@dataclass(frozen=True)
class Schedule:
    """The noise levels of a job's run, and what both networks predict there.

    switch: how many steps are the base's where there is a refiner. renoised: the levels of a refiner's steps that
    begins with the base's finished picture, None for one that goes on with its noisy one.
    """

    sigmas: Sequence[float]
    base: ModelSampling
    refiner: ModelSampling | None
    switch: int
    renoised: Sequence[float] | None = None

    @property
    def steps(self) -> int:
        """How many steps there are: some schedules have more or fewer than the job asks for."""
        return len(self.sigmas) - 1


@dataclass(frozen=True)
class PreparedJob:
    """A job with its schedule and its encoded texts, as the base model and as the refiner is told them."""

    job: ImageJob
    schedule: Schedule
    base: Sides
    refiner: Sides | None


def prepare(loaded: LoadedModel, job: ImageJob, embeddings: Sequence[Path], note: Note) -> PreparedJob:
    """Schedule, and texts and sizes of both sides of guidance. A side that is not needed costs nothing.

    embeddings: the folders of those that texts may name. Raises ``PipelineError`` and ``WeightsError``.
    """
    schedule = _schedule(loaded, job)
    spec, clip = loaded.spec, loaded.checkpoint.clip
    found = clip.find_embeddings((*job.positive, *job.negative), embeddings)
    for warning in found.warnings:
        note(warning)
    positive, negative = _both_sides(spec.checkpoint, clip, job, found)
    base = Sides(
        base_condition(*positive, job, job.adm_scaler_positive), base_condition(*negative, job, job.adm_scaler_negative)
    )
    match loaded.refiner:
        case None:
            return PreparedJob(job, schedule, base, None)
        case Checkpoint(clip=own):
            texts = _both_sides(spec.refiner, own, job, _own_embeddings(spec.refiner, own, job, embeddings, note))
            return PreparedJob(job, schedule, base, Sides(*(base_condition(*side, job, 1.0) for side in texts)))
        case Refiner(kind="sdxl_refiner", unet=unet):
            width = unet.params.context_dim
            sides = Sides(
                refiner_condition(*positive, job, width, POSITIVE_SCORE),
                refiner_condition(*negative, job, width, NEGATIVE_SCORE),
            )
            return PreparedJob(job, schedule, base, sides)
        case _:
            return PreparedJob(job, schedule, base, base)


def guidance_of(job: ImageJob) -> Guidance:
    """The guidance of a job."""
    return Guidance(
        job.guidance_scale, job.sharpness, job.adaptive_cfg, job.guidance_rescale, job.guidance_begin, job.guidance_end
    )


def base_condition(hidden: Tensor, pooled: Tensor | None, job: ImageJob, scale: float) -> TextCondition:
    """What an SDXL model is told; Stable Diffusion 1.5 has no pooled text and takes no sizes."""
    return TextCondition(hidden, None if pooled is None else size_vectors(pooled, job.width, job.height, scale))


def refiner_condition(hidden: Tensor, pooled: Tensor | None, job: ImageJob, width: int, score: float) -> TextCondition:
    """What an SDXL refiner is told: the states of the larger text encoder, which come last, and an aesthetic score."""
    assert pooled is not None  # the loader has seen to it that the base is an SDXL model
    vector = refiner_vector(pooled, job.width, job.height, score)
    return TextCondition(hidden[..., -width:], SizeVectors(vector, vector))


def doubts(loaded: LoadedModel, jobs: Sequence[ImageJob]) -> list[str]:
    """What the user should know before jobs are done with these models, in sentences."""
    told: list[str] = []
    for scheduler in dict.fromkeys(job.scheduler for job in jobs):
        if is_for_others(loaded.checkpoint.prediction, scheduler):
            told.append(
                f"{loaded.spec.checkpoint} does not say that it is Playground v2.5, for which the scheduler "
                f"{scheduler} is made. If the picture is wrong, choose another scheduler."
            )
    if isinstance(loaded.refiner, Checkpoint) and any(job.swap_method != "vae" for job in jobs):
        told.append(
            f"{loaded.spec.refiner} is a Stable Diffusion 1.5 model, whose latents are not SDXL's: it is given the "
            "finished picture, by the swap method vae."
        )
    return told


Encoded = tuple[Tensor, Tensor | None]


def _both_sides(name: str, clip: CLIP, job: ImageJob, embeddings: Embeddings) -> tuple[Encoded, Encoded]:
    def encode(texts: Sequence[str], whole: int) -> Encoded:
        return _encode(name, clip, texts, whole, job.clip_skip, embeddings)

    # An expansion is read word by word; what the picture is about as a whole is for the other texts to say.
    positive = encode(job.positive, len(job.positive) - bool(job.expansion))
    return positive, encode(job.negative, len(job.negative)) if guidance_of(job).needs_uncond else positive


def _encode(name: str, clip: CLIP, texts: Sequence[str], whole: int, skip: int, embeddings: Embeddings) -> Encoded:
    """The texts, of which the first ``whole`` say what the picture is about as a whole."""
    try:
        ((hidden, extras),) = clip.encode(texts, skip, top_k=whole, embeddings=embeddings)
    except ValueError as error:  # a text that is too long, a layer that is not there
        raise PipelineError(f"{name}: {error}") from error
    return hidden, extras["pooled_output"]


def _own_embeddings(name: str, clip: CLIP, job: ImageJob, folders: Sequence[Path], note: Note) -> Embeddings:
    """Those that a refiner's own text encoder can use. What is missing for the base too has been told."""
    try:
        return clip.find_embeddings((*job.positive, *job.negative), folders)
    except WeightsError as error:
        note(f"{name}: {error}. Its part of the picture is made without embeddings.")
        return NO_EMBEDDINGS


def _schedule(loaded: LoadedModel, job: ImageJob) -> Schedule:
    spec, refiner = loaded.spec, loaded.refiner
    base = _parametrisation(spec.checkpoint, loaded.checkpoint, job)
    skip_lowest = find_sampler(job.sampler).skips_lowest
    sigmas = calculate_sigmas(base, job.scheduler, job.steps, job.denoise, skip_lowest)
    # A schedule may have fewer steps than were asked for: the switch keeps its place in the run.
    switch = round(job.switch / job.steps * (len(sigmas) - 1))
    if refiner is None:
        return Schedule(sigmas, base, None, switch)
    low = _parametrisation(spec.refiner, refiner, job)
    if isinstance(refiner, Checkpoint) or job.swap_method == "vae":
        own = calculate_sigmas(low, job.scheduler, job.steps, job.denoise, skip_lowest)
        rest = own[-(len(sigmas) - switch) :]
        # With nothing before it, the refiner makes the picture alone.
        return Schedule(sigmas, base, low, switch, [RENOISE * sigma for sigma in rest] if switch else rest)
    if low.latent_format is not base.latent_format:
        raise PipelineError(
            f"{spec.refiner} cannot refine pictures of {spec.checkpoint} half-way: their latents differ. Choose the "
            "swap method vae, another refiner, or none."
        )
    return Schedule(sigmas, base, low, switch)


def _parametrisation(name: str, network: Checkpoint | Refiner, job: ImageJob) -> ModelSampling:
    find_scheduler(job.scheduler)
    try:
        return choose_model_sampling(network.kind, network.prediction, network.zero_terminal_snr, job.scheduler)
    except ValueError as error:
        raise PipelineError(f"{name} {error}.") from error
