"""The entry point of sampling: from a seed to a latent. Knows no network and no prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ldm_patched.k_diffusion.sampling import Callback, nobody
from ldm_patched.modules.samplers import Denoiser, find_sampler


def prepare_noise(shape: Sequence[int], seed: int) -> Tensor:
    """Unit Gaussian noise of a shape, from the CPU in single precision: one seed (0 .. 2^64 - 1), one noise."""
    return torch.randn(*shape, generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32)


class InterruptibleDenoiser:
    """A denoiser that asks after every call whether to go on, since a sampler's step may take several."""

    def __init__(self, denoiser: Denoiser, check: Callable[[], None]) -> None:
        """check: what it raises ends the run."""
        self.model_sampling = denoiser.model_sampling
        self._denoiser = denoiser
        self._check = check

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """x0 as the denoiser has it."""
        x0 = self._denoiser(x, sigma)
        self._check()
        return x0


@torch.inference_mode()
def sample(
    denoiser: Denoiser,
    noise: Tensor,
    latent: Tensor,
    sigmas: Sequence[float],
    sampler: str,
    seed: int,
    callback: Callback = nobody,
) -> Tensor:
    """Denoise `latent` after adding `noise`, from the first noise level to the last.

    noise, latent: [batch, channels, h, w]; zeros for a latent make a picture from nothing. The run happens where the
    latent lies, in single precision; all latents, also those that the callback sees and the result, are the network's
    (`ModelSampling.latent_format`). sigmas: from `calculate_sigmas`. sampler: a key of SAMPLERS. seed: of the noise
    that the sampler adds on its way. callback(step, x0) is told once in each of the len(sigmas) - 1 steps; what it
    raises ends the run (`InterruptibleDenoiser` does so within a step).
    """
    spec = find_sampler(sampler)
    if noise.shape != latent.shape:
        raise ValueError(f"noise is {tuple(noise.shape)}, but the latent is {tuple(latent.shape)}")
    latent = latent.float()
    x = denoiser.model_sampling.noise_scaling(sigmas[0], noise.to(latent), latent)
    if len(sigmas) < 2:
        return x
    return spec.run(denoiser, x, sigmas, seed, callback)
