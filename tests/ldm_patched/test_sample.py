"""The entry point of sampling: every sampler with every schedule, repeatable, and without waiting for the device."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ldm_patched.ldm.unet import UNet, UNetParams
from ldm_patched.modules.conditioning import SizeVectors
from ldm_patched.modules.model_sampling import EpsSampling, ModelSampling
from ldm_patched.modules.sample import InterruptibleDenoiser, prepare_noise, sample
from ldm_patched.modules.samplers import SAMPLERS, Guidance, GuidedDenoiser, TextCondition
from ldm_patched.modules.schedulers import SCHEDULERS, calculate_sigmas, choose_model_sampling
from tests.ldm_patched.denoisers import Known

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


class Ideal(Known):
    """The denoiser of a single possible picture."""

    def __init__(self, picture: torch.Tensor, model_sampling: ModelSampling = EPS) -> None:
        super().__init__(lambda x, sigma: picture, model_sampling)


@cache
def network() -> UNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet(PARAMS).eval()


def guided(sigmas: list[float], guidance: Guidance, model_sampling: ModelSampling = EPS) -> GuidedDenoiser:
    generator = torch.Generator().manual_seed(0)
    cond, uncond = (
        TextCondition(
            torch.randn(1, 7, 24, generator=generator),
            SizeVectors(torch.randn(1, 20, generator=generator), torch.randn(1, 20, generator=generator)),
        )
        for _ in range(2)
    )
    return GuidedDenoiser(network(), model_sampling, cond, uncond, guidance, sigmas, adm_scaler_end=0.3)


def enough(sampler: str) -> int:
    """Steps for a run that shows all that a sampler does."""
    return 20 if sampler == "restart" else 5


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_with_every_schedule(sampler: str, scheduler: str) -> None:
    model_sampling = choose_model_sampling("sdxl", "eps", False, scheduler)
    sigmas = calculate_sigmas(model_sampling, scheduler, 2, skip_lowest=SAMPLERS[sampler].skips_lowest)
    denoiser = guided(sigmas, Guidance(4.0), model_sampling)
    result = sample(denoiser, prepare_noise(SHAPE, 7), torch.zeros(SHAPE), sigmas, sampler, 7)
    assert torch.isfinite(result).all()
    assert result.dtype == torch.float32


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_seed_decides_alone(sampler: str) -> None:
    sigmas = calculate_sigmas(EPS, "karras", enough(sampler))

    def run(seed: int) -> torch.Tensor:
        return sample(Known(), prepare_noise(SHAPE, seed), torch.zeros(SHAPE), sigmas, sampler, seed)

    first = run(7)
    torch.manual_seed(99)
    assert torch.equal(first, run(7))
    assert not torch.equal(first, run(8))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_only_possible_picture_is_found(sampler: str, scheduler: str) -> None:
    picture = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    for prediction, steps, denoise in (("eps", enough(sampler), 1.0), ("eps", 5, 0.6), ("v", 5, 1.0)):
        predicts_v = prediction == "v" and scheduler != "edm_playground_v2.5"
        model_sampling = choose_model_sampling("sdxl", "v" if predicts_v else "eps", True, scheduler)
        skip_lowest = SAMPLERS[sampler].skips_lowest
        sigmas = calculate_sigmas(model_sampling, scheduler, steps, denoise, skip_lowest)
        result = sample(Ideal(picture, model_sampling), prepare_noise(SHAPE, 1), picture + 1, sigmas, sampler, 1)
        assert torch.allclose(result, picture, rtol=1e-3, atol=1e-6 * sigmas[0])


def test_a_run_can_be_ended_within_a_step() -> None:
    denoiser, calls = Ideal(torch.zeros(SHAPE)), 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise InterruptedError

    sigmas = calculate_sigmas(EPS, "karras", 8)
    with pytest.raises(InterruptedError):
        sample(InterruptibleDenoiser(denoiser, check), torch.zeros(SHAPE), torch.zeros(SHAPE), sigmas, "heunpp2", 1)
    assert len(denoiser.inputs) == 4, "in the middle of the second step"


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


@pytest.mark.parametrize("sampler", sorted(SAMPLERS.keys() - {"dpm_adaptive"}))  # its errors decide its steps
def test_the_loop_never_waits_for_the_device(sampler: str) -> None:
    sigmas = calculate_sigmas(EPS, "karras", enough(sampler))
    denoiser = guided(sigmas, Guidance(9.0, 2.0, 7.0))
    steps: list[int] = []

    def off_schedule(x: torch.Tensor, sigma: float) -> torch.Tensor:
        denoiser(x, sigma * 0.99)  # a sampler may also look between the levels
        return denoiser(x, sigma)

    with torch.inference_mode(), NoWaiting(), NoScalars():  # type: ignore[no-untyped-call]
        x = torch.randn(SHAPE)
        SAMPLERS[sampler].run(Known(off_schedule), x, sigmas, 7, lambda step, x0: steps.append(step))
    assert sorted(set(steps)) == list(range(enough(sampler)))


def test_what_cannot_be_is_refused_in_words() -> None:
    latent = torch.zeros(SHAPE)
    with pytest.raises(ValueError, match="sampler: 'sideways' is unknown; there are euler, euler_ancestral"):
        sample(Ideal(latent), latent, latent, [1.0, 0.0], "sideways", 1)
    with pytest.raises(ValueError, match=r"noise is \(1, 4, 8, 9\), but the latent is \(1, 4, 8, 8\)"):
        sample(Ideal(latent), torch.zeros(1, 4, 8, 9), latent, [1.0, 0.0], "euler", 1)
