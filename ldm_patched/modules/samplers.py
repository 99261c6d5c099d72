"""Guidance, the denoiser that a sampler calls, and the tables of samplers and schedules. Know no prompt and no file.

A denoiser maps `(x, sigma)` to x0: the noisy latent [batch, 4, h, w] in single precision and its noise level, a host
float, to the picture's latent as it is estimated now. Denoisers wrap each other; the sampler sees the outermost one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ldm_patched.k_diffusion import sampling
from ldm_patched.k_diffusion.noise import BrownianTreeNoiseSampler, IndependentNoiseSampler
from ldm_patched.ldm.attention import TextProjection
from ldm_patched.ldm.unet import UNet
from ldm_patched.modules.anisotropic import bilateral_filter
from ldm_patched.modules.conditioning import SizeVectors
from ldm_patched.modules.model_sampling import ModelSampling


class Denoiser(Protocol):
    """What a sampler runs on."""

    @property
    def model_sampling(self) -> ModelSampling:
        """The parametrisation of the network inside."""

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """x0 of a noisy latent x, both [batch, 4, h, w] in single precision."""


@dataclass(frozen=True)
class Guidance:
    """How the estimates with and without the prompt become one.

    scale: classifier-free guidance (arXiv 2207.12598); at 1 the negative prompt, sharpness and adaptive_cfg are idle.
    sharpness, 0..30: mixes a bilateral filter of the predicted noise, guided by the predicted picture, into the
    prompt's side, 0.001 of it per unit and more towards the end of the run. What is filtered from the noise stays in
    the picture: its fine texture.
    adaptive_cfg: a scale above it is used in full only at the end of the run, and is this one at its start.
    """

    scale: float
    sharpness: float = 0.0
    adaptive_cfg: float = 7.0

    @property
    def needs_uncond(self) -> bool:
        """Whether the estimate without the prompt changes anything."""
        return not math.isclose(self.scale, 1.0)

    def scale_at(self, progress: float) -> float:
        """The scale in use at a progress of 0..1."""
        return progress * self.scale + (1 - progress) * min(self.scale, self.adaptive_cfg)

    def __call__(self, x: Tensor, cond: Tensor, uncond: Tensor, progress: float) -> Tensor:
        """x0 of the noisy latent x, from its estimates with (cond) and without the prompt. All [batch, 4, h, w]."""
        if not self.needs_uncond:
            return cond
        share = 0.001 * self.sharpness * progress
        if share > 0:
            noise = x - cond
            cond = cond.add(bilateral_filter(noise, guide=cond).sub_(noise), alpha=-share)
        return torch.lerp(uncond, cond, self.scale_at(progress))


@dataclass(frozen=True)
class TextCondition:
    """What the UNet is told on one side of guidance.

    hidden: [batch, tokens, context_dim]. sizes: its vectors [batch, adm_channels], None for a UNet that takes none.
    """

    hidden: Tensor
    sizes: SizeVectors | None


class GuidedDenoiser:
    """A UNet under guidance: one call per step, with both sides in one batch.

    Whatever is the same at every step is computed here, before the first one: the keys and values of the texts, and
    what each residual block adds for each of the schedule's timesteps.
    """

    @torch.inference_mode()
    def __init__(
        self,
        unet: UNet,
        model_sampling: ModelSampling,
        cond: TextCondition,
        uncond: TextCondition,
        guidance: Guidance,
        sigmas: Sequence[float],
        adm_scaler_end: float,
    ) -> None:
        """sigmas: the schedule. adm_scaler_end: fraction 0..1 of the run during which the emphasised sizes count.

        The tensors of the conditions lie where the UNet computes; their batches are that of the latents to come.
        The texts may differ in length.
        """
        self.model_sampling = model_sampling
        self._unet = unet
        self._guidance = guidance
        self._sides = (cond, uncond) if guidance.needs_uncond else (cond,)
        self._adm_scaler_end = adm_scaler_end
        self._text = self._project_text()
        self._time = self._project_time([sigma for sigma in sigmas if sigma > 0])

    @torch.inference_mode()
    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """x0 under guidance. A sigma that is not of the schedule is allowed, and costs a projection of its own."""
        if sigma not in self._time:
            self._time |= self._project_time([sigma])
        scaled = (x * self.model_sampling.input_scale(sigma)).to(self._unet.dtype)
        batch = torch.cat([scaled] * len(self._sides))
        outputs = self._unet(batch, self._time[sigma], self._text).to(x.dtype).chunk(len(self._sides))
        estimates = [self.model_sampling.denoised(output, x, sigma) for output in outputs]
        return self._guidance(x, estimates[0], estimates[-1], self.model_sampling.progress(sigma))

    def _project_text(self) -> list[TextProjection]:
        """Texts of one length are one part of the batch, so that an attention is one operation; others are several."""
        texts = [side.hidden.to(self._unet.dtype) for side in self._sides]
        if len({text.shape[1] for text in texts}) == 1:
            texts = [torch.cat(texts)]
        return [self._unet.project_text(text) for text in texts]

    def _project_time(self, sigmas: Sequence[float]) -> dict[float, tuple[Tensor, ...]]:
        """For each sigma the UNet's `time`: all of them are the rows of one projection."""
        timesteps = [self.model_sampling.timestep(sigma) for sigma in sigmas]
        rows = sum(side.hidden.shape[0] for side in self._sides)
        device = self._sides[0].hidden.device
        # Filled, not copied from the host: this also runs within the loop.
        times = torch.cat([torch.full((rows,), t, dtype=torch.float32, device=device) for t in timesteps])
        vectors = [
            side.sizes.at(t, self._adm_scaler_end) for t in timesteps for side in self._sides if side.sizes is not None
        ]
        projections = self._unet.project_time(times, torch.cat(vectors) if vectors else None)
        steps = zip(*(torch.split(projection, rows) for projection in projections), strict=True)
        return dict(zip(sigmas, steps, strict=True))


@dataclass(frozen=True)
class SamplerSpec:
    """A sampler's function and, if it adds noise, where that comes from: of (x, sigmas, seed)."""

    function: Callable[..., Tensor]
    noise: Callable[[Tensor, Sequence[float], int], sampling.NoiseSampler] | None = None

    def run(
        self,
        model: sampling.Model,
        x: Tensor,
        sigmas: Sequence[float],
        seed: int,
        callback: sampling.Callback | None = None,
    ) -> Tensor:
        """Sample from the noisy latent x; see `k_diffusion.sampling`."""
        if self.noise is None:
            return self.function(model, x, sigmas, callback=callback)
        return self.function(model, x, sigmas, callback=callback, noise_sampler=self.noise(x, sigmas, seed))


def independent_noise(x: Tensor, sigmas: Sequence[float], seed: int) -> sampling.NoiseSampler:
    """Fresh noise at every step."""
    return IndependentNoiseSampler(x, seed)


def brownian_noise(x: Tensor, sigmas: Sequence[float], seed: int) -> sampling.NoiseSampler:
    """The increments of a Brownian path over the noise levels of this run."""
    return BrownianTreeNoiseSampler(x, min(sigma for sigma in sigmas if sigma > 0), max(sigmas), seed)


def karras(model_sampling: ModelSampling, n: int) -> list[float]:
    """`get_sigmas_karras` over all the model's noise levels."""
    return sampling.get_sigmas_karras(n, model_sampling.sigma_min, model_sampling.sigma_max)


def normal(model_sampling: ModelSampling, n: int) -> list[float]:
    """`n` timesteps evenly spaced from the last to the first, then 0."""
    return [*_uniform_timesteps(model_sampling, n, intervals=n - 1), 0.0]


def sgm_uniform(model_sampling: ModelSampling, n: int) -> list[float]:
    """`n` timesteps evenly spaced from the last, one interval short of the first, then 0."""
    return [*_uniform_timesteps(model_sampling, n, intervals=n), 0.0]


def _uniform_timesteps(model_sampling: ModelSampling, n: int, intervals: int) -> list[float]:
    last, first = (model_sampling.timestep(s) for s in (model_sampling.sigma_max, model_sampling.sigma_min))
    return [model_sampling.sigma(last + i / max(intervals, 1) * (first - last)) for i in range(n)]


SAMPLERS: dict[str, SamplerSpec] = {
    "euler": SamplerSpec(sampling.sample_euler),
    "euler_ancestral": SamplerSpec(sampling.sample_euler_ancestral, independent_noise),
    "dpmpp_2m": SamplerSpec(sampling.sample_dpmpp_2m),
    "dpmpp_2m_sde_gpu": SamplerSpec(sampling.sample_dpmpp_2m_sde, brownian_noise),
}

SCHEDULERS: dict[str, Callable[[ModelSampling, int], list[float]]] = {
    "karras": karras,
    "normal": normal,
    "sgm_uniform": sgm_uniform,
}

LEAST_DENOISE = 0.001
"""A partial run below this changes nothing: its schedule would be its whole length in vanishing steps."""


def calculate_sigmas(model_sampling: ModelSampling, scheduler: str, steps: int, denoise: float = 1.0) -> list[float]:
    """The noise levels of a run: `steps` of them and 0.

    scheduler: a key of SCHEDULERS. denoise, 0..1: less than 1 starts lower, with the end of a schedule of
    steps / denoise steps; the list is [0.0] where nothing is to be changed.
    """
    if scheduler not in SCHEDULERS:
        raise ValueError(f"scheduler: {scheduler!r} is unknown; there are {', '.join(SCHEDULERS)}")
    if steps < 1:
        raise ValueError(f"steps: {steps} is less than 1")
    if not 0 <= denoise <= 1:
        raise ValueError(f"denoise: {denoise} is outside [0, 1]")
    if denoise < LEAST_DENOISE:
        return [0.0]
    total = steps if denoise > 0.9999 else int(steps / denoise)
    return SCHEDULERS[scheduler](model_sampling, total)[-steps - 1 :]
