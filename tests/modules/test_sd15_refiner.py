"""A Stable Diffusion 1.5 model as refiner: its own texts and latents, and the way from one family to the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ldm_patched.modules.bridge import INTERPOSER_FILE
from ldm_patched.modules.sample import prepare_noise, sample
from ldm_patched.modules.samplers import GuidedDenoiser, TextCondition
from ldm_patched.modules.sd import Checkpoint, load_checkpoint
from modules.loaded import ModelError
from modules.model_folders import ModelFolders
from modules.pipeline import Pipeline
from modules.prepare import guidance_of, prepare
from modules.run import second_seed
from tests.ldm_patched.test_bridge import random_interposer
from tests.ldm_patched.tiny import TINY_REFINER, TINY_SD15, write
from tests.modules.test_pipeline import MODELS, for_the_miniature, jobs, run

SD15: dict[str, Any] = {"refiner": "sd15.safetensors", "switch": 2, "swap_method": "vae"}


@pytest.fixture
def folders(tmp_path: Path) -> ModelFolders:
    write(tmp_path / "sd15.safetensors", TINY_SD15, seed=3)
    write(tmp_path / "refiner.safetensors", for_the_miniature(TINY_REFINER))
    models = ModelFolders.under(MODELS)
    return replace(models, checkpoints=(*models.checkpoints, tmp_path), previews=tmp_path, embeddings=(tmp_path,))


@pytest.mark.parametrize("interposed", [False, True])
def test_the_second_run_is_the_sd15_model_s_own(folders: ModelFolders, interposed: bool) -> None:
    """Step by step what the method says, with networks of its own: hand-over, renoising, texts, levels, last VAE."""
    if interposed:
        save_file(random_interposer(), folders.previews / INTERPOSER_FILE)
    (job,) = jobs(steps=4, sampler="euler", sharpness=0.0, **SD15)
    pipeline = Pipeline(folders)
    picture = run(pipeline, [job]).pictures[0]
    loaded = pipeline.loaded
    assert loaded is not None and isinstance(loaded.refiner, Checkpoint)
    assert (loaded.interposer is not None) == interposed
    prepared = prepare(loaded, job, folders.embeddings, lambda note: None)
    assert prepared.schedule.refiner is not None

    # The base: Euler over the first levels, then down to nothing.
    seen: list[tuple[float, Tensor, Tensor]] = []
    base, sigmas = prepared.schedule.base, prepared.schedule.sigmas
    sides = prepared.base
    network = GuidedDenoiser(loaded.checkpoint.unet, base, sides.cond, sides.uncond, guidance_of(job), sigmas, 0.3)

    class Seen:
        model_sampling = base

        def __call__(self, x: Tensor, sigma: float) -> Tensor:
            x0 = network(x, sigma)
            seen.append((sigma, x, x0))
            return x0

    noise = prepare_noise((1, 4, 8, 12), job.seed)
    first = sample(Seen(), noise, torch.zeros_like(noise), [*sigmas[:2], 0.0], "euler", job.seed)
    assert [sigma for sigma, _, _ in seen] == list(sigmas[:2])
    sigma, x, x0 = seen[-1]
    tint = ((x - x0) / sigma).mean((2, 3), keepdim=True)

    own = load_checkpoint(folders.checkpoints[-1] / "sd15.safetensors")
    seed = second_seed(job.seed)
    if loaded.interposer is not None:
        crossed = loaded.interposer(first / 0.13025) * 0.18215
    else:
        crossed = own.vae.encode(loaded.vae.decode(first), seed)
    texts = (torch.cat([own.clip.encode([text], 2)[0][0] for text in side], 1) for side in (job.positive, job.negative))
    cond, uncond = (TextCondition(text, None) for text in texts)
    levels = [1.4 * sigma for sigma in sigmas[2:]]
    noise = prepare_noise((1, 4, 8, 12), seed)
    x = crossed + levels[0] * (noise - noise.mean((2, 3), keepdim=True) + tint)
    second = GuidedDenoiser(own.unet, prepared.schedule.refiner, cond, uncond, guidance_of(job), levels, 0.3)
    for high, low in zip(levels, levels[1:], strict=False):
        estimate = second(x, high)
        x = x + (x - estimate) / high * (low - high)
    expected = (own.vae.decode(x)[0].permute(1, 2, 0) * 255).round()
    assert abs(picture.astype(float) - expected.numpy()).max() <= 1


def test_its_swap_method_is_vae_whatever_was_chosen(folders: ModelFolders) -> None:
    pipeline = Pipeline(folders)
    asked = run(pipeline, jobs(**SD15))
    assert asked.notes == [] and asked.steps[-1] == (0, 3) and asked.steps.count((0, 2)) == 1
    for method in ("joint", "separate"):
        seen = run(pipeline, jobs(2, **SD15 | {"swap_method": method}))
        (note,) = seen.notes
        assert note.startswith("sd15.safetensors is a Stable Diffusion 1.5 model") and "swap method vae" in note
        assert np.array_equal(seen.pictures[0], asked.pictures[0])
    again = run(Pipeline(folders), jobs(2, **SD15)[1:])
    assert np.array_equal(again.pictures[1], seen.pictures[1])


def test_without_a_base_s_part_it_makes_the_picture_alone(folders: ModelFolders) -> None:
    refined = run(Pipeline(folders), jobs(**SD15 | {"switch": 0})).pictures[0]
    alone = run(Pipeline(folders), jobs(checkpoint="sd15.safetensors")).pictures[0]
    assert np.array_equal(refined, alone)


def test_a_damaged_interposer_is_left_out_in_words(folders: ModelFolders) -> None:
    expected = run(Pipeline(folders), jobs(**SD15)).pictures[0]
    pipeline = Pipeline(folders)
    save_file({"head.short.weight": torch.zeros(1)}, folders.previews / INTERPOSER_FILE)
    seen = run(pipeline, jobs(**SD15))
    assert INTERPOSER_FILE in seen.notes[0] and "given the picture instead" in seen.notes[0]
    assert np.array_equal(seen.pictures[0], expected)
    save_file(random_interposer(), folders.previews / INTERPOSER_FILE)
    assert not np.array_equal(run(pipeline, jobs(**SD15)).pictures[0], expected), "a new file is noticed"


def test_an_sd15_base_takes_no_refiner(folders: ModelFolders) -> None:
    with pytest.raises(ModelError, match=r"sd15\.safetensors is a Stable Diffusion 1\.5 model"):
        run(Pipeline(folders), jobs(checkpoint="sd15.safetensors", refiner="refiner.safetensors", switch=1))


def test_an_embedding_for_the_base_alone_is_told(folders: ModelFolders) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = {"clip_l": torch.randn(2, 64, generator=generator), "clip_g": torch.randn(2, 128, generator=generator)}
    save_file(vectors, folders.embeddings[0] / "charm.safetensors")
    (note,) = run(Pipeline(folders), jobs(positive=("a cat, embedding:charm",), **SD15)).notes
    assert note.startswith("sd15.safetensors: charm.safetensors") and note.endswith("is made without embeddings.")


def test_the_method_vae_serves_an_sdxl_refiner_too(folders: ModelFolders) -> None:
    change: dict[str, Any] = {"refiner": "refiner.safetensors", "switch": 2, "steps": 4}
    pictures = [
        run(Pipeline(folders), jobs(**change, swap_method=method)).pictures[0] for method in ("vae", "separate")
    ]
    assert not np.array_equal(*pictures)
