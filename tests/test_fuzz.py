"""A part of what `python -m benchmarks.fuzz` does whole: everything that is read from outside, fed with anything."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.page_texts import ROOT


@pytest.mark.slow
def test_nothing_that_is_read_crashes_hangs_or_writes_elsewhere() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fuzz", "--cases", "1100"],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "no crash, no hang, nothing written outside" in done.stdout
