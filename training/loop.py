"""What every training run shares: resumable state, averaged weights, the learning-rate curve. Knows no network."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

log = logging.getLogger("training")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long a run is and how fast it learns: a linear warm-up, then half a cosine down to `final` of `rate`."""

    steps: int
    rate: float
    warmup: int = 100
    final: float = 0.02

    def at(self, step: int) -> float:
        """Learning rate of a step, 0 <= step < steps."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.rate * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress)))


Network = TypeVar("Network", bound=nn.Module)


def channels_last(network: Network) -> Network:
    """The network with its kernels in the order that processors convolve fastest in."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


class Average:
    """Exponential moving average of a module's parameters, with the usual warm-up of the decay."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move towards the module's present parameters."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.tensors[name].lerp_(value, 1 - decay)


class Run:
    """One resumable run: a module, its optimiser, its average and the step it is at, saved under one file."""

    def __init__(self, path: Path, module: nn.Module, schedule: Schedule, *, decay: float = 0.999) -> None:
        self.path = path
        self.module = module
        self.schedule = schedule
        matrices = [p for p in module.parameters() if p.ndim >= 2]
        others = [p for p in module.parameters() if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=schedule.rate, betas=(0.9, 0.99), eps=1e-8, fused=True)
        self.average = Average(module, decay)
        self.step = 0

    def resume(self, *, fresh: bool = False) -> None:
        """Continue from the file, if there is one. fresh: take over the averaged weights only, and begin at step 0."""
        if not self.path.exists():
            return
        state = torch.load(self.path, weights_only=True)
        if fresh:
            self.module.load_state_dict(state["average"])
            self.average = Average(self.module, self.average.decay)
            return
        self.module.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.tensors = state["average"]
        self.step = int(state["step"])
        log.info("%s: going on at step %d", self.path.name, self.step)

    def save(self) -> None:
        """Write everything needed to go on, replacing the file at once."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state: dict[str, Any] = {
            "module": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.tensors,
            "step": self.step,
        }
        part = self.path.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.path)

    def train(
        self, batch: Callable[[], Tensor], *, save_every: int = 500, minutes: float = math.inf, clip: float = 1.0
    ) -> Iterator[float]:
        """Train until the schedule or the time ends; `batch` gives the loss of one batch. Yields every loss."""
        end = time.monotonic() + 60 * minutes
        shown, shown_at, total = self.step, time.monotonic(), 0.0
        while self.step < self.schedule.steps and time.monotonic() < end:
            for group in self.optimiser.param_groups:
                group["lr"] = self.schedule.at(self.step)
            loss = batch()
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), clip)
            self.optimiser.step()
            self.average.update(self.module, self.step)
            self.step += 1
            value = float(loss.detach())
            total += value
            if self.step % 50 == 0:
                seconds = (time.monotonic() - shown_at) / (self.step - shown)
                log.info("step %d: loss %.4f, %.3f s a step", self.step, total / (self.step - shown), seconds)
                shown, shown_at, total = self.step, time.monotonic(), 0.0
            if self.step % save_every == 0:
                self.save()
            yield value
        self.save()
