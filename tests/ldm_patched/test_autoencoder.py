"""How much memory the autoencoder is thought to need, and what it needs. The rest of it is tested in `test_sd`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from ldm_patched.modules.autoencoder import VAE
from ldm_patched.modules.devices import Placement
from ldm_patched.modules.sd import load_checkpoint
from tests.ldm_patched.limited_device import Device

BASE = Path(__file__).resolve().parents[2] / "models" / "checkpoints" / "pinhole-mini-base.safetensors"


def load(dtype: torch.dtype) -> VAE:
    return load_checkpoint(BASE, Placement(torch.device("cpu"), torch.float32, torch.float32, dtype)).vae


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("work", ["decode", "encode"])
def test_what_is_thought_to_fit_fits(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, work: str) -> None:
    """With whatever is free, the tiles that are chosen for it stay within it, and use at least a fifth of it."""
    vae = load(dtype)
    run = partial(vae.decode, torch.randn(1, 4, 40, 32)) if work == "decode" else partial(
        vae.encode, torch.rand(1, 3, 320, 256), 0
    )  # fmt: skip
    for free in (1 << 30, 40 << 20, 30 << 20, 20 << 20):
        monkeypatch.setattr("ldm_patched.modules.autoencoder.free_memory", partial(lambda free, device: free, free))
        with torch.no_grad(), Device(0, None) as device:
            run()
        # The finished picture and what it is put together from come on top of the network's own needs.
        assert device.most <= free + 5 * 320 * 256 * 3 * 4
        assert free == 1 << 30 or device.most > free / 5
