"""ImageJob -> picture: loads models, encodes texts, samples, decodes. The one module that knows plan and engine.

It does not know the queue, the disk (but for the model folders) and the page.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ldm_patched.modules.conditioning import size_vectors
from ldm_patched.modules.model_sampling import EpsSampling, ModelSampling, VSampling
from ldm_patched.modules.sample import prepare_noise, sample
from ldm_patched.modules.samplers import Guidance, GuidedDenoiser, TextCondition, calculate_sigmas
from ldm_patched.modules.sd import Checkpoint, load_checkpoint
from modules.observer import Observer
from modules.plan import ImageJob
from modules.previews import Preview, preview_for

if TYPE_CHECKING:
    from modules.observer import Picture

log = logging.getLogger(__name__)

LATENT_FACTOR = 8  # pixels per latent pixel


class PipelineError(ValueError):
    """A picture that cannot be made; the message is fit for the user's eyes."""


class _Cancelled(Exception):
    """Raised out of the sampling loop when the user wants to skip or stop."""


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint with what belongs to it."""

    name: str
    checkpoint: Checkpoint
    model_sampling: ModelSampling
    preview: Preview


@dataclass(frozen=True)
class PreparedJob:
    """A job with its encoded texts."""

    job: ImageJob
    cond: TextCondition
    uncond: TextCondition


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
    """Makes pictures of jobs and keeps the model it used last."""

    def __init__(self, checkpoint_folders: Sequence[Path], preview_folder: Path) -> None:
        self._folders = tuple(checkpoint_folders)
        self._preview_folder = preview_folder
        self.loaded: LoadedModel | None = None
        """The model in memory, that of the last job."""

    def run(self, jobs: Sequence[ImageJob], observer: Observer) -> None:
        """Make the pictures of the jobs, in order.

        'skip' leaves the picture being made, 'stop' ends all. What is wrong with a job is raised as a ``ValueError``
        with a sentence for the user.
        """
        for name, group in groupby(jobs, key=lambda job: job.checkpoint):
            batch = list(group)
            watch = Stopwatch()
            observer.progress(batch[0].index, 0, batch[0].steps, f"Loading {name}", None)
            with watch("load"):
                loaded = self._load(name)
            observer.progress(batch[0].index, 0, batch[0].steps, "Reading the prompt", None)
            with watch("encode"):
                prepared = [self._prepare(loaded, job) for job in batch]
            for each in prepared:
                if not self._make(loaded, each, observer, watch):
                    return
                watch = Stopwatch()  # loading and encoding are the first picture's

    def _make(self, loaded: LoadedModel, prepared: PreparedJob, observer: Observer, watch: Stopwatch) -> bool:
        """One picture. False if the user wants no more."""
        job = prepared.job
        wish = observer.cancelled()
        if not wish:
            try:
                with watch("sample"):
                    latent = self._sample(loaded, prepared, observer)
            except _Cancelled as cancelled:
                wish = cancelled.args[0]
        if wish:
            return wish != "stop"
        observer.progress(job.index, job.steps, job.steps, "Painting the picture", None)
        with watch("decode"):
            picture = self._decode(loaded, latent)
        observer.finished(job.index, picture, dict(watch.seconds))
        return True

    def _load(self, name: str) -> LoadedModel:
        if self.loaded is not None and self.loaded.name == name:
            return self.loaded
        path = next((folder / name for folder in self._folders if (folder / name).is_file()), None)
        if path is None:
            folders = ", ".join(str(folder) for folder in self._folders)
            raise PipelineError(f"The model {name} is not there. Put the file into {folders}.")
        self.loaded = None  # the old one goes before the new one comes
        checkpoint = load_checkpoint(path)
        if checkpoint.kind == "sdxl_refiner":
            raise PipelineError(f"{name} is a refiner: it finishes pictures of another model, and cannot begin one.")
        sampling = VSampling() if checkpoint.prediction == "v" else EpsSampling()
        preview = preview_for(checkpoint.metadata, self._preview_folder, checkpoint.unet.device)
        self.loaded = LoadedModel(name, checkpoint, sampling, preview)
        return self.loaded

    def _prepare(self, loaded: LoadedModel, job: ImageJob) -> PreparedJob:
        """Texts and sizes of both sides of guidance. A side that is not needed costs nothing."""
        cond = self._condition(loaded, job, job.positive, job.adm_scaler_positive)
        if not Guidance(job.guidance_scale).needs_uncond:
            return PreparedJob(job, cond, cond)
        return PreparedJob(job, cond, self._condition(loaded, job, job.negative, job.adm_scaler_negative))

    def _condition(self, loaded: LoadedModel, job: ImageJob, texts: Sequence[str], scale: float) -> TextCondition:
        unet = loaded.checkpoint.unet
        try:
            ((hidden, extras),) = loaded.checkpoint.clip.encode(texts, job.clip_skip, top_k=len(texts))
        except ValueError as error:  # a text that is too long, a layer that is not there
            raise PipelineError(f"{loaded.name}: {error}") from error
        pooled = extras["pooled_output"]
        if not unet.params.adm_channels or pooled is None:
            return TextCondition(hidden, None)
        return TextCondition(hidden, size_vectors(pooled, job.width, job.height, scale))

    def _sample(self, loaded: LoadedModel, prepared: PreparedJob, observer: Observer) -> Tensor:
        job = prepared.job
        sigmas = calculate_sigmas(loaded.model_sampling, job.scheduler, job.steps, job.denoise)
        denoiser = GuidedDenoiser(
            loaded.checkpoint.unet,
            loaded.model_sampling,
            prepared.cond,
            prepared.uncond,
            Guidance(job.guidance_scale, job.sharpness, job.adaptive_cfg),
            sigmas,
            job.adm_scaler_end,
        )
        steps = len(sigmas) - 1

        def after_step(step: int, x0: Tensor) -> None:
            if wish := observer.cancelled():
                raise _Cancelled(wish)
            text = f"Step {step + 1} of {steps}"
            observer.progress(job.index, step + 1, steps, text, lambda: loaded.preview(x0).numpy())

        shape = (1, loaded.checkpoint.unet.params.in_channels, job.height // LATENT_FACTOR, job.width // LATENT_FACTOR)
        latent = torch.zeros(shape, device=prepared.cond.hidden.device)
        noise = prepare_noise(shape, job.seed)
        return sample(denoiser, noise, latent, sigmas, job.sampler, job.seed, after_step)

    def _decode(self, loaded: LoadedModel, latent: Tensor) -> Picture:
        pixels = loaded.checkpoint.vae.decode(latent)[0].permute(1, 2, 0)
        if not bool(torch.isfinite(pixels).all()):
            raise PipelineError(f"{loaded.name} gave no picture but invalid numbers (NaN): its weights are damaged.")
        picture: Picture = (pixels * 255.0).round().to(torch.uint8).cpu().numpy()
        return picture
