"""A task whose pictures may not fit on a disk of a few megabytes; prints what is said ahead, and how it ended.

unshare -rm sh -c 'mount -t tmpfs -o size=6m none ROOT && python -m tests.modules.short_of_room ROOT'
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

from modules.async_worker import Finish, Preview
from modules.model_folders import ModelFolders
from modules.parameters import GenerationParameters
from modules.settings import built_in_settings
from modules.workplace import create_worker
from tests.modules.conftest import ROOT

LEFT = 500_000  # bytes left free: as PNG four pictures might not fit, as JPEG they do


def main(root: Path) -> None:
    """The task."""
    settings = replace(built_in_settings(root), models=ModelFolders.under(ROOT / "models"))
    worker = create_worker(settings)
    worker.start()
    (root / "filler").write_bytes(bytes(shutil.disk_usage(root).free - LEFT))
    told = {"prompt": "a red cat", "image_number": 4, "image_seed": 3, "refiner_model": "None", "style_selections": []}
    parameters = GenerationParameters.from_mapping(
        {**told, "advanced.overwrite_step": 20, "advanced.output_format": "jpeg"}
    )
    said = ""
    for event in worker.follow(worker.submit(parameters)):
        if isinstance(event, Preview) and event.why and not said:
            said = event.why
        if isinstance(event, Finish):
            sys.stdout.write(f"{said}\n{event.state} {len(event.pictures)}\n")
    worker.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
