"""Where the parts of a checkpoint live and in which dtype they compute. Knows no file and no network.

`look` asks the machine; `place` is a pure function of what it found and of what the user wants (`memory.Policy`). The
state of a sampler is float32 everywhere.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch

from ldm_patched.modules.memory import AUTOMATIC, NumberFormat, Policy

DeviceKind = Literal["cpu", "cuda", "mps", "xpu"]

BF16_GAIN = 1.1
"""How much faster than float32 a processor must multiply bfloat16 matrices before it is used. Native units reach 1.5
to 6, emulation 0.2 to 0.7: nothing is near the limit, so the choice is the same at every start."""

_SMALL_TOWERS = 50_000_000
"""Parameters under which text towers stay in float32 on a processor: it costs milliseconds and is exact."""

_GIB = 1 << 30
_WORKSPACE = _GIB
"""Bytes of a GPU that are left for what is computed: activations, the autoencoder, the libraries' own."""
_RING = 320 << 20
"""Bytes that the ring of a streamed UNet takes at the most: two of SDXL's largest blocks, with room to spare."""
_SMALL_CARD = 8 * _GIB
_DTYPES: Mapping[NumberFormat, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
# Compute capability 7.5 by number, but without working half-precision units: they produce NaN.
_NO_HALF = ("1660", "1650", "1630", "T500", "T550", "T600", "MX550", "MX450", "CMP 30HX", "T2000", "T1000", "T1200")


class DeviceError(ValueError):
    """A flag that cannot be followed on this machine; the message names it and is fit for the user's eyes."""


@dataclass(frozen=True)
class Hardware:
    """What a machine computes on.

    capability: CUDA's (major, minor), (0, 0) elsewhere. memory: bytes that belong to the device. bf16_gain: speed of
    bfloat16 matrix products relative to float32 on a processor; 0 where that was not measured, because a GPU with
    memory to spare computes everything. free: bytes of the memory that nobody uses, None where it is not known.
    """

    kind: DeviceKind
    name: str
    capability: tuple[int, int]
    memory: int
    bf16_gain: float
    free: int | None = None


@dataclass(frozen=True)
class Sizes:
    """Numbers of parameters of the parts of a checkpoint."""

    unet: int
    towers: int
    vae: int


@dataclass(frozen=True)
class Placement:
    """The decision: a device, a dtype per part, and what of it stays where.

    device: where the UNet computes. streamed: its blocks live in main memory and are brought there while they are
    used, but for `resident` bytes of them. eight_bit: see `Policy`. offload: whether text towers and autoencoder are on
    the device only while they work, unet_leaves: whether the UNet is. towers_on_cpu, vae_on_cpu: whether these compute
    in main memory.
    """

    device: torch.device
    unet: torch.dtype
    towers: torch.dtype
    vae: torch.dtype
    streamed: bool = False
    resident: int = 0
    eight_bit: bool = False
    offload: bool = False
    unet_leaves: bool = False
    towers_on_cpu: bool = False
    vae_on_cpu: bool = False

    @property
    def unet_rests(self) -> torch.device:
        """Where the UNet's weights are while it does not work."""
        return torch.device("cpu") if self.streamed or self.unet_leaves else self.device

    @property
    def towers_compute(self) -> torch.device:
        """Where the text towers compute."""
        return torch.device("cpu") if self.towers_on_cpu else self.device

    @property
    def towers_rest(self) -> torch.device:
        """Where they are while they do not."""
        return torch.device("cpu") if self.offload else self.towers_compute

    @property
    def vae_computes(self) -> torch.device:
        """Where the autoencoder computes."""
        return torch.device("cpu") if self.vae_on_cpu else self.device

    @property
    def vae_rests(self) -> torch.device:
        """Where it is while it does not."""
        return torch.device("cpu") if self.offload else self.vae_computes


def look(policy: Policy = AUTOMATIC) -> Hardware:
    """The device of this machine that a policy asks for. Raises DeviceError where it asks for one that is not there."""
    if policy.mode != "cpu" and _cuda_can_compute():
        cuda = torch.cuda.get_device_properties(0)
        free = free_memory(torch.device("cuda"))
        # Where memory is short, the processor has to help.
        gain = measure_bf16_gain() if cuda.total_memory <= _SMALL_CARD else 0.0
        return Hardware("cuda", cuda.name, (cuda.major, cuda.minor), cuda.total_memory, gain, free)
    if policy.mode != "cpu" and torch.xpu.is_available():
        xpu = torch.xpu.get_device_properties(0)
        return Hardware("xpu", xpu.name, (0, 0), xpu.total_memory, 0.0, free_memory(torch.device("xpu")))
    if policy.mode != "cpu" and torch.backends.mps.is_available():
        return Hardware("mps", "Apple GPU", (0, 0), _system_memory(), 0.0)
    if policy.mode == "gpu":
        name, why = unused_gpu(policy)
        if why:
            raise DeviceError(
                f"--always-gpu: this PyTorch has no code for {name}. Install a build of PyTorch for this GPU, or start "
                "without this flag."
            )
        raise DeviceError(
            "--always-gpu: PyTorch finds no GPU on this machine that it can use. Start without this flag."
        )
    return Hardware("cpu", "CPU", (0, 0), _system_memory(), measure_bf16_gain())


def has_code_for(capability: tuple[int, int], built_for: Sequence[str]) -> bool:
    """Whether a PyTorch that was built for these architectures can compute on a CUDA device of this capability.

    Machine code ("sm_86") runs on its own generation from that device on, intermediate code ("compute_90") on all
    later ones. Other names are those of AMD's GPUs, of which nothing is known here.
    """
    for name in built_for:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", name)
        if match is None:
            return True
        kind, code = match[1], (int(match[2]), int(match[3]))
        if code <= capability and (kind == "compute" or code[0] == capability[0]):
            return True
    return not built_for


def unused_gpu(policy: Policy) -> tuple[str, Literal["", "wish", "kernels"]]:
    """The name of a CUDA device that does not compute although it is there, and why; empty texts if there is none."""
    if not torch.cuda.is_available():
        return "", ""
    if not _cuda_can_compute():
        return str(torch.cuda.get_device_name(0)), "kernels"
    return (str(torch.cuda.get_device_name(0)), "wish") if policy.mode == "cpu" else ("", "")


def _cuda_can_compute() -> bool:
    return torch.cuda.is_available() and has_code_for(torch.cuda.get_device_capability(0), torch.cuda.get_arch_list())


def others_hold(device: torch.device) -> int:
    """Bytes of a GPU's memory that other programs hold; 0 where that is not known."""
    if device.type != "cuda":
        return 0
    free, whole = torch.cuda.mem_get_info(device)
    return max(0, int(whole - free - torch.cuda.memory_reserved(device)))


def main_memory() -> tuple[int, int | None]:
    """Bytes of main memory, and those that are free; 0 and None where the system does not tell."""
    return _system_memory(), free_memory(torch.device("cpu"))


def free_memory(device: torch.device) -> int | None:
    """Bytes that can be had on a device without taking them from anybody, None where the system does not tell."""
    if device.type in ("cuda", "xpu"):
        backend = torch.cuda if device.type == "cuda" else torch.xpu
        unused = backend.memory_reserved(device) - backend.memory_allocated(device)
        return int(backend.mem_get_info(device)[0] + unused)
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def give_back_memory() -> None:
    """Return what nobody uses any more to the device, and to the system.

    Threads that copied tensors each leave a heap of their own behind, with free space between what is left: after
    three checkpoints of SDXL's size more than half of one again. Only glibc has to be asked for that (malloc_trim(3)).
    """
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(ctypes.c_size_t(0))


def wait_for(device: torch.device) -> None:
    """Return when a device has done what it was given to do, so that seconds are counted where they were spent."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "xpu":
        torch.xpu.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def use_threads(policy: Policy) -> None:
    """Let this process compute with as many threads of the processor as a policy says."""
    if policy.threads:
        torch.set_num_threads(policy.threads)


def place(hardware: Hardware, sizes: Sizes, stored: torch.dtype, policy: Policy = AUTOMATIC) -> Placement:
    """Where the parts of a checkpoint go whose UNet is stored as `stored`, and in which dtypes they compute.

    Raises DeviceError for a number format that the device does not compute in.
    """
    chosen = _wished(hardware, _usual(hardware, sizes, stored), policy)
    if hardware.kind == "cpu":
        return replace(chosen, streamed=policy.mode in ("low-vram", "no-vram"), eight_bit=policy.eight_bit)
    unet = sizes.unet * (1 if policy.eight_bit else chosen.unet.itemsize)
    rest = sizes.towers * chosen.towers.itemsize + sizes.vae * chosen.vae.itemsize
    free = hardware.memory if hardware.free is None else hardware.free
    room = free - _WORKSPACE
    # A Mac's GPU shares the machine's memory: there is nothing to be gained by moving.
    moves = hardware.kind != "mps" and policy.mode not in ("gpu", "high-vram")
    streamed = moves and (policy.mode in ("low-vram", "no-vram") or (policy.mode == "auto" and unet > room))
    offload = policy.offload if policy.offload is not None else moves and unet + rest > room
    return replace(
        chosen,
        towers=_processor_towers(hardware, sizes, policy) if streamed else chosen.towers,
        streamed=streamed,
        resident=max(0, room - _RING) if streamed and policy.mode != "no-vram" and not policy.offload else 0,
        eight_bit=policy.eight_bit,
        offload=offload,
        unet_leaves=policy.offload is True,  # it is the largest to bring back, so only at the user's wish
        towers_on_cpu=streamed,
        vae_on_cpu=policy.vae_on_cpu,
    )


def _usual(hardware: Hardware, sizes: Sizes, stored: torch.dtype) -> Placement:
    """Device and dtypes where nobody has a wish."""
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


def _wished(hardware: Hardware, usual: Placement, policy: Policy) -> Placement:
    """The dtypes of a policy in place of the usual ones."""
    on_cpu = {"UNet": hardware.kind == "cpu", "text encoders": hardware.kind == "cpu"}
    on_cpu["VAE"] = hardware.kind == "cpu" or policy.vae_on_cpu
    for part, wish in (("UNet", policy.unet), ("text encoders", policy.towers), ("VAE", policy.vae)):
        if wish == "fp16" and on_cpu[part]:
            raise DeviceError(
                f"16-bit floats (fp16) for the {part}: a processor computes with them hundreds of times slower. "
                "Choose bf16 or fp32, or leave the flag out."
            )
    vae = torch.float32 if policy.vae_on_cpu else usual.vae
    return replace(
        usual,
        unet=_DTYPES.get(policy.unet, usual.unet),
        towers=_DTYPES.get(policy.towers, usual.towers),
        vae=_DTYPES.get(policy.vae, vae),
    )


def _processor_towers(hardware: Hardware, sizes: Sizes, policy: Policy) -> torch.dtype:
    """The text towers' dtype where a GPU leaves them to the processor."""
    if policy.towers in ("fp32", "bf16"):
        return _DTYPES[policy.towers]
    processor = replace(hardware, kind="cpu")
    return _usual(processor, sizes, torch.float16).towers


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
