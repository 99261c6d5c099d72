"""Weights stored as whole numbers, one byte each, and made floats again where a layer needs them. Knows no file.

A weight W of `out` output channels is stored as codes C, -127..127, and one factor per channel: C = round(W / s) with
s = max |W| / 127 over the channel, so that W differs from C s by s / 2 at the most. Of a Gaussian weight that is a
signal-to-noise ratio of about 42 dB; eight-bit floats, of the same size, reach 31.

What the codes were made of stays a parameter of the layer under its name, in main memory or in the memory-mapped file:
patches are merged into it as into any other weight, and then `renew` makes the codes anew.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST = 127
_SMALLEST_WEIGHT = 1 << 12
"""Numbers under which a weight is left as it is: nothing would be saved."""


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """int8 codes of the weight's shape and layout, and float32 factors [out, 1, ...]. The first dimension is `out`."""
    exact = weight.float()
    largest = exact.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True)
    scale = torch.where(largest > 0, largest / LARGEST, torch.ones_like(largest))
    return (exact / scale).round_().to(torch.int8), scale


def dequantise(codes: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight that codes stand for: their product with the factors in float32, rounded once."""
    return torch.mul(codes, scale, out=torch.empty_like(codes, dtype=dtype))


class EightBit(nn.Module):
    """A layer whose weight is stored in eight bits; what `Linear` and `Conv2d` have in common."""

    codes: Tensor
    scale: Tensor

    def __init__(self, layer: nn.Linear | nn.Conv2d, device: torch.device) -> None:
        """layer: the one whose place this takes; its weight stays where it is. device: where the codes are."""
        super().__init__()
        self.weight = layer.weight
        self.bias = layer.bias
        codes, scale = quantise(layer.weight.data.to(device))
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def renew(self) -> None:
        """Make the codes of the weight as it is now, where they are."""
        codes, scale = quantise(self.weight.data.to(self.codes.device))
        self.codes.copy_(codes)
        self.scale.copy_(scale)


class EightBitLinear(EightBit):
    """A linear layer."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return F.linear(x, dequantise(self.codes, self.scale, x.dtype), self.bias)


class EightBitConv2d(EightBit):
    """A convolution."""

    def __init__(self, layer: nn.Conv2d, device: torch.device) -> None:
        super().__init__(layer, device)
        assert not isinstance(layer.padding, str)
        self.stride = layer.stride
        self.padding = layer.padding

    def forward(self, x: Tensor) -> Tensor:
        """[batch, in, h, w] -> [batch, out, h', w']."""
        weight = dequantise(self.codes, self.scale, x.dtype)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


def store_in_eight_bits(network: nn.Module, device: torch.device, dtype: torch.dtype, keep: tuple[str, ...]) -> None:
    """Replace the network's large linear layers and convolutions, and bring the rest of it to a device and dtype.

    keep: what names of layers begin with that stay as they are. Sources of codes stay where they are, too.
    """
    for name, layer in list(network.named_modules()):
        if name.startswith(keep) or not isinstance(layer, (nn.Linear, nn.Conv2d)):
            continue
        if layer.weight.numel() >= _SMALLEST_WEIGHT:
            new = EightBitConv2d(layer, device) if isinstance(layer, nn.Conv2d) else EightBitLinear(layer, device)
            network.set_submodule(name, new)
    sources = {id(layer.weight) for layer in layers_of(network)}
    for parameter in network.parameters():
        if id(parameter) not in sources:
            parameter.data = parameter.data.to(device, dtype)


def layers_of(network: nn.Module) -> Iterator[EightBit]:
    """The layers that store eight bits."""
    return (module for module in network.modules() if isinstance(module, EightBit))


def renew(network: nn.Module) -> None:
    """Make all codes of a network anew, after its weights have changed. Without such layers nothing happens."""
    with torch.inference_mode(False), torch.no_grad():
        for layer in layers_of(network):
            layer.renew()
