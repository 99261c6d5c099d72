"""UNets that leave the device between their runs take turns there. Knows no policy and no sampler."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType

from torch import Tensor

from ldm_patched.modules.model_sampling import ModelSampling
from ldm_patched.modules.samplers import Denoiser
from ldm_patched.modules.sd import Checkpoint, Refiner, at_work


class Turns:
    """One model at a time is where it computes; the others are where they rest. A context: in the end all rest."""

    def __init__(self) -> None:
        self._visit = ExitStack()
        self._here: object = None

    def take(self, model: Checkpoint | Refiner) -> None:
        """Let this model be there, and no other one. Without effect for the one that is."""
        if model.unet is not self._here:
            self.rest()
            self._visit.enter_context(at_work(model))
            self._here = model.unet

    def rest(self) -> None:
        """Let all be where they rest."""
        self._here = None
        self._visit.close()

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.rest()


class InTurn:
    """A denoiser whose network takes its turn with each call. It is made in the first one: that computes already."""

    def __init__(
        self,
        turns: Turns,
        model: Checkpoint | Refiner,
        model_sampling: ModelSampling,
        make: Callable[[], Denoiser],
    ) -> None:
        self.model_sampling = model_sampling
        self._turns = turns
        self._model = model
        self._make = make
        self._denoiser: Denoiser | None = None

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """x0 as the denoiser has it."""
        self._turns.take(self._model)
        if self._denoiser is None:
            self._denoiser = self._make()
        return self._denoiser(x, sigma)
