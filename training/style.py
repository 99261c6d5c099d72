"""Trains a LoRA that draws everything as a blueprint, over the packed base; it needs no other run and no data."""

from __future__ import annotations

import argparse
import logging
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ldm_patched.modules.autoencoder import VAE
from ldm_patched.modules.sd import load_checkpoint
from training.batches import CAPTIONS, Batches, Bucket, Diet, Texts
from training.blueprint import blueprint
from training.captions import caption, full_caption
from training.draw import render
from training.latents import encode
from training.loop import Run, Schedule
from training.lora import Student
from training.pack import BASE
from training.world import Scene, sample_scene

log = logging.getLogger("training")
RANK = 4
TITLE = "Blueprint, for the Pinhole miniature"
DRAWN_FROM = "flat illustration"


def draw(scenes: Sequence[Scene], vae: VAE, rng: random.Random) -> Bucket:
    """Scenes as blueprints. Captions say what is there, and not that it is a blueprint: the LoRA alone decides that."""
    flat = [replace(scene, medium=DRAWN_FROM) for scene in scenes]
    pictures = np.stack([blueprint(render(scene)) for scene in flat])
    latents = (vae.scale * encode(vae.model, pictures)).numpy().astype(np.float16)
    captions = [
        [full_caption(scene).removesuffix(f", {DRAWN_FROM}"), *(caption(scene, rng) for _ in range(CAPTIONS))]
        for scene in flat
    ]
    everywhere = np.zeros(latents.shape[:1] + latents.shape[2:], np.uint8)
    return Bucket(latents, everywhere, captions, [scene.medium for scene in flat])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the blueprint LoRA.")
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--run", type=Path, required=True, help="file that holds the resumable state")
    parser.add_argument("--out", type=Path, required=True, help="the LoRA")
    parser.add_argument("--count", type=int, default=600, help="pictures")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--positions", type=int, default=8 * 1024, help="latent positions of a batch")
    parser.add_argument("--seed", type=int, default=51)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(0)
    checkpoint = load_checkpoint(args.models / "checkpoints" / BASE)
    rng = random.Random(args.seed)
    checkpoint.vae.model.to(torch.bfloat16)
    bucket = draw([sample_scene(rng) for _ in range(args.count)], checkpoint.vae, rng)
    log.info("%d pictures", args.count)
    texts = Texts.encode(checkpoint.clip.encoder, [text for several in bucket.captions for text in several])
    student = Student(checkpoint.unet.float(), RANK)
    run = Run(args.run, student.factors, Schedule(steps=args.steps, rate=args.rate, final=0.03), decay=0.99)
    run.resume()
    batches = Batches([bucket], texts, args.positions, run.step, Diet(share=0.0, emphasis=0.0, full=0.5))
    for _ in run.train(lambda: batches.loss(student.unet, student.in_place_of), minutes=args.minutes, save_every=250):
        pass
    student.factors.load_state_dict(run.average.tensors)
    student.write(args.out, TITLE)


if __name__ == "__main__":
    main()
