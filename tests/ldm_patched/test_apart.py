"""Both sides of guidance one after the other: the picture is the batch's."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor

from ldm_patched.ldm.unet import UNet
from ldm_patched.modules.apart import RowByRow
from ldm_patched.modules.conditioning import SizeVectors
from ldm_patched.modules.hooks import FreeU
from ldm_patched.modules.samplers import Guidance, GuidedDenoiser, TextCondition
from ldm_patched.modules.schedulers import calculate_sigmas, choose_model_sampling
from tests.ldm_patched.lora_files import checkpoint


class Counting:
    """A UNet that notes the batches it is called with."""

    def __init__(self, unet: UNet) -> None:
        self.batches: list[int] = []
        unet.register_forward_pre_hook(lambda module, arguments: self.batches.append(len(arguments[0])))


def condition(tokens: int, seed: int) -> TextCondition:
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(1, 64 + 1536, generator=generator)
    return TextCondition(torch.randn(1, tokens, 192, generator=generator), SizeVectors(vector, -vector))


@pytest.mark.parametrize("lengths", [(77, 77), (154, 77)], ids=str)
@pytest.mark.parametrize("freeu", [None, FreeU(64, 1.2, 1.3, 0.9, 0.2)], ids=["", "FreeU"])
def test_the_estimate_is_the_batchs(tmp_path: Path, lengths: tuple[int, int], freeu: FreeU | None) -> None:
    unet = checkpoint(tmp_path).unet
    counting = Counting(unet)
    model_sampling = choose_model_sampling("sdxl", "eps", False, "karras")
    sigmas = calculate_sigmas(model_sampling, "karras", 4, 1.0, False)
    cond, uncond = (condition(length, seed) for seed, length in enumerate(lengths))
    x = torch.randn(1, 4, 9, 6, generator=torch.Generator().manual_seed(9)) * sigmas[0]

    def estimate(network: UNet, scale: float) -> Tensor:
        denoiser = GuidedDenoiser(network, model_sampling, cond, uncond, Guidance(scale), sigmas, 0.3, freeu)
        return torch.cat([denoiser(x, sigma) for sigma in sigmas[:-1]])

    for scale, batches in ((5.0, [2]), (1.0, [1])):
        together = estimate(unet, scale)
        assert counting.batches == batches * 4
        counting.batches.clear()
        apart = estimate(cast(UNet, RowByRow(unet)), scale)
        assert counting.batches == [1] * 4 * batches[0]
        counting.batches.clear()
        assert float((apart - together).abs().max()) < 1e-5 * float(together.abs().max())
