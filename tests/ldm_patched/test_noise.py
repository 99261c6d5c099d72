"""The noise that samplers add: who it depends on, and what it is distributed like."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
import warnings

import pytest
import torch
from torchsde import BrownianTree

from ldm_patched.k_diffusion.noise import BrownianTreeNoiseSampler, IndependentNoiseSampler
from ldm_patched.k_diffusion.schedules import get_sigmas_karras
from ldm_patched.modules.sample import prepare_noise

LOW, HIGH = 0.029167, 14.614641
LATENT = torch.zeros(1, 4, 16, 16)


def tree(seed: int = 7, like: torch.Tensor = LATENT) -> BrownianTreeNoiseSampler:
    return BrownianTreeNoiseSampler(like, LOW, HIGH, seed)


def all_noise(sampler: BrownianTreeNoiseSampler, sigmas: list[float]) -> torch.Tensor:
    return torch.stack([sampler(a, b) for a, b in zip(sigmas, sigmas[1:], strict=False)])


def test_equals_torchsde_s_tree() -> None:
    sigmas = get_sigmas_karras(30, LOW, HIGH)[:-1]
    reference = BrownianTree(t0=LOW, w0=LATENT, t1=HIGH, entropy=7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchsde complains of the last digit of its own rounding
        expected = torch.stack([-reference(b, a) / math.sqrt(a - b) for a, b in zip(sigmas, sigmas[1:], strict=False)])
    assert torch.allclose(all_noise(tree(), sigmas), expected, atol=5e-4)


def test_depends_on_the_levels_and_not_on_what_was_asked_before() -> None:
    sigmas = get_sigmas_karras(12, LOW, HIGH)[:-1]
    forward = all_noise(tree(), sigmas)
    backward_sampler = tree()
    pairs = list(zip(sigmas, sigmas[1:], strict=False))
    backward = torch.stack([backward_sampler(a, b) for a, b in reversed(pairs)]).flip(0)
    assert torch.equal(forward, backward)
    assert torch.equal(tree()(3.0, 1.0), -tree()(1.0, 3.0))


def test_steps_that_are_expected_have_the_same_noise_and_others_too() -> None:
    sigmas = get_sigmas_karras(12, LOW, HIGH)[:-1]
    ahead = BrownianTreeNoiseSampler(LATENT, LOW, HIGH, 7, expected=sigmas)
    assert torch.equal(ahead(3.0, 1.0), tree()(3.0, 1.0))
    expected = all_noise(tree(), sigmas)
    assert torch.equal(all_noise(ahead, sigmas), expected)
    assert torch.equal(all_noise(ahead, sigmas), expected), "a sampler may come back to a step"


def test_more_steps_refine_the_same_path() -> None:
    sampler = tree()
    whole = sampler(8.0, 2.0) * math.sqrt(6)
    parts = sampler(8.0, 5.0) * math.sqrt(3) + sampler(5.0, 2.0) * math.sqrt(3)
    assert torch.allclose(whole, parts, atol=1e-5)


def test_steps_are_unit_gaussian_and_independent() -> None:
    sigmas = get_sigmas_karras(21, LOW, HIGH)[:-1]
    noise = all_noise(tree(like=torch.zeros(1, 4, 64, 64)), sigmas).flatten(1)
    count = noise.shape[1]
    assert noise.mean(1).abs().max() < 5 / math.sqrt(count)
    assert (noise.var(1) - 1).abs().max() < 5 * math.sqrt(2 / count)
    assert (noise.pow(4).mean(1) - 3).abs().max() < 5 * math.sqrt(96 / count)
    correlation = torch.corrcoef(noise) - torch.eye(len(noise))
    assert correlation.abs().max() < 5.5 / math.sqrt(count)


def test_close_levels_and_levels_beyond_the_ends() -> None:
    sampler = tree(like=torch.zeros(1, 4, 64, 64))
    assert float(sampler(0.03, 0.029998).std()) == pytest.approx(1, abs=0.05)
    assert not sampler(0.03, 0.03 + 1e-9).any()
    assert torch.equal(sampler(20.0, 1.0), sampler(HIGH, 1.0))
    assert not BrownianTreeNoiseSampler(LATENT, 1.0, 1.0, 7)(1.0, 1.0).any()


def test_seed_decides() -> None:
    assert torch.equal(tree(2**63 - 1)(3.0, 1.0), tree(2**63 - 1)(3.0, 1.0))
    assert not torch.equal(tree(1)(3.0, 1.0), tree(2)(3.0, 1.0))


def test_global_generators_are_neither_used_nor_moved() -> None:
    torch.manual_seed(1)
    first = tree()(3.0, 1.0), IndependentNoiseSampler(LATENT, 7)(3.0, 1.0), prepare_noise(LATENT.shape, 7)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    second = tree()(3.0, 1.0), IndependentNoiseSampler(LATENT, 7)(3.0, 1.0), prepare_noise(LATENT.shape, 7)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


NEW_PROCESS = """
import torch
from tests.ldm_patched.test_noise import large_digest
torch.set_num_threads(3)
print(large_digest())
"""


def large_digest() -> str:
    """Of noise that is large enough for torch to use several threads."""
    noise = all_noise(tree(like=torch.zeros(1, 4, 128, 128)), [14.6, 5.0, 1.0, 0.03])
    return hashlib.sha256(noise.numpy().tobytes()).hexdigest()


def test_same_bytes_in_a_new_process_with_other_threads() -> None:
    run = subprocess.run([sys.executable, "-c", NEW_PROCESS], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == large_digest()


def test_independent_noise_goes_on_where_the_first_noise_ended() -> None:
    sampler = IndependentNoiseSampler(LATENT, 7)
    first, second = sampler(3.0, 1.0), sampler(1.0, 0.5)
    stream = torch.Generator().manual_seed(7)
    expected = [torch.randn(LATENT.shape, generator=stream) for _ in range(3)]
    assert torch.equal(prepare_noise(LATENT.shape, 7), expected[0])
    assert torch.equal(first, expected[1])
    assert torch.equal(second, expected[2])
