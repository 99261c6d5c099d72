"""Writes a checkpoint of SDXL's full size with random weights, and measures loading and using it; knows no sampler.

`python -m benchmarks.full_size FOLDER` writes the 2,516 tensors of the published SDXL base checkpoint (6.9 GB in
float16) in pieces, so that writing needs little memory; a file that is there already is reused. Loading is timed in a
process of its own: once as it comes, once with the file in the system's cache. That process then encodes a text,
evaluates the UNet twice on a 256x256 picture and decodes it, and reports the largest amount of memory it ever held.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import platform
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.networks import CLIP_G, CLIP_L, SDXL, SDXL_VAE
from ldm_patched.modules.checkpoint_layout import TOWERS
from ldm_patched.modules.conditioning import size_vectors
from ldm_patched.modules.detection import Detection, TowerDetection, build, published_shapes
from ldm_patched.modules.sd import Checkpoint, load_checkpoint

NAME = "random-sdxl-full-size.safetensors"

SDXL_BASE = Detection(
    kind="sdxl",
    unet=SDXL,
    vae=SDXL_VAE,
    towers=tuple(TowerDetection(slot, params) for slot, params in zip(TOWERS["sdxl"], (CLIP_L, CLIP_G), strict=True)),
    prediction="eps",
    zero_terminal_snr=False,
)
"""The published SDXL base model (arXiv 2307.01952)."""

Entry = tuple[str, tuple[int, ...], torch.dtype]


def entries() -> Iterator[Entry]:
    """Name, shape and dtype of each of the 2,516 tensors of the published file."""
    shapes = published_shapes(SDXL_BASE, build("SDXL base", SDXL_BASE))
    yield from ((name, shape, torch.float16) for name, shape in shapes.items())
    small, large = TOWERS["sdxl"]
    yield small.prefix + "embeddings.position_ids", (1, 77), torch.int64
    yield large.prefix + "logit_scale", (), torch.float16
    yield "denoiser.sigmas", (1000,), torch.float32


def write_checkpoint(path: Path, seed: int = 0) -> int:
    """Write a random checkpoint and return its size in bytes. One tensor at a time is in memory."""
    listed = list(entries())
    names = {torch.float16: "F16", torch.float32: "F32", torch.int64: "I64"}
    header: dict[str, object] = {}
    offset = 0
    for name, shape, dtype in listed:
        end = offset + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": names[dtype], "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    free = shutil.disk_usage(path.parent).free
    if free < offset + len(text):
        raise SystemExit(f"{path.parent} has {free / 1e9:.1f} GB free; the file needs {offset / 1e9:.1f} GB")
    # Drawing 3.5 billion numbers would take minutes; sections of one long draw serve as well.
    pool = torch.randn(1 << 24, generator=torch.Generator().manual_seed(seed)).half()
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for index, entry in enumerate(listed):
            file.write(_values(entry, pool, index).numpy().tobytes())
    part.replace(path)
    return 8 + len(text) + offset


def _values(entry: Entry, pool: Tensor, index: int) -> Tensor:
    """Values with which signals keep their size through the network: variance 1 / inputs, norms that do nothing."""
    name, shape, dtype = entry
    count = math.prod(shape)
    if dtype != torch.float16:
        return torch.arange(count).to(dtype)
    if len(shape) < 2:
        return torch.full((count,), 1.0 if name.endswith("weight") else 0.0, dtype=dtype)
    scale = 0.02 if "embedding" in name else math.prod(shape[1:]) ** -0.5
    begin = 7919 * index % (len(pool) // 2)
    section = pool[begin:]
    return (section.repeat(-(-count // len(section)))[:count].float() * scale).to(dtype)


def measure(path: Path) -> None:
    """Load, use once, and print times and memory. To be run in a process of its own."""
    begin = _clocks()
    checkpoint = load_checkpoint(path)
    _report("load", begin)
    begin = _clocks()
    picture = use_once(checkpoint)
    _report("256x256, 2 steps", begin)
    finite = bool(torch.isfinite(picture).all())
    vae = checkpoint.vae.model.post_quant_conv.weight.dtype
    print(f"UNet {checkpoint.unet.dtype}, VAE {vae}, picture finite: {finite}", flush=True)


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _report(what: str, begin: tuple[float, float]) -> None:
    """Elapsed time, the processor time in it (on a busy machine the two differ) and the peak of memory."""
    wall, cpu = (now - then for now, then in zip(_clocks(), begin, strict=True))
    print(f"{what:18} {wall:6.2f} s ({cpu:6.2f} s of processor)   peak {_peak_gib():5.2f} GiB", flush=True)


@torch.no_grad()
def use_once(checkpoint: Checkpoint) -> Tensor:
    """Encode two texts, take two steps of a 256x256 picture, decode it: [1, 3, 256, 256]."""
    unet, pooled = checkpoint.unet, []
    texts = []
    for text in ("a photo of a cat", ""):
        hidden, extras = checkpoint.clip.encode([text])[0]
        assert extras["pooled_output"] is not None
        pooled.append(size_vectors(extras["pooled_output"], 256, 256, 1.0).plain)
        texts.append(unet.project_text(hidden.to(unet.dtype)))
    latent = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    for timestep in (999.0, 500.0):
        moment = unet.project_time(torch.tensor([timestep, timestep]), torch.cat(pooled))
        x = latent.to(unet.dtype).repeat(2, 1, 1, 1).contiguous(memory_format=torch.channels_last)
        positive, negative = unet(x, moment, texts).float().chunk(2)
        latent = latent - 0.1 * (negative + 4.0 * (positive - negative))
    return checkpoint.vae.decode(latent)


def _peak_gib() -> float:
    """Largest resident memory of this process so far, mapped pages of files included."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def _read(path: Path) -> None:
    """Bring a file into the system's cache."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def main() -> None:
    """Write the file if it is not there, then measure twice."""
    parser = argparse.ArgumentParser(description="write a full-size random SDXL checkpoint and time loading it")
    parser.add_argument("folder", type=Path, help="where the file of 6.9 GB is written, or lies already")
    parser.add_argument("--only-write", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    path = arguments.folder / NAME
    if not path.exists():
        arguments.folder.mkdir(parents=True, exist_ok=True)
        begin = time.perf_counter()
        size = write_checkpoint(path)
        print(f"wrote {size / 1e9:.2f} GB, {len(list(entries()))} tensors, in {time.perf_counter() - begin:.0f} s")
    for title in () if arguments.only_write else ("as it comes", "warm"):
        if title == "warm":
            _read(path)
        print(f"--- {title}", flush=True)
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(path,))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
