"""The entry point of sampling: every sampler with every schedule, repeatable, and without waiting for the device."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ldm_patched.ldm.unet import UNet, UNetParams
from ldm_patched.modules.conditioning import SizeVectors
from ldm_patched.modules.model_sampling import EpsSampling
from ldm_patched.modules.sample import prepare_noise, sample
from ldm_patched.modules.samplers import (
    SAMPLERS,
    SCHEDULERS,
    Guidance,
    GuidedDenoiser,
    TextCondition,
    calculate_sigmas,
)

EPS = EpsSampling()
PARAMS = UNetParams(
    in_channels=4,
    out_channels=4,
    model_channels=32,
    channel_mult=(1, 2),
    num_res_blocks=1,
    transformer_depth=(0, 1),
    middle_depth=1,
    context_dim=24,
    adm_channels=20,
    linear_projections=True,
    head_channels=16,
    heads=0,
)
SHAPE = (1, 4, 8, 8)


class Ideal:
    """The denoiser of a single possible picture."""

    model_sampling = EPS

    def __init__(self, picture: torch.Tensor) -> None:
        self.picture = picture

    def __call__(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        return self.picture


def guided(sigmas: list[float], guidance: Guidance) -> GuidedDenoiser:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet(PARAMS).eval()
        cond, uncond = (
            TextCondition(torch.randn(1, 7, 24), SizeVectors(torch.randn(1, 20), torch.randn(1, 20))) for _ in range(2)
        )
    return GuidedDenoiser(unet, EPS, cond, uncond, guidance, sigmas, adm_scaler_end=0.3)


def run(sampler: str, scheduler: str, seed: int = 7, steps: int = 4) -> torch.Tensor:
    sigmas = calculate_sigmas(EPS, scheduler, steps)
    denoiser = guided(sigmas, Guidance(4.0, 2.0))
    return sample(denoiser, prepare_noise(SHAPE, seed), torch.zeros(SHAPE), sigmas, sampler, seed)


@pytest.mark.parametrize(("sampler", "scheduler"), list(itertools.product(SAMPLERS, SCHEDULERS)))
def test_every_sampler_with_every_schedule(sampler: str, scheduler: str) -> None:
    first = run(sampler, scheduler)
    torch.manual_seed(99)
    assert torch.isfinite(first).all()
    assert first.dtype == torch.float32
    assert torch.equal(first, run(sampler, scheduler))
    assert not torch.equal(first, run(sampler, scheduler, seed=8))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_only_possible_picture_is_found(sampler: str) -> None:
    picture = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    sigmas = calculate_sigmas(EPS, "karras", 8, denoise=0.6)
    result = sample(Ideal(picture), prepare_noise(SHAPE, 1), picture + 1, sigmas, sampler, 1)
    assert torch.allclose(result, picture)


def test_no_denoising_gives_the_latent_back() -> None:
    latent = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    sigmas = calculate_sigmas(EPS, "karras", 8, denoise=0.0)
    assert torch.equal(sample(Ideal(latent + 1), prepare_noise(SHAPE, 1), latent, sigmas, "dpmpp_2m", 1), latent)


class NoWaiting(TorchFunctionMode):
    """Fails where the host would ask the device for a value."""

    ASKING = frozenset(
        {
            *("item", "tolist", "numpy", "cpu", "cuda", "nonzero", "unique", "masked_select", "is_nonzero"),
            *("__bool__", "__float__", "__int__", "__index__", "__array__", "equal", "allclose"),
        }
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert getattr(func, "__name__", "") not in self.ASKING, f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


class NoScalars(TorchDispatchMode):
    """Fails where a tensor is made into a number of the host, however that was written, or made from one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.name() not in {"aten::_local_scalar_dense", "aten::lift_fresh"}, f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("waiting", [torch.Tensor.item, bool, float, torch.Tensor.tolist, lambda x: x.cpu().numpy()])
def test_the_guards_notice(waiting: Any) -> None:
    with pytest.raises(AssertionError, match="waits for the device"), NoWaiting(), NoScalars():  # type: ignore[no-untyped-call]
        waiting(torch.ones(()))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_loop_never_waits_for_the_device(sampler: str) -> None:
    sigmas = calculate_sigmas(EPS, "karras", 4)
    denoiser = guided(sigmas, Guidance(9.0, 2.0, 7.0))
    steps: list[int] = []

    def off_schedule(x: torch.Tensor, sigma: float) -> torch.Tensor:
        denoiser(x, sigma * 0.99)  # a sampler may also look between the levels
        return denoiser(x, sigma)

    with torch.inference_mode(), NoWaiting(), NoScalars():  # type: ignore[no-untyped-call]
        x = torch.randn(SHAPE)
        SAMPLERS[sampler].run(off_schedule, x, sigmas, 7, lambda step, x0: steps.append(step))
    assert steps == [0, 1, 2, 3]


def test_what_cannot_be_is_refused_in_words() -> None:
    latent = torch.zeros(SHAPE)
    with pytest.raises(ValueError, match="sampler: 'sideways' is unknown; there are euler, euler_ancestral"):
        sample(Ideal(latent), latent, latent, [1.0, 0.0], "sideways", 1)
    with pytest.raises(ValueError, match=r"noise is \(1, 4, 8, 9\), but the latent is \(1, 4, 8, 8\)"):
        sample(Ideal(latent), torch.zeros(1, 4, 8, 9), latent, [1.0, 0.0], "euler", 1)
