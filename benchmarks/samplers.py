"""How exact the samplers are and what their noise and guidance cost: `python -m benchmarks.samplers`.

Exactness: for Gaussian data of deviation s the ideal denoiser is x s^2 / (s^2 + sigma^2), and the deviation of a
perfect sampler's result at sigma is sqrt(s^2 + sigma^2). Every operation on x is then linear, so a run on the
coefficients of x over its independent noises gives the deviation of the result exactly, also for a sampler that adds
noise. The order of convergence is how many times the error halves when the steps double.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ldm_patched.k_diffusion.noise import BrownianTreeNoiseSampler
from ldm_patched.k_diffusion.sampling import NoiseSampler, get_sigmas_karras
from ldm_patched.modules.anisotropic import bilateral_filter
from ldm_patched.modules.model_sampling import EpsSampling
from ldm_patched.modules.samplers import SAMPLERS, karras

DATA_DEVIATION = 0.7
SIGMA_RANGE = (0.05, 10.0)
ORDERS = {"euler": 1, "euler_ancestral": 1, "dpmpp_2m": 2, "dpmpp_2m_sde_gpu": 2}


def gaussian_denoiser(x: Tensor, sigma: float) -> Tensor:
    """x0 for data N(0, DATA_DEVIATION^2)."""
    return x * (DATA_DEVIATION**2 / (DATA_DEVIATION**2 + sigma**2))


def deviation_error(sampler: str, steps: int) -> float:
    """Absolute error of the result's standard deviation after `steps` steps down SIGMA_RANGE."""
    spec = SAMPLERS[sampler]
    low, high = SIGMA_RANGE
    sigmas = get_sigmas_karras(steps + 1, low, high)[:-1]
    coefficients = torch.zeros(steps + 1, dtype=torch.float64)
    coefficients[0] = math.hypot(DATA_DEVIATION, high)
    if spec.noise is None:
        result = spec.function(gaussian_denoiser, coefficients, sigmas)
    else:
        result = spec.function(gaussian_denoiser, coefficients, sigmas, noise_sampler=_one_noise_after_another(steps))
    return abs(float(result.norm()) - math.hypot(DATA_DEVIATION, low))


def _one_noise_after_another(steps: int) -> NoiseSampler:
    noises = iter(torch.eye(steps + 1, dtype=torch.float64)[1:])
    return lambda sigma, sigma_next: next(noises)


def convergence_order(sampler: str, steps: int) -> float:
    """log2 of the error's ratio between `steps` and twice as many."""
    return math.log2(deviation_error(sampler, steps) / deviation_error(sampler, 2 * steps))


def draw_noise(side: int, steps: int) -> None:
    """All the noise of one run of the default sampler, for a latent of side x side."""
    sigmas = karras(EpsSampling(), steps)
    x = torch.zeros(1, 4, side, side)
    noise_sampler = BrownianTreeNoiseSampler(x, sigmas[-2], sigmas[0], seed=7)
    for sigma, sigma_next in zip(sigmas[:-2], sigmas[1:-1], strict=True):
        noise_sampler(sigma, sigma_next)


def milliseconds(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median and minimum of the time of `repeats` runs, after one that does not count."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times), min(times)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30, help="steps of the run whose noise is timed (30)")
    parser.add_argument("--side", type=int, default=32, help="side of the latent, an eighth of the picture's (32)")
    parser.add_argument("--repeats", type=int, default=20, help="how often each time is taken (20)")
    arguments = parser.parse_args()

    counts = [16, 32, 64, 128, 256]
    print(f"{'order of convergence':22}{'expected':>9}" + "".join(f"{f'{n}->{2 * n}':>10}" for n in counts))
    for sampler, order in ORDERS.items():
        measured = "".join(f"{convergence_order(sampler, n):10.3f}" for n in counts)
        print(f"{sampler:22}{order:>9}{measured}")

    side, steps = arguments.side, arguments.steps
    x, guide = torch.randn(2, 1, 4, side, side, generator=torch.Generator().manual_seed(0))
    print(f"\nlatent 4x{side}x{side}, {steps} steps, {torch.get_num_threads()} threads: median (minimum), ms per run")
    rows = {
        "Brownian noise": milliseconds(lambda: draw_noise(side, steps), arguments.repeats),
        "sharpness filter": milliseconds(lambda: [bilateral_filter(x, guide) for _ in range(steps)], arguments.repeats),
    }
    for name, (median, least) in rows.items():
        print(f"{name:22}{median:9.1f} ({least:.1f})")


if __name__ == "__main__":
    main()
