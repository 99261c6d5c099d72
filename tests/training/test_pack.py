"""Packed files mean what was trained: whitened latents, published names, resumable runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from ldm_patched.ldm.unet import UNet
from ldm_patched.ldm.vae import AutoencoderKL
from ldm_patched.modules.sd import load_checkpoint, load_refiner
from modules.files import ModelFiles
from modules.plan import ModelFacts
from training.latents import whiten, whitening
from training.loop import Run, Schedule
from training.pack import (
    BASE,
    LATENT_SCALE,
    METADATA,
    REFINER as REFINER_FILE,
    REFINER_METADATA,
    base,
    fold_whitening,
    refiner,
    save,
)
from training.text import Family
from training.unet import PARAMS, REFINER
from training.vae import LATENT_NOISE, Trainee


def test_whitening_gives_unit_covariance() -> None:
    torch.manual_seed(0)
    mixed = torch.einsum("ij,njhw->nihw", torch.randn(4, 4), torch.randn(8, 4, 16, 16)) + 3
    white = whiten(mixed, *whitening(mixed)).transpose(0, 1).flatten(1)
    torch.testing.assert_close(torch.cov(white), torch.eye(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(white.mean(dim=1), torch.zeros(4), atol=1e-3, rtol=0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained runs of every part, as `training.loop` leaves them."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs")
    for name, module in (("vae", Trainee()), ("text", Family()), ("unet", UNet(PARAMS))):
        torch.save({"average": module.state_dict()}, folder / f"{name}.pt")
    matrix = torch.eye(4) + 0.3 * torch.randn(4, 4)
    torch.save({"mean": torch.randn(4), "matrix": (matrix + matrix.T) / 2}, folder / "statistics.pt")
    return folder


@torch.inference_mode()
def test_the_packed_autoencoder_has_the_latents_that_the_unet_was_trained_on(runs: Path) -> None:
    trained = AutoencoderKL(Trainee().autoencoder.params)
    average = torch.load(runs / "vae.pt", weights_only=True)["average"]
    names = {name.removeprefix("autoencoder."): value for name, value in average.items() if "colour" not in name}
    trained.load_state_dict(names)
    statistics = torch.load(runs / "statistics.pt", weights_only=True)
    packed = AutoencoderKL(trained.params)
    packed.load_state_dict(fold_whitening(names, statistics["mean"], statistics["matrix"]))
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    latent, _ = trained.encode_moments(pixels)
    mean, log_variance = packed.encode_moments(pixels)
    expected = whiten(latent, statistics["mean"], statistics["matrix"])
    torch.testing.assert_close(mean * LATENT_SCALE, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(packed.decode(mean), trained.decode(latent), atol=1e-4, rtol=1e-3)
    deviation = (log_variance / 2).exp() * LATENT_SCALE
    torch.testing.assert_close(deviation, torch.full_like(deviation, LATENT_NOISE))


def test_a_packed_family_loads_as_an_sdxl_checkpoint(runs: Path, tmp_path: Path) -> None:
    parts = (runs / "vae.pt", runs / "statistics.pt", runs / "text.pt", runs / "unet.pt")
    save(base(*parts), tmp_path / BASE, METADATA, torch.float16)
    checkpoint = load_checkpoint(tmp_path / BASE)
    assert checkpoint.kind == "sdxl"
    assert checkpoint.prediction == "v"
    assert checkpoint.unet.params == PARAMS
    assert (tmp_path / BASE).stat().st_size < 26_000_000


def test_a_packed_refiner_is_one_for_the_family(tmp_path: Path) -> None:
    torch.save({"average": UNet(REFINER).state_dict()}, tmp_path / "refiner.pt")
    save(refiner(tmp_path / "refiner.pt"), tmp_path / REFINER_FILE, REFINER_METADATA, torch.float16)
    loaded = load_refiner(tmp_path / REFINER_FILE)
    assert (loaded.kind, loaded.prediction, loaded.unet.params) == ("sdxl_refiner", "v", REFINER)
    assert ModelFiles([tmp_path]).facts(REFINER_FILE) == ModelFacts(256, "sdxl-refiner", 128)
    assert (tmp_path / REFINER_FILE).stat().st_size < 11_000_000


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    def train(steps: int, stop_at: int) -> torch.Tensor:
        torch.manual_seed(0)
        module = nn.Linear(4, 1)
        run = Run(tmp_path / "run.pt", module, Schedule(steps=steps, rate=0.1, warmup=2), decay=0.9)
        run.resume()
        inputs = torch.arange(8.0).view(2, 4)
        for _ in run.train(lambda: module(inputs).square().mean(), save_every=100):
            if run.step == stop_at:
                run.save()
                break
        return module.weight.detach().clone()

    whole = train(10, 10)
    (tmp_path / "run.pt").unlink()
    train(10, 4)
    torch.testing.assert_close(train(10, 10), whole)


def test_the_learning_rate_rises_and_falls() -> None:
    schedule = Schedule(steps=100, rate=1.0, warmup=10, final=0.1)
    rates = [schedule.at(step) for step in range(100)]
    assert max(rates) == pytest.approx(1.0)
    assert rates[0] == pytest.approx(0.1)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
