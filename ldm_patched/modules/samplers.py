"""Guidance, the denoiser that a sampler calls, and the table of samplers. Knows no prompt and no schedule.

A denoiser maps `(x, sigma)` to x0: the noisy latent [batch, 4, h, w] in single precision and its noise level, a host
float, to the picture's latent as it is estimated now. Denoisers wrap each other; the sampler sees the outermost one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from ldm_patched.k_diffusion import dpm_solver, multistep, sampling
from ldm_patched.k_diffusion.noise import BrownianTreeNoiseSampler, IndependentNoiseSampler
from ldm_patched.ldm.attention import TextProjection
from ldm_patched.ldm.unet import SkipHook, UNet
from ldm_patched.modules.anisotropic import bilateral_filter
from ldm_patched.modules.apart import RowByRow
from ldm_patched.modules.conditioning import LAST_TIMESTEP, SizeVectors
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

    scale: classifier-free guidance (arXiv 2207.12598); at 1 the negative prompt and all that follows are idle.
    sharpness, 0..30: mixes a bilateral filter of the predicted noise, guided by the predicted picture, into the
    prompt's side, 0.001 of it per unit and more towards the end of the run. What is filtered from the noise stays in
    the picture: its fine texture.
    adaptive_cfg: a scale above it is used in full only at the end of the run, and is this one at its start.
    rescale, 0..1: how far the result's deviation is brought back to that of the prompt's side (arXiv 2305.08891,
    eqs. 14 to 16, here on x0), against burnt colours at high scales.
    begin, end: the part of the run, 0..1, in which there is guidance (arXiv 2404.07724); outside of it the prompt's
    side stands alone, at half the cost.
    """

    scale: float
    sharpness: float = 0.0
    adaptive_cfg: float = 7.0
    rescale: float = 0.0
    begin: float = 0.0
    end: float = 1.0

    @property
    def needs_uncond(self) -> bool:
        """Whether the estimate without the prompt changes anything."""
        return not math.isclose(self.scale, 1.0) and self.begin <= self.end

    def acts_at(self, progress: float) -> bool:
        """Whether there is guidance at a progress of 0..1."""
        return self.needs_uncond and self.begin <= progress <= self.end

    def scale_at(self, progress: float) -> float:
        """The scale in use at a progress of 0..1."""
        return progress * self.scale + (1 - progress) * min(self.scale, self.adaptive_cfg)

    def __call__(self, x: Tensor, cond: Tensor, uncond: Tensor, progress: float) -> Tensor:
        """x0 of the noisy latent x, from its estimates with (cond) and without the prompt. All [batch, 4, h, w]."""
        if not self.acts_at(progress):
            return cond
        share = 0.001 * self.sharpness * progress
        if share > 0:
            noise = x - cond
            cond = cond.add(bilateral_filter(noise, guide=cond).sub_(noise), alpha=-share)
        guided = torch.lerp(uncond, cond, self.scale_at(progress))
        return _rescaled(guided, cond, self.rescale) if self.rescale > 0 else guided


def _rescaled(guided: Tensor, cond: Tensor, share: float) -> Tensor:
    """`guided` with its deviation, picture by picture, brought `share` of the way to that of `cond`."""
    wanted, found = (x0.std(dim=(1, 2, 3), keepdim=True) for x0 in (cond, guided))
    return guided * torch.lerp(torch.ones_like(found), wanted / found, share)


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
        unet: UNet | RowByRow,
        model_sampling: ModelSampling,
        cond: TextCondition,
        uncond: TextCondition,
        guidance: Guidance,
        sigmas: Sequence[float],
        adm_scaler_end: float,
        skip_hook: SkipHook | None = None,
    ) -> None:
        """sigmas: the schedule. adm_scaler_end: fraction 0..1 of the run during which the emphasised sizes count.
        skip_hook: see `UNet.forward`.

        The tensors of the conditions lie where the UNet computes; their batches are that of the latents to come.
        The texts may differ in length.
        """
        self.model_sampling = model_sampling
        self._unet = unet
        self._dtype = unet.dtype
        self._guidance = guidance
        self._sides = (cond, uncond) if guidance.needs_uncond else (cond,)
        self._adm_scaler_end = adm_scaler_end
        self._skip_hook = skip_hook
        self._text = self._project_text()
        self._time = self._project_time([sigma for sigma in sigmas if sigma > 0])

    @torch.inference_mode()
    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """x0 under guidance. A sigma that is not of the schedule is allowed, and costs a projection of its own."""
        if sigma not in self._time:
            self._time |= self._project_time([sigma])
        progress = self.model_sampling.progress(sigma)
        scaled = (x * self.model_sampling.input_scale(sigma)).to(self._dtype)
        time, text, count = self._time[sigma], self._text, len(self._sides)
        if not self._guidance.acts_at(progress):  # the prompt's side comes first
            time, text, count = tuple(part[: len(x)] for part in time), [text[0].first(len(x))], 1
        output = self._unet(torch.cat([scaled] * count), time, text, self._skip_hook)
        sides = output.to(x.dtype, memory_format=torch.contiguous_format).unflatten(0, (count, -1))
        estimates = self.model_sampling.denoised(sides, x, sigma)
        return self._guidance(x, estimates[0], estimates[-1], progress)

    def _project_text(self) -> list[TextProjection]:
        """Texts of one length are one part of the batch, so that an attention is one operation; others are several."""
        texts = [side.hidden.to(self._dtype) for side in self._sides]
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
        # Not every network's timesteps are 0..999, but every one knows how far a run has come.
        left = [LAST_TIMESTEP * (1 - self.model_sampling.progress(sigma)) for sigma in sigmas]
        vectors = [
            side.sizes.at(t, self._adm_scaler_end) for t in left for side in self._sides if side.sizes is not None
        ]
        projections = self._unet.project_time(times, torch.cat(vectors) if vectors else None)
        steps = zip(*(torch.split(projection, rows) for projection in projections), strict=True)
        return dict(zip(sigmas, steps, strict=True))


class SwitchingDenoiser:
    """One network at the high noise levels, another one at the low: a refiner that joins a run (arXiv 2211.01324).

    The sampler sees one denoiser, so what it remembers of earlier steps goes on. The noise level decides, not the
    count of calls: a sampler that evaluates twice in a step or goes back up has the right network every time.
    """

    def __init__(self, high: Denoiser, low: Denoiser, switch_sigma: float) -> None:
        """switch_sigma: the first noise level that is `low`'s. Both denoise the same latents."""
        self.model_sampling = high.model_sampling
        self._high = high
        self._low = low
        self._switch_sigma = switch_sigma

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """x0 by the network in charge of this noise level."""
        return (self._high if sigma > self._switch_sigma else self._low)(x, sigma)


@dataclass(frozen=True)
class SamplerSpec:
    """A sampler's function, and what has to be found for it.

    noise: where the noise comes from that it adds, of (x, sigmas, seed). from_model: arguments that depend on the
    network's parametrisation. skips_lowest: whether its schedules leave out their lowest level, from which a step to 0
    would waste the second evaluation (`calculate_sigmas`).
    """

    function: Callable[..., Tensor]
    noise: Callable[[Tensor, Sequence[float], int], sampling.NoiseSampler] | None = None
    from_model: Callable[[ModelSampling], dict[str, Any]] | None = None
    skips_lowest: bool = False

    def run(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Sequence[float],
        seed: int,
        callback: sampling.Callback = sampling.nobody,
    ) -> Tensor:
        """Sample from the noisy latent x; see `k_diffusion.sampling`."""
        arguments = self.from_model(denoiser.model_sampling) if self.from_model is not None else {}
        if self.noise is not None:
            arguments["noise_sampler"] = self.noise(x, sigmas, seed)
        return self.function(denoiser, x, sigmas, callback=callback, **arguments)


def independent_noise(x: Tensor, sigmas: Sequence[float], seed: int) -> sampling.NoiseSampler:
    """Fresh noise at every step."""
    return IndependentNoiseSampler(x, seed)


def brownian_noise(x: Tensor, sigmas: Sequence[float], seed: int) -> sampling.NoiseSampler:
    """The increments of a Brownian path over the noise levels of this run."""
    levels = [sigma for sigma in sigmas if sigma > 0]
    return BrownianTreeNoiseSampler(x, min(levels), max(levels), seed, levels)


TCD_GAMMA = 0.3
"""The part of a step's end time that Trajectory Consistency Distillation leaves to noise (arXiv 2402.19159)."""


def tcd_levels(model_sampling: ModelSampling) -> dict[str, Any]:
    """How deep TCD goes before it adds noise."""
    return {"level_below": partial(model_sampling.level_at_share, share=1 - TCD_GAMMA)}


# The names with `_gpu` come from files in which they said where the noise is made. Here that is always x's device.
SAMPLERS: dict[str, SamplerSpec] = {
    "euler": SamplerSpec(sampling.sample_euler),
    "euler_ancestral": SamplerSpec(sampling.sample_euler_ancestral, independent_noise),
    "heun": SamplerSpec(sampling.sample_heun),
    "heunpp2": SamplerSpec(sampling.sample_heunpp2),
    "dpm_2": SamplerSpec(sampling.sample_dpm_2, skips_lowest=True),
    "dpm_2_ancestral": SamplerSpec(sampling.sample_dpm_2_ancestral, independent_noise, skips_lowest=True),
    "lms": SamplerSpec(multistep.sample_lms),
    "dpm_fast": SamplerSpec(dpm_solver.sample_dpm_fast),
    "dpm_adaptive": SamplerSpec(dpm_solver.sample_dpm_adaptive),
    "dpmpp_2s_ancestral": SamplerSpec(sampling.sample_dpmpp_2s_ancestral, independent_noise),
    "dpmpp_sde": SamplerSpec(sampling.sample_dpmpp_sde, brownian_noise),
    "dpmpp_sde_gpu": SamplerSpec(sampling.sample_dpmpp_sde, brownian_noise),
    "dpmpp_2m": SamplerSpec(multistep.sample_dpmpp_2m),
    "dpmpp_2m_sde": SamplerSpec(multistep.sample_dpmpp_2m_sde, brownian_noise),
    "dpmpp_2m_sde_gpu": SamplerSpec(multistep.sample_dpmpp_2m_sde, brownian_noise),
    "dpmpp_3m_sde": SamplerSpec(multistep.sample_dpmpp_3m_sde, brownian_noise),
    "dpmpp_3m_sde_gpu": SamplerSpec(multistep.sample_dpmpp_3m_sde, brownian_noise),
    "ddpm": SamplerSpec(sampling.sample_euler_ancestral, independent_noise),
    "lcm": SamplerSpec(sampling.sample_lcm, independent_noise),
    "tcd": SamplerSpec(sampling.sample_tcd, independent_noise, tcd_levels),
    "restart": SamplerSpec(sampling.sample_restart, independent_noise),
    "ddim": SamplerSpec(sampling.sample_euler),
    "uni_pc": SamplerSpec(multistep.sample_uni_pc, skips_lowest=True),
    "uni_pc_bh2": SamplerSpec(multistep.sample_uni_pc_bh2, skips_lowest=True),
}


def find_sampler(name: str) -> SamplerSpec:
    """The row of a name. Raises ValueError for one that is not there."""
    if name not in SAMPLERS:
        raise ValueError(f"sampler: {name!r} is unknown; there are {', '.join(SAMPLERS)}")
    return SAMPLERS[name]
