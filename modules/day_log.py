"""The page `log.html` in a day's folder of pictures: what they were made with; knows no store and no application.

It is opened from the disk, by people and by tools of the field. Nothing in it can run: all words are escaped, and its
policy forbids scripts, so that a prompt out of somebody else's picture does no harm.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from modules.events import PictureRecord

log = logging.getLogger(__name__)

NAME = "log.html"
_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
content="default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="dark light"><title>{title}</title>
<style>
body { max-width: 1100px; margin: 0 auto; padding: 24px 16px; background: #1a1817; color: #ece6dc; }
body { font: 16px/1.45 system-ui, sans-serif; }
section { display: flex; flex-wrap: wrap; gap: 20px; padding: 24px 0; border-top: 1px solid #3b3631; }
img { max-width: min(420px, 100%); max-height: 420px; border-radius: 8px; }
div { flex: 1 1 320px; min-width: 0; overflow-wrap: anywhere; }
h2 { margin: 0 0 10px; font-size: 17px; white-space: pre-wrap; }
dl { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: 3px 14px; margin: 0 0 10px; font-size: 14px; }
dt, summary { color: #a89f92; } dd { margin: 0; } pre { white-space: pre-wrap; font-size: 13px; }
</style></head><body><h1>{title}</h1>
"""


class DayLogs:
    """The logs of the days' folders in ``outputs``; ``find`` gives the pictures of one, as ``write_log`` takes them."""

    def __init__(self, outputs: Path, find: Callable[[Path], Iterable[tuple[PictureRecord, str]]]) -> None:
        self._outputs = outputs
        self._find = find

    def write(self, folder: Path) -> None:
        """Keeps the log of a day's folder; a command's own folder gets none. Nobody waits for it."""
        if folder.parent != self._outputs or not folder.is_dir():
            return
        try:
            write_log(folder, self._find(folder))
        except (ValueError, OSError) as error:
            log.error("the log of %s could not be written: %s", folder, error)


def write_log(folder: Path, pictures: Iterable[tuple[PictureRecord, str]]) -> None:
    """Write the log of a folder anew: its pictures, newest first, each with the prompt as it was typed.

    The old one is replaced at once, so that whoever has it open never sees half of it. Raises ``OSError``.
    """
    entries = [_entry(record, prompt) for record, prompt in pictures if record.path.parent == folder]
    text = "\n".join([_HEAD.replace("{title}", escape(f"Pinhole, {folder.name}")), *entries, "</body></html>\n"])
    part = folder / f".{NAME}.{os.getpid()}.part"
    try:
        part.write_text(text, encoding="utf-8", errors="replace")
        part.replace(folder / NAME)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _entry(record: PictureRecord, prompt: str) -> str:
    job = record.facts.get("job")
    rows = _rows(job) if isinstance(job, dict) else {}
    rows = {"File": record.path.name, "Seed": record.seed, "Size": f"{record.width} × {record.height}", **rows}
    table = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(said))}</dd>" for name, said in rows.items() if said)
    whole = escape(json.dumps(dict(record.facts), ensure_ascii=False, indent=1))
    address = escape(quote(record.path.name))
    return (
        f'<section id="{escape(record.path.name.replace(".", "_"))}">'
        f'<a href="{address}"><img src="{address}" loading="lazy" alt=""></a>'
        f"<div><h2>{escape(prompt)}</h2><dl>{table}</dl>"
        f"<details><summary>Everything</summary><pre>{whole}</pre></details></div></section>"
    )


def _rows(job: Mapping[str, Any]) -> dict[str, object]:
    return {
        "Model": job.get("checkpoint"),
        "Styles": _listed(job.get("styles")),
        "Steps": job.get("steps"),
        "Sampler": f"{job.get('sampler')}, {job.get('scheduler')}",
        "Guidance": job.get("guidance_scale"),
        "Refiner": job.get("refiner"),
        "LoRAs": _listed([f"{name} ({weight:g})" for name, weight in job.get("loras") or ()]),
        "Prompt": _listed(job.get("positive")),
        "Negative": _listed(job.get("negative")),
    }


def _listed(values: Sequence[Any] | None) -> str:
    return ", ".join(str(value) for value in values or () if value)
