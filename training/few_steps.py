"""Distils the base model into a LoRA for few steps without guidance, from its own trajectories; draws no picture.

At a noise level the student is asked for the x0 with which one straight step ends where the base's many guided steps
ended: at the picture (a consistency function, arXiv 2303.01469 and 2310.04378; a LoRA of it, 2311.05556), or at the end
of a quarter of the run (segments, as in arXiv 2402.13929 without its discriminator).
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
from torch import Tensor

from ldm_patched.modules.model_sampling import ModelSampling
from ldm_patched.modules.sd import load_checkpoint
from training.batches import Levels
from training.loop import Run, Schedule
from training.lora import Student
from training.pack import BASE
from training.trajectories import STEPS, Trajectories, levels, load, parametrisation

log = logging.getLogger("training")
RANK = 16
Reach = Literal["picture", "quarter"]
QUARTER = STEPS // 4
TITLES: dict[Reach, str] = {
    "picture": "Pinhole miniature, about 8 steps (LCM)",
    "quarter": "Pinhole miniature, 4 steps (Lightning)",
}


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

    def loss(self, student: Student) -> Tensor:
        """The squared error of one batch, in relation to what is usual at each noise level."""
        (several,) = self.rng.choices(self.trajectories, [len(t.latents) for t in self.trajectories])
        rows = torch.tensor(self.rng.choices(range(len(several.latents)), k=self.batch))
        at = torch.tensor(self.rng.choices(self.places, k=self.batch))
        to = (at // self.stride + 1) * self.stride
        begin, end = several.latents[rows, at].float(), several.latents[rows, to].float()
        noisy, velocity = self.velocity(begin, end, at, to)
        timesteps = self.timesteps[at]
        noisy = noisy.to(memory_format=torch.channels_last)
        out = student.predict(noisy, timesteps, several.vectors[rows], several.hidden[rows])
        errors = (out.float() - velocity).square().mean(dim=(1, 2, 3))
        return self.levels.relative(errors, timesteps.long())


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
    student = Student(checkpoint.unet.float(), RANK)
    run = Run(args.run, student.factors, Schedule(steps=args.steps, rate=args.rate, final=0.03), decay=0.99)
    run.resume()
    lessons = Lessons(load(args.trajectories), parametrisation(checkpoint), args.reach, args.batch, run.step)
    for _ in run.train(lambda: lessons.loss(student), minutes=args.minutes, save_every=250):
        pass
    student.factors.load_state_dict(run.average.tensors)
    student.write(args.out, TITLES[args.reach])


if __name__ == "__main__":
    main()
