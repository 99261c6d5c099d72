"""How exact the samplers are and what their noise and guidance cost: `python -m benchmarks.samplers`.

Exactness: for Gaussian data of deviation s the ideal denoiser is x s^2 / (s^2 + sigma^2), and the deviation of a
perfect sampler's result at sigma is sqrt(s^2 + sigma^2). Every operation on x is then linear, so a run on the
coefficients of x over its independent noises gives the deviation of the result exactly, also for a sampler that adds
noise. The order of convergence is how many times the error halves when the steps double. DPM adaptive takes a
tolerance instead of steps. LCM and TCD do not converge, for they take every estimate as the end of its trajectory.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ldm_patched.k_diffusion.dpm_solver import sample_dpm_adaptive
from ldm_patched.k_diffusion.noise import BrownianTreeNoiseSampler
from ldm_patched.k_diffusion.schedules import get_sigmas_karras
from ldm_patched.modules.anisotropic import bilateral_filter
from ldm_patched.modules.model_sampling import EpsSampling
from ldm_patched.modules.samplers import SAMPLERS, brownian_noise
from ldm_patched.modules.schedulers import karras

DATA_DEVIATION = 0.7
SIGMA_RANGE = (0.05, 10.0)
ORDERS = {
    "euler": 1, "euler_ancestral": 1, "heun": 2, "heunpp2": 1, "dpm_2": 2, "dpm_2_ancestral": 2, "lms": 2,
    "dpm_fast": 3, "dpmpp_2s_ancestral": 2, "dpmpp_sde": 2, "dpmpp_sde_gpu": 2, "dpmpp_2m": 2, "dpmpp_2m_sde": 2,
    "dpmpp_2m_sde_gpu": 2, "dpmpp_3m_sde": 2, "dpmpp_3m_sde_gpu": 2, "ddpm": 1, "restart": 2, "ddim": 1, "uni_pc": 2,
    "uni_pc_bh2": 2,
}  # fmt: skip


def gaussian_denoiser(x: Tensor, sigma: float) -> Tensor:
    """x0 for data N(0, DATA_DEVIATION^2)."""
    return x * (DATA_DEVIATION**2 / (DATA_DEVIATION**2 + sigma**2))


def deviation_error(sampler: str, steps: int) -> float:
    """Absolute error of the result's standard deviation after `steps` steps down SIGMA_RANGE."""
    spec = SAMPLERS[sampler]
    low, high = SIGMA_RANGE
    sigmas = get_sigmas_karras(steps + 1, low, high)[:-1]
    noise = _Path(sigmas) if spec.noise is brownian_noise else _OneAfterAnother(steps + 2)
    arguments = {} if spec.noise is None else {"noise_sampler": noise}
    result = spec.function(gaussian_denoiser, noise.start(math.hypot(DATA_DEVIATION, high)), sigmas, **arguments)
    return abs(float(result.norm()) - math.hypot(DATA_DEVIATION, low))


class _OneAfterAnother:
    """Independent noises, as unit vectors; the first coefficient is that of the noise in which a run begins."""

    def __init__(self, count: int) -> None:
        self._noises: Iterator[Tensor] = iter(torch.eye(count + 1, dtype=torch.float64)[1:])
        self._size = count + 1

    def start(self, deviation: float) -> Tensor:
        x = torch.zeros(self._size, dtype=torch.float64)
        x[0] = deviation
        return x

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        return next(self._noises)


class _Path(_OneAfterAnother):
    """A Brownian path over the levels of a run and those half-way, as coefficients of its independent increments."""

    def __init__(self, sigmas: Sequence[float]) -> None:
        halves = [math.sqrt(a * b) for a, b in pairwise(sigmas)]
        self._levels = sorted([*sigmas, *halves])
        super().__init__(len(self._levels))

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        increments = torch.zeros(self._size, dtype=torch.float64)
        low, high = (self._levels.index(level) for level in (sigma_next, sigma))
        for place in range(low, high):
            share = (self._levels[place + 1] - self._levels[place]) / (sigma - sigma_next)
            increments[place + 1] = math.sqrt(share)
        return increments


def adaptive_error(rtol: float) -> tuple[float, int]:
    """The same for DPM adaptive, and how many evaluations it took."""
    evaluations = 0

    def denoiser(x: Tensor, sigma: float) -> Tensor:
        nonlocal evaluations
        evaluations += 1
        return gaussian_denoiser(x, sigma)

    low, high = SIGMA_RANGE
    x = torch.tensor([math.hypot(DATA_DEVIATION, high)], dtype=torch.float64)
    result = sample_dpm_adaptive(denoiser, x, (high, low), rtol=rtol, atol=0.1 * rtol)
    return abs(float(result) - math.hypot(DATA_DEVIATION, low)), evaluations


def convergence_order(sampler: str, steps: int) -> float:
    """The power of the number of steps by which the error falls, between `steps` and twice as many and one.

    Two more than a multiple of three stay such a number, so that DPM fast always ends with a step of one order less.
    """
    more = 2 * steps + 1
    return math.log(deviation_error(sampler, steps) / deviation_error(sampler, more)) / math.log(more / steps)


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

    counts = [17, 35, 71, 143, 287]
    print(f"{'order of convergence':22}{'expected':>9}" + "".join(f"{f'{n}->{2 * n + 1}':>10}" for n in counts))
    for sampler, order in ORDERS.items():
        measured = "".join(f"{convergence_order(sampler, n):10.3f}" for n in counts)
        print(f"{sampler:22}{order:>9}{measured}")

    print(f"\n{'dpm_adaptive: rtol':22}{'error':>12}{'evaluations':>14}")
    for rtol in (0.05, 0.005, 0.0005, 0.00005):
        error, evaluations = adaptive_error(rtol)
        print(f"{rtol:<22g}{error:12.2e}{evaluations:14}")

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
