"""What is short before a model is loaded, and what Pinhole will do about it; decides from numbers alone."""

from __future__ import annotations

from dataclasses import dataclass

from modules.conditions import Unused
from modules.disk import in_words

LONG_READ = 1_000_000_000  # bytes of a file whose reading takes long enough to be told
PICTURE_BYTES = 2.2  # a pixel of a PNG of a photograph; what others need is less


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a model needs, in bytes. ``file``: what is read; ``gpu`` and ``main``: of each kind of memory.

    ``gpu`` is what the model needs to lie there whole; ``main`` what it takes where it will really be.
    """

    name: str
    file: int
    gpu: int
    main: int


@dataclass(frozen=True, kw_only=True)
class Has:
    """What the machine has, in bytes; None where it does not tell. ``gpu`` is the name of a GPU, used or not."""

    gpu: str = ""
    unused: Unused = ""
    gpu_free: int | None = None
    main: int = 0
    main_free: int | None = None


@dataclass(frozen=True, kw_only=True)
class Doing:
    """What Pinhole has decided to do. ``wished``: because a flag says so, which needs no explanation."""

    on_gpu: bool
    streamed: bool = False
    offload: bool = False
    eight_bit: bool = False
    wished: bool = False


def ahead(needs: Needs, has: Has, doing: Doing) -> tuple[str, ...]:
    """What somebody should know before the wait begins, the most important first; nothing where all is well."""
    sentences = [_gpu_left_out(has), _main_memory(needs, has, doing), _gpu_memory(needs, has, doing)]
    if needs.file >= LONG_READ:
        sentences.append(f"{in_words(needs.file)} are read from the disk: only now, and not for the next pictures.")
    return tuple(filter(None, sentences))


def room(pictures: int, pixels: int, free: int | None, folder: str) -> str:
    """Whether the disk of a folder has room for pictures, in a sentence if it may not."""
    needed = int(pictures * pixels * PICTURE_BYTES)
    if free is None or free >= needed:
        return ""
    what = "The picture needs" if pictures == 1 else f"{pictures} pictures need"
    return (
        f"{what} up to {in_words(needed)} on the disk, and {in_words(free)} are free where {folder} is. Make room "
        "there: what cannot be saved is kept in memory until the task goes on."
    )


def _gpu_left_out(has: Has) -> str:
    if has.unused == "kernels":
        return (
            f"This PyTorch has no code for {has.gpu}, so the processor computes, which takes many times as long. "
            "Install a build of PyTorch for this GPU."
        )
    if has.unused == "driver":
        return (
            "There is an NVIDIA GPU, but PyTorch cannot reach it, so the processor computes. Install its driver, or "
            "the build of PyTorch for NVIDIA."
        )
    return ""


def _main_memory(needs: Needs, has: Has, doing: Doing) -> str:
    if has.main_free is None or needs.main <= has.main_free:
        return ""
    short = f"{needs.name} needs about {in_words(needs.main)} of main memory, and {in_words(has.main_free)} are free"
    if doing.eight_bit:
        return f"{short}: it will be slow, or fail. Close other programs, or choose a smaller model."
    return (
        f"{short}: it will be slow until you close other programs. If memory runs out, Pinhole goes on by itself with "
        "the model in 8 bits, half as large."
    )


def _gpu_memory(needs: Needs, has: Has, doing: Doing) -> str:
    if not doing.on_gpu or doing.wished or has.gpu_free is None:
        return ""
    short = f"{needs.name} needs {in_words(needs.gpu)} of the GPU's memory, and {in_words(has.gpu_free)} are free"
    if doing.streamed:
        return f"{short}: it stays in main memory and is fetched piece by piece. The same picture, later."
    if doing.offload:
        return f"{short}: its parts take turns there. The same picture, a little later."
    return ""
