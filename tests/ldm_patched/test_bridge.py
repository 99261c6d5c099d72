"""The latent interposer against an evaluation that knows only the tensors' names; both ways between two families."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from ldm_patched.ldm.interposer import Interposer
from ldm_patched.modules.bridge import cross, load_interposer
from ldm_patched.modules.sd import load_checkpoint
from ldm_patched.modules.state_dict import WeightsError
from tests.ldm_patched.tiny import TINY_SD15, TINY_SDXL, write

CPU = torch.device("cpu")


def random_interposer(blocks: int = 12) -> dict[str, Tensor]:
    """Random tensors under the published names and in the published sizes, of a size that keeps signals near one."""
    generator = torch.Generator().manual_seed(5)

    def convolution(name: str, out: int, into: int) -> dict[str, Tensor]:
        weight = torch.randn(out, into, 3, 3, generator=generator) / (9 * into) ** 0.5
        return {f"{name}.weight": weight, f"{name}.bias": 0.1 * torch.randn(out, generator=generator)}

    def norm(name: str) -> dict[str, Tensor]:
        positive = {key: 0.5 + torch.rand(64, generator=generator) for key in ("weight", "running_var")}
        signed = {key: 0.2 * torch.randn(64, generator=generator) for key in ("bias", "running_mean")}
        figures = positive | signed | {"num_batches_tracked": torch.tensor(7)}
        return {f"{name}.{key}": tensor for key, tensor in figures.items()}

    tensors = convolution("head.short", 64, 4) | convolution("head.long.0", 64, 4)
    tensors |= convolution("head.long.2", 64, 64) | convolution("head.long.4", 64, 64)
    for block in range(1, blocks + 1):
        tensors |= norm(f"core.{block}.norm")
        for layer in (0, 2, 4):
            tensors |= convolution(f"core.{block}.long.{layer}", 64, 64)
    return tensors | norm(f"core.{blocks + 1}") | convolution("tail", 4, 64)


def by_hand(tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """The published network, written down from its description in float64."""
    t = {name: tensor.double() for name, tensor in tensors.items()}

    def conv(name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, t[f"{name}.weight"], t[f"{name}.bias"], padding=1)

    def silu(x: Tensor) -> Tensor:
        return x / (1 + torch.exp(-x))

    def long(name: str, x: Tensor) -> Tensor:
        return conv(f"{name}.long.4", silu(conv(f"{name}.long.2", silu(conv(f"{name}.long.0", x)))))

    def norm(name: str, x: Tensor) -> Tensor:
        mean, variance, scale, shift = (
            t[f"{name}.{key}"].view(1, -1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(variance + 1e-5) * scale + shift

    x = (conv("head.short", x) + long("head", x)).clamp(min=0)
    for block in range(1, 13):
        x = norm(f"core.{block}.norm", x)
        x = (long(f"core.{block}", x) + x).clamp(min=0)
    return conv("tail", silu(norm("core.13", x)))


def test_the_interposer_is_the_published_network(tmp_path: Path) -> None:
    tensors = random_interposer()
    save_file(tensors, tmp_path / "x.safetensors")
    x = torch.randn(1, 4, 9, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        computed = load_interposer(tmp_path / "x.safetensors", CPU)(x)
    expected = by_hand(tensors, x.double())
    assert expected.std() > 0.1
    assert torch.allclose(computed.double(), expected, rtol=1e-4, atol=1e-5)


def test_its_tensors_are_those_of_the_published_file() -> None:
    with torch.device("meta"):
        own = {name: tensor.shape for name, tensor in Interposer().state_dict().items()}
    assert own == {name: tensor.shape for name, tensor in random_interposer().items()}


@pytest.mark.parametrize("change", ["tail.bias", "head.short.weight", "core.3.norm.running_var"])
def test_what_is_no_interposer_is_refused_in_words(tmp_path: Path, change: str) -> None:
    tensors = random_interposer()
    del tensors[change]
    save_file(tensors, tmp_path / "half.safetensors")
    with pytest.raises(WeightsError, match=r"half\.safetensors is no latent interposer"):
        load_interposer(tmp_path / "half.safetensors", CPU)


def test_latents_cross_in_their_own_scales(tmp_path: Path) -> None:
    sdxl = load_checkpoint(write(tmp_path / "sdxl.safetensors", TINY_SDXL)).vae
    sd15 = load_checkpoint(write(tmp_path / "sd15.safetensors", TINY_SD15, seed=1)).vae
    latent = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(2))
    painted = cross(latent, sdxl, sd15, 7)
    assert torch.equal(painted, sd15.encode(sdxl.decode(latent), 7))
    assert not torch.equal(painted, cross(latent, sdxl, sd15, 8)), "the noise is the seed's"
    save_file(random_interposer(), tmp_path / "x.safetensors")
    crossed = cross(latent, sdxl, sd15, 7, load_interposer(tmp_path / "x.safetensors", CPU))
    expected = by_hand(random_interposer(), latent.double() / 0.13025) * 0.18215
    assert torch.allclose(crossed.double(), expected, rtol=1e-4, atol=1e-4)
