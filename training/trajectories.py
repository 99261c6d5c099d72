"""Draws pictures with the packed base model and keeps every noise level on the way; it trains nothing.

What a few-step LoRA learns from: the same noise, the same words, and where many guided steps lead (arXiv 2303.01469,
definition 1). The base is guided as the application guides it.
"""

from __future__ import annotations

import argparse
import logging
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ldm_patched.modules.conditioning import SizeVectors, size_vectors
from ldm_patched.modules.model_sampling import ModelSampling
from ldm_patched.modules.sample import prepare_noise, sample
from ldm_patched.modules.samplers import Denoiser, Guidance, GuidedDenoiser, TextCondition
from ldm_patched.modules.schedulers import calculate_sigmas, choose_model_sampling
from ldm_patched.modules.sd import CLIP, Checkpoint, load_checkpoint
from modules.parameters import GenerationParameters
from training.captions import caption, full_caption
from training.pack import BASE
from training.render import MIXED_BUCKETS
from training.world import sample_scene

log = logging.getLogger("training")
STEPS = 16
SAMPLER, SCHEDULER = "dpmpp_2m", "sgm_uniform"
GUIDANCE = 3.0
SQUARE = (256, 256)
SQUARES = 2  # of three batches; the others have a shape of their own
SIDE = 8  # pixels of a latent pixel


@dataclass(frozen=True)
class Trajectories:
    """Runs of one shape.

    latents: half precision [n, STEPS + 1, 4, h, w], from noise to picture, each at its noise level of `sigmas`. hidden
    [n, 77, width] and vectors [n, adm]: what the UNet is told where there is no guidance.
    """

    latents: Tensor
    hidden: Tensor
    vectors: Tensor


class Remembering:
    """A denoiser that keeps the latents it is asked about."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.model_sampling: ModelSampling = denoiser.model_sampling
        self.seen: list[Tensor] = []
        self._denoiser = denoiser

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """x0 as the denoiser has it."""
        self.seen.append(x.to(torch.float16))
        return self._denoiser(x, sigma)


def parametrisation(checkpoint: Checkpoint) -> ModelSampling:
    """What the UNet predicts."""
    return choose_model_sampling(checkpoint.kind, checkpoint.prediction, checkpoint.zero_terminal_snr, SCHEDULER)


def levels(model_sampling: ModelSampling) -> list[float]:
    """The noise levels of every trajectory: STEPS of them and 0."""
    return calculate_sigmas(model_sampling, SCHEDULER, STEPS)


def words(rng: random.Random) -> str:
    """What a picture is asked for: everything is named, or some of it."""
    scene = sample_scene(rng)
    return full_caption(scene) if rng.random() < 0.6 else caption(scene, rng)


def condition(clip: CLIP, texts: list[str], size: tuple[int, int], scale: float) -> TextCondition:
    """What the UNet is told of texts and of a size in pixels, as a batch."""
    encoded = [clip.encode([text])[0] for text in texts]
    pooled = [extras["pooled_output"] for _, extras in encoded]
    sizes = [size_vectors(vector, *size, scale) for vector in pooled if vector is not None]
    return TextCondition(
        torch.cat([hidden for hidden, _ in encoded]),
        SizeVectors(torch.cat([each.emphasised for each in sizes]), torch.cat([each.plain for each in sizes])),
    )


@torch.inference_mode()
def draw(checkpoint: Checkpoint, texts: list[str], size: tuple[int, int], seed: int) -> Trajectories:
    """One run a text, with noise of its own."""
    usual = GenerationParameters()
    cond = condition(checkpoint.clip, texts, size, usual.advanced.adm_scaler_positive)
    uncond = condition(checkpoint.clip, [""] * len(texts), size, usual.advanced.adm_scaler_negative)
    guidance, end = Guidance(GUIDANCE, usual.sharpness), usual.advanced.adm_scaler_end
    model_sampling = parametrisation(checkpoint)
    sigmas = levels(model_sampling)
    denoiser = Remembering(GuidedDenoiser(checkpoint.unet, model_sampling, cond, uncond, guidance, sigmas, end))
    shape = (len(texts), 4, size[1] // SIDE, size[0] // SIDE)
    latent = sample(denoiser, prepare_noise(shape, seed), torch.zeros(shape), sigmas, SAMPLER, seed)
    plain = condition(checkpoint.clip, texts, size, 1.0)
    assert plain.sizes is not None
    latents = torch.stack([*denoiser.seen, latent.to(torch.float16)], dim=1)
    return Trajectories(latents, plain.hidden.to(torch.float16), plain.sizes.plain.float())


def load(path: Path) -> list[Trajectories]:
    """What `main` has written."""
    return [Trajectories(*tensors) for tensors in torch.load(path, weights_only=True)]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Draw pictures and keep every noise level on the way.")
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1600)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=41)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    checkpoint = load_checkpoint(args.models / "checkpoints" / BASE)
    rng = random.Random(args.seed)
    drawn: dict[tuple[int, int], list[Trajectories]] = {}
    for number in range(-(-args.count // args.batch)):
        size = SQUARE if number % (SQUARES + 1) < SQUARES else rng.choice(MIXED_BUCKETS)
        texts = [words(rng) for _ in range(args.batch)]
        drawn.setdefault(size, []).append(draw(checkpoint, texts, size, args.seed + number))
        if number % 10 == 9:
            log.info("%d trajectories", (number + 1) * args.batch)
    whole = [
        tuple(torch.cat(tensors) for tensors in zip(*((t.latents, t.hidden, t.vectors) for t in several), strict=True))
        for several in drawn.values()
    ]
    torch.save(whole, args.out)


if __name__ == "__main__":
    main()
