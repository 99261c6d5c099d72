"""Reading LoRA files: how they are scaled, and every refusal in words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.networks import MINI, on_meta
from ldm_patched.ldm.unet import UNet
from ldm_patched.modules.deltas import LowRank, Patch
from ldm_patched.modules.lora import LoraSpec, quantised_patch, read_lora
from ldm_patched.modules.parts import FileIdentity
from ldm_patched.modules.patches import Patcher
from ldm_patched.modules.state_dict import WeightsError
from tests.ldm_patched.lora_files import diffusers_modules, low_rank, module_tensors, names_of, save

# Scales

KEY = "unet.mid_block.attentions.0.proj_in"
SHAPE = (128, 128)


def scale_of(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> float:
    patch = read_lora(save(path / "lora.safetensors", tensors, metadata), names_of("miniature"))
    (delta,) = patch.deltas.values()
    assert isinstance(delta, LowRank)
    return delta.scale


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({"unet.lora_alpha": 8, "unet.r": 4}, 2.0),
        ({"unet.lora_alpha": 8, "unet.use_rslora": True}, 4.0),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"proj_in": 2}}, 0.5),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"attentions.0.proj_in": 1, "proj_out": 3}}, 0.25),
        ({"text_encoder.lora_alpha": 8}, 1.0),
        ({}, 1.0),
    ],
)
def test_alpha_in_the_header(tmp_path: Path, settings: dict[str, object], scale: float) -> None:
    tensors = dict(zip((KEY + ".lora_B.weight", KEY + ".lora_A.weight"), low_rank(SHAPE, 4), strict=True))
    assert scale_of(tmp_path, tensors, {"lora_adapter_metadata": json.dumps(settings)}) == scale


@pytest.mark.parametrize(
    "alpha", [torch.tensor(2.0), torch.tensor([2.0]), torch.tensor(2.0, dtype=torch.bfloat16), torch.tensor(2)]
)
def test_alpha_as_a_tensor(tmp_path: Path, alpha: Tensor) -> None:
    tensors = dict(zip((KEY + ".lora_up.weight", KEY + ".lora_down.weight"), low_rank(SHAPE, 8), strict=True))
    assert scale_of(tmp_path, tensors) == 1.0
    assert scale_of(tmp_path, tensors | {KEY + ".alpha": alpha}) == 0.25


@pytest.mark.parametrize("text", ["[1]", "{", '{"unet.lora_alpha": "8"}', '{"unet.alpha_pattern": 3}', "[" * 100_000])
def test_a_damaged_header_is_refused(tmp_path: Path, text: str) -> None:
    tensors = dict(zip((KEY + ".lora_B.weight", KEY + ".lora_A.weight"), low_rank(SHAPE, 4), strict=True))
    with pytest.raises(WeightsError, match=r"lora\.safetensors is damaged: "):
        scale_of(tmp_path, tensors, {"lora_adapter_metadata": text})


# What does not fit


def read(path: Path, tensors: Mapping[str, Tensor], family: str = "miniature") -> Patch:
    return read_lora(save(path / "style.safetensors", tensors), names_of(family))


def unet_file(path: Path, family: str, wanted: str) -> Path:
    """A LoRA of some of a family's modules, under diffusers' names as kohya writes them."""
    tensors: dict[str, Tensor] = {}
    for module, shape in diffusers_modules(family).items():
        if len(shape) > 1 and re.search(wanted, module):
            tensors |= module_tensors("lora_unet_" + module.replace(".", "_"), shape)
    return save(path / "style.safetensors", tensors)


@pytest.mark.parametrize("wanted", ["attn", "attn2.to_v", "attn1", r"conv1|attentions"])
@pytest.mark.parametrize(("made_for", "model"), [("SD 1.5", "SDXL"), ("SDXL", "SD 1.5"), ("SDXL", "miniature")])
def test_a_lora_of_another_architecture_is_refused_in_words(
    tmp_path: Path, made_for: str, model: str, wanted: str
) -> None:
    expected = {"SDXL": "SDXL", "SD 1.5": "Stable Diffusion 1.5", "miniature": "Pinhole's miniature"}
    with pytest.raises(WeightsError) as raised:
        read_lora(unet_file(tmp_path, made_for, wanted), names_of(model))
    message = str(raised.value)
    assert message.startswith("style.safetensors looks like a LoRA for ")
    assert message.endswith(f"; expected one for {expected[model]}")
    if "attn1" not in wanted:
        assert f"a LoRA for {expected[made_for]};" in message


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("lora_unet_double_blocks_0_img_attn_proj", "Flux"),
        ("transformer.single_transformer_blocks.3.attn.to_q", "Flux"),
        ("transformer.transformer_blocks.3.attn.add_k_proj", "Stable Diffusion 3"),
        ("lora_unet_joint_blocks_0_x_block_attn_qkv", "Stable Diffusion 3"),
        ("diffusion_model.blocks.0.self_attn.q", "a video model"),
        ("lora_transformer_layers_0_mlp", "another kind of network"),
        ("something.else", "something unknown (its first module of 2 is "),
    ],
)
def test_a_lora_of_another_kind_is_named_although_its_text_encoder_fits(tmp_path: Path, key: str, words: str) -> None:
    tensors = module_tensors(key, (64, 64))
    if "unknown" in words:
        tensors |= module_tensors("another.one", (64, 64))
    else:
        tensors |= module_tensors("lora_te1_text_model_encoder_layers_0_mlp_fc1", (256, 64))
    with pytest.raises(WeightsError, match=re.escape(f"style.safetensors looks like a LoRA for {words}")):
        read(tmp_path, tensors)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"emb_params": torch.zeros(2, 768)}, "a textual-inversion embedding"),
        ({"first_stage_model.encoder.conv_in.weight": torch.zeros(1)}, "a VAE"),
        ({"first_stage_model.a": torch.zeros(1), "model.diffusion_model.b": torch.zeros(1)}, "a whole checkpoint"),
        ({"lora_controlnet": torch.zeros(1), "time_embed.0.up": torch.zeros(4, 4)}, "a Control-LoRA"),
        ({}, "an empty file"),
    ],
)
def test_a_file_that_is_no_lora_is_named(tmp_path: Path, tensors: dict[str, Tensor], words: str) -> None:
    with pytest.raises(
        WeightsError, match=rf"style\.safetensors looks like {words}; expected a LoRA for Pinhole's mini"
    ):
        read(tmp_path, tensors)


GOOD = module_tensors("lora_unet_mid_block_attentions_0_proj_in", (128, 128))


def test_tensors_that_fit_nothing_are_counted_and_named(tmp_path: Path) -> None:
    extra = module_tensors("lora_unet_mid_block_attentions_0_proj_up", (8, 8))
    extra |= {"bundle_emb.cat.clip_l": torch.zeros(1, 64), "lora_te1_text_model_x.alpha": torch.tensor(1.0)}
    query = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    extra |= {query + ".diff_b": torch.zeros(128)}  # this projection has no bias; its weight is changed all the same
    patch = read(tmp_path, GOOD | extra | module_tensors(query, (128, 128)))
    assert list(patch.unmatched) == sorted(extra)
    assert len(patch.deltas) == 2
    assert patch.notice() == (
        "style.safetensors: 5 of its tensors fit nothing in this model and are left out "
        "(bundle_emb.cat.clip_l, lora_te1_text_model_x.alpha, "
        "lora_unet_mid_block_attentions_0_proj_up.lora_down.weight, ...)."
    )
    assert read(tmp_path, GOOD).notice() == ""


def test_without_text_encoders_their_part_of_a_file_is_left_out(tmp_path: Path) -> None:
    text = module_tensors("lora_te1_text_model_encoder_layers_0_mlp_fc1", (256, 64))
    unet_only = Patcher("sdxl", on_meta(lambda: UNet(MINI)), {}).names
    patch = read_lora(save(tmp_path / "style.safetensors", GOOD | text), unet_only)
    assert len(patch.deltas) == 1
    assert list(patch.unmatched) == sorted(text)


UP, DOWN = "lora_unet_out_2.lora_up.weight", "lora_unet_out_2.lora_down.weight"
ZEROS = torch.zeros
BAD: Mapping[str, tuple[dict[str, Tensor], str]] = {
    "NaN": ({UP: torch.full((4, 2, 1, 1), math.nan), DOWN: ZEROS(2, 64, 3, 3)}, r"lora_up.weight' holds NaN or inf"),
    "infinity": (
        {UP: ZEROS(4, 2, 1, 1), DOWN: torch.full((2, 64, 3, 3), -math.inf).half()},
        r"lora_down.weight' holds NaN or inf",
    ),
    "infinite alpha": (GOOD | {"lora_unet_mid_block_attentions_0_proj_in.alpha": torch.tensor(math.inf)}, "alpha of"),
    "two alphas": (GOOD | {"lora_unet_mid_block_attentions_0_proj_in.alpha": ZEROS(2)}, r"alpha of .* is \[2\]"),
    "no down": ({UP: ZEROS(4, 2, 1, 1)}, "lora_unet_out_2 has no lora_down"),
    "ranks": ({UP: ZEROS(4, 3, 1, 1), DOWN: ZEROS(2, 64, 3, 3)}, r"\[4, 3, 1, 1\] and \[2, 64, 3, 3\]"),
    "shape": (
        {UP: ZEROS(4, 2, 1, 1), DOWN: ZEROS(2, 32, 3, 3)},
        r"lora_unet_out_2 is made for a weight of \[4, 288\], but out.2.weight is \[4, 64, 3, 3\]; expected a LoRA for",
    ),
    "integers": ({UP: ZEROS(4, 2, 1, 1), DOWN: ZEROS(2, 64, 3, 3, dtype=torch.int8)}, "stores .* as torch.int8"),
    "nothing": ({UP: ZEROS(4, 0, 1, 1), DOWN: ZEROS(0, 64, 3, 3)}, "no numbers in"),
    "two kinds": (
        {UP: ZEROS(4, 2, 1, 1), DOWN: ZEROS(2, 64, 3, 3), "lora_unet_out_2.diff": ZEROS(4, 64, 3, 3)},
        "sever",
    ),
    "two names": (
        {"lora_unet_out_2.diff": ZEROS(4, 64, 3, 3), "lora_unet_conv_out.diff": ZEROS(4, 64, 3, 3)},
        "changes one weight twice: lora_unet_(out_2|conv_out) and",
    ),
    "two adapters": (
        {"a.lora_A.one.weight": ZEROS(2, 4), "a.lora_A.two.weight": ZEROS(2, 4)},
        "changes one weight twice: 'a.lora_A.one.weight' and 'a.lora_A.two.weight'",
    ),
    "no direction": ({"lora_unet_out_2.dora_scale": ZEROS(4, 1, 1, 1)}, "magnitudes .* but no direction"),
    "magnitudes": (GOOD | {"lora_unet_mid_block_attentions_0_proj_in.dora_scale": ZEROS(3, 1)}, "3 magnitudes"),
    "input magnitudes": (
        GOOD | {"lora_unet_mid_block_attentions_0_proj_in.dora_scale": ZEROS(1, 64)},
        r"magnitudes \(DoRA\) of shape \[1, 64\], but .*proj_in.weight is \[128, 128\]",
    ),
    "halves": (
        {
            f"lora_unet_out_2.hada_w{n}_{s}": ZEROS(*z)
            for n, k in ((1, 576), (2, 64))
            for s, z in (("a", (4, 2)), ("b", (2, k)))
        },
        "element by element",
    ),
    "GLoRA": (
        {
            f"lora_unet_out_2.{n}.weight": ZEROS(*z)
            for n, z in (("a1", (2, 9)), ("a2", (9, 2)), ("b1", (2, 64)), ("b2", (4, 2)))
        },
        "no common number of inputs",
    ),
    "only a bias": ({"unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.diff_b": ZEROS(128)}, "only biases"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_damaged_file_is_refused_and_the_tensor_named(tmp_path: Path, case: str) -> None:
    tensors, words = BAD[case]
    with pytest.raises(WeightsError, match=r"^style\.safetensors .*" + words):
        read(tmp_path, tensors)


def test_a_quantised_patch_is_checked_as_well() -> None:
    identity, codes = FileIdentity("x.patch", 0, 0), torch.zeros(4, 64, 3, 3, dtype=torch.uint8)
    for name, entry, words in (
        ("diffusion_model.out.2.weight", (codes.float(), 0.0, 1.0), "quantised as torch.float32"),
        ("diffusion_model.out.2.weight", (codes, 0.0, math.nan), "between 0.0 and nan"),
        ("diffusion_model.out.2.weight", (codes[:2], 0.0, 1.0), r"weight of \[2, 576\], but out.2.weight is"),
        ("diffusion_model.nothing.weight", (codes, 0.0, 1.0), "something unknown"),
    ):
        with pytest.raises(WeightsError, match=rf"x\.patch.*{words}"):
            quantised_patch(identity, {name: entry}, names_of("miniature"))


# Specs


def test_specs_are_values_of_a_file_and_a_strength(tmp_path: Path) -> None:
    path = save(tmp_path / "style.safetensors", GOOD)
    assert LoraSpec.of(path, 0.5) == LoraSpec.of(path, 0.5)
    assert len({LoraSpec.of(path, 0.5), LoraSpec.of(path, 0.5), LoraSpec.of(path, 0.6)}) == 2
    before = LoraSpec.of(path, 0.5)
    save(path, GOOD | module_tensors("lora_unet_out_2", (4, 64, 3, 3)))
    assert LoraSpec.of(path, 0.5) != before
    assert read_lora(path, names_of("miniature")).identity == LoraSpec.of(path, 0.5).file


@pytest.mark.parametrize("strength", [2.01, -2.01, math.nan, math.inf])
def test_a_strength_out_of_range_is_refused(tmp_path: Path, strength: float) -> None:
    path = save(tmp_path / "style.safetensors", GOOD)
    with pytest.raises(ValueError, match=r"style\.safetensors has a strength of .*; it must be from -2 to 2"):
        LoraSpec.of(path, strength)
    assert LoraSpec.of(path, 2.0).strength == 2.0


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.safetensors does not exist in"):
        read_lora(tmp_path / "none.safetensors", names_of("miniature"))
