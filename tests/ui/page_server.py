"""The page on a miniature home with the stand-in pipeline, for browsers: `python -m tests.ui.page_server ROOT`.

Prints the address when it answers. It takes any free port, or PORT as a second argument; `--share` behind that as the
application does.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import webui
from modules.flags import bind
from modules.passing import passing
from modules.settings import Settings, load_settings
from modules.workplace import create_worker
from tests.modules.conftest import REFINER_NAMES, ROOT, SDXL_NAMES, safetensors
from tests.modules.stand_in import build


def home(root: Path) -> Settings:
    """Settings of an application in ``root``, with the miniature's name on a checkpoint for 256-pixel squares."""
    settings = replace(load_settings(root, {}, os.environ), in_browser=False)
    for name in ("pinhole-mini-base", "other"):
        side = 256 if name != "other" else 1024
        path = settings.models.checkpoints[0] / f"{name}.safetensors"
        safetensors(path, SDXL_NAMES, {"modelspec.resolution": f"{side}x{side}"})
    safetensors(settings.models.checkpoints[0] / "pinhole-mini-refiner.safetensors", REFINER_NAMES)
    settings.presets.mkdir(parents=True, exist_ok=True)
    for path in (ROOT / "presets").glob("*.json"):
        (settings.presets / path.name).write_bytes(path.read_bytes())
    settings.languages.mkdir(exist_ok=True)
    for path in (ROOT / "language").glob("*.json"):
        (settings.languages / path.name).write_bytes(path.read_bytes())
    return settings


def main(root: Path, port: int, share: bool) -> None:
    """Serve until killed."""
    with passing(replace(home(root), share=share)) as settings:
        webui.serve(settings, bind(settings.host, port, search=False), create_worker(settings, factory=build))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0, "--share" in sys.argv)
