"""Where the parts of a checkpoint live and in which dtype they compute. Knows no file and no network.

`look` asks the machine; `place` is a pure function of what it found. The state of a sampler is float32 everywhere.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch

DeviceKind = Literal["cpu", "cuda", "mps", "xpu"]

BF16_GAIN = 1.1
"""How much faster than float32 a processor must multiply bfloat16 matrices before it is used. Native units reach 1.5
to 6, emulation 0.2 to 0.7: nothing is near the limit, so the choice is the same at every start."""

_SMALL_TOWERS = 50_000_000
"""Parameters under which text towers stay in float32 on a processor: it costs milliseconds and is exact."""

_GIB = 1 << 30
# Compute capability 7.5 by number, but without working half-precision units: they produce NaN.
_NO_HALF = ("1660", "1650", "1630", "T500", "T550", "T600", "MX550", "MX450", "CMP 30HX", "T2000", "T1000", "T1200")


@dataclass(frozen=True)
class Hardware:
    """What a machine computes on.

    capability: CUDA's (major, minor), (0, 0) elsewhere. memory: bytes that belong to the device. bf16_gain: speed of
    bfloat16 matrix products relative to float32 on a processor, 0 elsewhere.
    """

    kind: DeviceKind
    name: str
    capability: tuple[int, int]
    memory: int
    bf16_gain: float


@dataclass(frozen=True)
class Sizes:
    """Numbers of parameters of the parts of a checkpoint."""

    unet: int
    towers: int
    vae: int


@dataclass(frozen=True)
class Placement:
    """The decision: a device, and a dtype per part."""

    device: torch.device
    unet: torch.dtype
    towers: torch.dtype
    vae: torch.dtype


def look(*, always_cpu: bool = False) -> Hardware:
    """The best device of this machine. always_cpu: leave a GPU alone."""
    if not always_cpu and torch.cuda.is_available():
        cuda = torch.cuda.get_device_properties(0)
        return Hardware("cuda", cuda.name, (cuda.major, cuda.minor), cuda.total_memory, 0.0)
    if not always_cpu and torch.xpu.is_available():
        xpu = torch.xpu.get_device_properties(0)
        return Hardware("xpu", xpu.name, (0, 0), xpu.total_memory, 0.0)
    if not always_cpu and torch.backends.mps.is_available():
        return Hardware("mps", "Apple GPU", (0, 0), _system_memory(), 0.0)
    return Hardware("cpu", "CPU", (0, 0), _system_memory(), measure_bf16_gain())


def place(hardware: Hardware, sizes: Sizes, stored: torch.dtype) -> Placement:
    """Device and dtypes for a checkpoint whose UNet is stored as `stored`."""
    device = torch.device(hardware.kind)
    half = torch.float16
    match hardware.kind:
        case "cpu":  # never float16: processors convert it number by number
            if hardware.bf16_gain < BF16_GAIN:
                return Placement(device, torch.float32, torch.float32, torch.float32)
            towers = torch.float32 if sizes.towers < _SMALL_TOWERS else torch.bfloat16
            return Placement(device, torch.bfloat16, towers, torch.bfloat16)
        case "cuda":
            modern = hardware.capability >= (8, 0)
            if not _fast_half(hardware) and 4 * sizes.unet < 0.9 * hardware.memory - _GIB:
                return Placement(device, torch.float32, torch.float32, torch.float32)
            unet = torch.bfloat16 if modern and stored == torch.bfloat16 else half
            return Placement(device, unet, half, torch.bfloat16 if modern else torch.float32)
        case "xpu":
            return Placement(device, half, half, torch.bfloat16)
        case "mps":  # SDXL's VAE overflows in float16
            return Placement(device, half, half, torch.float32)


def _fast_half(hardware: Hardware) -> bool:
    return hardware.capability >= (7, 0) and not any(model in hardware.name for model in _NO_HALF)


@lru_cache(maxsize=1)
def measure_bf16_gain() -> float:
    """Speed of this processor's bfloat16 matrix products relative to float32. Takes about 0.1 s, once.

    On one thread, in that thread's own processor time: other programs do not change the result.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        single, half = (_product_seconds(dtype) for dtype in (torch.float32, torch.bfloat16))
    finally:
        torch.set_num_threads(threads)
    return single / half


def _product_seconds(dtype: torch.dtype, repeats: int = 7) -> float:
    """Shortest of several durations of a matrix product, in seconds."""
    a, b = torch.ones(256, 1024, dtype=dtype), torch.ones(1024, 1024, dtype=dtype)
    shortest = float("inf")
    for _ in range(repeats):
        begin = time.thread_time()
        torch.mm(a, b)
        shortest = min(shortest, time.thread_time() - begin)
    return shortest


def _system_memory() -> int:
    """Bytes of main memory, 0 where the system does not tell."""
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names:
        return 0
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
