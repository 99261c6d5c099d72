"""Blocks of a UNet live in main memory and are brought to the device one ahead of their use. Knows no policy, no file.

A block's tensors are where they are: in main memory, where patches are merged into them. While the block computes,
they point into a buffer of a small ring on the device. A thread copies the next block into the other buffer meanwhile:
on CUDA through page-locked memory and a stream of its own, elsewhere by a plain copy. So at no time there are more
blocks on the device than the ring has buffers, and the arithmetic is that of the network as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ldm_patched.ldm.attention import BasicTransformerBlock, CrossAttention
from ldm_patched.ldm.unet import Downsample, ResBlock, UNet, Upsample
from ldm_patched.modules.quantised import EightBit

BUFFERS = 2
"""One block that computes and one that comes."""

_ALIGNMENT = 256  # bytes; what a device's own allocations have at the least


class Block:
    """Tensors that are needed together, and the block that is needed after them."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = tensors
        self.following: Block | None = None
        self.offsets = [0]
        for tensor in tensors:
            self.offsets.append(self.offsets[-1] + -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT)

    @property
    def size(self) -> int:
        """Bytes in a buffer."""
        return self.offsets[-1]

    def views(self, memory: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
        """The places of the tensors in a buffer of bytes, with the layouts of `like`."""
        return [
            memory[offset : offset + tensor.nbytes].view(tensor.dtype).as_strided(tensor.shape, tensor.stride())
            for offset, tensor in zip(self.offsets, like, strict=False)
        ]


class Buffer:
    """Memory on the device for one block, and the page-locked memory through which it comes."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.memory = torch.empty(size, dtype=torch.uint8, device=device)
        self.staging = torch.empty(size, dtype=torch.uint8, pin_memory=True) if device.type == "cuda" else None
        self.block: Block | None = None
        self.arrival: Future[None] | None = None
        self.hosts: list[Tensor] = []
        self.arrived = torch.cuda.Event() if device.type == "cuda" else None
        self.done = torch.cuda.Event() if device.type == "cuda" else None


class Ring:
    """The buffers, and the thread that fills them."""

    def __init__(self, size: int, device: torch.device) -> None:
        """size: bytes of the largest block."""
        with torch.inference_mode(False):
            self._buffers = [Buffer(size, device) for _ in range(BUFFERS)]
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="weights")
        self.resident = 0
        """How many blocks are on the device now, computing or on their way."""
        self.most = 0
        """How many have ever been."""

    def enter(self, block: Block) -> None:
        """Let the tensors of a block be on the device, and send for the following one."""
        buffer = next((each for each in self._buffers if each.block is block), None)
        if buffer is None:
            for each in self._buffers:  # what was sent for and is not wanted: a run was interrupted
                self._forget(each)
            buffer = self._send_for(block)
        assert buffer.arrival is not None
        buffer.arrival.result()
        if buffer.arrived is not None:
            torch.cuda.current_stream().wait_event(buffer.arrived)
        for tensor, view in zip(block.tensors, block.views(buffer.memory, buffer.hosts), strict=True):
            tensor.data = view
        if block.following is not None:
            self._send_for(block.following)

    def leave(self, block: Block) -> None:
        """Let the tensors of a block be in main memory again. Without effect for one that is not there."""
        buffer = next((each for each in self._buffers if each.block is block), None)
        if buffer is None:
            return
        for tensor, host in zip(block.tensors, buffer.hosts, strict=True):
            tensor.data = host
        if buffer.done is not None:
            buffer.done.record()
        self._forget(buffer)

    def _send_for(self, block: Block) -> Buffer:
        buffer = next(each for each in self._buffers if each.block is None)
        buffer.block = block
        buffer.hosts = [tensor.data for tensor in block.tensors]
        self.resident += 1
        self.most = max(self.most, self.resident)
        buffer.arrival = self._thread.submit(self._bring, buffer, block)
        return buffer

    def _forget(self, buffer: Buffer) -> None:
        if buffer.block is None:
            return
        if buffer.arrival is not None:
            buffer.arrival.exception()  # waits: nobody else may write there
        buffer.block, buffer.arrival, buffer.hosts = None, None, []
        self.resident -= 1

    @torch.no_grad()
    def _bring(self, buffer: Buffer, block: Block) -> None:
        """Copy a block into its buffer; on CUDA the copy is only begun when this returns."""
        if buffer.staging is None or self._stream is None or buffer.arrived is None or buffer.done is None:
            for view, host in zip(block.views(buffer.memory, buffer.hosts), buffer.hosts, strict=True):
                view.copy_(host)
            return
        buffer.arrived.synchronize()  # the last transfer out of this page-locked memory
        for view, host in zip(block.views(buffer.staging, buffer.hosts), buffer.hosts, strict=True):
            view.copy_(host)
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(buffer.done)  # the last block that computed from this buffer
            buffer.memory[: block.size].copy_(buffer.staging[: block.size], non_blocking=True)
            buffer.arrived.record()


def stream(unet: UNet, device: torch.device, resident: int = 0) -> Ring:
    """Make a UNet whose weights are in main memory compute on a device.

    resident: bytes of blocks that stay on the device, beside what is small and used by all. Blocks that stay lie evenly
    between those that come, so that there is time to bring them. Returns the ring.
    """
    tracks = [[*_blocks(unet)], [*_text_projections(unet)]]
    comes = [_those_that_come(tracks[0], resident), tracks[1]]
    streamed = {id(tensor) for track in comes for _, block in track for tensor in block.tensors}
    sources = {id(layer.weight) for layer in unet.modules() if isinstance(layer, EightBit)}
    with torch.inference_mode(False):
        for tensor in (*unet.parameters(), *unet.buffers()):
            if id(tensor) not in streamed | sources:
                tensor.data = tensor.data.to(device)
    ring = Ring(max((block.size for track in comes for _, block in track), default=0), device)
    for track in comes:
        for (_, block), (_, following) in zip(track, track[1:], strict=False):
            block.following = following
        for module, block in track:
            _hook(module, block, ring)
    return ring


def _hook(module: nn.Module, block: Block, ring: Ring) -> None:
    """Let a block be on the device while its module computes, also if that fails."""

    def before(module: nn.Module, arguments: object) -> None:
        ring.enter(block)

    def after(module: nn.Module, arguments: object, result: object) -> None:
        ring.leave(block)

    module.register_forward_pre_hook(before)
    module.register_forward_hook(after, always_call=True)


def _blocks(unet: UNet) -> Iterator[tuple[nn.Module, Block]]:
    """What one evaluation runs through, in order: with its tensors, but for those that are used once per job."""
    for module in unet.modules():
        match module:
            case ResBlock():
                yield module, Block(_tensors(module.in_layers, module.out_layers, module.skip_connection))
            case BasicTransformerBlock():
                apart = {id(tensor) for each in _projections(module.attn2) for tensor in _tensors(each)}
                yield module, Block([tensor for tensor in _tensors(module) if id(tensor) not in apart])
            case Upsample() | Downsample():
                yield module, Block(_tensors(module))
            case _:
                pass


def _text_projections(unet: UNet) -> Iterator[tuple[nn.Module, Block]]:
    """What keys and values of a text are computed with, once per job."""
    for module in unet.modules():
        if isinstance(module, CrossAttention):
            yield from ((layer, Block(_tensors(layer))) for layer in _projections(module))


def _projections(attention: CrossAttention) -> tuple[nn.Module, nn.Module]:
    return attention.to_k, attention.to_v


def _tensors(*modules: nn.Module) -> list[Tensor]:
    """What modules compute with: not what codes are made of (`quantised`)."""
    found: list[Tensor] = []
    for module in (each for parent in modules for each in parent.modules()):
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        found += [each for each in own if not (isinstance(module, EightBit) and each is module.weight)]
    return found


def _those_that_come(track: Sequence[tuple[nn.Module, Block]], resident: int) -> list[tuple[nn.Module, Block]]:
    """The blocks that do not stay: as many bytes evenly spread as exceed `resident`."""
    total = sum(block.size for _, block in track)
    share = max(0.0, 1.0 - resident / total)
    passed = chosen = 0
    comes: list[tuple[nn.Module, Block]] = []
    for module, block in track:
        passed += block.size
        if chosen < share * passed:
            comes.append((module, block))
            chosen += block.size
    return comes


@contextmanager
def visiting(networks: Iterable[nn.Module], device: torch.device) -> Iterator[None]:
    """Let networks that live in main memory be on a device for a while. Nothing is copied back.

    What is there already stays as it is.
    """
    if device.type == "cpu":
        yield
        return
    moved = [(tensor, tensor.data) for tensor in _tensors(*networks) if tensor.device.type != device.type]
    try:
        with torch.inference_mode(False), torch.no_grad():
            for tensor, host in moved:
                tensor.data = host.to(device)
        yield
    finally:
        for tensor, host in moved:
            tensor.data = host
