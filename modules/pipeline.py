"""ImageJob -> picture: loads models, encodes texts, samples, decodes. The one module that knows plan and engine.

It does not know the queue, the disk (but for the model folders) and the page.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ldm_patched.ldm.unet import UNet
from ldm_patched.modules.conditioning import SizeVectors, refiner_vector, size_vectors
from ldm_patched.modules.embeddings import Embeddings
from ldm_patched.modules.hooks import FreeU
from ldm_patched.modules.latent_format import AS_THE_VAE_S
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
from ldm_patched.modules.schedulers import calculate_sigmas, choose_model_sampling
from ldm_patched.modules.sd import Checkpoint, Refiner
from ldm_patched.modules.text_cache import TextCache
from modules.choices import MAX_SEED
from modules.loaded import LoadedModel, Loader, ModelSpec
from modules.model_folders import ModelFolders
from modules.observer import Observer
from modules.plan import ImageJob

if TYPE_CHECKING:
    from modules.observer import Picture

log = logging.getLogger(__name__)

LATENT_FACTOR = 8  # pixels per latent pixel
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
class PreparedJob:
    """A job with its encoded texts, as the base model and as the refiner is told them."""

    job: ImageJob
    base: Sides
    refiner: Sides | None


class Stopwatch:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time a block and add it to its stage."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begin


class Pipeline:
    """Makes pictures of jobs and keeps the models it used last."""

    def __init__(self, folders: ModelFolders, texts: Path | None = None) -> None:
        """texts: a folder that keeps encoded texts, for the next run and the next process."""
        self._folders = folders
        self._loader = Loader(folders, None if texts is None else TextCache(texts))

    @property
    def loaded(self) -> LoadedModel | None:
        """The models in memory, those of the last job."""
        return self._loader.loaded

    def run(self, jobs: Sequence[ImageJob], observer: Observer) -> None:
        """Make the pictures of the jobs, in order.

        'skip' leaves the picture being made, 'stop' ends all. What is wrong with a job is raised as a ``ValueError``
        with a sentence for the user.
        """
        for spec, group in groupby(jobs, key=ModelSpec.of):
            batch = list(group)
            watch = Stopwatch()
            observer.progress(batch[0].index, 0, batch[0].steps, f"Loading {spec.checkpoint}", None)
            with watch("load"):
                loaded = self._loader.load(spec, observer.note)
            observer.progress(batch[0].index, 0, batch[0].steps, "Reading the prompt", None)
            with watch("encode"):
                prepared = [self._prepare(loaded, job, observer) for job in batch]
            for each in prepared:
                if not self._make(loaded, each, observer, watch):
                    return
                watch = Stopwatch()  # loading and encoding are the first picture's

    def encode(self, jobs: Sequence[ImageJob], observer: Observer) -> int:
        """Encode the texts of jobs and make no picture; returns how many were not there yet."""
        before = after = 0
        for spec, group in groupby(jobs, key=ModelSpec.of):
            batch = list(group)
            observer.progress(batch[0].index, 0, 1, f"Loading {spec.checkpoint}", None)
            loaded = self._loader.load(spec, observer.note)
            before += loaded.checkpoint.clip.encoded
            for job in batch:
                self._prepare(loaded, job, observer)
            after += loaded.checkpoint.clip.encoded
        return after - before

    def _prepare(self, loaded: LoadedModel, job: ImageJob, observer: Observer) -> PreparedJob:
        texts = (*job.positive, *job.negative)
        embeddings = loaded.checkpoint.clip.find_embeddings(texts, self._folders.embeddings)
        for warning in embeddings.warnings:
            observer.note(warning)
        return _prepare(loaded, job, embeddings)

    def _make(self, loaded: LoadedModel, prepared: PreparedJob, observer: Observer, watch: Stopwatch) -> bool:
        """One picture. False if the user wants no more."""
        job = prepared.job
        wish = observer.cancelled()
        if not wish:
            try:
                with watch("sample"):
                    latent = _sample(loaded, prepared, observer)
            except _Cancelled as cancelled:
                wish = cancelled.args[0]
        if wish:
            return wish != "stop"
        observer.progress(job.index, job.steps, job.steps, "Painting the picture", None)
        with watch("decode"):
            picture = _decode(loaded, latent)
        observer.finished(job.index, picture, dict(watch.seconds))
        return True


def _prepare(loaded: LoadedModel, job: ImageJob, embeddings: Embeddings) -> PreparedJob:
    """Texts and sizes of both sides of guidance. A side that is not needed costs nothing."""
    positive = _encode(loaded, job, job.positive, embeddings)
    negative = _encode(loaded, job, job.negative, embeddings) if guidance_of(job).needs_uncond else positive
    base = Sides(
        base_condition(*positive, job, job.adm_scaler_positive), base_condition(*negative, job, job.adm_scaler_negative)
    )
    match loaded.refiner:
        case None:
            return PreparedJob(job, base, None)
        case Refiner(kind="sdxl_refiner", unet=unet):
            width = unet.params.context_dim
            sides = Sides(
                refiner_condition(*positive, job, width, POSITIVE_SCORE),
                refiner_condition(*negative, job, width, NEGATIVE_SCORE),
            )
            return PreparedJob(job, base, sides)
        case _:
            return PreparedJob(job, base, base)


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


def _sample(loaded: LoadedModel, prepared: PreparedJob, observer: Observer) -> Tensor:
    """The finished latent of a job, as the VAE knows it."""
    job, checkpoint = prepared.job, loaded.checkpoint
    model_sampling = _parametrisation(checkpoint, job)
    skip_lowest = find_sampler(job.sampler).skips_lowest
    sigmas = calculate_sigmas(model_sampling, job.scheduler, job.steps, job.denoise, skip_lowest)
    steps = len(sigmas) - 1

    def preview(x0: Tensor) -> Tensor:
        return loaded.preview(model_sampling.latent_format.to_vae(x0))

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
    for part in _parts(loaded, prepared, model_sampling, sigmas):
        noise = torch.zeros_like(latent) if part.first else prepare_noise(shape, job.seed)
        denoiser = InterruptibleDenoiser(part.denoiser, check)
        latent = sample(denoiser, noise, latent, part.sigmas, job.sampler, part.seed, told_after(part.first))
    return model_sampling.latent_format.to_vae(latent)


@dataclass(frozen=True)
class _Part:
    """A run of the sampler: with what, over which noise levels, and how many steps came before it."""

    denoiser: Denoiser
    sigmas: Sequence[float]
    first: int
    seed: int


def _parts(
    loaded: LoadedModel, prepared: PreparedJob, model_sampling: ModelSampling, sigmas: Sequence[float]
) -> list[_Part]:
    """One run of the sampler, or two where the refiner begins anew.

    Both networks are told of all noise levels, so that one that refines itself computes what it would alone.
    """
    job, checkpoint, refiner = prepared.job, loaded.checkpoint, loaded.refiner
    freeu = None if job.freeu is None else FreeU(checkpoint.unet.params.model_channels, *job.freeu)

    def guided(unet: UNet, sampling: ModelSampling, sides: Sides, hook: FreeU | None) -> GuidedDenoiser:
        guidance, end = guidance_of(job), job.adm_scaler_end
        return GuidedDenoiser(unet, sampling, sides.cond, sides.uncond, guidance, sigmas, end, hook)

    base = guided(checkpoint.unet, model_sampling, prepared.base, freeu)
    if refiner is None or prepared.refiner is None:
        return [_Part(base, sigmas, 0, job.seed)]
    if model_sampling.latent_format is not AS_THE_VAE_S and refiner.unet is not checkpoint.unet:
        raise PipelineError(f"The scheduler {job.scheduler} is for one kind of model only: choose no refiner with it.")
    # A schedule may have fewer steps than were asked for: the switch keeps its place in the run.
    switch = round(job.switch / job.steps * (len(sigmas) - 1))
    low = guided(refiner.unet, _parametrisation(refiner, job), prepared.refiner, None)
    if job.swap_method == "joint":
        return [_Part(SwitchingDenoiser(base, low, sigmas[switch]), sigmas, 0, job.seed)]
    if switch == 0:
        return [_Part(low, sigmas, 0, job.seed)]
    # A seed that is no job's for the second part: its noise would else be the first part's, or another picture's.
    second = _Part(low, sigmas[switch:], switch, job.seed + MAX_SEED + 1)
    return [_Part(base, sigmas[: switch + 1], 0, job.seed), second]


def _parametrisation(network: Checkpoint | Refiner, job: ImageJob) -> ModelSampling:
    return choose_model_sampling(network.kind, network.prediction, network.zero_terminal_snr, job.scheduler)


def _decode(loaded: LoadedModel, latent: Tensor) -> Picture:
    pixels = loaded.vae.decode(latent)[0].permute(1, 2, 0)
    if not bool(torch.isfinite(pixels).all()):
        spec = loaded.spec
        makers = " or ".join(dict.fromkeys(filter(None, (spec.checkpoint, spec.refiner, spec.vae))))
        raise PipelineError(f"{makers} gave no picture but invalid numbers (NaN): its weights are damaged.")
    picture: Picture = (pixels * 255.0).round().to(torch.uint8).cpu().numpy()
    return picture
