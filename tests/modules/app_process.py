"""An application without a page, to be killed: submits one task to the stand-in engine and waits for ever.

    python -m tests.modules.app_process ROOT PROMPT PICTURES

Prints the task's id, the engine's process id, then a line for each finished picture.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from pathlib import Path

from modules.async_worker import Preview, Results
from modules.parameters import GenerationParameters
from modules.settings import built_in_settings
from modules.workplace import create_worker
from tests.modules.stand_in import build


def main(root: Path, prompt: str, pictures: int) -> None:
    """The application."""
    worker = create_worker(built_in_settings(root), factory=build)
    worker.start()
    task = worker.submit(GenerationParameters(prompt=prompt, image_number=pictures, image_seed=11), "me")
    sys.stdout.write(f"{task}\n")
    told = False
    for event in worker.follow(task):
        if isinstance(event, Preview) and event.percent and not told:
            told = True
            sys.stdout.write(f"{multiprocessing.active_children()[0].pid}\n")
        if isinstance(event, Results):
            sys.stdout.write(f"{len(event.pictures)} pictures\n")
        sys.stdout.flush()
    time.sleep(600)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
