"""How long the road from a submitted task to a saved picture is, and where the time goes; measures no quality.

`python -m benchmarks.road` makes pictures of the built-in miniature as its preset has them, with its refiner, 256x256,
Speed mode, warm. The first figures come from the pipeline alone, with the networks' own time taken by hooks: the
UNets' evaluations, what they project of texts, sizes and noise levels once per picture, and the decoder's. The last
figure is the whole road's: queue, engine process, encoding, disk and database.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from ldm_patched.ldm.attention import CrossAttention
from ldm_patched.ldm.unet import ResBlock, UNet
from modules.events import Finish
from modules.files import ModelFiles
from modules.model_folders import ModelFolders
from modules.pace import PreviewPace
from modules.parameters import GenerationParameters
from modules.pipeline import Pipeline
from modules.plan import ModelFacts, plan
from modules.presets import MINI_PRESET, apply_preset
from modules.settings import built_in_settings
from modules.workplace import create_worker

ROOT = Path(__file__).resolve().parents[1]
PROMPT = "a red cat on the left, in a meadow, watercolor"


class Clock:
    """Adds up the time spent inside modules' forward."""

    def __init__(self, *modules: nn.Module) -> None:
        self.seconds = 0.0
        self._begin = 0.0
        for module in modules:
            module.register_forward_pre_hook(self._enter)
            module.register_forward_hook(self._leave)

    def _enter(self, *_: Any) -> None:
        self._begin = time.perf_counter()

    def _leave(self, *_: Any) -> None:
        self.seconds += time.perf_counter() - self._begin


def projections(unet: UNet) -> Iterator[nn.Module]:
    """The layers of a UNet that work once per picture, before its evaluations and not within them."""
    yield from (unet.time_embed, unet.label_emb)
    for layer in unet.modules():
        if isinstance(layer, ResBlock):
            yield layer.emb_layers
        elif isinstance(layer, CrossAttention):
            yield from (layer.to_k, layer.to_v)


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


def start() -> GenerationParameters:
    """One square picture in Speed mode by the miniature's preset."""
    settings = built_in_settings(ROOT)
    preset = apply_preset(MINI_PRESET, settings, ModelFiles(settings.models.checkpoints)).parameters
    return preset.with_values(
        {"prompt": PROMPT, "image_seed": 0, "image_number": 1, "aspect_ratios_selection": "1024*1024"}
    )


def pipeline_alone(runs: int) -> tuple[float, float, float]:
    """Median seconds of a picture, and of the UNets and the decoder in it. Every run has a prompt that is new."""
    pipeline, asked = Pipeline(ModelFolders.under(ROOT / "models")), start()
    (job,) = plan(asked, ModelFacts(256))
    pipeline.run([job], Watcher())
    loaded = pipeline.loaded
    assert loaded is not None and loaded.refiner is not None
    unets = loaded.checkpoint.unet, loaded.refiner.unet
    unet = Clock(*unets, *(layer for each in unets for layer in projections(each)))
    decoder = Clock(loaded.checkpoint.vae.model.post_quant_conv, loaded.checkpoint.vae.model.decoder)
    rows = []
    for seed in range(1, runs + 1):
        unet.seconds = decoder.seconds = 0.0
        (job,) = plan(asked.with_values({"prompt": f"{PROMPT} {seed}", "image_seed": seed}), ModelFacts(256))
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
        asked, durations = start(), []
        for seed in range(runs + 1):
            begin = time.perf_counter()
            events = list(worker.follow(worker.submit(asked.with_values({"image_seed": seed}))))
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
        f"  UNets               {unet:6.3f} s",
        f"  VAE decoder         {decoder:6.3f} s",
        f"  everything else     {rest:6.3f} s   {100 * rest / whole:.1f} %",
        f"submit to finished    {whole_road(runs):6.3f} s",
    )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
