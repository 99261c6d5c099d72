"""The KL autoencoder between pictures and latents, of any width. Knows no latent scale, no tiling and no files.

Attribute names are the published checkpoint's, under `first_stage_model.`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ldm_patched.ldm.attention import group_count


@dataclass(frozen=True, kw_only=True)
class VAEParams:
    """Sizes of an autoencoder. The decoder has one residual block more per level than the encoder."""

    channels: int
    channel_mult: tuple[int, ...]
    num_res_blocks: int
    latent_channels: int


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(group_count(channels), channels, eps=1e-6)


class ResnetBlock(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = _norm(channels)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.norm2 = _norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if channels != out_channels:
            self.nin_shortcut = nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, h, w] -> [batch, out_channels, h, w]."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        shortcut = self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x
        out: Tensor = shortcut + h
        return out


class AttnBlock(nn.Module):
    """One head of attention over all positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, h, w] -> the same shape."""
        normed = self.norm(x)
        query, key, value = (
            layer(normed).permute(0, 2, 3, 1).flatten(1, 2).unsqueeze(1) for layer in (self.q, self.k, self.v)
        )
        h = F.scaled_dot_product_attention(query, key, value).squeeze(1)
        h = h.unflatten(1, x.shape[-2:]).permute(0, 3, 1, 2)
        out: Tensor = x + self.proj_out(h)
        return out


class Middle(nn.Module):
    """The narrowest part of either half."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels)
        self.attn_1 = AttnBlock(channels)
        self.block_2 = ResnetBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, h, w] -> the same shape."""
        out: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return out


class Downsample(nn.Module):
    """Halves height and width; pads on the right and below only, as published."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, h, w] -> [batch, channels, h // 2, w // 2]."""
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return out


class Upsample(nn.Module):
    """Doubles height and width by nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, h, w] -> [batch, channels, 2h, 2w]."""
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class Level(nn.Module):
    """The residual blocks of one resolution, then the change to the next one, if any."""

    def __init__(
        self, channels: int, out_channels: int, blocks: int, *, downsample: bool = False, upsample: bool = False
    ) -> None:
        super().__init__()
        widths = [channels] + [out_channels] * blocks
        self.block = nn.ModuleList(ResnetBlock(a, b) for a, b in zip(widths, widths[1:], strict=False))
        if downsample:
            self.downsample = Downsample(out_channels)
        if upsample:
            self.upsample = Upsample(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, h, w] -> [batch, out_channels, h', w']."""
        for child in self.children():  # in the order of definition: the blocks' list, then the resampling
            for layer in child if isinstance(child, nn.ModuleList) else (child,):
                x = layer(x)
        return x


class Encoder(nn.Module):
    """Pictures to the moments of a latent."""

    def __init__(self, params: VAEParams) -> None:
        super().__init__()
        widths = [params.channels * mult for mult in params.channel_mult]
        self.conv_in = nn.Conv2d(3, params.channels, 3, padding=1)
        self.down = nn.ModuleList()
        channels = params.channels
        for index, width in enumerate(widths):
            last = index + 1 == len(widths)
            self.down.append(Level(channels, width, params.num_res_blocks, downsample=not last))
            channels = width
        self.mid = Middle(channels)
        self.norm_out = _norm(channels)
        self.conv_out = nn.Conv2d(channels, 2 * params.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 3, H, W] -> [batch, 2 * latent_channels, H / 8, W / 8]."""
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        h = self.mid(h)
        out: Tensor = self.conv_out(F.silu(self.norm_out(h)))
        return out


class Decoder(nn.Module):
    """Latents to pictures."""

    def __init__(self, params: VAEParams) -> None:
        super().__init__()
        widths = [params.channels * mult for mult in params.channel_mult]
        channels = widths[-1]
        self.conv_in = nn.Conv2d(params.latent_channels, channels, 3, padding=1)
        self.mid = Middle(channels)
        levels: list[Level] = []
        for index, width in reversed(list(enumerate(widths))):
            levels.append(Level(channels, width, params.num_res_blocks + 1, upsample=index > 0))
            channels = width
        # The checkpoint numbers the levels from the finest; they run from the coarsest.
        self.up = nn.ModuleList(reversed(levels))
        self.norm_out = _norm(channels)
        self.conv_out = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """[batch, latent_channels, h, w] -> [batch, 3, 8h, 8w]."""
        h = self.mid(self.conv_in(z))
        for level in reversed(list(self.up)):
            h = level(h)
        out: Tensor = self.conv_out(F.silu(self.norm_out(h)))
        return out


class AutoencoderKL(nn.Module):
    """Variational autoencoder with a factor of 8 (arXiv 2112.10752)."""

    def __init__(self, params: VAEParams) -> None:
        super().__init__()
        self.params = params
        self.encoder = Encoder(params)
        self.decoder = Decoder(params)
        moments = 2 * params.latent_channels
        self.quant_conv = nn.Conv2d(moments, moments, 1)
        self.post_quant_conv = nn.Conv2d(params.latent_channels, params.latent_channels, 1)

    def encode_moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latent, each [batch, latent_channels, H / 8, W / 8].

        x: [batch, 3, H, W] in -1..1, H and W multiples of 8.
        """
        mean, log_variance = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return mean, log_variance.clamp(-30.0, 20.0)

    def decode(self, z: Tensor) -> Tensor:
        """[batch, latent_channels, h, w], unscaled -> [batch, 3, 8h, 8w], about -1..1, not clamped."""
        out: Tensor = self.decoder(self.post_quant_conv(z))
        return out
