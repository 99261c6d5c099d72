"""Transformer blocks of the UNet: attention, GEGLU, spatial transformer. Know no text encoder and no schedule.

Attribute names are the checkpoint's, with one exception: the three projections of self-attention are one
matrix product, `to_qkv`. `fuse_qkv` and `split_qkv` translate between the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SELF_ATTENTION = ".attn1.to_"


def group_count(channels: int) -> int:
    """Groups of a group normalisation: 32 as published, fewer where a group would have under 4 channels."""
    return min(32, channels // 4)


def fuse_qkv(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace every self-attention's `to_q`, `to_k`, `to_v` [c, c] of a checkpoint by one `to_qkv` [3c, c]."""
    fused = {name: tensor for name, tensor in tensors.items() if not _is_self_projection(name)}
    for name in tensors:
        if name.endswith(_SELF_ATTENTION + "q.weight"):
            parts = [tensors[name.replace("to_q.", f"to_{part}.")] for part in "qkv"]
            fused[name.replace("to_q.", "to_qkv.")] = torch.cat(parts)
    return fused


def split_qkv(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `fuse_qkv`: the checkpoint's names again. The parts are views."""
    split: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(_SELF_ATTENTION + "qkv.weight"):
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                split[name.replace("to_qkv.", f"to_{part}.")] = piece
        else:
            split[name] = tensor
    return split


def _is_self_projection(name: str) -> bool:
    return any(name.endswith(f"{_SELF_ATTENTION}{part}.weight") for part in "qkv")


@dataclass(frozen=True)
class TextProjection:
    """Keys and values of one text (or of a batch of texts of equal length) for every cross-attention of a UNet.

    They do not depend on the picture or the step, so they are computed once per job. `layers` holds one pair
    (key, value), each [batch, heads, tokens, head width], per cross-attention in the order of execution.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]

    @property
    def batch(self) -> int:
        """How many rows of the UNet's batch this projection serves."""
        return self.layers[0][0].shape[0]

    def first(self, rows: int) -> TextProjection:
        """The projection of the first texts of the batch alone; shares memory."""
        return TextProjection(tuple((key[:rows], value[:rows]) for key, value in self.layers))


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V of [batch, heads, tokens, d], returned as [batch, tokens, heads * d]."""
    out = F.scaled_dot_product_attention(query, key, value)
    return out.transpose(1, 2).flatten(2)


def add_linear(x: Tensor, layer: nn.Module, inputs: Tensor) -> Tensor:
    """x [..., out] + layer(inputs [..., in]): one operation, rounded once, where a processor computes in bfloat16."""
    if type(layer) is nn.Linear and _fuses_sums(inputs, x, layer.weight):
        fused: Tensor = torch.ops.mkldnn._linear_pointwise.binary(inputs, x, layer.weight, layer.bias, "add")
        return fused
    out: Tensor = x + layer(inputs)
    return out


def _fuses_sums(*tensors: Tensor) -> bool:
    """oneDNN adds a third tensor to a product, without gradients or autocast; in float32 that gains nothing."""
    if torch.is_grad_enabled() or any(t.device.type != "cpu" or t.dtype != torch.bfloat16 for t in tensors):
        return False
    return _has_onednn()


@cache
def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, x: Tensor, onto: Tensor) -> Tensor:
        """[batch, tokens, width] -> the same shape, added to `onto`."""
        batch, tokens, width = x.shape
        qkv = self.to_qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return add_linear(onto, self.to_out[0], attention(query, key, value))


class CrossAttention(nn.Module):
    """Multi-head attention of a sequence to a text whose keys and values were projected before."""

    def __init__(self, width: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context_dim, width, bias=False)
        self.to_v = nn.Linear(context_dim, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def _split_heads(self, x: Tensor) -> Tensor:
        split: Tensor = x.unflatten(2, (self.heads, -1)).transpose(1, 2)
        return split

    def project(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, tokens, context_dim] -> key and value, each [batch, heads, tokens, head width]."""
        return self._split_heads(self.to_k(context)), self._split_heads(self.to_v(context))

    def forward(self, x: Tensor, text: Sequence[tuple[Tensor, Tensor]], onto: Tensor) -> Tensor:
        """[batch, tokens, width] -> the same shape, added to `onto`. `text`: key and value per part of the batch.

        Parts of unequal text length (a short negative beside a long positive) are attended to one after the
        other, which is exact and cheaper than tiling both to a common length.
        """
        query = self._split_heads(self.to_q(x))
        if len(text) == 1:
            mixed = attention(query, *text[0])
        else:
            parts = query.split([key.shape[0] for key, _ in text])
            mixed = torch.cat([attention(q, *kv) for q, kv in zip(parts, text, strict=True)])
        return add_linear(onto, self.to_out[0], mixed)


class GEGLU(nn.Module):
    """Gated GELU (arXiv 2002.05202): both halves from one matrix product."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., inner]."""
        value, gate = self.proj(x).chunk(2, dim=-1)
        out: Tensor = value * F.gelu(gate)
        return out


class FeedForward(nn.Module):
    """The block's multi-layer perceptron, four times as wide as the block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GEGLU(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, onto: Tensor) -> Tensor:
        """[..., width] -> the same shape, added to `onto`."""
        return add_linear(onto, self.net[2], self.net[0](x))


class BasicTransformerBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward, each normalised before and added after."""

    def __init__(self, width: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.attn1 = SelfAttention(width, heads)
        self.ff = FeedForward(width)
        self.attn2 = CrossAttention(width, context_dim, heads)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)

    def forward(self, x: Tensor, text: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """[batch, tokens, width] -> the same shape."""
        x = self.attn1(self.norm1(x), x)
        x = self.attn2(self.norm2(x), text, x)
        out: Tensor = self.ff(self.norm3(x), x)
        return out


class SpatialTransformer(nn.Module):
    """Transformer blocks over the positions of a feature map.

    `linear` says whether the projections in and out are linear layers (SDXL) or 1x1 convolutions (SD 1.5);
    the arithmetic is the same, the stored shapes differ.
    """

    def __init__(self, channels: int, heads: int, depth: int, context_dim: int, *, linear: bool) -> None:
        super().__init__()
        self.linear = linear
        self.norm = nn.GroupNorm(group_count(channels), channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(
            BasicTransformerBlock(channels, context_dim, heads) for _ in range(depth)
        )
        self.proj_out = nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)

    def blocks(self) -> Iterator[BasicTransformerBlock]:
        """In the order of execution."""
        for block in self.transformer_blocks:
            assert isinstance(block, BasicTransformerBlock)
            yield block

    def forward(self, x: Tensor, text: Sequence[Sequence[tuple[Tensor, Tensor]]]) -> Tensor:
        """[batch, channels, h, w] -> the same shape. `text`: keys and values of each of the blocks."""
        batch, channels, height, width = x.shape
        h = self.norm(x)
        if not self.linear:
            h = self.proj_in(h)
        h = h.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        if self.linear:
            h = self.proj_in(h)
        for block, keys_values in zip(self.blocks(), text, strict=True):
            h = block(h, keys_values)
        if self.linear:
            h = self.proj_out(h)
        h = h.reshape(batch, height, width, channels).permute(0, 3, 1, 2)
        if not self.linear:
            h = self.proj_out(h)
        out: Tensor = x + h
        return out
