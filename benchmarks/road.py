"""How long the road from a submitted task to a saved picture is, and where the time goes; measures no quality.

`python -m benchmarks.road` makes pictures of the built-in miniature, 256x256, Speed mode, warm. The first figures come
from the pipeline alone, with the UNet's and the decoder's own time taken by hooks; the last one from the whole road:
queue, engine process, encoding, disk and database.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from modules.async_worker import create_worker
from modules.events import Finish
from modules.model_folders import ModelFolders
from modules.pace import PreviewPace
from modules.parameters import BUILT_IN_MODEL, GenerationParameters
from modules.pipeline import Pipeline
from modules.plan import ModelFacts, plan
from modules.settings import built_in_settings

ROOT = Path(__file__).resolve().parents[1]
PROMPT = "a red cat on the left, in a meadow, watercolor"


class Clock:
    """Adds up the time spent inside a module's forward."""

    def __init__(self, module: nn.Module) -> None:
        self.seconds = 0.0
        self._begin = 0.0
        module.register_forward_pre_hook(self._enter)
        module.register_forward_hook(self._leave)

    def _enter(self, *_: Any) -> None:
        self._begin = time.perf_counter()

    def _leave(self, *_: Any) -> None:
        self.seconds += time.perf_counter() - self._begin


@dataclass
class Watcher:
    """An observer that asks for previews as often as the application does."""

    previews: PreviewPace = field(default_factory=PreviewPace)
    timings: list[dict[str, float]] = field(default_factory=list)

    def progress(self, job: int, step: int, steps: int, text: str, preview: Callable[[], Any] | None) -> None:
        """As `PreviewPace` says."""
        if preview is not None:
            self.previews.take(preview)

    def note(self, text: str) -> None:
        """What is said there is said here."""
        sys.stderr.write(f"{text}\n")

    def cancelled(self) -> Literal["", "skip", "stop"]:
        """Never."""
        return ""

    def finished(self, job: int, picture: Any, timings: dict[str, float]) -> None:
        """Keep the stages."""
        self.timings.append(timings)


def parameters(seed: int) -> GenerationParameters:
    """One square picture in Speed mode."""
    return GenerationParameters(
        prompt=PROMPT, image_number=1, image_seed=seed, base_model=BUILT_IN_MODEL, aspect_ratios_selection="1024*1024"
    )


def pipeline_alone(runs: int) -> tuple[float, float, float]:
    """Median seconds of a picture, and of the UNet and the decoder in it. Every run has a prompt that is new."""
    models = ROOT / "models"
    pipeline = Pipeline(ModelFolders.under(models))
    (job,) = plan(parameters(0), ModelFacts(256))
    pipeline.run([job], Watcher())
    loaded = pipeline.loaded
    assert loaded is not None
    unet, decoder = Clock(loaded.checkpoint.unet), Clock(loaded.checkpoint.vae.model.decoder)
    rows = []
    for seed in range(1, runs + 1):
        unet.seconds = decoder.seconds = 0.0
        (job,) = plan(parameters(seed).with_values({"prompt": f"{PROMPT} {seed}"}), ModelFacts(256))
        begin = time.perf_counter()
        pipeline.run([job], Watcher())
        rows.append((time.perf_counter() - begin, unet.seconds, decoder.seconds))
    whole, in_unet, in_decoder = (statistics.median(column) for column in zip(*rows, strict=True))
    return whole, in_unet, in_decoder


def whole_road(runs: int) -> float:
    """Median seconds from submit to the Finish event, the engine being warm."""
    with tempfile.TemporaryDirectory() as folder:
        settings = replace(built_in_settings(ROOT), outputs=Path(folder) / "outputs", data=Path(folder) / "data")
        worker = create_worker(settings)
        worker.start()
        durations = []
        for seed in range(runs + 1):
            begin = time.perf_counter()
            events = list(worker.follow(worker.submit(parameters(seed))))
            durations.append(time.perf_counter() - begin)
            end = events[-1]
            assert isinstance(end, Finish) and end.state == "done", end
        worker.close()
    return statistics.median(durations[1:])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure the road from a task to a picture.")
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    whole, unet, decoder = pipeline_alone(runs)
    rest = whole - unet - decoder
    lines = (
        f"pipeline alone        {whole:6.3f} s",
        f"  UNet                {unet:6.3f} s",
        f"  VAE decoder         {decoder:6.3f} s",
        f"  everything else     {rest:6.3f} s   {100 * rest / whole:.1f} %",
        f"submit to finished    {whole_road(runs):6.3f} s",
    )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
