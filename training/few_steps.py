"""Distils the base model into a LoRA for few steps without guidance, from its own trajectories; draws no picture.

At a noise level the student is asked for the x0 with which one straight step ends where the base's many guided steps
ended: at the picture (a consistency function, arXiv 2303.01469 and 2310.04378; a LoRA of it, 2311.05556), or at the end
of a quarter of the run (segments, as in arXiv 2402.13929 without its discriminator). The weights are low-rank updates
of every matrix and kernel of the UNet (arXiv 2106.09685).
"""

from __future__ import annotations

import argparse
import logging
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call

from ldm_patched.ldm.unet import UNet
from ldm_patched.modules.checkpoint_layout import unet_to_published
from ldm_patched.modules.model_sampling import ModelSampling
from ldm_patched.modules.sd import load_checkpoint
from training.batches import Levels, predict
from training.loop import Run, Schedule
from training.pack import BASE
from training.trajectories import STEPS, Trajectories, levels, load, parametrisation

log = logging.getLogger("training")
RANK = 16
Reach = Literal["picture", "quarter"]
QUARTER = STEPS // 4
METADATA = {
    "modelspec.sai_model_spec": "1.0.0",
    "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
    "modelspec.author": "the Pinhole developers",
    "modelspec.license": "Apache-2.0",
    "ss_network_module": "networks.lora",
    "ss_network_dim": str(RANK),
    "ss_network_alpha": str(RANK),
}
TITLES: dict[Reach, str] = {
    "picture": "Pinhole miniature, about 8 steps (LCM)",
    "quarter": "Pinhole miniature, 4 steps (Lightning)",
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


class Student(nn.Module):
    """The base with other weights for a call."""

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, noisy: Tensor, timesteps: Tensor, vector: Tensor, hidden: Tensor) -> Tensor:
        """The velocity."""
        return predict(self.unet, noisy, timesteps, vector, hidden)


class Lessons:
    """Random places of random trajectories, with where the base went from there."""

    def __init__(
        self, trajectories: Sequence[Trajectories], model_sampling: ModelSampling, reach: Reach, batch: int, seed: int
    ) -> None:
        self.trajectories = trajectories
        self.sigmas = torch.tensor(levels(model_sampling))
        self.timesteps = torch.tensor([model_sampling.timestep(sigma) for sigma in self.sigmas[:-1].tolist()])
        self.places = range(STEPS) if reach == "picture" else range(0, STEPS, QUARTER)
        self.stride = STEPS if reach == "picture" else QUARTER
        self.batch = batch
        self.rng = random.Random(seed)
        self.levels = Levels()

    def velocity(self, begin: Tensor, end: Tensor, at: Tensor, to: Tensor) -> tuple[Tensor, Tensor]:
        """What the UNet is given, and what it should say for a straight step from `begin` to end at `end`.

        begin, end: latents [n, 4, h, w] at the noise levels of the places `at` and `to` [n].
        """
        shape = (-1, 1, 1, 1)
        sigma, below = self.sigmas[at].view(shape), self.sigmas[to].view(shape)
        x0 = begin - sigma * (end - begin) / (below - sigma)
        signal, spread = (1 + sigma**2).rsqrt(), sigma * (1 + sigma**2).rsqrt()
        noisy = begin * signal
        return noisy, (signal * noisy - x0) / spread

    def loss(self, student: Student, unet: UNet, factors: Factors) -> Tensor:
        """The squared error of one batch, in relation to what is usual at each noise level."""
        (several,) = self.rng.choices(self.trajectories, [len(t.latents) for t in self.trajectories])
        rows = torch.tensor(self.rng.choices(range(len(several.latents)), k=self.batch))
        at = torch.tensor(self.rng.choices(self.places, k=self.batch))
        to = (at // self.stride + 1) * self.stride
        begin, end = several.latents[rows, at].float(), several.latents[rows, to].float()
        noisy, velocity = self.velocity(begin, end, at, to)
        timesteps = self.timesteps[at]
        inputs = (noisy.to(memory_format=torch.channels_last), timesteps, several.vectors[rows], several.hidden[rows])
        weights = {f"unet.{name}": weight for name, weight in factors.applied_to(unet).items()}
        out: Tensor = functional_call(student, weights, inputs)
        errors = (out.float() - velocity).square().mean(dim=(1, 2, 3))
        return self.levels.relative(errors, timesteps.long())


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


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Distil the base model into a LoRA for few steps.")
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--trajectories", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="file that holds the resumable state")
    parser.add_argument("--reach", choices=tuple(TITLES), required=True, help="how far one step leads")
    parser.add_argument("--out", type=Path, required=True, help="the LoRA")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=12)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(0)
    checkpoint = load_checkpoint(args.models / "checkpoints" / BASE)
    unet = checkpoint.unet.float().requires_grad_(False)
    factors = Factors(unet, RANK)
    run = Run(args.run, factors, Schedule(steps=args.steps, rate=args.rate, final=0.03), decay=0.99)
    run.resume()
    lessons = Lessons(load(args.trajectories), parametrisation(checkpoint), args.reach, args.batch, run.step)
    student = Student(unet)
    for _ in run.train(lambda: lessons.loss(student, unet, factors), minutes=args.minutes, save_every=250):
        pass
    factors.load_state_dict(run.average.tensors)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(published(unet, factors), args.out, {**METADATA, "modelspec.title": TITLES[args.reach]})


if __name__ == "__main__":
    main()
