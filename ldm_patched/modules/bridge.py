"""From the latents of one autoencoder to those of another. Knows no network that denoises and no prompt."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ldm_patched.ldm.interposer import Interposer
from ldm_patched.modules.autoencoder import VAE
from ldm_patched.modules.state_dict import TensorFile, WeightsError

INTERPOSER_FILE = "xl-to-v1_interposer-v4.0.safetensors"
"""The published network from SDXL's latents to Stable Diffusion 1.5's."""


def load_interposer(path: Path, device: torch.device) -> Interposer:
    """The network in a file, in single precision. Raises WeightsError for what is none."""
    file = TensorFile(path)
    blocks = sum(name.startswith("core.") and name.endswith(".long.0.weight") for name in file)
    head = file.infos.get("head.short.weight")
    if head is None or len(head.shape) != 4:
        raise WeightsError(f"{path.name} is no latent interposer: it has no convolution 'head.short.weight'")
    with torch.device("meta"):
        network = Interposer(head.shape[1], head.shape[0], blocks)
    tensors = {name: file[name] for name in file}
    state = {name: (each.float() if each.is_floating_point() else each).to(device) for name, each in tensors.items()}
    try:
        network.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"{path.name} is no latent interposer: its tensors have other names or sizes") from error
    return network.requires_grad_(False)


@torch.no_grad()
def cross(
    latent: Tensor, source: VAE, target: VAE, seed: int, interposer: Interposer | None = None, tile: int | None = None
) -> Tensor:
    """Scaled latents [batch, 4, h, w] of `source` as those of `target`, float32.

    interposer: computes them. Without one the picture is painted and read again: exact, but for what both autoencoders
    lose, and with the noise of `seed` that reading takes. tile: see `VAE.decode`.
    """
    if interposer is None:
        return target.encode(source.decode(latent, tile), seed, tile)
    weight = interposer.tail.weight
    crossed: Tensor = interposer((latent / source.scale).to(weight))
    return crossed.to(latent) * target.scale
