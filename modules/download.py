"""The command ``download``: the models that a preset names are fetched, with a line to follow; knows no page."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modules.cli import BAD_INPUT, DONE, FAILED, INTERRUPTED, ProgressBar
from modules.disk import in_words
from modules.downloads import AT_WORK, Downloads
from modules.events import Preview
from modules.files import ModelLibrary
from modules.https import Reach
from modules.settings import load_settings

POLL = 0.2  # seconds


def main(argv: Sequence[str], root: Path | None = None, reach: Reach | None = None) -> int:
    """Runs ``download`` with the arguments ``argv``; returns the exit code.

    What is there already is left alone; Ctrl+C keeps what has arrived, and the next time goes on from there.
    """
    arguments = parser().parse_args(argv)
    try:
        home = root or Path(__file__).resolve().parent.parent
        settings = load_settings(home, {"hf_mirror": arguments.hf_mirror, "offline": arguments.offline}, os.environ)
        downloads = Downloads(settings, ModelLibrary(settings.models), reach)
        return _run(downloads, arguments.preset, arguments.sizes)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_INPUT


def parser() -> argparse.ArgumentParser:
    """The flags of ``download``."""
    made = argparse.ArgumentParser(
        prog="entry.py download", description="Fetches the models that a preset names and that are not there."
    )
    made.add_argument("preset", metavar="PRESET", help="a file in the presets folder, without .json")
    made.add_argument("--sizes", action="store_true", help="only ask how large they are")
    made.add_argument("--hf-mirror", dest="hf_mirror", metavar="URL", help="fetch from there, not from huggingface.co")
    made.add_argument("--offline", action="store_true", default=None, help="ask no server: say what is missing")
    return made


def _run(downloads: Downloads, preset: str, only_sizes: bool) -> int:
    bar = ProgressBar(sys.stderr)
    try:
        downloads.look_up(preset)
        downloads.wait()
        state = downloads.state(preset)
        _announce(bar, state)
        if not only_sizes:
            downloads.start(preset)
            state = _watch(downloads, preset, bar)
    except KeyboardInterrupt:
        downloads.close()
        bar.line("Stopped. What has arrived is kept: the next time goes on from there.")
        return INTERRUPTED
    wrong = [file for file in state["files"] if file["state"] != "here"]
    for file in () if only_sizes else wrong:
        bar.line(f"{file['words']} {where_to(file)}".strip())
    return DONE if only_sizes or not wrong else FAILED


def _announce(bar: ProgressBar, state: dict[str, Any]) -> None:
    for complaint in state["complaints"]:
        bar.line(complaint)
    for file in state["files"]:
        size = (
            "is there"
            if file["state"] == "here"
            else "size unknown"
            if file["size"] is None
            else in_words(file["size"])
        )
        bar.line(f"{file['id']}: {size}" + (f"  {file['words']}" if file["words"] else ""))
    missing = sum((file["size"] or 0) - file["received"] for file in state["files"] if file["state"] != "here")
    free = "" if state["free"] is None else f", free on the disk: {in_words(state['free'])}"
    bar.line(f"To fetch: {in_words(missing)}{free}")


def _watch(downloads: Downloads, preset: str, bar: ProgressBar) -> dict[str, Any]:
    """The bar while something is at work; returns how it ended."""
    while True:
        state = downloads.state(preset)
        files = [file for file in state["files"] if file["state"] in AT_WORK]
        if not files:
            bar.clear()
            return state
        if running := next((file for file in files if file["state"] == "running" and file["size"]), None):
            rest = running["size"] - running["received"]
            eta = rest / running["speed"] if running["speed"] else None
            words = running["words"] or f"{in_words(running['received'])} of {in_words(running['size'])}, "
            pace = "" if running["words"] else f"{in_words(running['speed'])}/s"
            percent = 100 * running["received"] // running["size"]
            bar.show(Preview(percent, f"{running['name']}  {words}{pace}", eta))
        time.sleep(POLL)


def where_to(file: dict[str, Any]) -> str:
    """Which file belongs where, and where it can be had."""
    had = f" It can be had at {file['url']}." if file["url"] else ""
    return f"By hand: put {file['name']} into {file['folder']}.{had}"
