"""How long the history takes to answer with many pictures in it: its first page, a page in the middle, searches.

`python -m benchmarks.history --count 50000`. Prints milliseconds, the median and the worst of several calls, over HTTP
and as the application answers; the share of a page that is spent on looking whether its files are there is included.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from fastapi import FastAPI
from fastapi.testclient import TestClient

from modules.api import history_routes
from modules.events import PictureRecord
from modules.history import History
from modules.parameters import GenerationParameters
from modules.plan import ModelFacts, plan
from modules.store import Store, picture_id
from training.captions import caption
from training.world import sample_scene

ROUNDS = 7
DAY = 86_400.0


def fill(store: Store, outputs: Path, count: int) -> None:
    """Pictures of some years; their files are empty, since only their being there is looked at."""
    rng = random.Random(1)
    job = plan(GenerationParameters(image_seed=1, image_number=1), ModelFacts(1024))[0]
    for number in range(count):
        prompt = caption(sample_scene(rng), rng)
        folder = outputs / f"day-{number * 1200 // count:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        task, path = f"task-{number:06d}", folder / f"{number:06d}.png"
        path.touch()
        own = replace(
            job, seed=number, positive=(prompt, f"{prompt}, sharp focus"), checkpoint=f"model-{number % 9}.safetensors"
        )
        parameters = GenerationParameters(prompt=prompt)
        store.add_task(task, "me", "home", parameters.to_json(), folder)
        facts = {"task": task, "index": 0, "job": asdict(own)}
        made = number / count * 1200 * DAY
        store.add_picture(PictureRecord(picture_id(task, 0), task, 0, path, number, 1024, 1024, made, facts))


def milliseconds(call: Callable[[], object]) -> list[float]:
    """Of several calls."""
    taken = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - begin))
    return taken


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure the history's answers.")
    parser.add_argument("--count", type=int, default=50_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        root = Path(home)
        store = Store(root / "pinhole.sqlite3")
        begin = time.perf_counter()
        fill(store, root / "outputs", args.count)
        print(f"{args.count} pictures were recorded in {time.perf_counter() - begin:.0f} s")
        app = FastAPI()
        app.include_router(history_routes.router(History(store), root / "thumbnails", everybody=True))
        with TestClient(app) as client:
            newest = client.get("/history").json()
            middle = f"{600 * DAY}~x"
            for name, address in {
                "first page": "/history",
                "second page": f"/history?after={newest['after']}",
                "page in the middle": f"/history?after={middle}",
                "search, many found": "/history?words=red cat",
                "search, one found": "/history?words=model-3 17004",
                "search, nothing found": "/history?words=zeppelin",
                "one model": "/history?model=model-4.safetensors",
                "models and styles": "/history/choices",
            }.items():
                taken = milliseconds(lambda address=address: client.get(address).raise_for_status())  # type: ignore[misc]
                print(f"{name:24} median {statistics.median(taken):6.0f} ms   worst {max(taken):6.0f} ms")
        begin = time.perf_counter()
        found = History(store).take_in(root / "outputs")
        print(f"looking through the folder: {time.perf_counter() - begin:.2f} s, {found} new")
        store.close()


if __name__ == "__main__":
    main()
