"""The policy of devices and dtypes, as a table; and what this machine says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ldm_patched.modules.devices import DeviceError, Hardware, Sizes, free_memory, look, measure_bf16_gain, place
from ldm_patched.modules.memory import NumberFormat, Policy

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
    hardware = look(Policy(mode="cpu"))
    assert hardware.kind == "cpu"
    assert hardware.bf16_gain > 0
    assert look(Policy(mode="cpu")).bf16_gain == hardware.bf16_gain == measure_bf16_gain()
    assert hardware.memory == 0 or hardware.memory > GIB


def test_the_flags_of_the_processor_agree_with_what_was_measured() -> None:
    if not torch.cpu.get_capabilities().get("avx512_bf16"):
        pytest.skip("this processor does not say that it multiplies bfloat16 natively")
    assert measure_bf16_gain() > 1.1


def card(gigabytes: float) -> Hardware:
    """A modern GPU of which so much is free."""
    return replace(AMPERE, memory=int(gigabytes * GIB), free=int(gigabytes * GIB), bf16_gain=2.0)


@pytest.mark.parametrize(
    ("gigabytes", "policy", "streamed", "offload"),
    [
        (24, Policy(), False, False),
        (8, Policy(), False, False),  # 4.78 of UNet, 1.52 of towers, 0.16 of VAE, 1 to work with
        (7, Policy(), False, True),
        (6, Policy(), False, True),
        (5, Policy(), True, True),
        (4, Policy(), True, True),
        (4, Policy(eight_bit=True), False, True),
        (4, Policy(mode="normal-vram"), False, True),
        (4, Policy(mode="high-vram"), False, False),
        (4, Policy(mode="gpu"), False, False),
        (4, Policy(offload=False), True, False),
        (24, Policy(mode="low-vram"), True, False),
        (24, Policy(mode="no-vram"), True, False),
        (24, Policy(offload=True), False, True),
    ],
)
def test_what_is_free_decides_unless_somebody_wishes(
    gigabytes: float, policy: Policy, streamed: bool, offload: bool
) -> None:
    placement = place(card(gigabytes), SDXL, HALF, policy)
    assert (placement.streamed, placement.offload) == (streamed, offload)
    assert placement.eight_bit == policy.eight_bit
    # The UNet is the largest part to bring back: where it fits, it stays, unless somebody wants the memory.
    assert placement.unet_rests == torch.device("cpu" if streamed or policy.offload else "cuda")
    assert placement.vae_rests == torch.device("cpu" if offload else "cuda")
    # Where the UNet does not fit, the towers compute in main memory, in a dtype that a processor is good at.
    assert placement.towers_compute.type == ("cpu" if streamed else "cuda")
    assert placement.towers == (BRAIN if streamed else HALF)


def test_what_stays_of_a_streamed_unet_leaves_room_to_compute() -> None:
    for gigabytes in (1, 2, 4, 5):
        placement = place(card(gigabytes), SDXL, HALF)
        assert placement.streamed
        assert 0 <= placement.resident <= max(0, gigabytes * GIB - GIB)
    assert place(card(4), SDXL, HALF).resident > 2 * GIB
    assert place(card(24), SDXL, HALF, Policy(mode="no-vram")).resident == 0
    assert place(card(4), SDXL, HALF, Policy(offload=True)).resident == 0


def test_what_others_use_of_a_card_counts() -> None:
    assert not place(card(8), SDXL, HALF).streamed
    assert place(replace(card(8), free=4 * GIB), SDXL, HALF).streamed


@pytest.mark.parametrize(
    ("policy", "unet", "towers", "vae"),
    [
        (Policy(unet="fp32"), FULL, HALF, BRAIN),
        (Policy(unet="bf16", vae="fp32"), BRAIN, HALF, FULL),
        (Policy(towers="fp32", vae="fp16"), HALF, FULL, HALF),
        (Policy(vae_on_cpu=True), HALF, HALF, FULL),
        (Policy(vae_on_cpu=True, vae="bf16"), HALF, HALF, BRAIN),
    ],
)
def test_wished_dtypes(policy: Policy, unet: torch.dtype, towers: torch.dtype, vae: torch.dtype) -> None:
    placement = place(card(24), SDXL, HALF, policy)
    assert (placement.unet, placement.towers, placement.vae) == (unet, towers, vae)
    assert placement.vae_computes.type == ("cpu" if policy.vae_on_cpu else "cuda")


@pytest.mark.parametrize(
    ("hardware", "policy", "part"),
    [
        (NATIVE, Policy(unet="fp16"), "UNet"),
        (NATIVE, Policy(towers="fp16"), "text encoders"),
        (NATIVE, Policy(vae="fp16"), "VAE"),
        (card(24), Policy(vae="fp16", vae_on_cpu=True), "VAE"),
    ],
)
def test_a_processor_is_not_given_float16_in_silence(hardware: Hardware, policy: Policy, part: str) -> None:
    with pytest.raises(DeviceError, match=f"fp16.*{part}") as caught:
        place(hardware, SDXL, HALF, policy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wish", ["fp32", "bf16"])
def test_a_processor_computes_in_what_is_wished(wish: NumberFormat) -> None:
    placement = place(EMULATED, SDXL, HALF, Policy(unet=wish, towers=wish, vae=wish))
    wished = {"fp32": FULL, "bf16": BRAIN}[wish]
    assert {placement.unet, placement.towers, placement.vae} == {wished}


def test_a_gpu_that_is_not_there_is_said_in_one_sentence() -> None:
    if torch.cuda.is_available() or torch.xpu.is_available() or torch.backends.mps.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError, match="--always-gpu: PyTorch finds no GPU"):
        look(Policy(mode="gpu"))
    assert look().kind == "cpu"


def test_memory_that_is_taken_is_no_longer_free() -> None:
    before = free_memory(torch.device("cpu"))
    if before is None:
        pytest.skip("this system does not say what is free")
    taken = torch.ones(256 << 20, dtype=torch.uint8)
    after = free_memory(torch.device("cpu"))
    assert after is not None and after < before - (64 << 20), "other programs may have given something back"
    del taken
