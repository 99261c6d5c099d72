"""How far our networks are from diffusers' and transformers' with the same random weights; knows no published weights.

`python -m benchmarks.networks` compares at the built-in family's widths, `--full` at SDXL's (needs 12 GB of memory).
The error is the largest absolute difference over the largest absolute value of the other implementation's output.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ldm_patched.ldm.attention import group_count, split_qkv
from ldm_patched.ldm.clip import ClipText, ClipTextParams
from ldm_patched.ldm.unet import UNet, UNetParams
from ldm_patched.ldm.vae import AutoencoderKL, VAEParams
from ldm_patched.modules.checkpoint_layout import to_transformers_layout

N = TypeVar("N", bound=nn.Module)

SDXL = UNetParams(
    in_channels=4, out_channels=4, model_channels=320, channel_mult=(1, 2, 4), num_res_blocks=2,
    transformer_depth=(0, 2, 10), middle_depth=10, context_dim=2048, adm_channels=2816, linear_projections=True,
    head_channels=64, heads=0,
)  # fmt: skip
MINI = replace(
    SDXL, model_channels=64, channel_mult=(1, 1, 2, 2), num_res_blocks=1, transformer_depth=(0, 0, 1, 1),
    middle_depth=1, context_dim=192, adm_channels=1664,
)  # fmt: skip
SDXL_VAE = VAEParams(channels=128, channel_mult=(1, 2, 4, 4), num_res_blocks=2, latent_channels=4)
MINI_VAE = VAEParams(channels=32, channel_mult=(1, 2, 2, 4), num_res_blocks=1, latent_channels=4)
CLIP_L = ClipTextParams(
    width=768, layers=12, heads=12, inner=3072, vocabulary=49408, positions=77, projection_dim=0,
    activation="quick_gelu",
)  # fmt: skip
CLIP_G = ClipTextParams(
    width=1280, layers=32, heads=20, inner=5120, vocabulary=49408, positions=77, projection_dim=1280, activation="gelu"
)
MINI_L = replace(CLIP_L, width=64, layers=3, heads=1, inner=256, vocabulary=4096)
MINI_G = replace(CLIP_G, width=128, layers=4, heads=2, inner=512, vocabulary=4096, projection_dim=128)


def fill(network: nn.Module, seed: int) -> dict[str, Tensor]:
    """Give a network on the meta device random weights that keep activations near one; returns them."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, empty in network.state_dict().items():
        noise = torch.randn(empty.shape, generator=generator)
        if empty.ndim > 1:
            noise /= math.sqrt(empty[0].numel())
        elif name.endswith("weight"):
            noise = 1 + 0.1 * noise
        else:
            noise *= 0.1
        state[name] = noise
    network.load_state_dict(state, assign=True)
    network.requires_grad_(False).eval()
    return state


def on_meta(make: Callable[[], N]) -> N:
    """Build without memory."""
    with torch.device("meta"):
        return make()


def adopt(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give the other implementation the very same tensors, and our number of groups where it knows only one."""
    network.load_state_dict(dict(state), assign=True)
    network.requires_grad_(False).eval()
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.num_groups = group_count(module.num_channels)


def diffusers_unet(params: UNetParams, state: Mapping[str, Tensor]) -> tuple[Callable[[], Any], dict[str, Tensor]]:
    """What makes diffusers' UNet of these sizes, and a checkpoint's tensors under its names; views where possible."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    attends = [depth > 0 for depth in params.transformer_depth]
    config: dict[str, Any] = {
        "block_out_channels": tuple(params.model_channels * mult for mult in params.channel_mult),
        "layers_per_block": params.num_res_blocks,
        "down_block_types": tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        "up_block_types": tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        "transformer_layers_per_block": tuple(max(1, depth) for depth in params.transformer_depth),
        "attention_head_dim": tuple(params.model_channels * mult // 64 for mult in params.channel_mult),
        "cross_attention_dim": params.context_dim,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": params.adm_channels,
        "norm_num_groups": group_count(params.model_channels),
    }
    layout = config | {"class_embed_type": None, "num_class_embeds": None}
    return lambda: UNet2DConditionModel(**config), convert_ldm_unet_checkpoint(dict(state), layout)


def diffusers_vae(params: VAEParams, state: Mapping[str, Tensor]) -> tuple[Callable[[], Any], dict[str, Tensor]]:
    """The same for the autoencoder."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL as Theirs

    config: dict[str, Any] = {
        "block_out_channels": tuple(params.channels * mult for mult in params.channel_mult),
        "layers_per_block": params.num_res_blocks,
        "down_block_types": ("DownEncoderBlock2D",) * len(params.channel_mult),
        "up_block_types": ("UpDecoderBlock2D",) * len(params.channel_mult),
        "latent_channels": params.latent_channels,
        "norm_num_groups": group_count(params.channels),
    }
    return lambda: Theirs(**config), convert_ldm_vae_checkpoint(dict(state), config)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference over the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


@torch.inference_mode()
def unet_error(params: UNetParams, size: tuple[int, int] = (32, 32)) -> float:
    """One forward of both UNets on latents [2, 4, *size]."""
    ours = on_meta(lambda: UNet(params))
    state = {f"model.diffusion_model.{name}": tensor for name, tensor in split_qkv(fill(ours, 1)).items()}
    make, tensors = diffusers_unet(params, state)
    theirs = on_meta(make)
    adopt(theirs, tensors)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2, 4, *size, generator=generator)
    context = torch.randn(2, 77, params.context_dim, generator=generator)
    pooled = torch.randn(2, params.adm_channels - 6 * 256, generator=generator)
    sizes = torch.tensor([[1024, 768, 0, 8, 1024, 768], [512, 512, 16, 0, 1024, 1024]])
    timesteps = torch.tensor([981.0, 37.0])
    added = {"text_embeds": pooled, "time_ids": sizes}
    expected = theirs(x, timesteps, context, added_cond_kwargs=added).sample
    from ldm_patched.ldm.unet import timestep_embedding

    vector = torch.cat([pooled, timestep_embedding(sizes.flatten(), 256).view(2, -1)], dim=1)
    out = ours(x, ours.project_time(timesteps, vector), [ours.project_text(context)])
    return relative_error(out, expected)


@torch.inference_mode()
def vae_errors(params: VAEParams, size: int = 64) -> tuple[float, float]:
    """Moments of a picture [1, 3, size, size], and the picture of a latent of the same size."""
    ours = on_meta(lambda: AutoencoderKL(params))
    state = {f"first_stage_model.{name}": tensor for name, tensor in fill(ours, 3).items()}
    make, tensors = diffusers_vae(params, state)
    theirs = on_meta(make)
    adopt(theirs, tensors)
    generator = torch.Generator().manual_seed(4)
    pixels = torch.rand(1, 3, size, size, generator=generator) * 2 - 1
    z = torch.randn(1, params.latent_channels, size // 8, size // 8, generator=generator)
    expected = theirs.encode(pixels).latent_dist
    mean, log_variance = ours.encode_moments(pixels)
    encoded = max(relative_error(mean, expected.mean), relative_error(log_variance, expected.logvar))
    return encoded, relative_error(ours.decode(z), theirs.decode(z).sample)


@torch.inference_mode()
def text_error(params: ClipTextParams, clip_skip: int) -> float:
    """Hidden state and, where there is one, the pooled vector of two rows of tokens."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    ours = on_meta(lambda: ClipText(params))
    state = {f"text_model.{name}": tensor for name, tensor in to_transformers_layout(fill(ours, 5)).items()}
    projection = state.pop("text_model.text_projection.weight", torch.zeros(params.width, params.width))
    config = CLIPTextConfig(
        vocab_size=params.vocabulary, hidden_size=params.width, intermediate_size=params.inner,
        projection_dim=projection.shape[0], num_hidden_layers=params.layers, num_attention_heads=params.heads,
        max_position_embeddings=params.positions, hidden_act=params.activation, eos_token_id=params.vocabulary - 1,
    )  # fmt: skip
    theirs = CLIPTextModelWithProjection(config)
    adopt(theirs, {**state, "text_projection.weight": projection})
    tokens = torch.randint(1, params.vocabulary - 2, (2, 77), generator=torch.Generator().manual_seed(6))
    end = torch.tensor([9, 76])
    tokens[[0, 1], end] = params.vocabulary - 1
    tokens[0, 10:] = 0
    expected = theirs(tokens, output_hidden_states=True)
    hidden, pooled = ours(ours.embed(tokens), end, clip_skip)
    error = relative_error(hidden, expected.hidden_states[-clip_skip])
    return error if pooled is None else max(error, relative_error(pooled, expected.text_embeds))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Compare the networks with independent implementations.")
    parser.add_argument("--full", action="store_true", help="at SDXL's widths")
    full = parser.parse_args().full
    rows = {
        "UNet": unet_error(SDXL if full else MINI),
        "VAE encoder, decoder": max(vae_errors(SDXL_VAE if full else MINI_VAE, 256)),
        "smaller text tower": text_error(CLIP_L if full else MINI_L, 2),
        "larger text tower": text_error(CLIP_G if full else MINI_G, 2),
    }
    for name, error in rows.items():
        sys.stdout.write(f"{name:24s} {error:.2e}\n")


if __name__ == "__main__":
    main()
