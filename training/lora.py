"""A LoRA over a UNet that stays as it is: low-rank updates of its weights (arXiv 2106.09685); not what they are for."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call

from ldm_patched.ldm.unet import UNet
from ldm_patched.modules.checkpoint_layout import unet_to_published
from training.batches import predict

METADATA = {
    "modelspec.sai_model_spec": "1.0.0",
    "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
    "modelspec.author": "the Pinhole developers",
    "modelspec.license": "Apache-2.0",
    "ss_network_module": "networks.lora",
}


class Factors(nn.Module):
    """The low-rank updates of a network's matrices and kernels; they begin as no change."""

    def __init__(self, unet: UNet, rank: int) -> None:
        super().__init__()
        self.down = nn.ParameterDict()
        self.up = nn.ParameterDict()
        for name, weight in unet.state_dict().items():
            if weight.ndim < 2:
                continue
            rows, columns = weight.shape[0], weight[0].numel()
            r = min(rank, rows, columns)
            self.down[_key(name)] = nn.Parameter(torch.randn(r, columns) / math.sqrt(columns))
            self.up[_key(name)] = nn.Parameter(torch.zeros(rows, r))

    def of(self, name: str) -> tuple[Tensor, Tensor]:
        """up [out, r] and down [r, in * ...] of a weight."""
        return self.up[_key(name)], self.down[_key(name)]

    def applied_to(self, unet: UNet) -> dict[str, Tensor]:
        """The weights of a network with the updates."""
        weights = dict(unet.state_dict())
        for name, weight in weights.items():
            if weight.ndim >= 2:
                up, down = self.of(name)
                changed = weight + (up @ down).view(weight.shape)
                layout = torch.channels_last if weight.ndim == 4 else torch.contiguous_format
                weights[name] = changed.contiguous(memory_format=layout)
        return weights


def _key(name: str) -> str:
    return name.replace(".", "/")  # dots are not allowed there


class Student:
    """A network with a LoRA over it, of which the LoRA alone learns."""

    def __init__(self, unet: UNet, rank: int) -> None:
        self.unet = unet.requires_grad_(False)
        self.factors = Factors(unet, rank)
        self._called = _Called(unet)

    def predict(self, noisy: Tensor, timesteps: Tensor, vector: Tensor, hidden: Tensor) -> Tensor:
        """What `batches.predict` gives for the network with the updates."""
        weights = {f"unet.{name}": weight for name, weight in self.factors.applied_to(self.unet).items()}
        out: Tensor = functional_call(self._called, weights, (noisy, timesteps, vector, hidden))
        return out

    def in_place_of(self, unet: UNet, *inputs: Tensor) -> Tensor:
        """`predict` for whom calls `batches.predict`, which is told the network."""
        assert unet is self.unet
        return self.predict(*inputs)

    def write(self, path: Path, title: str, **metadata: str) -> None:
        """The updates, as a file that programs know as a LoRA."""
        path.parent.mkdir(parents=True, exist_ok=True)
        rank = str(max(len(down) for down in self.factors.down.values()))
        told = {**METADATA, "modelspec.title": title, "ss_network_dim": rank, "ss_network_alpha": rank, **metadata}
        save_file(published(self.unet, self.factors), path, told)


class _Called(nn.Module):
    """`batches.predict` as a module, whose weights can be others for a call."""

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, noisy: Tensor, timesteps: Tensor, vector: Tensor, hidden: Tensor) -> Tensor:
        return predict(self.unet, noisy, timesteps, vector, hidden)


def published(unet: UNet, factors: Factors) -> dict[str, Tensor]:
    """The updates as kohya's trainers name them, half precision."""
    tensors: dict[str, Tensor] = {}
    for name, weight in unet.state_dict().items():
        if weight.ndim < 2:
            continue
        up, down = (factor.detach() for factor in factors.of(name))
        for target, rows in unet_to_published({name: up}).items():  # queries, keys and values are one matrix here
            module = "lora_unet_" + target.removesuffix(".weight").replace(".", "_")
            kernel = (1, 1) if weight.ndim == 4 else ()
            tensors[f"{module}.lora_up.weight"] = rows.reshape(*rows.shape, *kernel)
            tensors[f"{module}.lora_down.weight"] = down.reshape(len(down), *weight.shape[1:])
            tensors[f"{module}.alpha"] = torch.tensor(float(len(down)))
    return {name: tensor.to(torch.float16).clone() for name, tensor in tensors.items()}
