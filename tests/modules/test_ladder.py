"""When memory runs out: on a device that raises when more is alive than it holds, the picture is made all the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import modules.ladder
import modules.loaded
import modules.pipeline
import modules.run
from ldm_patched.modules.bridge import cross
from ldm_patched.modules.memory import AUTOMATIC, Policy
from ldm_patched.modules.quantised import EightBit
from ldm_patched.modules.sd import Checkpoint
from ldm_patched.modules.streaming import BUFFERS, _blocks, _text_projections
from modules.engine_process import in_words
from modules.ladder import PERHAPS, RAN_OUT, RUNGS, Ladder, Means, NotEnoughMemory, Stage
from modules.loaded import LoadedModel
from modules.model_folders import ModelFolders
from modules.parameters import BUILT_IN_MODEL
from modules.pipeline import Pipeline
from modules.run import sample_latent
from tests.ldm_patched.limited_device import Device
from tests.modules.test_pipeline import MODELS, Watcher, jobs, run, several

__all__ = ["several"]

APART, TILED, STREAMED, EIGHT_BIT, PROCESSOR = RUNGS


def weights_on_device(loaded: LoadedModel) -> int:
    """Bytes of the UNet that are on the device all the time, or of the ring through which its blocks come."""
    unet = loaded.checkpoint.unet
    if loaded.checkpoint.placement.streamed:
        return BUFFERS * max(block.size for _, block in (*_blocks(unet), *_text_projections(unet)))
    sources = {id(module.weight) for module in unet.modules() if isinstance(module, EightBit)}
    return sum(each.nbytes for each in (*unet.parameters(), *unet.buffers()) if id(each) not in sources)


def on_device(patch: pytest.MonkeyPatch, stage: str, limit: int | None, notes: Sequence[str] = ()) -> list[int]:
    """Let a stage of the pipeline run on such a device, until the processor takes over; returns what was used most."""
    real: Callable[..., Any] = getattr(modules.pipeline, stage)
    used: list[int] = []

    def measured(loaded: LoadedModel, *arguments: Any) -> Any:
        if PROCESSOR.sentence in notes:
            return real(loaded, *arguments)
        with Device(weights_on_device(loaded), limit) as device:
            try:
                return real(loaded, *arguments)
            finally:
                used.append(device.most)

    patch.setattr(modules.pipeline, stage, measured)
    return used


class Incurious(Watcher):
    """Wants no previews: a preview's decoder would need more than a small picture's sampling."""

    def progress(self, job: int, step: int, steps: int, text: str, preview: Callable[[], Any] | None) -> None:
        super().progress(job, step, steps, text, None)


def picture_with(means: Means, **changes: Any) -> Any:
    """The picture that is made with certain means from the start."""
    pipeline = Pipeline(ModelFolders.under(MODELS), policy=means.policy)
    pipeline._ladder._top = means
    return run(pipeline, jobs(steps=2, **changes), Incurious()).pictures[0]


@pytest.fixture
def as_if_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """All rungs: what spares a GPU counts here as sparing the device that raises."""
    monkeypatch.setattr(modules.ladder, "RUNGS", tuple(replace(rung, spares_gpu=False) for rung in RUNGS))


# Without the filter behind sharpness: it would need more than a network as small as this one.
BIG: dict[str, Any] = {"width": 256, "height": 192, "sharpness": 0.0}
STEPS = [
    Means(AUTOMATIC),
    Means(AUTOMATIC, apart=True),
    Means(Policy(mode="no-vram"), apart=True),
    Means(Policy(mode="no-vram", eight_bit=True), apart=True),
]


@pytest.fixture(scope="module")
def needed() -> list[int]:
    """Bytes that sampling needs at the most, with the means of each rung."""
    most = []
    for means in STEPS:
        with pytest.MonkeyPatch.context() as patch:
            used = on_device(patch, "sample_latent", None)
            picture_with(means, **BIG)
            most += used
    return most


def test_every_rung_needs_less_than_the_one_before(needed: list[int]) -> None:
    assert needed == sorted(needed, reverse=True)
    assert len(set(needed)) == len(STEPS)


@pytest.mark.usefixtures("as_if_on_a_gpu")
@pytest.mark.parametrize("rung", [1, 2, 3, 4])
def test_sampling_goes_down_until_it_fits(needed: list[int], monkeypatch: pytest.MonkeyPatch, rung: int) -> None:
    """On each device the first means that fit are found, each step is told, and the picture is that of those means."""
    limit = needed[rung] if rung < len(STEPS) else 1_000_000
    means = STEPS[rung] if rung < len(STEPS) else Means(Policy(mode="cpu", eight_bit=True), apart=True)
    expected = picture_with(means, **BIG)
    watcher = Incurious()
    on_device(monkeypatch, "sample_latent", limit, watcher.notes)
    pipeline = Pipeline(ModelFolders.under(MODELS))
    run(pipeline, jobs(2, steps=2, **BIG), watcher)
    assert watcher.notes == [each.sentence for each in (APART, STREAMED, EIGHT_BIT, PROCESSOR)[:rung]]
    assert np.array_equal(watcher.pictures[0], expected)
    # The second picture of the task begins where the first one has come to, with its own seed.
    assert watcher.pictures.keys() == {0, 1}
    assert not np.array_equal(watcher.pictures[1], expected)
    assert watcher.steps[-1] == (1, 2)


def test_what_is_exact_is_exact() -> None:
    plain, apart, streamed, coded = (picture_with(means).astype(int) for means in STEPS)
    assert int(abs(plain - apart).max()) <= 1, "a product of half as many rows may round differently"
    assert np.array_equal(apart, streamed)
    assert 0 < float(abs(coded - plain).mean()) < 12.0, "of 255 levels, of a small network and with two steps"


def test_decoding_goes_on_from_the_finished_latent(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.MonkeyPatch.context() as patch:
        whole = on_device(patch, "decode", None)
        plain = picture_with(Means(AUTOMATIC), **BIG)
    with pytest.MonkeyPatch.context() as patch:
        tiles = on_device(patch, "decode", None)
        tiled = picture_with(Means(AUTOMATIC, tiled=True), **BIG)
    assert tiles[0] < 0.7 * whole[0], "16 of 32 latent pixels a side are a third of the area"
    sampled = on_device(monkeypatch, "sample_latent", None)
    on_device(monkeypatch, "decode", tiles[0])
    seen = run(Pipeline(ModelFolders.under(MODELS)), jobs(steps=2, **BIG))
    assert len(sampled) == 1, "nothing is sampled twice"
    assert seen.notes == [TILED.sentence]
    assert np.array_equal(seen.pictures[0], tiled)
    assert float(abs(tiled.astype(int) - plain.astype(int)).mean()) < 10


@pytest.mark.usefixtures("as_if_on_a_gpu")
def test_a_smaller_picture_is_not_made_with_a_larger_ones_means(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the same job gives the same bytes, whatever was made before it."""
    small = {"width": 64, "height": 64}
    expected = picture_with(Means(AUTOMATIC), **small)
    real: Callable[..., Any] = sample_latent

    def sample(loaded: LoadedModel, prepared: Any, *arguments: Any) -> Any:
        if prepared.job.width > 64 and not loaded.checkpoint.placement.eight_bit:
            raise torch.OutOfMemoryError("too large")
        return real(loaded, prepared, *arguments)

    monkeypatch.setattr(modules.pipeline, "sample_latent", sample)
    pipeline = Pipeline(ModelFolders.under(MODELS))
    seen = run(pipeline, jobs(steps=2))
    assert seen.notes[-1] == EIGHT_BIT.sentence
    assert np.array_equal(run(pipeline, jobs(steps=2, **small)).pictures[0], expected)
    again = run(pipeline, jobs(steps=2))
    assert again.notes == [], "what is known is not tried again"
    assert np.array_equal(again.pictures[0], seen.pictures[0])


def test_where_no_rung_is_left_the_error_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    on_device(monkeypatch, "sample_latent", 1000)
    watcher = Watcher()
    with pytest.raises(torch.OutOfMemoryError):
        run(Pipeline(ModelFolders.under(MODELS)), jobs(steps=2), watcher)
    assert watcher.notes == [APART.sentence, EIGHT_BIT.sentence], "a processor has no GPU to spare"
    assert watcher.pictures == {}


def out_of_memory_unless_in_eight_bits(patch: pytest.MonkeyPatch, module: Any, stage: str, wanted: bool) -> None:
    """Let a stage run out of memory, unless it may have eight bits and they are `wanted`."""
    real = getattr(module, stage)

    def limited(*arguments: Any, **keywords: Any) -> Any:
        policy = keywords.get("policy") or Policy(eight_bit=arguments[0].checkpoint.placement.eight_bit)
        if not (policy.eight_bit and wanted):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(*arguments, **keywords)

    patch.setattr(module, stage, limited)


@pytest.mark.parametrize(("module", "stage"), [(modules.loaded, "load_checkpoint"), (modules.pipeline, "prepare")])
def test_loading_and_encoding_climb_too(monkeypatch: pytest.MonkeyPatch, module: Any, stage: str) -> None:
    expected = picture_with(Means(Policy(eight_bit=True)))
    pipeline = Pipeline(ModelFolders.under(MODELS))
    with monkeypatch.context() as patch:
        out_of_memory_unless_in_eight_bits(patch, module, stage, wanted=True)
        seen = run(pipeline, jobs(2, steps=2), Incurious())
        assert seen.notes == [EIGHT_BIT.sentence], "what helps a picture only is not tried"
        assert np.array_equal(seen.pictures[0], expected)
        small = run(pipeline, jobs(steps=2, width=64), Incurious())
        assert small.notes == [], "a model that does not fit does so for no picture"
    with monkeypatch.context() as patch:
        out_of_memory_unless_in_eight_bits(patch, module, stage, wanted=False)
        with pytest.raises(NotEnoughMemory) as raised:
            run(Pipeline(ModelFolders.under(MODELS)), jobs(steps=2))
    told, broken = in_words(raised.value)
    assert (
        told == f"There is not enough memory to load {BUILT_IN_MODEL}. Close other programs, or choose a smaller model."
    )
    assert broken


def test_the_next_rung_gives_back_all_models(several: ModelFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a VAE that was chosen by itself, and a refiner of another family."""
    real: Callable[..., Any] = sample_latent
    before: list[LoadedModel] = []

    def sample(loaded: LoadedModel, *arguments: Any) -> Any:
        if not loaded.checkpoint.placement.eight_bit:
            before.append(loaded)
            raise torch.OutOfMemoryError("too large")
        return real(loaded, *arguments)

    monkeypatch.setattr(modules.pipeline, "sample_latent", sample)
    wanted = jobs(steps=2, vae="second.safetensors", refiner="sd15.safetensors", switch=1)
    assert run(Pipeline(several), wanted).pictures.keys() == {0}
    loaded = before[0]
    assert isinstance(loaded.refiner, Checkpoint) and loaded.vae is not loaded.checkpoint.vae
    networks = (loaded.checkpoint.unet, loaded.vae.model, loaded.refiner.unet, loaded.refiner.vae.model)
    assert [sum(each.numel() for each in network.parameters()) for network in networks] == [0, 0, 0, 0]


def test_the_way_to_another_family_s_latents_goes_on_from_the_base_s_picture(
    several: ModelFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles: list[int | None] = []
    watcher = Incurious()

    def limited(latent: Any, source: Any, target: Any, seed: int, interposer: Any, tile: int | None) -> Any:
        tiles.append(tile)
        if tile is None:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return cross(latent, source, target, seed, interposer, tile)

    monkeypatch.setattr(modules.run, "cross", limited)
    run(Pipeline(several), jobs(steps=4, refiner="sd15.safetensors", switch=3, swap_method="vae", **BIG), watcher)
    assert watcher.notes == [TILED.sentence] and tiles[0] is None and len(tiles) == 2
    assert [step for step in watcher.steps if step == (0, 1)] == [(0, 1)], "the base's part is not made again"


def test_after_the_engine_died_a_task_begins_one_mode_lower() -> None:
    expected = picture_with(Means(Policy(eight_bit=True)))
    pipeline = Pipeline(ModelFolders.under(MODELS))
    plain, lower, watcher = run(pipeline, jobs(steps=2)), Incurious(), Incurious()
    pipeline.run(jobs(steps=2), lower, 1)
    assert lower.notes == [EIGHT_BIT.sentence.replace(RAN_OUT, PERHAPS)] and np.array_equal(lower.pictures[0], expected)
    pipeline.run(jobs(steps=2), watcher)
    assert watcher.notes == [] and np.array_equal(watcher.pictures[0], plain.pictures[0]), "the next task is as ever"


def test_on_a_gpu_the_next_lower_mode_fetches_the_model() -> None:
    ladder, notes = Ladder(AUTOMATIC), list[str]()
    for times, policy in ((1, Policy("no-vram")), (2, Policy("no-vram", eight_bit=True)), (0, AUTOMATIC)):
        ladder.lower(times, True, notes.append)
        ladder.begin("model", 100)
        assert ladder.means.policy == policy
    assert notes == [each.sentence.replace(RAN_OUT, PERHAPS) for each in (STREAMED, STREAMED, EIGHT_BIT)]


def test_other_errors_are_no_reason_to_climb() -> None:
    def fail(means: Means) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    notes: list[str] = []
    with pytest.raises(RuntimeError, match="mat1"):
        Ladder(AUTOMATIC).make(fail, lambda: Stage("pair", True), notes.append)
    assert notes == []


@pytest.mark.parametrize(
    ("work", "policy", "rungs"),
    [
        ("pair", Policy(), (APART, STREAMED, EIGHT_BIT, PROCESSOR)),
        ("single", Policy(), (STREAMED, EIGHT_BIT, PROCESSOR)),
        ("decode", Policy(), (TILED, STREAMED, EIGHT_BIT, PROCESSOR)),
        ("single", Policy(mode="no-vram", eight_bit=True), (PROCESSOR,)),
    ],
)
def test_what_helps_is_tried_in_order_and_once(work: Any, policy: Policy, rungs: Sequence[Any]) -> None:
    def fail(means: Means) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    ladder, notes = Ladder(policy), list[str]()
    with pytest.raises(torch.OutOfMemoryError):
        ladder.make(fail, lambda: Stage(work, True), notes.append)
    assert notes == [rung.sentence for rung in rungs]
    assert ladder.means.policy.mode == "cpu"


def test_another_model_begins_at_the_top() -> None:
    def make(means: Means) -> Means:
        if not means.apart:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return means

    ladder = Ladder(AUTOMATIC)
    ladder.begin("one", 100)
    assert ladder.make(make, lambda: Stage("pair", True), lambda note: None).apart
    for model, pixels, apart in (("one", 99, False), ("one", 100, True), ("one", 500, True), ("two", 500, False)):
        ladder.begin(model, pixels)
        assert ladder.means.apart == apart


def test_the_ladder_does_not_load_torch() -> None:
    """It is pure: what it does to networks it does through a policy."""
    import ast

    names = {
        alias.name for node in ast.walk(ast.parse(Path(modules.ladder.__file__).read_text(encoding="utf-8")))
        if isinstance(node, ast.Import) for alias in node.names
    }  # fmt: skip
    assert names == {"logging"}
