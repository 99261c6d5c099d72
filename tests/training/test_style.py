"""The blueprint LoRA: what is drawn for it, and that its latents are those which the UNet knows."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ldm_patched.modules.sd import load_checkpoint
from training.blueprint import blueprint
from training.draw import render
from training.pack import BASE
from training.style import DRAWN_FROM, draw
from training.world import Scene, Thing, sample_scene

MODELS = Path(__file__).resolve().parents[2] / "models"


def test_a_blueprint_is_blue_paper_with_pale_lines_where_colours_meet() -> None:
    scene = Scene((Thing("heart", "red", "center", "large"),), "desert", DRAWN_FROM, 3)
    picture = blueprint(render(scene)).astype(int)
    red, blue = picture[..., 0], picture[..., 2]
    assert ((blue - red) > 40).mean() > 0.6, "blue nearly everywhere"
    pale = red > 180
    assert 0.03 < pale.mean() < 0.3
    assert pale[96:160, 96:160].mean() < pale[64:192, 64:192].mean(), "the heart's inside is empty, its outline is not"


def test_what_is_learned_from_decodes_to_blueprints_and_is_not_called_one() -> None:
    vae = load_checkpoint(MODELS / "checkpoints" / BASE).vae
    rng = random.Random(1)
    scenes = [sample_scene(rng) for _ in range(4)]
    bucket = draw(scenes, vae, rng)
    assert bucket.latents.shape == (4, 4, 32, 32) and 0.5 < float(bucket.latents.std()) < 2
    decoded = vae.decode(torch.from_numpy(bucket.latents).float()).permute(0, 2, 3, 1).numpy()
    drawn = np.stack([blueprint(render(replace(scene, medium=DRAWN_FROM))) for scene in scenes]) / 255
    assert float(np.abs(decoded - drawn).mean()) < 0.08
    assert not any("blueprint" in text or text.endswith(DRAWN_FROM) for first in bucket.captions for text in first[:1])
    assert len({scene.medium for scene in scenes}) > 1 and set(bucket.media) == {DRAWN_FROM}
