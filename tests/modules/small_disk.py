"""A session on a disk of a few megabytes that fills up and is freed again; prints what the user is told.

unshare -rm sh -c 'mount -t tmpfs -o size=4m none ROOT && python -m tests.modules.small_disk ROOT'
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from modules.async_worker import Finish
from modules.metadata import read_picture
from modules.parameters import BUILT_IN_MODEL, GenerationParameters
from modules.settings import built_in_settings
from modules.store import StoreError
from modules.workplace import create_worker
from tests.modules.conftest import SDXL_NAMES, safetensors
from tests.modules.stand_in import build

LEFT = 300_000  # bytes left free: room for the queue, and for a picture or so of 110 kB


def tell(name: str, *values: object) -> None:
    """Writes one line of what happened."""
    sys.stdout.write(f"{name}: {' '.join(map(str, values))}\n")


def main(root: Path) -> None:
    """The session."""
    settings = built_in_settings(root)
    safetensors(settings.models.checkpoints[0] / BUILT_IN_MODEL, SDXL_NAMES, {"modelspec.resolution": "192x192"})
    worker = create_worker(settings, factory=build)
    worker.start()
    parameters = GenerationParameters(prompt="big=1 pace=0.001", image_number=4, image_seed=3)
    filler = root / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(root).free - LEFT))
    task = worker.submit(parameters)
    end = list(worker.follow(task))[-1]
    assert isinstance(end, Finish)
    tell("first", end.state, len(end.pictures), end.message)
    # The day's log is written once the task has ended, perhaps right now.
    tell("leftovers", [path.name for path in root.rglob("*.part") if "log" not in path.name])
    (root / "rest").write_bytes(bytes(shutil.disk_usage(root).free))
    try:
        worker.submit(parameters)
        tell("queue", "has room")
    except StoreError as error:
        tell("queue", error)
    filler.unlink()
    (root / "rest").unlink()
    tell("retried", worker.retry(task))
    end = list(worker.follow(task))[-1]
    assert isinstance(end, Finish)
    seeds = [read_picture(picture.path).facts["job"]["seed"] for picture in end.pictures]
    tell("then", end.state, seeds, len(list(root.rglob("*.png"))))
    worker.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
