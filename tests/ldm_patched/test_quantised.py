"""Eight-bit storage against its closed form, and under patches."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm_patched.ldm.unet import UNet
from ldm_patched.modules.detection import Detection
from ldm_patched.modules.devices import Placement
from ldm_patched.modules.lora import read_lora
from ldm_patched.modules.patches import Patcher
from ldm_patched.modules.quantised import (
    LARGEST,
    EightBitConv2d,
    EightBitLinear,
    dequantise,
    layers_of,
    quantise,
    renew,
)
from ldm_patched.modules.sd import Checkpoint, load_checkpoint
from tests.ldm_patched.lora_files import module_tensors, save
from tests.ldm_patched.tiny import FAMILIES, TINY_SDXL, write

CPU = torch.device("cpu")
PATCHED = {
    "input_blocks.3.1.transformer_blocks.0.attn1.to_k": (128, 128),  # a third of a fused projection
    "middle_block.1.transformer_blocks.0.ff.net.0.proj": (1024, 128),
    "middle_block.1.transformer_blocks.0.attn2.to_v": (128, 192),
    "input_blocks.3.0.in_layers.2": (128, 64, 3, 3),
}
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("shape", [(48, 96), (16, 8, 3, 3), (3, 1)], ids=str)
@pytest.mark.parametrize("stored", DTYPES, ids=str)
def test_codes_are_the_closed_form_and_half_a_step_off_at_the_most(shape: tuple[int, ...], stored: torch.dtype) -> None:
    weight = (torch.randn(shape) * torch.logspace(-3, 1, shape[0]).view(-1, *[1] * (len(shape) - 1))).to(stored)
    codes, scale = quantise(weight)
    exact = weight.double()
    step = exact.abs().flatten(1).amax(dim=1).view(-1, *[1] * (len(shape) - 1)) / LARGEST
    torch.testing.assert_close(scale.double(), step, rtol=1e-6, atol=0)
    assert codes.dtype == torch.int8 and int(codes.abs().max()) == LARGEST
    assert bool(((codes.double() * step - exact).abs() <= step * (0.5 + 1e-4)).all())
    assert torch.equal(dequantise(codes, scale, torch.float32), codes.float() * scale)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_weights_are_rounded_once(dtype: torch.dtype) -> None:
    codes, scale = quantise(torch.randn(32, 64))
    assert torch.equal(dequantise(codes, scale, dtype), (codes.float() * scale).to(dtype))


def test_the_noise_of_a_gaussian_weight_is_what_theory_says() -> None:
    """Uniform errors of a step s have the power s^2 / 12."""
    weight = torch.randn(64, 4096, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    codes, scale = quantise(weight)
    noise = (weight - codes * scale.double()).square().mean()
    torch.testing.assert_close(noise, scale.double().square().mean() / 12, rtol=0.02, atol=0)
    assert 10 * math.log10(1.0 / float(noise)) > 39


def test_a_channel_of_zeros_stays_zeros() -> None:
    weight = torch.randn(4, 8)
    weight[2] = 0
    assert torch.equal(dequantise(*quantise(weight), torch.float32)[2], torch.zeros(8))


def test_layers_compute_with_what_the_codes_stand_for() -> None:
    linear, convolution = nn.Linear(64, 96), nn.Conv2d(16, 24, 3, stride=2, padding=1)
    convolution.weight.data = convolution.weight.data.contiguous(memory_format=torch.channels_last)
    x, picture = torch.randn(2, 5, 64), torch.randn(2, 16, 9, 7)
    with torch.no_grad():
        weight = dequantise(*quantise(linear.weight), torch.float32)
        assert torch.equal(EightBitLinear(linear, CPU)(x), F.linear(x, weight, linear.bias))
        kernel = dequantise(*quantise(convolution.weight), torch.float32)
        assert kernel.is_contiguous(memory_format=torch.channels_last), "the layout survives"
        expected = F.conv2d(picture, kernel, convolution.bias, stride=2, padding=1)
        assert torch.equal(EightBitConv2d(convolution, CPU)(picture), expected)


def placement(dtype: torch.dtype, eight_bit: bool) -> Placement:
    return Placement(CPU, dtype, torch.float32, torch.float32, eight_bit=eight_bit)


@torch.inference_mode()
def predict(unet: UNet) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    context = torch.randn(1, 77, unet.params.context_dim, generator=generator).to(unet.dtype)
    latent = torch.randn(1, 4, 8, 8, generator=generator).to(unet.dtype)
    width = unet.params.adm_channels
    vector = torch.randn(1, width, generator=generator) if width else None
    out: Tensor = unet(latent, unet.project_time(torch.tensor([500.0]), vector), [unet.project_text(context)])
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("found", FAMILIES, ids=lambda found: found.kind)
def test_a_checkpoint_in_eight_bits(tmp_path: Path, found: Detection, dtype: torch.dtype) -> None:
    path = write(tmp_path / "model.safetensors", found)
    plain = load_checkpoint(path, placement(torch.float32, False)).unet
    unet = load_checkpoint(path, placement(dtype, True)).unet
    assert unet.dtype == dtype
    large = sum(p.numel() for p in plain.parameters() if p.ndim > 1)
    coded = sum(layer.codes.numel() for layer in layers_of(unet))
    assert coded > 0.6 * large, "what is left is small here because the network is"
    exact, stored = predict(plain), predict(unet).float()
    assert float((exact - stored).norm() / exact.norm()) < 0.05


def codes_of(unet: UNet) -> dict[str, Tensor]:
    state = {}
    for name, module in unet.named_modules():
        if isinstance(module, EightBitLinear | EightBitConv2d):
            state[name] = module.codes.clone()
    return state


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return load_checkpoint(write(tmp_path / "model.safetensors", TINY_SDXL), placement(torch.float32, True))


def test_patches_are_merged_first_and_then_stored(tmp_path: Path, checkpoint: Checkpoint) -> None:
    """The codes are those of the weight that the same patch makes of the same checkpoint without eight bits."""
    half = Placement(CPU, torch.float16, torch.float32, torch.float32)
    other = load_checkpoint(tmp_path / "model.safetensors", half)
    before = codes_of(checkpoint.unet)
    patchers = Patcher.of(checkpoint), Patcher.of(other)
    tensors: dict[str, Tensor] = {}
    for name, shape in PATCHED.items():
        tensors |= module_tensors("lora_unet_" + name.replace(".", "_"), shape)
    path = save(tmp_path / "lora.safetensors", {name: torch.randn(zeros.shape) / 8 for name, zeros in tensors.items()})
    changed = set()
    for strength in (0.8, -0.4, 2.0):  # a patched weight is written over by the next strength
        for patcher in patchers:
            patcher.apply([(read_lora(path, patcher.names), strength)])
        renew(checkpoint.unet)
        weights = dict(other.unet.named_parameters())
        for name, codes in codes_of(checkpoint.unet).items():
            assert torch.equal(codes, quantise(weights[f"{name}.weight"].data)[0]), name
            changed |= {name} if not torch.equal(codes, before[name]) else set()
    assert len(changed) == len(PATCHED)
    patchers[0].restore()
    renew(checkpoint.unet)
    after = codes_of(checkpoint.unet)
    assert all(torch.equal(after[name], before[name]) for name in before)
