"""What is done when memory runs out: one rung after the other, each with a sentence. Knows no network and no device.

The rungs stand in the order of what they cost the user. A picture that did not fit is made again, from the same seed,
with the means of the next rung that can help; pictures as large as that one begin there at once, smaller ones begin at
the top. So what a picture looks like depends on its size and on the machine, not on what was made before it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from ldm_patched.modules.memory import Policy, ran_out

log = logging.getLogger(__name__)

Work = Literal["load", "pair", "single", "decode"]
"""What is done: models are loaded and texts encoded, or computed is a step with both sides of guidance, a step with
one, or the picture of the latent."""

P = TypeVar("P")
RAN_OUT = "Memory ran out, so "
PERHAPS = "The engine had ended, perhaps because memory ran out, so "


class NotEnoughMemory(MemoryError):
    """What does not fit by any means; the message is fit for the user's eyes."""


@dataclass(frozen=True)
class Stage:
    """What is done, and whether a GPU does it."""

    work: Work
    on_gpu: bool


@dataclass(frozen=True)
class Means:
    """How a picture is made.

    apart: the sides of guidance one after the other. tiled: the picture in tiles. rungs: numbers of those taken so far.
    """

    policy: Policy
    apart: bool = False
    tiled: bool = False
    rungs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Rung:
    """One way to need less memory. spares_gpu: whether it does so by using main memory, so that a GPU is needed."""

    change: Callable[[Means], Means]
    helps: frozenset[Work]
    sentence: str
    spares_gpu: bool = False


def _streamed(means: Means) -> Means:
    return replace(means, policy=replace(means.policy, mode="no-vram"))


def _in_eight_bits(means: Means) -> Means:
    return replace(means, policy=replace(means.policy, eight_bit=True))


def _on_the_processor(means: Means) -> Means:
    # Number formats that were wished for a GPU are no wish any more: processors are bad at fp16.
    return replace(means, policy=Policy("cpu", means.policy.threads, eight_bit=means.policy.eight_bit))


RUNGS: tuple[Rung, ...] = (
    Rung(
        lambda means: replace(means, apart=True),
        frozenset({"pair"}),
        "Memory ran out, so the prompt and the negative prompt are computed one after the other: the same picture, "
        "a little later.",
    ),
    Rung(
        lambda means: replace(means, tiled=True),
        frozenset({"decode"}),
        "Memory ran out, so the picture is painted in overlapping tiles: its tones may differ slightly.",
    ),
    Rung(
        _streamed,
        frozenset({"load", "pair", "single", "decode"}),
        "Memory ran out, so the model stays in main memory and is fetched piece by piece: the same picture, later.",
        spares_gpu=True,
    ),
    Rung(
        _in_eight_bits,
        frozenset({"load", "pair", "single", "decode"}),
        "Memory ran out, so the model is stored in 8 bits: half as large, and the picture differs slightly.",
    ),
    Rung(
        _on_the_processor,
        frozenset({"load", "pair", "single", "decode"}),
        "Memory ran out, so this picture is computed by the processor: that takes many times as long.",
        spares_gpu=True,
    ),
)


class Ladder:
    """Remembers which means a picture needs."""

    def __init__(self, policy: Policy) -> None:
        self.means = Means(policy)
        """Those in use."""
        self._top = self.means
        self._model: Hashable = None
        self._pixels = 0
        self._reached: list[tuple[int, Means]] = []
        self._policy = policy
        self._lowered = 0

    def lower(self, times: int, on_gpu: bool, note: Callable[[str], None]) -> None:
        """Let what follows begin so many memory modes below the one that was wished for.

        on_gpu: whether a GPU computes in that one. note: is told what changes, if the last task began elsewhere.
        """
        if times == self._lowered:
            return
        self._lowered, self._reached, self.means = times, [], Means(self._policy)
        for _ in range(times):
            if (rung := self._climb(Stage("load", on_gpu))) is not None:
                note(rung.sentence.replace(RAN_OUT, PERHAPS))
        self._top, self._reached = self.means, []

    def begin(self, model: Hashable, pixels: int) -> None:
        """Take the means for a picture of so many pixels by a model: the last ones that one no larger has needed."""
        if model != self._model:
            self._model, self._reached = model, []
        self._pixels = pixels
        self.means = next((means for needed, means in reversed(self._reached) if needed <= pixels), self._top)

    def make(self, attempt: Callable[[Means], P], stage: Callable[[], Stage], note: Callable[[str], None]) -> P:
        """What an attempt makes, begun again with the means of the next rung as often as memory runs out.

        stage: asked where the attempt was then. note: is told of each rung. Where no rung is left, or something else
        is wrong, raises what the attempt raised.
        """
        while True:
            try:
                return attempt(self.means)
            except Exception as error:
                rung = self._climb(stage()) if ran_out(error) else None
                if rung is None:
                    raise
                log.warning("%s (%s)", rung.sentence, error)
                note(rung.sentence)

    def _climb(self, stage: Stage) -> Rung | None:
        """Take the next rung that can help; None if there is none."""
        for number, rung in enumerate(RUNGS):
            if (
                number in self.means.rungs
                or stage.work not in rung.helps
                or (rung.spares_gpu and (not stage.on_gpu or self.means.policy.mode == "cpu"))
            ):
                continue
            changed = rung.change(self.means)
            if changed != self.means:
                self.means = replace(changed, rungs=(*self.means.rungs, number))
                # What is needed to load a model is needed for pictures of every size.
                self._reached.append((0 if stage.work == "load" else self._pixels, self.means))
                return rung
        return None
