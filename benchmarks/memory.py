"""How much main memory switching between two checkpoints of SDXL's full size takes; measures no speed and no picture.

`python -m benchmarks.memory FOLDER` writes two random checkpoints (6.9 GB each, as `benchmarks.full_size` does) into a
new folder under FOLDER, and removes them at the end. A process of its own then loads them in turns with the
application's loader, and after each switch encodes a text, computes a step of a 256x256 picture and decodes it.

Resident memory is told in its two kinds, from /proc/self/status (Linux): what the process alone holds (RssAnon), and
pages of mapped files (RssFile), which are the system's cache of the checkpoint and can be dropped by it at any time.
The peak is of their sum since the last switch began. Reached is the aim where the highest peak is no larger than a
checkpoint and 2 GB, and no switch after the second has a peak larger than the first two by more than 2 %.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.full_size import use_once, write_checkpoint
from modules.loaded import Loader, ModelSpec
from modules.model_folders import ModelFolders

NAMES = ("a.safetensors", "b.safetensors")
ALLOWED = 2e9
"""Bytes of the aim beside one checkpoint."""
NOISE = 1.02

_STATUS = Path("/proc/self/status")
_CLEAR_PEAK = Path("/proc/self/clear_refs")


def _resident() -> dict[str, int]:
    """Bytes of this process's memory by the system's names: VmHWM, the peak, and RssAnon and RssFile now."""
    lines = (line.split() for line in _STATUS.read_text().splitlines())
    return {words[0].rstrip(":"): 1024 * int(words[1]) for words in lines if words[-1:] == ["kB"]}


def switch(folder: Path, switches: int) -> None:
    """Load, use and print, in a process of its own."""
    size = max((folder / name).stat().st_size for name in NAMES)
    loader = Loader(replace(ModelFolders.under(folder), checkpoints=(folder,)))
    peaks = []
    print("switch   peak      now: own   of files   seconds", flush=True)
    for index in range(switches):
        _CLEAR_PEAK.write_text("5")  # the peak counts from here on (proc(5))
        begin = time.perf_counter()
        loaded = loader.load(ModelSpec(NAMES[index % 2], "", "", ()), print)
        assert bool(torch.isfinite(use_once(loaded.checkpoint)).all())
        now = _resident()
        peaks.append(now["VmHWM"])
        gigabytes = [now[name] / 1e9 for name in ("VmHWM", "RssAnon", "RssFile")]
        seconds = time.perf_counter() - begin
        print("{:6} {:6.2f} GB  {:6.2f} GB  {:6.2f} GB   {:7.1f}".format(index + 1, *gigabytes, seconds), flush=True)
        del loaded
    over = (max(peaks) - size) / 1e9
    growth = max(peaks[2:], default=0) / max(peaks[:2])
    reached = over <= ALLOWED / 1e9 and growth <= NOISE
    print(
        f"one checkpoint {size / 1e9:.2f} GB; highest peak {over:+.2f} GB of it; later peaks {growth:.3f} of the first"
    )
    print("reached" if reached else "missed")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="measure memory while switching between two full-size checkpoints")
    parser.add_argument("folder", type=Path, help="where two files of 6.9 GB are written for the time of the run")
    parser.add_argument("--switches", type=int, default=6)
    arguments = parser.parse_args()
    if not (_STATUS.exists() and os.access(_CLEAR_PEAK, os.W_OK)):
        raise SystemExit("memory is read from /proc, which this system has not")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for seed, name in enumerate(NAMES):
            write_checkpoint(Path(folder) / name, seed)
        process = multiprocessing.get_context("spawn").Process(target=switch, args=(Path(folder), arguments.switches))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
