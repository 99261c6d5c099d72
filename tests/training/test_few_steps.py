"""What a few-step LoRA learns and how it is written: the step it aims at, and the weights that the engine gets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ldm_patched.k_diffusion.sampling import sample_euler
from ldm_patched.modules.lora import read_lora
from ldm_patched.modules.model_sampling import ModelSampling
from ldm_patched.modules.patches import Patcher
from ldm_patched.modules.schedulers import calculate_sigmas, choose_model_sampling
from ldm_patched.modules.sd import load_checkpoint
from tests.ldm_patched.tiny import TINY_SDXL, write
from training.few_steps import Lessons
from training.lora import Student
from training.trajectories import STEPS, draw, levels


def v_prediction() -> ModelSampling:
    return choose_model_sampling("sdxl", "v", False, "sgm_uniform")


@pytest.mark.parametrize(("reach", "steps"), [("picture", 1), ("quarter", 4)])
def test_a_student_that_says_what_it_should_ends_where_the_base_ended(reach: str, steps: int) -> None:
    model_sampling = v_prediction()
    lessons = Lessons([], model_sampling, "picture" if reach == "picture" else "quarter", 1, seed=0)
    way = torch.randn(STEPS + 1, 4, 8, 8, generator=torch.Generator().manual_seed(1))

    class Taught:
        """Euler's steps of the mode; what it says is looked up in the trajectory."""

        def __init__(self) -> None:
            self.model_sampling = model_sampling

        def __call__(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
            at = min(range(STEPS), key=lambda place: abs(float(lessons.sigmas[place]) - sigma))
            to = at + STEPS // steps
            _, velocity = lessons.velocity(way[None, at], way[None, to], torch.tensor([at]), torch.tensor([to]))
            return model_sampling.denoised(velocity, x, sigma)

    end = sample_euler(Taught(), way[None, 0], calculate_sigmas(model_sampling, "sgm_uniform", steps))
    assert torch.allclose(end, way[None, STEPS], atol=1e-3)


def test_the_places_of_a_mode_are_the_noise_levels_of_its_steps() -> None:
    model_sampling = v_prediction()
    lessons = Lessons([], model_sampling, "quarter", 1, seed=0)
    wanted = calculate_sigmas(model_sampling, "sgm_uniform", 4)
    assert [float(lessons.sigmas[place]) for place in lessons.places] == pytest.approx(wanted[:-1], rel=1e-5)


def test_the_engine_makes_of_the_file_what_was_trained(tmp_path: Path) -> None:
    unet = load_checkpoint(write(tmp_path / "tiny.safetensors", TINY_SDXL)).unet.float()
    torch.manual_seed(0)
    student = Student(unet, rank=4)
    with torch.no_grad():
        for up in student.factors.up.values():
            up.normal_(std=0.05)
    student.write(tmp_path / "lora.safetensors", "a LoRA")
    other = load_checkpoint(tmp_path / "tiny.safetensors")
    patcher = Patcher.of(other)
    patch = read_lora(tmp_path / "lora.safetensors", patcher.names)
    assert patch.unmatched == ()
    patcher.apply([(patch, 1.0)])
    trained = student.factors.applied_to(unet)
    for name, weight in other.unet.state_dict().items():
        assert torch.allclose(weight.float(), trained[name].detach(), atol=0.02, rtol=0.02), name
        if weight.ndim >= 2:
            assert not torch.equal(trained[name], unet.state_dict()[name]), f"{name} has no update"
    assert all(tensor.dtype == torch.float16 for tensor in load_file(tmp_path / "lora.safetensors").values())


def test_a_trajectory_goes_from_the_noise_of_its_seed_to_a_picture(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(write(tmp_path / "tiny.safetensors", TINY_SDXL))
    drawn = draw(checkpoint, ["a red cat", "a blue boat"], (64, 96), seed=5)
    assert drawn.latents.shape == (2, STEPS + 1, 4, 12, 8)
    sigmas = levels(choose_model_sampling("sdxl", checkpoint.prediction, False, "sgm_uniform"))
    first = drawn.latents[:, 0].float()
    assert float(first.std()) == pytest.approx((1 + sigmas[0] ** 2) ** 0.5, rel=0.1)
    assert not torch.equal(drawn.latents[0, -1], drawn.latents[1, -1])
    again = draw(checkpoint, ["a red cat", "a blue boat"], (64, 96), seed=5)
    assert torch.equal(drawn.latents, again.latents)
    assert len(drawn.hidden) == len(drawn.vectors) == 2
