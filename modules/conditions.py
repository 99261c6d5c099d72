"""Under which conditions pictures are made, as plain values: what computes them, and how busy the machine is.

Knows neither who finds these out nor what follows from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unused = Literal["", "wish", "kernels", "driver"]
"""Why a GPU that is there does not compute: the user's flag, a PyTorch without code for it, no way to reach it."""


@dataclass(frozen=True, kw_only=True)
class Computing:
    """What computes. ``device`` is torch's word for it; ``gpu`` the name of a GPU that is there, used or not.

    ``streamed``: weights are fetched piece by piece; ``stepped_down``: because memory had run out before;
    ``wished``: because a flag says so. ``gpu_memory`` and ``gpu_others`` are in bytes: of the GPU, and what other
    programs hold of it. ``loading``: models are on their way; ``ahead``: what was found before, in sentences.
    """

    device: str
    gpu: str = ""
    unused: Unused = ""
    streamed: bool = False
    eight_bit: bool = False
    stepped_down: bool = False
    wished: bool = False
    gpu_memory: int = 0
    gpu_others: int = 0
    loading: bool = False
    ahead: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Readings:
    """How busy the machine is. ``swapped``: bytes a second to and from the disk because main memory is short.

    ``others``: the share of all processors, 0..1, that other programs take from one that is fully busy.
    """

    swapped: float = 0.0
    others: float = 0.0
