"""What a user decides about memory and number formats, as one value; knows no device, and of torch only a name."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from typing import Literal

Mode = Literal["auto", "gpu", "high-vram", "normal-vram", "low-vram", "no-vram", "cpu"]
NumberFormat = Literal["auto", "fp32", "fp16", "bf16"]


@dataclass(frozen=True)
class Policy:
    """How much of a model lies on the GPU, and in which numbers it computes. The flags of the command line, as data.

    mode: `auto` decides from the memory that is free. `gpu` and `high-vram` keep every part on the GPU, `normal-vram`
    keeps the UNet there whole; `low-vram` keeps as much of it there as fits and fetches the rest while it computes,
    `no-vram` fetches all of it; `cpu` leaves a GPU alone. threads: of the processor, 0 for as many as are usual.
    offload: whether a part leaves the GPU when it has done its work; None decides from the memory that is free.
    eight_bit: the UNet's large weights are stored as whole numbers -127..127 with one factor per output channel.
    """

    mode: Mode = "auto"
    threads: int = 0
    offload: bool | None = None
    unet: NumberFormat = "auto"
    towers: NumberFormat = "auto"
    vae: NumberFormat = "auto"
    vae_on_cpu: bool = False
    eight_bit: bool = False


AUTOMATIC = Policy()

_RAN_OUT = re.compile("out of memory|ALLOC_FAILED|allocate memory|DefaultCPUAllocator", re.IGNORECASE)


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or in the machine.

    torch has a class for one allocator of GPUs; drivers, libraries and the processor say it in a RuntimeError's text.
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError):
        return type(error).__name__ == "OutOfMemoryError" or bool(_RAN_OUT.search(str(error)))
    return isinstance(error, MemoryError)
