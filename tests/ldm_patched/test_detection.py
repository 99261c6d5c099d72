"""Parameters -> networks -> names and shapes -> the same parameters; and what is not of the family, named."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ldm_patched.ldm.clip import ClipTextParams
from ldm_patched.ldm.unet import UNetParams
from ldm_patched.ldm.vae import VAEParams
from ldm_patched.modules.checkpoint_layout import TOWERS, tower_from_published, tower_to_published
from ldm_patched.modules.detection import (
    Detection,
    Shapes,
    TowerDetection,
    build,
    check_complete,
    detect,
    looks_like,
    published_shapes,
)
from ldm_patched.modules.state_dict import WeightsError
from tests.ldm_patched.tiny import FAMILIES, TINY_REFINER_ALONE, TINY_SD15, TINY_SDXL, TINY_VAE

ROOT = Path(__file__).resolve().parents[2]

_CLIP_L = ClipTextParams(
    width=768,
    layers=12,
    heads=12,
    inner=3072,
    vocabulary=49408,
    positions=77,
    projection_dim=0,
    activation="quick_gelu",
)
_CLIP_G = ClipTextParams(
    width=1280,
    layers=32,
    heads=20,
    inner=5120,
    vocabulary=49408,
    positions=77,
    projection_dim=1280,
    activation="gelu",
)
_SDXL_UNET = UNetParams(
    in_channels=4,
    out_channels=4,
    model_channels=320,
    channel_mult=(1, 2, 4),
    num_res_blocks=2,
    transformer_depth=(0, 2, 10),
    middle_depth=10,
    context_dim=2048,
    adm_channels=2816,
    linear_projections=True,
    head_channels=64,
    heads=0,
)
SDXL_BASE = Detection(
    kind="sdxl",
    unet=_SDXL_UNET,
    vae=VAEParams(channels=128, channel_mult=(1, 2, 4, 4), num_res_blocks=2, latent_channels=4),
    towers=tuple(TowerDetection(slot, params) for slot, params in zip(TOWERS["sdxl"], (_CLIP_L, _CLIP_G), strict=True)),
    prediction="eps",
    zero_terminal_snr=False,
)
SDXL_REFINER = replace(
    SDXL_BASE,
    kind="sdxl_refiner",
    unet=replace(
        _SDXL_UNET,
        model_channels=384,
        channel_mult=(1, 2, 4, 4),
        transformer_depth=(0, 4, 4, 0),
        middle_depth=4,
        context_dim=1280,
        adm_channels=2560,
    ),
    towers=(TowerDetection(TOWERS["sdxl_refiner"][0], _CLIP_G),),
)
SD15 = replace(
    SDXL_BASE,
    kind="sd15",
    unet=replace(
        _SDXL_UNET,
        channel_mult=(1, 2, 4, 4),
        transformer_depth=(1, 1, 1, 0),
        middle_depth=1,
        context_dim=768,
        adm_channels=0,
        linear_projections=False,
        head_channels=0,
        heads=8,
    ),
    towers=(TowerDetection(TOWERS["sd15"][0], _CLIP_L),),
)


def shapes_of(found: Detection) -> dict[str, tuple[int, ...]]:
    return published_shapes(found, build("a file", found))


def refusal(shapes: Shapes) -> str:
    with pytest.raises(WeightsError) as caught:
        detect("some file.safetensors", shapes)
    message = str(caught.value)
    assert message.startswith("some file.safetensors ")
    return message


@pytest.mark.parametrize(
    "found",
    [*FAMILIES, TINY_REFINER_ALONE, SDXL_BASE, SDXL_REFINER, replace(SDXL_REFINER, vae=None, towers=()), SD15],
    ids=lambda found: found.kind,
)
def test_what_was_built_is_detected(found: Detection) -> None:
    shapes = shapes_of(found)
    assert detect("a file", shapes) == found
    check_complete("a file", shapes, published_shapes(found, build("a file", found)))


def test_networks_of_random_sizes_are_detected() -> None:
    rng = random.Random(0)
    for _ in range(8):
        levels = rng.randint(2, 4)
        found = rng.choice(FAMILIES)
        depths = tuple(rng.randint(0, 2) for _ in range(levels - 1)) + (1,)
        towers = tuple(
            TowerDetection(
                tower.slot,
                replace(tower.params, layers=rng.randint(1, 4), inner=rng.choice((64, 100)), vocabulary=700),
            )
            for tower in found.towers
        )
        unet = replace(
            found.unet,
            model_channels=rng.choice((64, 128)),
            channel_mult=tuple(sorted(rng.choices((1, 2, 3, 4), k=levels))),
            num_res_blocks=rng.randint(1, 3),
            transformer_depth=depths,
            middle_depth=rng.randint(0, 2),
        )
        vae = replace(TINY_VAE, channels=rng.choice((8, 32)), num_res_blocks=rng.randint(1, 2))
        found = replace(found, unet=unet, vae=vae, towers=towers)
        assert detect("a file", shapes_of(found)) == found


def test_sdxl_base_has_the_published_names_and_shapes() -> None:
    shapes = shapes_of(SDXL_BASE)
    unused = {
        "conditioner.embedders.0.transformer.text_model.embeddings.position_ids",
        "conditioner.embedders.1.model.logit_scale",
        "denoiser.sigmas",
    }
    assert not unused & shapes.keys()
    assert len(shapes) + len(unused) == 2516
    counts = Counter(name.split(".")[0] for name in shapes)
    assert counts == {"model": 1680, "conditioner": 196 + 389, "first_stage_model": 248}
    assert detect("a file", shapes | dict.fromkeys(unused, (1,))) == SDXL_BASE
    assert len(shapes_of(SDXL_REFINER)) + 2 == 1859
    known = {
        "model.diffusion_model.input_blocks.4.0.skip_connection.weight": (640, 320, 1, 1),
        "model.diffusion_model.input_blocks.8.1.transformer_blocks.9.attn2.to_k.weight": (1280, 2048),
        "model.diffusion_model.middle_block.1.transformer_blocks.9.attn1.to_q.weight": (1280, 1280),
        "model.diffusion_model.output_blocks.2.2.conv.weight": (1280, 1280, 3, 3),
        "model.diffusion_model.label_emb.0.0.weight": (1280, 2816),
        "conditioner.embedders.0.transformer.text_model.encoder.layers.11.self_attn.q_proj.bias": (768,),
        "conditioner.embedders.1.model.transformer.resblocks.31.attn.in_proj_weight": (3840, 1280),
        "conditioner.embedders.1.model.text_projection": (1280, 1280),
        "first_stage_model.decoder.up.0.block.0.nin_shortcut.weight": (128, 256, 1, 1),
        "first_stage_model.quant_conv.weight": (8, 8, 1, 1),
    }
    assert known.items() <= shapes.items()


def test_prediction_and_schedule_are_said_by_name() -> None:
    shapes = shapes_of(TINY_SDXL)
    assert detect("a file", shapes | {"v_pred": (0,)}) == replace(TINY_SDXL, prediction="v")
    both = detect("a file", shapes | {"v_pred": (), "ztsnr": ()})
    assert both == replace(TINY_SDXL, prediction="v", zero_terminal_snr=True)


def test_published_tower_names_and_back() -> None:
    found = TINY_SDXL.towers[0]
    own = {name: torch.randn(tensor.shape) for name, tensor in build("", TINY_SDXL).towers[0].state_dict().items()}
    published = tower_to_published(found.slot, own)
    assert "encoder.layers.1.self_attn.k_proj.weight" in published
    back = tower_from_published(found.slot, published | {"embeddings.position_ids": torch.arange(77)[None]})
    assert back.keys() == own.keys()
    assert all(torch.equal(back[name], own[name]) for name in own)


# Refusals


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lora_unet_down_blocks_0.lora_down.weight", "a LoRA"),
        ("unet.down_blocks.0.attn.to_q.lora_A.weight", "a LoRA"),
        ("lora_te1_text_model.hada_w1_a", "a LoRA"),
        ("input_blocks.0.0.hada_w1_a", "LyCORIS"),
        ("lora_controlnet", "a Control-LoRA"),
        ("control_model.input_blocks.0.0.weight", "a ControlNet"),
        ("controlnet_cond_embedding.conv_in.weight", "a ControlNet"),
        ("image_proj.latents", "an IP-Adapter"),
        ("clip_g", "textual-inversion"),
        ("model.diffusion_model.double_blocks.0.img_attn.qkv.weight", "Flux"),
        ("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", "Stable Diffusion 3"),
        ("model.0.weight", "an upscaler"),
        ("down_blocks.0.resnets.0.conv1.weight", "a UNet in diffusers' layout"),
        ("decoder.up_blocks.0.resnets.0.conv1.weight", "a VAE in diffusers' layout"),
        ("decoder.conv_in.weight", "a VAE"),
        ("first_stage_model.decoder.conv_in.weight", "a VAE"),
        ("vision_model.embeddings.class_embedding", "a CLIP image encoder"),
        ("text_model.encoder.layers.0.mlp.fc1.weight", "a text encoder"),
        ("encoder.block.0.layer.0.SelfAttention.q.weight", "a T5 text encoder"),
        ("input_blocks.0.0.weight", "a UNet without its prefix"),
        ("hello", "something unknown (its first tensor of 1 is 'hello')"),
    ],
)
def test_other_kinds_of_file_are_named(name: str, words: str) -> None:
    assert f"looks like {words}" in refusal({name: (4, 4)}) or words in refusal({name: (4, 4)})
    assert "expected a checkpoint" in refusal({name: (4, 4)})


def test_an_empty_file() -> None:
    assert looks_like({}) == "an empty file"
    assert "an empty file" in refusal({})


def without(shapes: Shapes, prefix: str) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in shapes.items() if not name.startswith(prefix)}


def test_parts_that_are_missing_are_named() -> None:
    shapes = shapes_of(TINY_SDXL)
    assert "UNet of the SDXL family without its text encoders" in refusal(without(shapes, "conditioner."))
    assert "UNet of the SDXL family without its text encoders" in refusal(without(shapes, "conditioner.embedders.0."))
    assert "no tensor 'first_stage_model.encoder.conv_in.weight'" in refusal(without(shapes, "first_stage_model."))
    sd15 = shapes_of(TINY_SD15)
    assert "UNet of the Stable Diffusion family without" in refusal(without(sd15, "cond_stage_model."))


def test_stable_diffusion_2_is_named() -> None:
    shapes = without(shapes_of(TINY_SD15), "cond_stage_model.")
    assert "Stable Diffusion 2" in refusal(
        shapes | {"cond_stage_model.model.transformer.resblocks.0.ln_1.weight": (9,)}
    )


def test_an_inpainting_unet_is_named() -> None:
    name = "model.diffusion_model.input_blocks.0.0.weight"
    shapes = shapes_of(TINY_SDXL)
    assert "9 input channels (an inpainting model)" in refusal(shapes | {name: (64, 9, 3, 3)})


def test_a_distilled_unet_with_unequal_blocks_is_named() -> None:
    two = replace(TINY_SDXL, unet=replace(TINY_SDXL.unet, num_res_blocks=2, transformer_depth=(0, 2)))
    shapes = without(shapes_of(two), "model.diffusion_model.input_blocks.5.1.transformer_blocks.1.")
    assert "unequal blocks in level 1" in refusal(shapes)


def test_parts_that_do_not_fit_each_other_are_named() -> None:
    wrong = replace(TINY_SDXL, unet=replace(TINY_SDXL.unet, context_dim=100))
    assert "texts 100 wide, but text encoders of 192 together" in refusal(shapes_of(wrong))
    wrong = replace(TINY_SDXL, unet=replace(TINY_SDXL.unet, adm_channels=100))
    assert "size vectors 100 wide; expected 1600" in refusal(shapes_of(wrong))
    wrong = replace(TINY_SDXL, vae=replace(TINY_VAE, latent_channels=16))
    assert "VAE of 16 latent channels, its UNet 4" in refusal(shapes_of(wrong))
    large = TINY_SDXL.towers[1]
    towers = (TINY_SDXL.towers[0], replace(large, params=replace(large.params, vocabulary=999)))
    assert "different vocabularies" in refusal(shapes_of(replace(TINY_SDXL, towers=towers)))
    wrong = replace(TINY_SDXL, vae=replace(TINY_VAE, channel_mult=(1, 2)))
    assert "reduces by 2 instead of 8" in refusal(shapes_of(wrong))


def test_every_missing_or_reshaped_tensor_is_noticed() -> None:
    whole = shapes_of(TINY_SDXL)
    rng = random.Random(1)
    for name in rng.sample(sorted(whole), 10):
        for shapes in (without(whole, name), whole | {name: (*whole[name], 3)}):
            with pytest.raises(WeightsError, match=r"some file\.safetensors"):
                found = detect("some file.safetensors", shapes)
                wanted = published_shapes(found, build("some file.safetensors", found))
                check_complete("some file.safetensors", shapes, wanted)


def test_shapes_without_sense_are_refused() -> None:
    whole = shapes_of(TINY_SDXL)
    rng = random.Random(2)
    for _ in range(40):
        name = rng.choice(sorted(whole))
        shape = tuple(rng.choice((0, 1, 3, 64, 10**9)) for _ in range(rng.randint(0, 4)))
        shapes = whole | {name: shape}
        try:
            found = detect("some file.safetensors", shapes)
            check_complete("x", shapes, published_shapes(found, build("x", found)))
        except WeightsError:
            continue
        assert shapes[name] == whole[name]


def test_building_needs_no_symbolic_algebra() -> None:
    # torch imports sympy, 2 s, when layers are initialised on the meta device.
    script = (
        "import sys; from tests.ldm_patched.tiny import TINY_SDXL as t; "
        "from ldm_patched.modules.detection import build, published_shapes; "
        "published_shapes(t, build('', t)); assert 'sympy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
