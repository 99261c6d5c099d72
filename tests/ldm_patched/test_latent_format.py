"""The latents of Playground v2.5 against the published figures, and of everybody else against the VAE's."""

from __future__ import annotations

import torch

from ldm_patched.modules.latent_format import AS_THE_VAE_S, PLAYGROUND_V2_5
from ldm_patched.modules.sd import LATENT_SCALES

MEAN = torch.tensor((-1.6574, 1.886, -1.383, 2.5155)).view(1, 4, 1, 1)
STD = torch.tensor((8.4927, 5.9022, 6.5498, 5.2299)).view(1, 4, 1, 1)


def test_playground_normalises_by_channel() -> None:
    unscaled = MEAN + STD * torch.randn(2, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    model = PLAYGROUND_V2_5.to_model(unscaled * LATENT_SCALES["sdxl"])
    assert torch.allclose(model, (unscaled - MEAN) * 0.5 / STD, atol=1e-6)
    assert torch.allclose(model.std(dim=(0, 2, 3)), torch.tensor(0.5), atol=0.02)
    assert torch.allclose(PLAYGROUND_V2_5.to_vae(model) / LATENT_SCALES["sdxl"], unscaled, atol=1e-4)


def test_other_networks_have_the_vaes_latents() -> None:
    latent = torch.randn(1, 4, 8, 8)
    assert AS_THE_VAE_S.to_model(latent) is latent
    assert AS_THE_VAE_S.to_vae(latent) is latent
