"""Why a picture takes long, and what can be done about it: one sentence at most. Knows nothing but numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modules.conditions import Computing, Readings

SLOW = 15.0  # seconds that a picture takes before anybody wants to know why
SWAPPING = 4 << 20  # bytes a second
CROWDED = 0.25  # of the processors
SHARED = 0.15  # of a GPU's memory
LARGE = 1.5  # times as many pixels as a model was trained on
_GB = 1e9


@dataclass(frozen=True)
class Situation:
    """How a picture is being made. ``seconds``: how long it takes or has taken so far.

    ``pixels``: of the picture, ``trained``: of the pictures that the model has learned from. ``first``: whether it is
    the first one since models were loaded.
    """

    computing: Computing
    readings: Readings
    seconds: float
    pixels: int
    trained: int
    first: bool = False


def why_slow(situation: Situation) -> str:
    """The most important reason in a sentence, with what can be done; nothing while a picture does not take long."""
    if situation.seconds < SLOW:
        return ""
    return next((sentence for reason in REASONS if (sentence := reason(situation))), "")


def _swapping(it: Situation) -> str:
    if it.readings.swapped < SWAPPING:
        return ""
    smaller = "" if it.computing.eight_bit else ", or start with --unet-in-int8: the model is half as large then"
    return (
        f"Slow because main memory is full and the disk stands in for it ({it.readings.swapped / 1e6:.0f} MB a "
        f"second). Close other programs{smaller}."
    )


def _no_kernels(it: Situation) -> str:
    if it.computing.unused != "kernels":
        return ""
    return (
        f"Slow because the processor computes: this PyTorch has no code for {it.computing.gpu}. "
        "Install a build of PyTorch for this GPU."
    )


def _no_driver(it: Situation) -> str:
    if it.computing.unused != "driver":
        return ""
    return (
        "Slow because the processor computes: there is an NVIDIA GPU, but PyTorch cannot reach it. Install its driver, "
        "or the build of PyTorch for NVIDIA, and start Pinhole again."
    )


def _unwanted(it: Situation) -> str:
    if it.computing.unused != "wish":
        return ""
    return f"Slow because the processor computes: --always-cpu leaves {it.computing.gpu} alone. Start without it."


def _gave_up(it: Situation) -> str:
    if it.computing.device != "cpu" or not it.computing.stepped_down or not it.computing.gpu:
        return ""
    return f"Slow because {it.computing.gpu} had too little memory, so the processor computes. Choose a smaller size."


def _crowded(it: Situation) -> str:
    if it.readings.others < CROWDED:
        return ""
    return (
        f"Slow because other programs take {it.readings.others:.0%} of the processors, and nothing is left. "
        "Close those that you do not need."
    )


def _shared(it: Situation) -> str:
    computing = it.computing
    if not computing.streamed or computing.wished or computing.gpu_others < SHARED * computing.gpu_memory:
        return ""
    return (
        f"Slow because other programs hold {computing.gpu_others / _GB:.1f} of {computing.gpu_memory / _GB:.1f} GB of "
        "the GPU's memory, so that the model is fetched piece by piece. Close them and generate again."
    )


def _streamed_by_wish(it: Situation) -> str:
    if not it.computing.streamed or not it.computing.wished:
        return ""
    return "Slow because the model is fetched piece by piece, as the flag says that Pinhole was started with."


def _streamed(it: Situation) -> str:
    if not it.computing.streamed:
        return ""
    smaller = "" if it.computing.eight_bit else " Start with --unet-in-int8 to make it half as large."
    return (
        "Slow because the model is larger than the GPU's memory and is fetched piece by piece: the same picture, later."
        + smaller
    )


def _large(it: Situation) -> str:
    times = it.pixels / it.trained if it.trained else 0.0
    if times < LARGE:
        return ""
    return (
        f"Slow because the picture has {times:.1f} times as many pixels as the model was trained on. "
        "A smaller one is made sooner, and often looks better."
    )


def _processor(it: Situation) -> str:
    if it.computing.device != "cpu":
        return ""
    return (
        "Slow because the processor computes: there is no GPU that Pinhole can use. A smaller size, or Extreme Speed "
        "as the performance, takes less time."
    )


def _first(it: Situation) -> str:
    if not it.first:
        return ""
    return "The first picture after a model was loaded takes longer: the next ones are quicker."


# The most important first.
REASONS: tuple[Callable[[Situation], str], ...] = (
    _swapping, _no_kernels, _no_driver, _unwanted, _gave_up, _crowded, _shared, _streamed_by_wish, _streamed, _large,
    _processor, _first,
)  # fmt: skip
