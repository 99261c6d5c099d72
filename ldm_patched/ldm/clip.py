"""The text tower of CLIP, of any width. Knows no tokenizer, no weights of words and no second tower.

One module serves both published layouts. Its attribute names are open_clip's (fused `in_proj`), which SDXL's
larger tower is stored in; `from_transformers_layout` renames and fuses the other one's tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class ClipTextParams:
    """Sizes of a text tower. `projection_dim` is 0 for a tower whose pooled vector is not used."""

    width: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    projection_dim: int
    activation: Literal["quick_gelu", "gelu"]


class Attention(nn.Module):
    """Causal multi-head attention with a fused projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, *, causal: bool = True) -> Tensor:
        """[batch, tokens, width] -> the same shape."""
        batch, tokens, width = x.shape
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = qkv.view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        h = F.scaled_dot_product_attention(query, key, value, is_causal=causal)
        out: Tensor = self.out_proj(h.transpose(1, 2).flatten(2))
        return out


class Mlp(nn.Module):
    """The block's multi-layer perceptron."""

    def __init__(self, width: int, inner: int, activation: Literal["quick_gelu", "gelu"]) -> None:
        super().__init__()
        self.activation = activation
        self.c_fc = nn.Linear(width, inner)
        self.c_proj = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, tokens, width] -> the same shape."""
        h = self.c_fc(x)
        h = h * torch.sigmoid(1.702 * h) if self.activation == "quick_gelu" else F.gelu(h)
        out: Tensor = self.c_proj(h)
        return out


class Block(nn.Module):
    """Attention and perceptron, each normalised before and added after."""

    def __init__(self, width: int, heads: int, inner: int, activation: Literal["quick_gelu", "gelu"]) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, inner, activation)

    def forward(self, x: Tensor, *, causal: bool = True) -> Tensor:
        """[batch, tokens, width] -> the same shape."""
        x = x + self.attn(self.ln_1(x), causal=causal)
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Transformer(nn.Module):
    """The stack of blocks."""

    def __init__(self, params: ClipTextParams) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(
            Block(params.width, params.heads, params.inner, params.activation) for _ in range(params.layers)
        )


class ClipText(nn.Module):
    """Tokens to hidden states and a pooled vector (arXiv 2103.00020)."""

    def __init__(self, params: ClipTextParams) -> None:
        super().__init__()
        self.params = params
        self.token_embedding = nn.Embedding(params.vocabulary, params.width)
        self.positional_embedding = nn.Parameter(torch.empty(params.positions, params.width))
        self.transformer = Transformer(params)
        self.ln_final = nn.LayerNorm(params.width)
        if params.projection_dim:
            self.text_projection = nn.Parameter(torch.empty(params.width, params.projection_dim))

    def embed(self, tokens: Tensor) -> Tensor:
        """Token ids [batch, tokens] -> their vectors [batch, tokens, width], without positions."""
        out: Tensor = self.token_embedding(tokens)
        return out

    def forward(self, embedded: Tensor, end: Tensor, clip_skip: int) -> tuple[Tensor, Tensor | None]:
        """Encode token vectors.

        embedded: [batch, tokens, width] from `embed`, at most `positions` tokens. end: [batch], the position of each
        row's end token, at which the pooled vector is read. clip_skip: 1..layers, the hidden state that is
        returned, counted from the last layer (1) and before the final norm. Returns the hidden state
        [batch, tokens, width] and the pooled vector [batch, projection_dim], or None for a tower without one.
        """
        wanted = self.params.layers - clip_skip
        if not 0 <= wanted < self.params.layers:
            raise ValueError(f"CLIP skip is {clip_skip}; this text encoder has layers 1 to {self.params.layers}")
        h = embedded + self.positional_embedding[: embedded.shape[1]]
        hidden = h
        for index, block in enumerate(self.transformer.resblocks):
            h = block(h)
            if index == wanted:
                hidden = h
                if not self.params.projection_dim:
                    return hidden, None
        rows = torch.arange(h.shape[0], device=h.device)
        return hidden, self.ln_final(h[rows, end]) @ self.text_projection


_RENAMED = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_RENAMED_PARTS = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_LAYER = re.compile(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")


def from_transformers_layout(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors named as transformers' CLIPTextModel names them (without `text_model.`) under this module's names.

    Query, key and value are concatenated into `in_proj`; a projection stored as [out, in] is transposed.
    Names that the layout does not know are kept, so that loading can report them.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        match = _LAYER.fullmatch(name)
        if name == "text_projection.weight":
            renamed["text_projection"] = tensor.T
        elif match is None:
            renamed[_RENAMED.get(name, name)] = tensor
        elif match[2] in _RENAMED_PARTS:
            renamed[f"transformer.resblocks.{match[1]}.{_RENAMED_PARTS[match[2]]}.{match[3]}"] = tensor
        elif match[2] == "self_attn.q_proj":
            parts = [tensors[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
            renamed[f"transformer.resblocks.{match[1]}.attn.in_proj_{match[3]}"] = torch.cat(parts)
        elif match[2] not in ("self_attn.k_proj", "self_attn.v_proj"):
            renamed[name] = tensor
    return renamed
