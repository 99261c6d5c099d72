"""Tiles against the whole: exactly where the network is local, nearly where it is an autoencoder."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ldm_patched.ldm.vae import AutoencoderKL
from ldm_patched.modules import tiling
from ldm_patched.modules.autoencoder import VAE
from ldm_patched.modules.devices import Placement
from ldm_patched.modules.sd import load_checkpoint
from ldm_patched.modules.tiling import SMALLEST, decode_in_tiles, encode_in_tiles, starts, tile_that_fits

BASE = Path(__file__).resolve().parents[2] / "models" / "checkpoints" / "pinhole-mini-base.safetensors"
SIZES = [(5, 3), (16, 16), (17, 16), (16, 40), (33, 47), (64, 21), (97, 50)]


def enlarged(latent: Tensor) -> Tensor:
    """A network that looks at nothing but the pixel itself."""
    return F.interpolate(latent, scale_factor=8.0, mode="nearest").sin()


def averaged(pixels: Tensor) -> Tensor:
    return F.avg_pool2d(pixels, 8).exp()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("tile", [16, 24, 64])
def test_weights_add_up_to_one_everywhere(size: tuple[int, int], tile: int) -> None:
    """Then whatever is computed pixel by pixel comes out as without tiles."""
    latent = torch.randn(2, 4, *size)
    torch.testing.assert_close(decode_in_tiles(enlarged, latent, tile), enlarged(latent), atol=1e-6, rtol=0)
    pixels = torch.randn(1, 3, 8 * size[0], 8 * size[1])
    torch.testing.assert_close(encode_in_tiles(averaged, pixels, tile), averaged(pixels), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_no_tile_is_larger_than_allowed_and_none_is_cut_short(size: tuple[int, int]) -> None:
    seen: list[tuple[int, ...]] = []

    def note(latent: Tensor) -> Tensor:
        seen.append(tuple(latent.shape[-2:]))
        return enlarged(latent)

    decode_in_tiles(note, torch.zeros(1, 4, *size), 16)
    assert set(seen) == {(min(16, size[0]), min(16, size[1]))}
    assert len(seen) == len(starts(size[0], 16)) * len(starts(size[1], 16))


def test_the_weights_of_an_edge_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once more for every tile: 49 tiles of two edges with 7 places each."""
    seen: list[int] = []
    plain = tiling._curve

    def counted(length: int, tile: int, begin: int, factor: int) -> Tensor:
        seen.append(begin)
        return plain(length, tile, begin, factor)

    monkeypatch.setattr(tiling, "_curve", counted)
    decode_in_tiles(enlarged, torch.zeros(1, 4, 88, 88), 16)
    assert seen == [*starts(88, 16), *starts(88, 16)] and len(seen) == 14


@pytest.mark.parametrize("length", range(1, 200, 7))
@pytest.mark.parametrize("tile", [16, 40, 64])
def test_tiles_cover_the_length_and_overlap(length: int, tile: int) -> None:
    places = starts(length, tile)
    assert places[0] == 0
    assert places[-1] + min(tile, length) == length
    assert all(tile // 4 <= tile - (b - a) < tile for a, b in zip(places, places[1:], strict=False))


@pytest.mark.parametrize(
    ("size", "free", "tile"),
    [
        ((128, 128), None, None),
        ((128, 128), 128 * 128 * 1000, None),
        ((128, 128), 128 * 128 * 1000 - 1, 120),
        ((128, 128), 64 * 64 * 1000, 64),
        ((128, 64), 64 * 64 * 1000, 64),
        ((128, 128), 0, SMALLEST),
    ],
)
def test_the_largest_tile_that_fits(size: tuple[int, int], free: int | None, tile: int | None) -> None:
    assert tile_that_fits(*size, 1000, free) == tile


@pytest.fixture(scope="module")
def vae() -> VAE:
    """The miniature's: a trained one, whose pictures are pictures."""
    full = torch.float32
    return load_checkpoint(BASE, Placement(torch.device("cpu"), full, full, full)).vae


@pytest.fixture(scope="module")
def scene() -> Tensor:
    """A picture [1, 3, 256, 384] with soft and hard edges, fine texture and a flat part."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 256), torch.linspace(0, 1.5, 384), indexing="ij")
    sky = torch.stack([0.3 + 0.3 * y, 0.5 + 0.2 * y, 0.9 - 0.2 * y])
    disc = ((x - 0.6) ** 2 + (y - 0.5) ** 2 < 0.06).float()
    stripes = ((x * 40).sin() > 0).float() * (y > 0.75)
    red, dark = (torch.tensor(colour)[:, None, None] for colour in ((0.8, 0.2, 0.1), (0.1, 0.3, 0.1)))
    return (sky * (1 - disc) + red * disc).lerp(dark.expand_as(sky), stripes)[None]


@pytest.mark.parametrize(("tile", "mean", "most"), [(24, 0.025, 0.15), (32, 0.004, 0.04), (40, 0.002, 0.02)])
def test_a_picture_in_tiles_is_the_picture(vae: VAE, scene: Tensor, tile: int, mean: float, most: float) -> None:
    """And where tiles meet, no step: the difference changes from pixel to pixel by 2 of 255 levels at the most.

    The autoencoder normalises over all that it sees, so a tile's tones are not quite the whole's: the less the larger
    it is (this one was trained on 32). The autoencoder's own error on this picture is 0.036 in the mean.
    """
    latent = vae.encode(scene, seed=0)
    error = vae.decode(latent, tile=tile) - vae.decode(latent)
    assert float(error.abs().mean()) < mean
    assert float(error.abs().max()) < most
    for axis, length in ((-1, 48), (-2, 32)):
        steps = error.diff(dim=axis).abs().movedim(axis, 0).flatten(1).mean(dim=1)
        for begin in starts(length, tile)[1:]:
            assert float(steps[8 * begin - 1 : 8 * (begin + tile // 4) + 1].max()) < 2 / 255


def test_a_picture_is_read_in_tiles(vae: VAE, scene: Tensor) -> None:
    whole, tiled = vae.encode(scene, seed=0), vae.encode(scene, seed=0, tile=32)
    assert whole.shape == tiled.shape
    assert float((whole - tiled).abs().mean()) < 0.06 * float(whole.std())


def test_smaller_than_a_tile_is_the_same_to_the_bit(vae: VAE) -> None:
    latent = torch.randn(2, 4, 9, 16)
    assert torch.equal(vae.decode(latent, tile=16), vae.decode(latent))


def test_tiles_need_less_memory(vae: VAE, monkeypatch: pytest.MonkeyPatch) -> None:
    """By need: what the autoencoder sees at once shrinks with what is free."""
    sizes: list[int] = []
    decode = AutoencoderKL.decode

    def watch(model: AutoencoderKL, z: Tensor) -> Tensor:
        sizes.append(z.shape[-1] * z.shape[-2])
        return decode(model, z)

    monkeypatch.setattr(AutoencoderKL, "decode", watch)
    for free in (None, 1 << 40, 40 << 20, 0):
        monkeypatch.setattr("ldm_patched.modules.autoencoder.free_memory", partial(lambda free, device: free, free))
        vae.decode(torch.zeros(1, 4, 48, 40))
        largest, sizes[:] = max(sizes), []
        assert largest == 48 * 40 if free is None or free >= 1 << 40 else largest * 65536 <= max(free, 16 * 16 * 65536)
