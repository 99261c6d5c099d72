"""ImageJob -> picture: loads models, encodes texts, samples, decodes. The one module that knows plan and engine.

It does not know the queue, the disk (but for the model folders) and the page.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ldm_patched.ldm.unet import UNet
from ldm_patched.modules.apart import RowByRow
from ldm_patched.modules.conditioning import SizeVectors, refiner_vector, size_vectors
from ldm_patched.modules.devices import give_back_memory, use_threads
from ldm_patched.modules.embeddings import Embeddings
from ldm_patched.modules.hooks import FreeU
from ldm_patched.modules.memory import AUTOMATIC, Policy
from ldm_patched.modules.model_sampling import ModelSampling
from ldm_patched.modules.sample import InterruptibleDenoiser, prepare_noise, sample
from ldm_patched.modules.samplers import (
    Denoiser,
    Guidance,
    GuidedDenoiser,
    SwitchingDenoiser,
    TextCondition,
    find_sampler,
)
from ldm_patched.modules.schedulers import calculate_sigmas, choose_model_sampling, find_scheduler, is_for_others
from ldm_patched.modules.sd import Checkpoint, Refiner, at_work, discard
from ldm_patched.modules.text_cache import TextCache
from ldm_patched.modules.tiling import SMALLEST
from modules.choices import MAX_SEED
from modules.ladder import Ladder, Means, Stage, Work
from modules.loaded import LoadedModel, Loader, ModelSpec
from modules.model_folders import ModelFolders
from modules.observer import Observer
from modules.plan import ImageJob
from modules.stopwatch import Stopwatch

if TYPE_CHECKING:
    from modules.observer import Picture

log = logging.getLogger(__name__)

LATENT_FACTOR = 8  # pixels per latent pixel
LARGEST_TILE = 64  # latent pixels, of the tiles that are taken when memory ran out
# The aesthetic scores that SDXL's refiner was published to be used with (arXiv 2307.01952).
POSITIVE_SCORE, NEGATIVE_SCORE = 6.0, 2.5


class PipelineError(ValueError):
    """A picture that cannot be made; the message is fit for the user's eyes."""


class _Cancelled(Exception):
    """Raised out of the sampling loop when the user wants to skip or stop."""


@dataclass(frozen=True)
class Sides:
    """What both sides of guidance are told; one thing twice where there is no guidance."""

    cond: TextCondition
    uncond: TextCondition


@dataclass(frozen=True)
class Schedule:
    """The noise levels of a job's run, and what both networks predict there."""

    sigmas: Sequence[float]
    base: ModelSampling
    refiner: ModelSampling | None

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


def models_of(job: ImageJob) -> ModelSpec:
    """The models that a job asks for. A refiner that would come too late for any step is not asked for."""
    refiner = job.refiner if job.switch < job.steps else ""
    return ModelSpec(job.checkpoint, refiner, job.vae, job.loras)


class Pipeline:
    """Makes pictures of jobs and keeps the models it used last."""

    def __init__(self, folders: ModelFolders, texts: Path | None = None, policy: Policy = AUTOMATIC) -> None:
        """texts: a folder that keeps encoded texts, for the next run and the next process. policy: of memory."""
        self._folders = folders
        self._texts = None if texts is None else TextCache(texts)
        self._open = partial(Loader, folders, self._texts)
        self._loader = self._open(policy)
        self._ladder = Ladder(policy)
        self._policy = policy
        use_threads(policy)

    @property
    def loaded(self) -> LoadedModel | None:
        """The models in memory, those of the last job."""
        return self._loader.loaded

    def run(self, jobs: Sequence[ImageJob], observer: Observer) -> None:
        """Make the pictures of the jobs, in order.

        'skip' leaves the picture being made, 'stop' ends all. What is wrong with a job is raised as a ``ValueError``
        with a sentence for the user.
        """
        for spec, group in groupby(jobs, key=models_of):
            batch = list(group)
            watch = Stopwatch()
            observer.progress(batch[0].index, 0, batch[0].steps, f"Loading {spec.checkpoint}", None)
            with watch("load"):
                loaded = self._loader.load(spec, observer.note)
            _doubt(loaded, batch, observer)
            observer.progress(batch[0].index, 0, batch[0].steps, "Reading the prompt", None)
            with watch("encode"):
                prepared = [self._prepare(loaded, job, observer) for job in batch]
            for each in prepared:
                if not self._make(loaded, each, observer, watch):
                    return
                watch = Stopwatch()  # loading and encoding are the first picture's

    def encode(self, jobs: Sequence[ImageJob], observer: Observer) -> int:
        """Encode the texts of jobs and make no picture; returns how many were not there yet.

        Raises ``PipelineError`` as soon as one cannot be kept.
        """
        before = after = 0
        for spec, group in groupby(jobs, key=models_of):
            batch = list(group)
            observer.progress(batch[0].index, 0, 1, f"Loading {spec.checkpoint}", None)
            loaded = self._loader.load(spec, observer.note)
            before += loaded.checkpoint.clip.encoded
            for job in batch:
                self._prepare(loaded, job, observer)
                if self._texts is not None and self._texts.trouble:
                    raise PipelineError(f"{self._texts.trouble} Make room there and start again: what is kept stays.")
            after += loaded.checkpoint.clip.encoded
        return after - before

    def _prepare(self, loaded: LoadedModel, job: ImageJob, observer: Observer) -> PreparedJob:
        texts = (*job.positive, *job.negative)
        embeddings = loaded.checkpoint.clip.find_embeddings(texts, self._folders.embeddings)
        for warning in embeddings.warnings:
            observer.note(warning)
        return _prepare(loaded, job, embeddings)

    def _make(self, loaded: LoadedModel, prepared: PreparedJob, observer: Observer, watch: Stopwatch) -> bool:
        """One picture, by the means that memory allows. False if the user wants no more."""
        job = prepared.job
        self._ladder.begin((loaded.spec, job.loras), job.width * job.height)
        attempt = Attempt(loaded, prepared, observer, watch)

        def make(means: Means) -> Picture:
            attempt.loaded = self._as_the_ladder_says(attempt.loaded, job, observer)
            if attempt.prepared.base.cond.hidden.device != attempt.loaded.checkpoint.placement.device:
                attempt.prepared = self._prepare(attempt.loaded, job, observer)
            return attempt.picture(means)

        wish = observer.cancelled()
        if not wish:
            try:
                picture = self._ladder.make(make, lambda: attempt.stage, observer.note)
            except _Cancelled as cancelled:
                wish = cancelled.args[0]
        if wish:
            return wish != "stop"
        observer.finished(job.index, picture, dict(watch.seconds))
        return True

    def _as_the_ladder_says(self, loaded: LoadedModel, job: ImageJob, observer: Observer) -> LoadedModel:
        """The models of a job in the form that the ladder has come to. loaded: those that the run began with."""
        if self._ladder.means.policy == self._policy and self._loader.loaded is not None:
            return self._loader.loaded
        for model in (loaded.checkpoint, loaded.refiner):  # the run holds on to them
            if model is not None:
                discard(model)
        self._policy = self._ladder.means.policy
        self._loader = self._open(self._policy)
        give_back_memory()
        observer.progress(job.index, 0, job.steps, f"Loading {job.checkpoint}", None)
        return self._loader.load(models_of(job), observer.note)


class Attempt:
    """A picture on its way. What is done stays done when memory runs out."""

    def __init__(self, loaded: LoadedModel, prepared: PreparedJob, observer: Observer, watch: Stopwatch) -> None:
        self.loaded = loaded
        self.prepared = prepared
        self._observer = observer
        self._watch = watch
        self._latent: Tensor | None = None

    @property
    def stage(self) -> Stage:
        """What is being computed, and whether a GPU does it."""
        pair = guidance_of(self.prepared.job).needs_uncond
        work: Work = "decode" if self._latent is not None else "pair" if pair else "single"
        return Stage(work, self.loaded.checkpoint.placement.device.type != "cpu")

    def picture(self, means: Means) -> Picture:
        """The picture, from where an earlier call has come to."""
        job, steps = self.prepared.job, self.prepared.schedule.steps
        if self._latent is None:
            with self._watch("sample"):
                self._latent = _sample(self.loaded, self.prepared, self._observer, means.apart)
        self._observer.progress(job.index, steps, steps, "Painting the picture", None)
        with self._watch("decode"):
            return _decode(self.loaded, self._latent, means.tiled)


def _prepare(loaded: LoadedModel, job: ImageJob, embeddings: Embeddings) -> PreparedJob:
    """Schedule, and texts and sizes of both sides of guidance. A side that is not needed costs nothing."""
    schedule = _schedule(loaded, job)
    positive = _encode(loaded, job, job.positive, embeddings)
    negative = _encode(loaded, job, job.negative, embeddings) if guidance_of(job).needs_uncond else positive
    base = Sides(
        base_condition(*positive, job, job.adm_scaler_positive), base_condition(*negative, job, job.adm_scaler_negative)
    )
    match loaded.refiner:
        case None:
            return PreparedJob(job, schedule, base, None)
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


def _encode(
    loaded: LoadedModel, job: ImageJob, texts: Sequence[str], embeddings: Embeddings
) -> tuple[Tensor, Tensor | None]:
    clip = loaded.checkpoint.clip
    try:
        ((hidden, extras),) = clip.encode(texts, job.clip_skip, top_k=len(texts), embeddings=embeddings)
    except ValueError as error:  # a text that is too long, a layer that is not there
        raise PipelineError(f"{loaded.spec.checkpoint}: {error}") from error
    return hidden, extras["pooled_output"]


def _sample(loaded: LoadedModel, prepared: PreparedJob, observer: Observer, apart: bool = False) -> Tensor:
    """The finished latent of a job, as the VAE knows it. apart: the sides of guidance one after the other."""
    job, checkpoint, schedule = prepared.job, loaded.checkpoint, prepared.schedule
    latent_format, steps = schedule.base.latent_format, schedule.steps

    def preview(x0: Tensor) -> Tensor:
        return loaded.preview(latent_format.to_vae(x0))

    def check() -> None:
        if wish := observer.cancelled():
            raise _Cancelled(wish)

    def told_after(first: int) -> Callable[[int, Tensor], None]:
        def after_step(step: int, x0: Tensor) -> None:
            done = first + step + 1
            text = f"Step {done} of {steps}"
            observer.progress(job.index, done, steps, text, lambda: preview(x0).numpy())

        return after_step

    shape = (1, checkpoint.unet.params.in_channels, job.height // LATENT_FACTOR, job.width // LATENT_FACTOR)
    latent = torch.zeros(shape, device=prepared.base.cond.hidden.device)
    with at_work(checkpoint), at_work(loaded.refiner or checkpoint):
        for part in _parts(loaded, prepared, apart):
            noise = torch.zeros_like(latent) if part.first else prepare_noise(shape, job.seed)
            denoiser = InterruptibleDenoiser(part.denoiser, check)
            latent = sample(denoiser, noise, latent, part.sigmas, job.sampler, part.seed, told_after(part.first))
    return latent_format.to_vae(latent)


@dataclass(frozen=True)
class _Part:
    """A run of the sampler: with what, over which noise levels, and how many steps came before it."""

    denoiser: Denoiser
    sigmas: Sequence[float]
    first: int
    seed: int


def _parts(loaded: LoadedModel, prepared: PreparedJob, apart: bool) -> list[_Part]:
    """One run of the sampler, or two where the refiner begins anew.

    Both networks are told of all noise levels, so that one that refines itself computes what it would alone.
    """
    job, checkpoint, refiner = prepared.job, loaded.checkpoint, loaded.refiner
    schedule, sigmas = prepared.schedule, prepared.schedule.sigmas
    freeu = None if job.freeu is None else FreeU(checkpoint.unet.params.model_channels, *job.freeu)

    def guided(unet: UNet, sampling: ModelSampling, sides: Sides, hook: FreeU | None) -> GuidedDenoiser:
        guidance, end = guidance_of(job), job.adm_scaler_end
        network = RowByRow(unet) if apart else unet
        return GuidedDenoiser(network, sampling, sides.cond, sides.uncond, guidance, sigmas, end, hook)

    base = guided(checkpoint.unet, schedule.base, prepared.base, freeu)
    if refiner is None or prepared.refiner is None or schedule.refiner is None:
        return [_Part(base, sigmas, 0, job.seed)]
    # A schedule may have fewer steps than were asked for: the switch keeps its place in the run.
    switch = round(job.switch / job.steps * schedule.steps)
    low = guided(refiner.unet, schedule.refiner, prepared.refiner, None)
    if job.swap_method == "joint":
        return [_Part(SwitchingDenoiser(base, low, sigmas[switch]), sigmas, 0, job.seed)]
    if switch == 0:
        return [_Part(low, sigmas, 0, job.seed)]
    # A seed that is no job's for the second part: its noise would else be the first part's, or another picture's.
    second = _Part(low, sigmas[switch:], switch, job.seed + MAX_SEED + 1)
    return [_Part(base, sigmas[: switch + 1], 0, job.seed), second]


def _doubt(loaded: LoadedModel, jobs: Sequence[ImageJob], observer: Observer) -> None:
    """Tell of schedulers that are made for another model than this one says it is."""
    for scheduler in dict.fromkeys(job.scheduler for job in jobs):
        if is_for_others(loaded.checkpoint.prediction, scheduler):
            observer.note(
                f"{loaded.spec.checkpoint} does not say that it is Playground v2.5, for which the scheduler "
                f"{scheduler} is made. If the picture is wrong, choose another scheduler."
            )


def _schedule(loaded: LoadedModel, job: ImageJob) -> Schedule:
    spec, refiner = loaded.spec, loaded.refiner
    base = _parametrisation(spec.checkpoint, loaded.checkpoint, job)
    low = None if refiner is None else _parametrisation(spec.refiner, refiner, job)
    if low is not None and low.latent_format is not base.latent_format:
        raise PipelineError(
            f"{spec.refiner} cannot refine pictures of {spec.checkpoint}: their latents differ. Choose another "
            "refiner, or none."
        )
    skip_lowest = find_sampler(job.sampler).skips_lowest
    return Schedule(calculate_sigmas(base, job.scheduler, job.steps, job.denoise, skip_lowest), base, low)


def _parametrisation(name: str, network: Checkpoint | Refiner, job: ImageJob) -> ModelSampling:
    find_scheduler(job.scheduler)
    try:
        return choose_model_sampling(network.kind, network.prediction, network.zero_terminal_snr, job.scheduler)
    except ValueError as error:
        raise PipelineError(f"{name} {error}.") from error


def _decode(loaded: LoadedModel, latent: Tensor, tiled: bool = False) -> Picture:
    """The picture of a finished latent. tiled: in tiles, also where there seems to be memory for the whole."""
    tile = min(LARGEST_TILE, max(SMALLEST, max(latent.shape[-2:]) // 2)) if tiled else None
    pixels = loaded.vae.decode(latent, tile)[0].permute(1, 2, 0)
    if not bool(torch.isfinite(pixels).all()):
        spec = loaded.spec
        makers = " or ".join(dict.fromkeys(filter(None, (spec.checkpoint, spec.refiner, spec.vae))))
        raise PipelineError(f"{makers} gave no picture but invalid numbers (NaN): its weights are damaged.")
    picture: Picture = (pixels * 255.0).round().to(torch.uint8).cpu().numpy()
    return picture
