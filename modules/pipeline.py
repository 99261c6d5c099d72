"""ImageJob -> picture: loads models, has texts encoded and latents sampled, decodes; by the means that memory allows.

It does not know the queue, the disk (but for the model folders) and the page.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ldm_patched.modules.devices import give_back_memory, look, use_threads, wait_for
from ldm_patched.modules.memory import AUTOMATIC, Policy, ran_out
from ldm_patched.modules.text_cache import TextCache
from modules.conditions import Computing
from modules.expansion import Expansions
from modules.files import ModelLibrary
from modules.ladder import Ladder, Means, NotEnoughMemory, Stage, Work
from modules.loaded import LoadedModel, Loader, ModelSpec
from modules.model_folders import ModelFolders
from modules.observer import Observer
from modules.plan import ImageJob
from modules.prepare import PipelineError, PreparedJob, doubts, guidance_of, prepare
from modules.run import Cancelled, Halfway, sample_latent, tile_of
from modules.stopwatch import Stopwatch
from modules.survey import survey

if TYPE_CHECKING:
    from modules.observer import Picture


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
        self._wished = self._policy = policy
        self.expand = Expansions(folders.expansion)
        self.computing: Computing | None = None
        """What computes, from the moment on in which the models of a job are about to be loaded."""
        use_threads(policy)

    @property
    def loaded(self) -> LoadedModel | None:
        """The models in memory, those of the last job."""
        return self._loader.loaded

    def run(self, jobs: Sequence[ImageJob], observer: Observer, lowered: int = 0) -> None:
        """Make the pictures of the jobs, in order.

        'skip' leaves the picture being made, 'stop' ends all. lowered: how many memory modes below the usual one to
        begin, because an earlier engine died over these jobs. What is wrong with a job is raised as a ``ValueError``
        with a sentence for the user, a lack of memory that no means can help as ``NotEnoughMemory`` or as torch has it.
        """
        self._ladder.lower(lowered, lowered > 0 and self._on_gpu(), observer.note)
        for spec, group in groupby(jobs, key=models_of):
            batch = list(group)
            watch = Stopwatch()
            self._ladder.begin(spec, batch[0].width * batch[0].height)
            try:
                loaded, prepared = self._ready(batch, observer, watch)
            except Cancelled as cancelled:
                if cancelled.args[0] == "stop":
                    return
                continue
            for sentence in doubts(loaded, batch):
                observer.note(sentence)
            for each in prepared:
                if not self._make(loaded, each, observer, watch):
                    return
                watch = Stopwatch()  # loading and encoding are the first picture's

    def _ready(
        self, jobs: Sequence[ImageJob], observer: Observer, watch: Stopwatch
    ) -> tuple[LoadedModel, list[PreparedJob]]:
        """The models of jobs that ask for the same ones, and what they are told, by the means that memory allows.

        Raises ``Cancelled`` when the user stops meanwhile, or skips the last of the jobs.
        """
        left = list(range(len(jobs)))

        def heed() -> None:
            wish = observer.cancelled()
            if wish == "skip":
                del left[0]  # the one of which the user sees that it is being made
            if wish == "stop" or not left:
                raise Cancelled(wish)

        def attempt(means: Means) -> tuple[LoadedModel, list[PreparedJob]]:
            heed()
            with watch("load"):
                loaded = self._load(jobs[left[0]], observer)
            prepared = {}
            for place, job in enumerate(jobs):
                shown = jobs[left[0]]
                observer.progress(shown.index, 0, shown.steps, "Reading the prompt", None)
                heed()
                with watch("encode"):
                    if place in left:
                        prepared[place] = self._prepare(loaded, job, observer)
            return loaded, [prepared[place] for place in left]

        try:
            return self._ladder.make(attempt, lambda: Stage("load", self._on_gpu()), observer.note)
        except Exception as error:
            if not ran_out(error):
                raise
            spec = models_of(jobs[0])
            names = " and ".join(dict.fromkeys(filter(None, (spec.checkpoint, spec.refiner, spec.vae))))
            raise NotEnoughMemory(
                f"There is not enough memory to load {names}. Close other programs, or choose a smaller model."
            ) from error

    def _on_gpu(self) -> bool:
        return look(self._wished).kind != "cpu"

    def encode(self, jobs: Sequence[ImageJob], observer: Observer) -> int:
        """Encode the texts of jobs and make no picture; returns how many were not there yet.

        Raises ``PipelineError`` as soon as one cannot be kept.
        """
        before = after = 0
        for _, group in groupby(jobs, key=models_of):
            batch = list(group)
            loaded = self._load(batch[0], observer)
            before += loaded.encoded
            for job in batch:
                self._prepare(loaded, job, observer)
                if self._texts is not None and self._texts.trouble:
                    raise PipelineError(f"{self._texts.trouble} Make room there and start again: what is kept stays.")
            after += loaded.encoded
        return after - before

    def _prepare(self, loaded: LoadedModel, job: ImageJob, observer: Observer) -> PreparedJob:
        return prepare(loaded, job, self._folders.embeddings, observer.note)

    def _make(self, loaded: LoadedModel, prepared: PreparedJob, observer: Observer, watch: Stopwatch) -> bool:
        """One picture, by the means that memory allows. False if the user wants no more."""
        job = prepared.job
        self._ladder.begin(models_of(job), job.width * job.height)
        attempt = Attempt(loaded, prepared, observer, watch)

        def make(means: Means) -> Picture:
            if means.policy != self._policy or attempt.loaded is not self._loader.loaded:
                attempt.loading = True
                attempt.loaded = self._load(job, observer)
                if attempt.prepared.base.cond.hidden.device != attempt.loaded.checkpoint.placement.device:
                    attempt.prepared = self._prepare(attempt.loaded, job, observer)
                attempt.loading = False
            return attempt.picture(means)

        wish = observer.cancelled()
        if not wish:
            try:
                picture = self._ladder.make(make, lambda: attempt.stage, observer.note)
            except Cancelled as cancelled:
                wish = cancelled.args[0]
        if wish:
            return wish != "stop"
        observer.finished(job.index, picture, dict(watch.seconds))
        return True

    def _load(self, job: ImageJob, observer: Observer) -> LoadedModel:
        """The models of a job in the form that the ladder has come to."""
        observer.progress(job.index, 0, job.steps, f"Loading {job.checkpoint}", None)
        spec = models_of(job)
        self.computing = self._survey(spec)
        if self._ladder.means.policy != self._policy:
            if self._loader.loaded is not None:
                self._loader.loaded.discard()  # a run may hold on to them
            self._policy = self._ladder.means.policy
            self._loader = self._open(self._policy)
            give_back_memory()
        loaded = self._loader.load(spec, observer.note)
        if self.computing is not None:
            self.computing = replace(self.computing, loading=False)
        return loaded

    def _survey(self, spec: ModelSpec) -> Computing | None:
        """What will compute with the models of a spec, and what is to be said before they are loaded.

        None for files with which something is wrong: to say so is left to who loads them.
        """
        loaded, means = self._loader.loaded, self._ladder.means
        wanted = (spec.checkpoint, spec.refiner)
        same = loaded is not None and wanted == (loaded.spec.checkpoint, loaded.spec.refiner)
        if self.computing is not None and same and means.policy == self._policy:
            return replace(self.computing, ahead=())
        try:
            path = ModelLibrary(self._folders).find("checkpoints", spec.checkpoint)
            given_back = 0 if loaded is None else loaded.weighs
            return survey(path, means.policy, given_back, means.policy != self._wished)
        except (ValueError, OSError):
            return None


class Attempt:
    """A picture on its way. What is done stays done when memory runs out."""

    def __init__(self, loaded: LoadedModel, prepared: PreparedJob, observer: Observer, watch: Stopwatch) -> None:
        self.loaded = loaded
        self.prepared = prepared
        self._observer = observer
        self._watch = watch
        self.loading = False
        self._halfway = Halfway()
        self._latent: Tensor | None = None

    @property
    def stage(self) -> Stage:
        """What is being done, and whether a GPU does it."""
        steps: Work = "pair" if guidance_of(self.prepared.job).needs_uncond else "single"
        painting = self._latent is not None or self._halfway.crossing
        work: Work = "load" if self.loading else "decode" if painting else steps
        return Stage(work, self.loaded.checkpoint.placement.device.type != "cpu")

    def picture(self, means: Means) -> Picture:
        """The picture, from where an earlier call has come to."""
        job, steps = self.prepared.job, self.prepared.schedule.steps
        if self._latent is None:
            with self._watch("sample"):
                self._latent = sample_latent(
                    self.loaded, self.prepared, self._observer, means.apart, means.tiled, self._halfway
                )
                wait_for(self._latent.device)
            if self._halfway.refining_since is not None:
                self._watch.split("sample", "refine", time.perf_counter() - self._halfway.refining_since)
        self._observer.progress(job.index, steps, steps, "Painting the picture", None)
        with self._watch("decode"):
            return decode(self.loaded, self._latent, means.tiled)


def decode(loaded: LoadedModel, latent: Tensor, tiled: bool = False) -> Picture:
    """The picture of a finished latent. tiled: in tiles, also where there seems to be memory for the whole."""
    pixels = loaded.painter.decode(latent, tile_of(latent) if tiled else None)[0].permute(1, 2, 0)
    if bool(pixels.sum().isnan()):  # they are within 0..1 where they are numbers
        spec = loaded.spec
        makers = " or ".join(dict.fromkeys(filter(None, (spec.checkpoint, spec.refiner, spec.vae))))
        raise PipelineError(f"{makers} gave no picture but invalid numbers (NaN): its weights are damaged.")
    picture: Picture = (pixels * 255.0).round().to(torch.uint8).cpu().numpy()
    return picture
