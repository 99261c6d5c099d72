"""The UNet's training: errors count alike at every noise level."""

from __future__ import annotations

import torch

from training.unet import Levels


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
