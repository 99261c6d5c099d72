"""The image tower of CLIP (a ViT), of any width. Knows no preprocessing and no text.

Attribute names are those of transformers' CLIPVisionModelWithProjection, in which the field's files are published.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class ClipVisionParams:
    """Sizes of an image tower. Pictures are `image_size` pixels square, cut into patches of `patch_size`."""

    width: int
    layers: int
    heads: int
    inner: int
    image_size: int
    patch_size: int
    projection_dim: int
    activation: Literal["quick_gelu", "gelu"]


class Attention(nn.Module):
    """Multi-head attention with separate projections, as published."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, tokens, width] -> the same shape."""
        query, key, value = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        h = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out_proj(h.transpose(1, 2).flatten(2))
        return out


class Mlp(nn.Module):
    """The layer's multi-layer perceptron."""

    def __init__(self, width: int, inner: int, activation: Literal["quick_gelu", "gelu"]) -> None:
        super().__init__()
        self.activation = activation
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, tokens, width] -> the same shape."""
        h = self.fc1(x)
        h = h * torch.sigmoid(1.702 * h) if self.activation == "quick_gelu" else F.gelu(h)
        out: Tensor = self.fc2(h)
        return out


class Layer(nn.Module):
    """Attention and perceptron, each normalised before and added after."""

    def __init__(self, params: ClipVisionParams) -> None:
        super().__init__()
        self.self_attn = Attention(params.width, params.heads)
        self.layer_norm1 = nn.LayerNorm(params.width)
        self.mlp = Mlp(params.width, params.inner, params.activation)
        self.layer_norm2 = nn.LayerNorm(params.width)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, tokens, width] -> the same shape."""
        x = x + self.self_attn(self.layer_norm1(x))
        out: Tensor = x + self.mlp(self.layer_norm2(x))
        return out


class Embeddings(nn.Module):
    """Patches, the class token and positions."""

    def __init__(self, params: ClipVisionParams) -> None:
        super().__init__()
        patches = (params.image_size // params.patch_size) ** 2
        self.class_embedding = nn.Parameter(torch.empty(params.width))
        self.patch_embedding = nn.Conv2d(3, params.width, params.patch_size, stride=params.patch_size, bias=False)
        self.position_embedding = nn.Embedding(patches + 1, params.width)

    def forward(self, pixels: Tensor) -> Tensor:
        """[batch, 3, size, size] -> [batch, 1 + patches, width]."""
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(pixels.shape[0], 1, -1)
        return torch.cat([first, patches], dim=1) + self.position_embedding.weight


class Encoder(nn.Module):
    """The stack of layers."""

    def __init__(self, params: ClipVisionParams) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(params) for _ in range(params.layers))


class VisionModel(nn.Module):
    """The tower without its projection."""

    def __init__(self, params: ClipVisionParams) -> None:
        super().__init__()
        self.embeddings = Embeddings(params)
        self.pre_layrnorm = nn.LayerNorm(params.width)  # the published spelling
        self.encoder = Encoder(params)
        self.post_layernorm = nn.LayerNorm(params.width)


class ClipVision(nn.Module):
    """Pictures to hidden states and a vector comparable with the text tower's (arXiv 2103.00020)."""

    def __init__(self, params: ClipVisionParams) -> None:
        super().__init__()
        self.params = params
        self.vision_model = VisionModel(params)
        self.visual_projection = nn.Linear(params.width, params.projection_dim, bias=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Encode normalised pictures [batch, 3, image_size, image_size].

        Returns the last-but-one hidden state [batch, 1 + patches, width], which image prompts use, and the
        projected vector [batch, projection_dim].
        """
        return self.encode_tokens(self.vision_model.embeddings(pixels))

    def encode_tokens(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The rest of `forward`, from the class token and any number of embedded patches [batch, 1 + n, width]."""
        model = self.vision_model
        h = model.pre_layrnorm(tokens)
        penultimate = h
        for layer in model.encoder.layers:
            penultimate = h
            h = layer(h)
        vector: Tensor = self.visual_projection(model.post_layernorm(h[:, 0]))
        return penultimate, vector
