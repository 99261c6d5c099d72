"""Time from process start to the first complete page, against importing Gradio alone; measures no picture.

`python -m benchmarks.startup` takes the two in turn. It also looks into the application's memory map: torch's libraries
must not be in it. Needs an environment in which the requirements are met.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GIVE_UP = 60.0  # seconds


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def import_gradio() -> float:
    """Seconds of a Python process that imports Gradio and ends."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import gradio"], check=True, cwd=ROOT)
    return time.perf_counter() - begin


def first_page() -> tuple[float, bool]:
    """Seconds from the start of `entry.py` to a complete first page; whether torch was loaded by then."""
    port = free_port()
    address = f"http://127.0.0.1:{port}/"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "entry.py", "--disable-in-browser", "--port", str(port), "--output-path", folder]
        begin = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            while not _complete(address):
                if process.poll() is not None or time.perf_counter() - begin > GIVE_UP:
                    raise RuntimeError(f"no page at {address} (exit code {process.poll()})")
                time.sleep(0.02)
            seconds = time.perf_counter() - begin
            maps = Path(f"/proc/{process.pid}/maps")
            return seconds, maps.exists() and "libtorch" in maps.read_text()
        finally:
            process.terminate()
            process.wait()


def _complete(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200 and b"</html>" in answer.read()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure the start.")
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    pairs = []
    for _ in range(runs + 1):
        alone = import_gradio()
        page, torch_loaded = first_page()
        pairs.append((alone, page, torch_loaded))
    counted = pairs[1:]  # the first pair warms the disk's cache
    ratio = statistics.median(page / alone for alone, page, _ in counted)
    lines = (
        f"import gradio          {statistics.median(alone for alone, _, _ in counted):5.2f} s",
        f"start to first page    {statistics.median(page for _, page, _ in counted):5.2f} s",
        f"ratio                  {ratio:5.2f}",
        f"torch in the application: {'yes' if any(loaded for _, _, loaded in counted) else 'no'}",
    )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
