"""The published single-file layout: which part of a checkpoint has which names. Knows no sizes and reads no file.

The networks name their tensors as the file does, but for two fusions: query, key and value of self-attention are one
tensor in the UNet, and the smaller text tower is stored under transformers' names, with the three apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ldm_patched.ldm.attention import fuse_qkv, split_qkv
from ldm_patched.ldm.clip import from_transformers_layout

Kind = Literal["sdxl", "sdxl_refiner", "sd15"]
Prediction = Literal["eps", "v", "edm"]
"""What a UNet's output means: the noise, v (arXiv 2202.00512), or F in EDM's preconditioning (arXiv 2206.00364)."""
Activation = Literal["quick_gelu", "gelu"]
Translation = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."


@dataclass(frozen=True)
class TowerSlot:
    """Where a checkpoint keeps a text tower, in whose names, and how the tower is used.

    pads_with_end: whether the end token fills a chunk, as OpenAI's tower was trained; token 0 otherwise. final_norm:
    whether the hidden state that the UNet sees goes through the last layer norm.
    """

    prefix: str
    layout: Literal["transformers", "open_clip"]
    pads_with_end: bool
    final_norm: bool

    @property
    def activation(self) -> Activation:
        """OpenAI's tower, which is stored in transformers' layout, has the cheaper activation."""
        return "quick_gelu" if self.layout == "transformers" else "gelu"


TOWERS: Mapping[Kind, tuple[TowerSlot, ...]] = {
    "sdxl": (
        TowerSlot("conditioner.embedders.0.transformer.text_model.", "transformers", True, False),
        TowerSlot("conditioner.embedders.1.model.", "open_clip", False, False),
    ),
    "sdxl_refiner": (TowerSlot("conditioner.embedders.0.model.", "open_clip", False, False),),
    "sd15": (TowerSlot("cond_stage_model.transformer.text_model.", "transformers", True, True),),
}
"""Text towers of each kind of checkpoint, in the order in which their hidden states are concatenated."""

UNUSED = frozenset({"embeddings.position_ids", "logit_scale"})
"""Tensors of a published text tower that no computation needs."""

V_PREDICTION = "v_pred"
"""A tensor of this name says that the UNet predicts v instead of noise."""

EDM = "edm_mean"
"""A tensor of this name, Playground v2.5's mean of its latents, says that the UNet is in EDM's preconditioning."""

ZERO_TERMINAL_SNR = "ztsnr"
"""A tensor of this name says that the noise schedule was rescaled to end in pure noise (arXiv 2305.08891)."""


def tower_from_published(slot: TowerSlot, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A tower's tensors (prefix removed) under the names of `ClipText`."""
    used = {name: tensor for name, tensor in tensors.items() if name not in UNUSED}
    return from_transformers_layout(used) if slot.layout == "transformers" else used


def tower_to_published(slot: TowerSlot, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `tower_from_published`, without the unused tensors. Split parts are views."""
    return to_transformers_layout(tensors) if slot.layout == "transformers" else dict(tensors)


unet_from_published: Translation = fuse_qkv
unet_to_published: Translation = split_qkv

_PUBLISHED = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_PUBLISHED_PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)[._](weight|bias)")


def to_transformers_layout(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a `ClipText` under the names of transformers' CLIPTextModel, without `text_model.`."""
    published: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        match = _BLOCK.fullmatch(name)
        if name == "text_projection":
            published["text_projection.weight"] = tensor.T
        elif match is None:
            published[_PUBLISHED.get(name, name)] = tensor
        elif match[2] == "attn.in_proj":
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                published[f"encoder.layers.{match[1]}.self_attn.{part}_proj.{match[3]}"] = piece
        else:
            published[f"encoder.layers.{match[1]}.{_PUBLISHED_PARTS[match[2]]}.{match[3]}"] = tensor
    return published
