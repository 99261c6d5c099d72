"""What Linux tells of the machine: memory, swapping, who keeps the processors busy. Elsewhere it is silent."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from modules.conditions import Readings

PROC = Path("/proc")
PCI = Path("/sys/bus/pci/devices")
NVIDIA, DISPLAY = "0x10de", "0x03"
PAGE = 4096  # bytes; larger pages are not what the counters of swapping count
IDLE = 0.1  # of the processors; while as much is idle, nobody takes anything from anybody


class Machine:
    """Reads how busy the machine is, from one look to the next."""

    def __init__(self, proc: Path = PROC, clock: Callable[[], float] = time.monotonic) -> None:
        """proc: where the system's files are. clock: gives seconds."""
        self._proc = proc
        self._clock = clock
        self._last = self._now()

    def look(self) -> Readings:
        """What happened since the last look; nothing where the system does not tell."""
        before, self._last = self._last, self._now()
        seconds = self._last[0] - before[0]
        swapped, busy, idle, own = (after - earlier for after, earlier in zip(self._last[1:], before[1:], strict=True))
        if seconds <= 0:
            return Readings()
        whole = busy + idle
        crowded = whole > 0 and idle / whole < IDLE
        others = max(0.0, min(1.0, (busy - own) / whole)) if crowded else 0.0
        return Readings(swapped=max(0.0, swapped) * PAGE / seconds, others=others)

    def _now(self) -> tuple[float, float, float, float, float]:
        """The clock, pages swapped, and seconds of processors: busy, idle, and busy with this process."""
        times = os.times()
        return (self._clock(), self._swapped(), *self._processors(), times.user + times.system)

    def _swapped(self) -> float:
        counts = _counts(self._proc)
        try:
            return float(counts["pswpin"]) + float(counts["pswpout"])
        except (KeyError, ValueError):
            return 0.0

    def _processors(self) -> tuple[float, float]:
        try:
            user, nice, system, idle, wait, *rest = map(
                float, _text(self._proc / "stat").split("\n", 1)[0].split()[1:9]
            )
        except ValueError:
            return 0.0, 0.0
        ticks = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
        return (user + nice + system + sum(rest)) / ticks, (idle + wait) / ticks


def memory_kills(proc: Path = PROC) -> int | None:
    """How many processes the system has ended since its start because memory ran out; None where it does not tell."""
    counts = _counts(proc)
    return int(counts["oom_kill"]) if counts.get("oom_kill", "").isdigit() else None


def nvidia_card(devices: Path = PCI) -> bool:
    """Whether an NVIDIA card is plugged in, working or not."""
    try:
        return any(
            _text(device / "vendor").strip() == NVIDIA and _text(device / "class").startswith(DISPLAY)
            for device in devices.iterdir()
        )
    except OSError:
        return False


def _counts(proc: Path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in _text(proc / "vmstat").splitlines() if " " in line)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
