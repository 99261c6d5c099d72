"""GPT-2, of any size, with a cache of keys and values. Knows no tokenizer, no sampling and no file.

Attribute names and shapes are those of the published checkpoints: a projection is stored as [in, out].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD = 64
"""Width of an attention head in every published GPT-2."""


@dataclass(frozen=True, kw_only=True)
class Gpt2Params:
    """Sizes of a GPT-2. `positions` is the longest text in tokens; `width` is a multiple of 64."""

    vocabulary: int
    positions: int
    width: int
    layers: int

    @property
    def heads(self) -> int:
        """Attention heads, each 64 wide."""
        return self.width // HEAD


class KeyValues:
    """The keys and values of the tokens that were read so far; there is room for `tokens` of them."""

    def __init__(self, params: Gpt2Params, tokens: int, batch: int = 1) -> None:
        shape = (params.layers, 2, batch, params.heads, tokens, HEAD)
        self._memory = torch.zeros(shape)
        self.length = 0

    def extended(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values of a layer with the new ones [batch, heads, tokens, 64] behind them."""
        end = self.length + key.shape[2]
        stored = self._memory[layer]
        stored[0, :, :, self.length : end] = key
        stored[1, :, :, self.length : end] = value
        return stored[0, :, :, :end], stored[1, :, :, :end]

    def advance(self, tokens: int) -> None:
        """The tokens have been read by all layers."""
        self.length += tokens


class Projection(nn.Module):
    """A linear layer whose matrix is stored as [in, out]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.empty(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return x @ self.weight + self.bias


class Attention(nn.Module):
    """Causal multi-head attention."""

    def __init__(self, params: Gpt2Params) -> None:
        super().__init__()
        self.heads = params.heads
        self.c_attn = Projection(params.width, 3 * params.width)
        self.c_proj = Projection(params.width, params.width)

    def forward(self, x: Tensor, layer: int, cache: KeyValues | None) -> Tensor:
        """[batch, tokens, width] -> the same shape; what the cache holds comes before."""
        batch, tokens, width = x.shape
        heads = self.c_attn(x).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        if cache is not None:
            key, value = cache.extended(layer, key, value)
        before = key.shape[2] - tokens
        mask = None
        if before and tokens > 1:
            mask = torch.ones(tokens, before + tokens, dtype=torch.bool, device=x.device).tril(before)
        h = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=not before and tokens > 1)
        out: Tensor = self.c_proj(h.transpose(1, 2).flatten(2))
        return out


class Mlp(nn.Module):
    """The block's multi-layer perceptron."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = Projection(width, 4 * width)
        self.c_proj = Projection(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, tokens, width] -> the same shape."""
        out: Tensor = self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))
        return out


class Block(nn.Module):
    """Attention and perceptron, each normalised before and added after."""

    def __init__(self, params: Gpt2Params) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(params.width)
        self.attn = Attention(params)
        self.ln_2 = nn.LayerNorm(params.width)
        self.mlp = Mlp(params.width)

    def forward(self, x: Tensor, layer: int, cache: KeyValues | None) -> Tensor:
        """[batch, tokens, width] -> the same shape."""
        x = x + self.attn(self.ln_1(x), layer, cache)
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Gpt2(nn.Module):
    """Tokens to hidden states, and those to the scores of the next token ("Language Models are Unsupervised
    Multitask Learners", Radford et al. 2019)."""

    def __init__(self, params: Gpt2Params) -> None:
        super().__init__()
        self.params = params
        self.wte = nn.Embedding(params.vocabulary, params.width)
        self.wpe = nn.Embedding(params.positions, params.width)
        self.h = nn.ModuleList(Block(params) for _ in range(params.layers))
        self.ln_f = nn.LayerNorm(params.width)

    def forward(self, tokens: Tensor, cache: KeyValues | None = None) -> Tensor:
        """Ids [batch, tokens] -> final states [batch, tokens, width].

        With a cache, the tokens follow those that it holds, and it holds them too afterwards. Raises ``ValueError``
        when there are more than `positions` in all.
        """
        begin = 0 if cache is None else cache.length
        end = begin + tokens.shape[1]
        if end > self.params.positions:
            raise ValueError(f"a text of {end} tokens is longer than the {self.params.positions} this GPT-2 reads")
        x: Tensor = self.wte(tokens) + self.wpe.weight[begin:end]
        for layer, block in enumerate(self.h):
            x = block(x, layer, cache)
        if cache is not None:
            cache.advance(tokens.shape[1])
        out: Tensor = self.ln_f(x)
        return out

    def scores(self, states: Tensor, rows: Tensor | None = None) -> Tensor:
        """States [..., width] -> logits [..., vocabulary], or only those of the tokens ``rows``."""
        table = self.wte.weight if rows is None else self.wte.weight[rows]
        return F.linear(states, table)


def params_of(shapes: Mapping[str, tuple[int, ...]]) -> Gpt2Params:
    """The sizes of a GPT-2 from the shapes of its tensors by their names; raises ``ValueError`` for anything else."""
    missing = [name for name in ("wte.weight", "wpe.weight", "h.0.attn.c_attn.weight") if name not in shapes]
    if missing:
        raise ValueError(f"it has no tensor {missing[0]}")
    vocabulary, width = shapes["wte.weight"]
    layers = len({name.split(".")[1] for name in shapes if name.startswith("h.")})
    if not width or width % HEAD or shapes["h.0.attn.c_attn.weight"] != (width, 3 * width):
        raise ValueError(f"its attention is not that of a GPT-2 of width {width}")
    return Gpt2Params(vocabulary=vocabulary, positions=shapes["wpe.weight"][0], width=width, layers=layers)
