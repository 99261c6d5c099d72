"""The policy of devices and dtypes, as a table; and what this machine says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ldm_patched.modules.devices import Hardware, Sizes, look, measure_bf16_gain, place

GIB = 1 << 30
SDXL = Sizes(unet=2_567_000_000, towers=818_000_000, vae=84_000_000)
MINIATURE = Sizes(unet=10_000_000, towers=2_000_000, vae=2_000_000)
HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32

NATIVE = Hardware("cpu", "CPU", (0, 0), 16 * GIB, bf16_gain=2.5)
EMULATED = replace(NATIVE, bf16_gain=0.4)
AMPERE = Hardware("cuda", "NVIDIA GeForce RTX 3060", (8, 6), 12 * GIB, 0.0)
TURING = Hardware("cuda", "NVIDIA GeForce RTX 2060", (7, 5), 6 * GIB, 0.0)
GTX_16 = Hardware("cuda", "NVIDIA GeForce GTX 1660 Ti", (7, 5), 6 * GIB, 0.0)
PASCAL = Hardware("cuda", "NVIDIA GeForce GTX 1080 Ti", (6, 1), 11 * GIB, 0.0)
PASCAL_24 = replace(PASCAL, name="Tesla P40", memory=24 * GIB)


@pytest.mark.parametrize(
    ("hardware", "sizes", "stored", "unet", "towers", "vae"),
    [
        (NATIVE, SDXL, HALF, BRAIN, BRAIN, BRAIN),
        (NATIVE, MINIATURE, HALF, BRAIN, FULL, BRAIN),
        (EMULATED, SDXL, HALF, FULL, FULL, FULL),
        (EMULATED, MINIATURE, BRAIN, FULL, FULL, FULL),
        (AMPERE, SDXL, HALF, HALF, HALF, BRAIN),
        (AMPERE, SDXL, BRAIN, BRAIN, HALF, BRAIN),
        (AMPERE, SDXL, FULL, HALF, HALF, BRAIN),
        (TURING, SDXL, BRAIN, HALF, HALF, FULL),
        (GTX_16, SDXL, HALF, HALF, HALF, FULL),  # float32 would be right, but does not fit
        (GTX_16, MINIATURE, HALF, FULL, FULL, FULL),
        (PASCAL, SDXL, HALF, HALF, HALF, FULL),
        (PASCAL_24, SDXL, HALF, FULL, FULL, FULL),
        (Hardware("mps", "Apple GPU", (0, 0), 16 * GIB, 0.0), SDXL, HALF, HALF, HALF, FULL),
        (Hardware("xpu", "Arc", (0, 0), 16 * GIB, 0.0), SDXL, HALF, HALF, HALF, BRAIN),
    ],
)
def test_dtypes(
    hardware: Hardware, sizes: Sizes, stored: torch.dtype, unet: torch.dtype, towers: torch.dtype, vae: torch.dtype
) -> None:
    placement = place(hardware, sizes, stored)
    assert placement.device == torch.device(hardware.kind)
    assert (placement.unet, placement.towers, placement.vae) == (unet, towers, vae)


@pytest.mark.parametrize("gain", [0.0, 0.3, 1.0, 1.5, 20.0])
def test_a_processor_never_computes_in_float16(gain: float) -> None:
    for stored in (HALF, BRAIN, FULL):
        placement = place(replace(NATIVE, bf16_gain=gain), SDXL, stored)
        assert HALF not in (placement.unet, placement.towers, placement.vae)


def test_this_machines_processor_is_measured_once() -> None:
    hardware = look(always_cpu=True)
    assert hardware.kind == "cpu"
    assert hardware.bf16_gain > 0
    assert look(always_cpu=True).bf16_gain == hardware.bf16_gain == measure_bf16_gain()
    assert hardware.memory == 0 or hardware.memory > GIB


def test_the_flags_of_the_processor_agree_with_what_was_measured() -> None:
    if not torch.cpu.get_capabilities().get("avx512_bf16"):
        pytest.skip("this processor does not say that it multiplies bfloat16 natively")
    assert measure_bf16_gain() > 1.1
