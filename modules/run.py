"""A prepared job -> its latent: the runs of the sampler, and what lies between base and refiner; decodes no picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ldm_patched.modules.apart import RowByRow
from ldm_patched.modules.bridge import cross
from ldm_patched.modules.hooks import FreeU
from ldm_patched.modules.model_sampling import ModelSampling
from ldm_patched.modules.sample import InterruptibleDenoiser, prepare_noise, sample
from ldm_patched.modules.samplers import Denoiser, GuidedDenoiser, SwitchingDenoiser
from ldm_patched.modules.sd import Checkpoint, Refiner
from ldm_patched.modules.tiling import SMALLEST
from ldm_patched.modules.turns import InTurn, Turns
from modules.choices import MAX_SEED
from modules.loaded import LoadedModel
from modules.observer import Observer
from modules.prepare import PreparedJob, Sides, guidance_of
from modules.previews import Preview

LATENT_FACTOR = 8  # pixels per latent pixel
LARGEST_TILE = 64  # latent pixels, of the tiles that are taken when memory ran out


class Cancelled(Exception):
    """Raised out of the sampling loop when the user wants to skip or stop; its argument says which."""


@dataclass
class Halfway:
    """What the base has made for a refiner that begins anew. It stays made when memory runs out after that.

    latent: as the base's VAE knows it. tint: by channel, the mean of the noise that the base last saw. crossing:
    whether autoencoders are at work between the two networks. refining_since: when the refiner took over, as
    ``time.perf_counter`` has it.
    """

    latent: Tensor | None = None
    tint: Tensor | None = None
    crossing: bool = False
    refining_since: float | None = None


@dataclass(frozen=True)
class Part:
    """A run of the sampler: over which noise levels, and how many steps of the job came before it."""

    denoiser: Denoiser
    sigmas: Sequence[float]
    first: int
    seed: int
    preview: Preview


class Tinted:
    """A denoiser that remembers the mean, by channel, of the noise that it last saw."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.model_sampling = denoiser.model_sampling
        self.tint: Tensor | None = None
        self._denoiser = denoiser

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """x0 as the denoiser has it."""
        x0 = self._denoiser(x, sigma)
        self.tint = ((x - x0) / sigma).mean((2, 3), keepdim=True)
        return x0


def tile_of(latent: Tensor) -> int:
    """The side of the tiles, in latent pixels, of a picture for which there is no memory as a whole."""
    return min(LARGEST_TILE, max(SMALLEST, max(latent.shape[-2:]) // 2))


def sample_latent(
    loaded: LoadedModel, prepared: PreparedJob, observer: Observer, apart: bool, tiled: bool, halfway: Halfway
) -> Tensor:
    """The finished latent of a job, as ``loaded.painter`` knows it.

    apart: the sides of guidance one after the other. tiled: what autoencoders do half-way, in tiles. halfway: keeps
    what is done when memory runs out, for the next call. Raises ``Cancelled``.
    """
    schedule, job = prepared.schedule, prepared.job
    runner = _Runner(loaded, prepared, observer, halfway)
    with Turns() as turns:
        networks = _Networks(loaded, prepared, turns, apart)
        if schedule.refiner is not None and schedule.renoised is not None and schedule.switch:
            return _renoised(loaded, prepared, networks, runner, tiled, halfway)
        latent = torch.zeros(runner.shape, device=runner.device)
        for part in _parts(loaded, prepared, networks):
            noise = torch.zeros_like(latent) if part.first else prepare_noise(runner.shape, job.seed)
            latent = runner.run(part, noise, latent)
        return part.denoiser.model_sampling.latent_format.to_vae(latent)


def _renoised(
    loaded: LoadedModel, prepared: PreparedJob, networks: _Networks, runner: _Runner, tiled: bool, halfway: Halfway
) -> Tensor:
    """The base ends its part with a picture, which gets new noise for the refiner: the swap method `vae`."""
    job, schedule, switch = prepared.job, prepared.schedule, prepared.schedule.switch
    assert schedule.refiner is not None and schedule.renoised is not None
    if halfway.latent is None:
        tinted = Tinted(networks.base())
        part = Part(tinted, [*schedule.sigmas[:switch], 0.0], 0, job.seed, loaded.preview)
        latent = torch.zeros(runner.shape, device=runner.device)
        latent = runner.run(part, prepare_noise(runner.shape, job.seed), latent)
        halfway.latent, halfway.tint = schedule.base.latent_format.to_vae(latent), tinted.tint
    latent, seed = halfway.latent.to(runner.device), second_seed(job.seed)
    if isinstance(loaded.refiner, Checkpoint):
        networks.rest()
        halfway.crossing = True
        tile = tile_of(latent) if tiled else None
        latent = cross(latent, loaded.vae, loaded.refiner.vae, seed, loaded.interposer, tile).to(runner.device)
        halfway.crossing = False
    noise = prepare_noise(runner.shape, seed).to(latent)
    if halfway.tint is not None:
        noise += halfway.tint.to(noise) - noise.mean((2, 3), keepdim=True)
    refiner = networks.refiner(schedule.renoised)
    part = Part(refiner, schedule.renoised, switch, seed, loaded.refiner_preview)
    latent = runner.run(part, noise, schedule.refiner.latent_format.to_model(latent))
    return schedule.refiner.latent_format.to_vae(latent)


def _parts(loaded: LoadedModel, prepared: PreparedJob, networks: _Networks) -> list[Part]:
    """One run of the sampler, or two where the refiner goes on with the noisy latent in a run of its own.

    Both networks are told of all noise levels, so that one that refines itself computes what it would alone.
    """
    job, schedule, sigmas = prepared.job, prepared.schedule, prepared.schedule.sigmas
    switch, preview = schedule.switch, loaded.preview
    if schedule.refiner is None:
        return [Part(networks.base(), sigmas, 0, job.seed, preview)]
    if schedule.renoised is not None:
        levels = schedule.renoised
        return [Part(networks.refiner(levels), levels, 0, job.seed, loaded.refiner_preview)]
    base, refiner = networks.base(), networks.refiner(sigmas)
    if job.swap_method == "joint":
        return [Part(SwitchingDenoiser(base, refiner, sigmas[switch]), sigmas, 0, job.seed, preview)]
    if switch == 0:
        return [Part(refiner, sigmas, 0, job.seed, preview)]
    second = Part(refiner, sigmas[switch:], switch, second_seed(job.seed), preview)
    return [Part(base, sigmas[: switch + 1], 0, job.seed, preview), second]


def second_seed(seed: int) -> int:
    """A seed that is no job's: a second run's noise would else be the first one's, or another picture's."""
    return seed + MAX_SEED + 1


class _Networks:
    """The denoisers of a job, which take turns where they compute."""

    def __init__(self, loaded: LoadedModel, prepared: PreparedJob, turns: Turns, apart: bool) -> None:
        self._loaded = loaded
        self._prepared = prepared
        self._turns = turns
        self._apart = apart

    def base(self) -> Denoiser:
        """The base model's."""
        freeu, checkpoint = self._prepared.job.freeu, self._loaded.checkpoint
        hook = None if freeu is None else FreeU(checkpoint.unet.params.model_channels, *freeu)
        schedule = self._prepared.schedule
        return self._denoiser(checkpoint, schedule.base, self._prepared.base, schedule.sigmas, hook)

    def refiner(self, sigmas: Sequence[float]) -> Denoiser:
        """The refiner's, for these noise levels. There must be one."""
        model, sides, sampling = self._loaded.refiner, self._prepared.refiner, self._prepared.schedule.refiner
        assert model is not None and sides is not None and sampling is not None
        return self._denoiser(model, sampling, sides, sigmas, None)

    def rest(self) -> None:
        """Let all be where they rest."""
        self._turns.rest()

    def _denoiser(
        self,
        model: Checkpoint | Refiner,
        sampling: ModelSampling,
        sides: Sides,
        sigmas: Sequence[float],
        hook: FreeU | None,
    ) -> Denoiser:
        job = self._prepared.job

        def make() -> Denoiser:
            network = RowByRow(model.unet) if self._apart else model.unet
            guidance, end = guidance_of(job), job.adm_scaler_end
            return GuidedDenoiser(network, sampling, sides.cond, sides.uncond, guidance, sigmas, end, hook)

        return InTurn(self._turns, model, sampling, make)


class _Runner:
    """Runs the sampler, and tells of each step."""

    def __init__(self, loaded: LoadedModel, prepared: PreparedJob, observer: Observer, halfway: Halfway) -> None:
        job = prepared.job
        channels = loaded.checkpoint.unet.params.in_channels
        self.shape = (1, channels, job.height // LATENT_FACTOR, job.width // LATENT_FACTOR)
        self.device = prepared.base.cond.hidden.device
        self._job = job
        self._steps = prepared.schedule.steps
        self._observer = observer
        self._halfway = halfway
        self._switch = None if prepared.schedule.refiner is None else prepared.schedule.switch

    def run(self, part: Part, noise: Tensor, latent: Tensor) -> Tensor:
        """The latent after a run, as its network knows latents."""
        if part.first == self._switch:
            self._halfway.refining_since = time.perf_counter()
        denoiser = InterruptibleDenoiser(part.denoiser, self._check)
        return sample(denoiser, noise, latent, part.sigmas, self._job.sampler, part.seed, self._told_after(part))

    def _check(self) -> None:
        if wish := self._observer.cancelled():
            raise Cancelled(wish)

    def _told_after(self, part: Part) -> Callable[[int, Tensor], None]:
        to_vae = part.denoiser.model_sampling.latent_format.to_vae

        def after_step(step: int, x0: Tensor) -> None:
            done = part.first + step + 1
            text = f"Step {done} of {self._steps}"
            if done == self._switch:
                self._halfway.refining_since = time.perf_counter()
            self._observer.progress(self._job.index, done, self._steps, text, lambda: part.preview(to_vae(x0)).numpy())

        return after_step
