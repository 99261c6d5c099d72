"""How long a LoRA takes to read, to merge and to take out: `python -m benchmarks.lora`.

A rank-16 LoRA of every attention weight of the built-in miniature; `--full` of a UNet of SDXL's size, random weights
(7 GB of memory in bfloat16). The naive loop next to it keeps a copy of each weight and adds the whole product to it in
float32, which is what it takes without any care for fused projections, pristine tensors and temporary ones. Both are
timed in turn, in one process.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.networks import SDXL, on_meta
from ldm_patched.ldm.attention import split_qkv
from ldm_patched.ldm.unet import UNet
from ldm_patched.modules.deltas import LowRank, Patch
from ldm_patched.modules.lora import read_lora
from ldm_patched.modules.patches import Patcher
from ldm_patched.modules.sd import load_checkpoint

MINIATURE = Path(__file__).parent.parent / "models" / "checkpoints" / "pinhole-mini-base.safetensors"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
RANK = 16
STRENGTH = 0.8


def full_size(dtype: torch.dtype, device: torch.device) -> UNet:
    """A UNet of SDXL's size. Its numbers repeat every 4 MiB, which saves minutes of drawing them."""
    unet = on_meta(lambda: UNet(SDXL))
    numbers = torch.randn(1 << 20).mul_(0.02).to(dtype)
    state = {}
    for name, empty in unet.state_dict().items():
        flat = numbers.repeat(math.ceil(empty.numel() / len(numbers)))[: empty.numel()]
        state[name] = flat.view(empty.shape).clone().to(device)
    unet.load_state_dict(state, assign=True)
    return unet.requires_grad_(False).eval()


def write_lora(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """A LoRA of weights, given by their published names, in float16 and kohya's names."""
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, Tensor] = {}
    for name, (rows, columns) in shapes.items():
        key = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
        tensors[key + ".lora_up.weight"] = torch.randn(rows, RANK, generator=generator).mul_(0.02).half()
        tensors[key + ".lora_down.weight"] = torch.randn(RANK, columns, generator=generator).mul_(0.02).half()
        tensors[key + ".alpha"] = torch.tensor(float(RANK))
    save_file(tensors, path)


class NaiveLoop:
    """What a LoRA takes at least: a copy of every weight, and the sum of it and the whole product."""

    def __init__(self, unet: nn.Module, patch: Patch) -> None:
        self._work: list[tuple[Tensor, LowRank]] = []
        views = split_qkv({name: parameter.data for name, parameter in unet.named_parameters()})
        for target, delta in patch.deltas.items():
            assert isinstance(delta, LowRank)
            self._work.append((views[target.name], delta))
        self._backup: list[Tensor] = []

    def merge(self) -> None:
        """Keep and change every weight."""
        for weight, delta in self._work:
            self._backup.append(weight.to("cpu", copy=True))
            up, down = (factor.to(weight.device).float() for factor in (delta.up, delta.down))
            product = STRENGTH * delta.scale * (up @ down)
            weight.copy_((weight.float() + product).to(weight.dtype))

    def restore(self) -> None:
        """Copy every weight back."""
        for (weight, _), backup in zip(self._work, self._backup, strict=True):
            weight.copy_(backup)
        self._backup.clear()


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Duration of a call, with what it left running on the device."""
    begin = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def measure(unet: UNet, patcher: Patcher, path: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of each step, `repeats` times in turn after once for nothing."""
    device = unet.device
    patch = read_lora(path, patcher.names)
    times: dict[str, list[float]] = {}
    for _ in range(repeats + 1):
        naive = NaiveLoop(unet, patch)  # anew, because merging replaces tensors on the CPU
        steps: dict[str, Callable[[], object]] = {
            "read": lambda: read_lora(path, patcher.names),
            "merge": lambda: patcher.apply([(patch, STRENGTH)]),
            "change strength": lambda: patcher.apply([(patch, STRENGTH / 2)]),
            "same again": lambda: patcher.apply([(patch, STRENGTH / 2)]),
            "restore": patcher.restore,
            "naive merge": naive.merge,
            "naive restore": naive.restore,
        }
        for name, step in steps.items():
            times.setdefault(name, []).append(seconds(step, device))
    return {name: values[1:] for name, values in times.items()}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Time merging and restoring a rank-16 LoRA of all attention weights.")
    parser.add_argument("--full", action="store_true", help="on a UNet of SDXL's size with random weights")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16", help="of the full-size UNet (bfloat16)")
    parser.add_argument("--device", default="cpu", help="of the full-size UNet (cpu)")
    parser.add_argument("--repeats", type=int, default=5, help="how often each time is taken (5)")
    arguments = parser.parse_args()

    if arguments.full:
        unet = full_size(DTYPES[arguments.dtype], torch.device(arguments.device))
        patcher = Patcher("sdxl", unet, {})
    else:
        checkpoint = load_checkpoint(MINIATURE)
        unet, patcher = checkpoint.unet, Patcher.of(checkpoint)
    attention = {
        target.name: shape
        for target, shape in patcher.names.shapes.items()
        if target.part == "unet" and ".attn" in target.name and len(shape) == 2
    }
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / "lora.safetensors"
        write_lora(path, attention)
        times = measure(unet, patcher, path, arguments.repeats)
    count = sum(math.prod(shape) for shape in attention.values())
    sys.stdout.write(
        f"{len(attention)} weights, {count / 1e6:.1f} million numbers, {unet.dtype} on {unet.device}, "
        f"{torch.get_num_threads()} threads: median (minimum), ms\n"
    )
    for name, values in times.items():
        sys.stdout.write(f"{name:18}{1e3 * statistics.median(values):10.2f} ({1e3 * min(values):.2f})\n")
    for step in ("merge", "restore"):
        ratio = statistics.median(times[f"naive {step}"]) / statistics.median(times[step])
        sys.stdout.write(f"{step}: {ratio:.2f} times as fast as the naive loop\n")


if __name__ == "__main__":
    main()
