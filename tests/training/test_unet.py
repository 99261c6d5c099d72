"""The UNet's training: what it predicts, where it looks, and that errors count alike at every noise level."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ldm_patched.ldm.unet import UNet
from ldm_patched.modules.conditioning import NUMBER_WIDTH, SIZE_NUMBERS
from ldm_patched.modules.model_sampling import scaled_linear_sigmas
from ldm_patched.modules.schedulers import choose_model_sampling
from training.batches import Batches, Bucket, Diet, Levels, RefinerBatches, Texts, embed_numbers, predict
from training.latents import things
from training.text import LARGE, PROJECTION, SMALL
from training.unet import INNER, PARAMS, REFINER, grow, initialise, shrink
from training.world import Scene, Thing

CAPTIONS = ["everything", "something", "else"]
TEXTS = Texts(torch.zeros(4, 77, 192), torch.zeros(4, 128), {text: i for i, text in enumerate(["", *CAPTIONS])})


class Recorder(Levels):
    """Keeps the errors themselves."""

    def relative(self, errors: Tensor, timesteps: Tensor) -> Tensor:
        self.errors, self.timesteps = errors, timesteps
        return super().relative(errors, timesteps)


def batches(x0: float, shares: np.ndarray) -> Batches:
    bucket = Bucket(np.full((8, 4, 8, 8), x0, np.float16), shares, [CAPTIONS] * 8, ["neon"] * 8)
    made = Batches([bucket], TEXTS, 8 * 64, seed=3)
    made.levels = Recorder()
    return made


def test_what_is_trained_is_what_the_engine_calls_v() -> None:
    engine = choose_model_sampling("sdxl", "v", False, "normal")
    sigmas = scaled_linear_sigmas()

    def knows_the_picture(unet: UNet, noisy: Tensor, timesteps: Tensor, vector: Tensor, hidden: Tensor) -> Tensor:
        """The output for which the engine's estimate of the picture is 0.5 everywhere."""
        rows = []
        for row, timestep in zip(noisy.split(1), timesteps.tolist(), strict=True):
            sigma = sigmas[int(timestep)]
            x = row * (1 + sigma**2) ** 0.5
            at_0, at_1 = (engine.denoised(torch.full_like(x, output), x, sigma) for output in (0.0, 1.0))
            rows.append((0.5 - at_0) / (at_1 - at_0))
        return torch.cat(rows)

    made = batches(0.5, np.zeros((8, 8, 8), np.uint8))
    with torch.device("meta"):
        unet = UNet(PARAMS)
    made.loss(unet, knows_the_picture)
    assert isinstance(made.levels, Recorder) and float(made.levels.errors.max()) < 1e-5


def test_an_error_counts_more_where_a_thing_is() -> None:
    shares = np.zeros((8, 8, 8), np.uint8)
    shares[:, :, :2] = 255

    def wrong_on_one_side(thing: bool) -> Tensor:
        made = batches(0.0, shares)

        def predicted(unet: UNet, noisy: Tensor, timesteps: Tensor, vector: Tensor, hidden: Tensor) -> Tensor:
            ratio = made.ratios[timesteps.long()].view(-1, 1, 1, 1)
            velocity = noisy * (ratio / (1 - ratio)).sqrt()  # of an empty picture
            velocity[..., slice(0, 2) if thing else slice(2, 8)] += 1
            return velocity

        with torch.device("meta"):
            unet = UNet(PARAMS)
        made.loss(unet, predicted)
        assert isinstance(made.levels, Recorder)
        return made.levels.errors

    # A quarter of the positions shows the thing and counts nine times: 9 * 1/4 of 9 * 1/4 + 3/4.
    assert torch.allclose(wrong_on_one_side(True), torch.full((8,), 0.75), atol=1e-4)
    assert torch.allclose(wrong_on_one_side(False), torch.full((8,), 0.25), atol=1e-4)


def test_a_favoured_medium_is_shown_so_many_times_as_often() -> None:
    latents = np.zeros((8, 4, 8, 8), np.float16)
    latents[:4] = 1.0
    bucket = Bucket(latents, np.zeros((8, 8, 8), np.uint8), [CAPTIONS] * 8, ["pixel art"] * 4 + ["neon"] * 4)
    made = Batches([bucket], TEXTS, 512 * 64, seed=3, diet=Diet(media={"pixel art": 3.0}))
    made.levels = Recorder()

    def predicted(unet: UNet, noisy: Tensor, timesteps: Tensor, vector: Tensor, hidden: Tensor) -> Tensor:
        ratio = made.ratios[timesteps.long()].view(-1, 1, 1, 1)
        return noisy * (ratio / (1 - ratio)).sqrt()  # the velocity of an empty picture

    with torch.device("meta"):
        unet = UNet(PARAMS)
    made.loss(unet, predicted)
    assert isinstance(made.levels, Recorder)
    assert float((made.levels.errors > 1e-3).float().mean()) == pytest.approx(0.75, abs=0.06)


def test_the_share_of_things_lies_where_they_are_drawn(tmp_path: Path) -> None:
    scenes = [
        Scene((Thing("star", "red", side, "large"),), "desert", "watercolor", seed)
        for seed, side in enumerate(("left", "right"))
    ]
    lines = [json.dumps({"bucket": "128x128", "index": i, **asdict(scene)}) for i, scene in enumerate(scenes)]
    (tmp_path / "scenes.jsonl").write_text("\n".join(lines), encoding="utf-8")
    left, right = things(tmp_path, "128x128", (2, 4, 16, 16)).astype(float)
    assert left.max() == right.max() == 255
    assert left[:, :8].sum() > 2 * left[:, 8:].sum() and right[:, 8:].sum() > 2 * right[:, :8].sum()
    assert 0.1 < (left > 0).mean() < 0.6


def test_errors_are_measured_by_what_is_usual_at_their_noise_level() -> None:
    levels, generator = Levels(), torch.Generator().manual_seed(0)
    for _ in range(300):
        timesteps = torch.randint(0, 1000, (32,), generator=generator)
        usual = torch.exp(-timesteps / 200.0)
        loss = levels.relative(usual * (0.5 + torch.rand(32, generator=generator)), timesteps)
    assert 0.7 < loss < 1.3
    low, high = (levels.relative(torch.exp(-t / 200.0) * 2, t) for t in (torch.full((8,), 20), torch.full((8,), 980)))
    assert abs(low - high) < 0.4 and low > 1.3


def test_the_gradient_is_that_of_the_error_over_a_constant() -> None:
    levels = Levels()
    errors = torch.tensor([4.0, 4.0], requires_grad=True)
    levels.relative(errors, torch.tensor([10, 10])).backward()
    assert errors.grad is not None and torch.allclose(errors.grad, torch.full((2,), 1 / 8))


@torch.inference_mode()
def test_a_grown_network_sees_a_doubled_picture_as_the_inner_one_saw_the_picture() -> None:
    torch.manual_seed(0)
    inner, grown = UNet(INNER), UNet(PARAMS)
    initialise(grown)
    grow(grown, inner.state_dict())
    coarse = F.interpolate(torch.randn(2, 4, 2, 2), scale_factor=8)  # hardly changed by what the new level blurs
    told = torch.full((2,), 500.0), torch.randn(2, PARAMS.adm_channels), torch.randn(2, 77, PARAMS.context_dim)

    def error(seen: Tensor) -> float:
        want = predict(inner, coarse, *told).float()
        got = F.avg_pool2d(predict(grown, F.interpolate(seen, scale_factor=2), *told).float(), 2)
        return float((got - want).square().mean() / want.square().mean())

    assert error(coarse) < 0.5 * error(coarse.flip(0))


def test_a_refiner_begins_as_the_outer_levels_of_the_base() -> None:
    base, refiner = UNet(PARAMS).eval(), UNet(REFINER).eval()
    weights = base.state_dict()
    weights["label_emb.0.0.weight"][:, -2 * NUMBER_WIDTH :] = 0  # the target's size, which a refiner is not told
    shrink(refiner, weights)
    x, time = torch.randn(2, 4, 8, 8), torch.tensor([300.0, 20.0])
    text = torch.randn(2, 77, LARGE.width)
    pooled, sizes = torch.randn(2, PROJECTION), torch.randn(2, SIZE_NUMBERS * NUMBER_WIDTH)
    told = torch.cat([pooled, sizes[:, :-NUMBER_WIDTH]], dim=1)  # the last of these five is a score: nothing yet
    both = torch.cat([torch.zeros(2, 77, SMALL.width), text], dim=2)
    seen: dict[UNet, Tensor] = {}
    with torch.no_grad():
        for unet, vector, hidden in ((base, torch.cat([pooled, sizes], dim=1), both), (refiner, told, text)):
            block = unet.get_submodule("input_blocks.5.1")
            handle = block.register_forward_hook(lambda _, __, out, unet=unet: seen.update({unet: out}))
            unet(x, unet.project_time(time, vector), [unet.project_text(hidden)])
            handle.remove()
    assert float(seen[base].std()) > 0.1
    torch.testing.assert_close(seen[refiner], seen[base])


def test_a_refiner_is_told_a_score_that_depends_on_whether_there_is_a_text() -> None:
    bucket = Bucket(np.zeros((8, 4, 8, 8), np.float16), np.zeros((8, 8, 8), np.uint8), [CAPTIONS] * 8, ["neon"] * 8)
    made = RefinerBatches([bucket], TEXTS, 8 * 64, seed=3)
    vector, hidden = made.told(["everything", ""] * 300, torch.Size((600, 4, 8, 8)))
    assert vector.shape == (600, REFINER.adm_channels) and hidden.shape == (600, 77, REFINER.context_dim)
    good = (vector[:, -NUMBER_WIDTH:] == embed_numbers([[RefinerBatches.GOOD]])).all(dim=1).float()
    assert 0.7 < float(good[0::2].mean()) < 0.9 and 0.1 < float(good[1::2].mean()) < 0.3
