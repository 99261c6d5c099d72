"""The entry point of sampling: from a seed to a latent. Knows no network and no prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ldm_patched.k_diffusion.sampling import Callback
from ldm_patched.modules.samplers import SAMPLERS, Denoiser


def prepare_noise(shape: Sequence[int], seed: int) -> Tensor:
    """Unit Gaussian noise of a shape, from the CPU in single precision: one seed (0 .. 2^64 - 1), one noise."""
    return torch.randn(*shape, generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32)


@torch.inference_mode()
def sample(
    denoiser: Denoiser,
    noise: Tensor,
    latent: Tensor,
    sigmas: Sequence[float],
    sampler: str,
    seed: int,
    callback: Callback | None = None,
) -> Tensor:
    """Denoise `latent` after adding `noise`, from the first noise level to the last.

    noise, latent: [batch, channels, h, w]; zeros for a latent make a picture from nothing. The run happens where the
    latent lies, in single precision; both are in the model's scale (the VAE's latents times its scaling factor), as
    is the result. sigmas: from `calculate_sigmas`. sampler: a key of SAMPLERS. seed: of the noise that the sampler
    adds on its way. callback(step, x0) follows every evaluation of the network; what it raises ends the run.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler: {sampler!r} is unknown; there are {', '.join(SAMPLERS)}")
    if noise.shape != latent.shape:
        raise ValueError(f"noise is {tuple(noise.shape)}, but the latent is {tuple(latent.shape)}")
    latent = latent.float()
    x = denoiser.model_sampling.noise_scaling(sigmas[0], noise.to(latent), latent)
    if len(sigmas) < 2:
        return x
    return SAMPLERS[sampler].run(denoiser, x, sigmas, seed, callback)
