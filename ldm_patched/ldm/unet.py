"""The UNet of SDXL, its refiner and SD 1.5, of any width. Knows no text encoder, no schedule and no guidance.

Attribute names are the published checkpoint's (see `attention.py` for the one exception). What does not change
from step to step is an argument, computed once per job: `project_text` (keys and values of the text for every
cross-attention) and `project_time` (what each residual block adds for a timestep and a size conditioning).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm_patched.ldm.attention import SpatialTransformer, TextProjection, group_count

SkipHook = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(features [batch, c, h, w], skip [batch, c', h, w]) -> both as they are to be concatenated."""


@dataclass(frozen=True, kw_only=True)
class UNetParams:
    """Sizes of a UNet, as they can be read off a checkpoint's tensors.

    `transformer_depth` is per level, `middle_depth` for the middle. `adm_channels` is 0 where the network takes
    no vector (SD 1.5). `head_channels` is the width of a head; where it is 0, every attention has `heads` heads.
    """

    in_channels: int
    out_channels: int
    model_channels: int
    channel_mult: tuple[int, ...]
    num_res_blocks: int
    transformer_depth: tuple[int, ...]
    middle_depth: int
    context_dim: int
    adm_channels: int
    linear_projections: bool
    head_channels: int
    heads: int

    def heads_of(self, channels: int) -> int:
        """Number of attention heads at a width of `channels`."""
        return channels // self.head_channels if self.head_channels else self.heads


def timestep_embedding(values: Tensor, width: int) -> Tensor:
    """Sinusoidal embedding [n, width] of [n] numbers, cosines first: frequencies 10000^(-i / (width / 2))."""
    half = width // 2
    exponents = torch.arange(half, dtype=torch.float32, device=values.device) / half
    angles = values.float()[:, None] * torch.exp(-math.log(10000.0) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class ResBlock(nn.Module):
    """Two convolutions with a timestep's offset between them."""

    def __init__(self, channels: int, out_channels: int, emb_channels: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(group_count(channels), channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, out_channels))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(group_count(out_channels), out_channels),
            nn.SiLU(),
            nn.Identity(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )
        self.skip_connection = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        """[batch, channels, h, w] and an offset [batch, out_channels, 1, 1] -> [batch, out_channels, h, w]."""
        h = self.in_layers(x) + offset
        out: Tensor = self.skip_connection(x) + self.out_layers(h)
        return out


class Downsample(nn.Module):
    """Halves height and width (rounding up) by a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, h, w] -> [batch, channels, ceil(h / 2), ceil(w / 2)]."""
        out: Tensor = self.op(x)
        return out


class Upsample(nn.Module):
    """Nearest-neighbour enlargement to a given size, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """[batch, channels, h, w] -> [batch, channels, *size]. The size is the skip's: odd ones come out right."""
        out: Tensor = self.conv(F.interpolate(x, size=size, mode="nearest"))
        return out


class UNet(nn.Module):
    """Predicts the noise (or v) in a latent at a timestep, given a text and a size (arXiv 2307.01952)."""

    def __init__(self, params: UNetParams) -> None:
        super().__init__()
        self.params = params
        base = params.model_channels
        emb = 4 * base
        self.time_embed = nn.Sequential(nn.Linear(base, emb), nn.SiLU(), nn.Linear(emb, emb))
        if params.adm_channels:
            vector = nn.Sequential(nn.Linear(params.adm_channels, emb), nn.SiLU(), nn.Linear(emb, emb))
            self.label_emb = nn.Sequential(vector)
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(params.in_channels, base, 3, padding=1)])])
        skips = [base]
        channels = base
        for level, mult in enumerate(params.channel_mult):
            for _ in range(params.num_res_blocks):
                block = self._level_block(channels, mult * base, params.transformer_depth[level])
                channels = mult * base
                self.input_blocks.append(block)
                skips.append(channels)
            if level + 1 < len(params.channel_mult):
                self.input_blocks.append(nn.ModuleList([Downsample(channels)]))
                skips.append(channels)
        self.middle_block = nn.ModuleList([ResBlock(channels, channels, emb)])
        if params.middle_depth:
            self.middle_block.append(self._transformer(channels, params.middle_depth))
        self.middle_block.append(ResBlock(channels, channels, emb))
        self.output_blocks = nn.ModuleList()
        for level, mult in reversed(list(enumerate(params.channel_mult))):
            for index in range(params.num_res_blocks + 1):
                block = self._level_block(channels + skips.pop(), mult * base, params.transformer_depth[level])
                channels = mult * base
                if level and index == params.num_res_blocks:
                    block.append(Upsample(channels))
                self.output_blocks.append(block)
        self.out = nn.Sequential(
            nn.GroupNorm(group_count(channels), channels),
            nn.SiLU(),
            nn.Conv2d(channels, params.out_channels, 3, padding=1),
        )

    def _level_block(self, channels: int, out_channels: int, depth: int) -> nn.ModuleList:
        block = nn.ModuleList([ResBlock(channels, out_channels, 4 * self.params.model_channels)])
        if depth:
            block.append(self._transformer(out_channels, depth))
        return block

    def _transformer(self, channels: int, depth: int) -> SpatialTransformer:
        params = self.params
        heads = params.heads_of(channels)
        return SpatialTransformer(channels, heads, depth, params.context_dim, linear=params.linear_projections)

    def _blocks(self) -> Iterator[nn.ModuleList]:
        for block in (*self.input_blocks, self.middle_block, *self.output_blocks):
            assert isinstance(block, nn.ModuleList)
            yield block

    def project_text(self, context: Tensor) -> TextProjection:
        """Keys and values of a text [batch, tokens, context_dim] for every cross-attention, in order of execution."""
        transformers = (layer for layer in self._layers() if isinstance(layer, SpatialTransformer))
        blocks = (block for transformer in transformers for block in transformer.blocks())
        return TextProjection(tuple(block.attn2.project(context) for block in blocks))

    def project_time(self, timesteps: Tensor, vector: Tensor | None) -> tuple[Tensor, ...]:
        """What each residual block adds, for rows of a timestep and a size vector.

        timesteps: [n], 0..999, fractions allowed. vector: [n, adm_channels], or None for a network that takes none.
        Returns one [n, channels, 1, 1] per residual block in the order of execution; the rows of one step are a
        slice of each.
        """
        dtype = self.dtype
        emb = self.time_embed(timestep_embedding(timesteps, self.params.model_channels).to(dtype))
        if self.params.adm_channels:
            if vector is None:
                raise ValueError(f"this UNet needs a size vector of {self.params.adm_channels} numbers, got none")
            emb = emb + self.label_emb(vector.to(dtype))
        blocks = (layer for layer in self._layers() if isinstance(layer, ResBlock))
        return tuple(block.emb_layers(emb)[:, :, None, None] for block in blocks)

    def _layers(self) -> Iterator[nn.Module]:
        """In the order of execution."""
        for block in self._blocks():
            yield from block

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights, in which inputs are expected."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are, and inputs have to be."""
        return next(self.parameters()).device

    def forward(
        self, x: Tensor, time: Sequence[Tensor], text: Sequence[TextProjection], skip_hook: SkipHook | None = None
    ) -> Tensor:
        """One evaluation.

        x: [batch, in_channels, h, w], any h and w from 1. time: from `project_time`, `batch` rows. text: from
        `project_text`, one or more projections whose batches add up to `batch`. skip_hook: changes features and skip
        before they are concatenated. Returns [batch, out_channels, h, w].
        """
        run = _Run(iter(time), iter(list(zip(*(part.layers for part in text), strict=True))))
        skips: list[Tensor] = []
        h = x
        for block in self.input_blocks:
            h = run.block(block, h)
            skips.append(h)
        h = run.block(self.middle_block, h)
        for block in self.output_blocks:
            skip = skips.pop()
            if skip_hook is not None:
                h, skip = skip_hook(h, skip)
            h = torch.cat([h, skip], dim=1)
            h = run.block(block, h, skips[-1].shape[-2:] if skips else h.shape[-2:])
        out: Tensor = self.out(h)
        return out


class _Run:
    """Hands each layer of one evaluation its part of what was projected before."""

    def __init__(self, time: Iterator[Tensor], text: Iterator[tuple[tuple[Tensor, Tensor], ...]]) -> None:
        self._time = time
        self._text = text

    def block(self, layers: nn.Module, h: Tensor, size: torch.Size | None = None) -> Tensor:
        """Run the layers of one block. `size`: height and width that an upsampling has to reach."""
        assert isinstance(layers, nn.ModuleList)
        for layer in layers:
            match layer:
                case ResBlock():
                    h = layer(h, next(self._time))
                case SpatialTransformer():
                    h = layer(h, [next(self._text) for _ in layer.transformer_blocks])
                case Upsample():
                    assert size is not None
                    h = layer(h, (size[0], size[1]))
                case _:
                    h = layer(h)
        return h
