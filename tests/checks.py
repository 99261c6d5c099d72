"""Runs every check the project has, one after the other; knows how to start them, not what they look for.

Standard library only. The order: what takes a second first; pytest last, so that its closing line closes the run.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str]) -> int:
    """Run ruff, mypy and pytest (with `arguments`) on the project; 0 if all of them are content, else 1."""
    checks: dict[str, list[str]] = {
        "ruff check": ["-m", "ruff", "check", "."],
        "ruff format": ["-m", "ruff", "format", "--check", "."],
        "mypy": ["-m", "mypy"],
        "pytest": ["-m", "pytest", *_workers(arguments), *arguments],
    }
    # Networks in tests are tiny: threads that wait for each other would more than double the time.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    failed: list[str] = []
    for name, command in checks.items():
        print(f"--- {name}", flush=True)
        start = time.monotonic()
        code = subprocess.call([sys.executable, *command], cwd=ROOT, env=environment)
        if code:
            failed.append(name)
        if name != "pytest":
            print(f"--- {name}: {'FAILED' if code else 'passed'} ({time.monotonic() - start:.1f} s)", flush=True)
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr, flush=True)
    return 1 if failed else 0


def _workers(arguments: Sequence[str]) -> list[str]:
    """Two test processes where there are two cores, each test file in one of them; not where the caller decides."""
    if (os.cpu_count() or 1) < 2 or importlib.util.find_spec("xdist") is None:
        return []
    if any(argument.startswith(("-n", "--numprocesses", "--pdb", "--dist")) for argument in arguments):
        return []
    return ["-n", "2", "--dist", "loadfile"]
