"""Names of modules in every scheme lead to the same weights."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from torch import Tensor

from ldm_patched.modules.deltas import LowRank, Patch, Target
from ldm_patched.modules.lora import read_lora
from tests.ldm_patched.lora_files import (
    FAMILIES,
    diffusers_modules,
    low_rank,
    names_of,
    save,
    transformers_modules,
)

# Naming schemes: what each calls the factors of a module of the UNet, and of the two towers

Scheme = Callable[[str, str], tuple[str, str]]


def _kohya(part: str, module: str) -> tuple[str, str]:
    prefix = {"unet": "lora_unet_", "clip_l": "lora_te1_", "clip_g": "lora_te2_"}[part]
    key = prefix + module.replace(".", "_")
    return key + ".lora_up.weight", key + ".lora_down.weight"


def _dotted(up: str, down: str, wrapped: str = "") -> Scheme:
    def names(part: str, module: str) -> tuple[str, str]:
        key = {"unet": "unet.", "clip_l": "text_encoder.", "clip_g": "text_encoder_2."}[part] + wrapped + module
        return key + up, key + down

    return names


def _processors(part: str, module: str) -> tuple[str, str]:
    """diffusers before 0.22: attention processors own the projections, in the towers they have a layer of their own."""
    if part == "unet" and (match := re.fullmatch(r"(.*attn\d)\.(to_[qkv]|to_out)(\.0)?", module)):
        key = f"unet.{match[1]}.processor.{match[2]}_lora"
        return key + ".up.weight", key + ".down.weight"
    suffix = ".lora" if part == "unet" else ".lora_linear_layer"
    return _dotted(suffix + ".up.weight", suffix + ".down.weight")(part, module)


def _old_towers(part: str, module: str) -> tuple[str, str]:
    key, count = re.subn(r"self_attn\.(?:([qkv])|(out))_proj$", lambda m: f"self_attn.to_{m[1] or m[2]}_lora", module)
    if part == "unet" or not count:
        return _processors(part, module)
    return _dotted(".up.weight", ".down.weight")(part, key)


def _full_names(part: str, module: str) -> tuple[str, str]:
    prefix = {
        "unet": "diffusion_model.",
        "clip_l": "text_encoders.clip_l.transformer.",
        "clip_g": "text_encoders.clip_g.transformer.",
    }[part]
    return prefix + module + ".lora_up.weight", prefix + module + ".lora_down.weight"


def _lycoris(part: str, module: str) -> tuple[str, str]:
    if part != "unet":
        return _kohya(part, module)
    key = "lycoris_" + module.replace(".", "_")
    return key + ".lora_up.weight", key + ".lora_down.weight"


def _unwrapped(part: str, module: str) -> tuple[str, str]:
    key = f"base_model.model.{module}"
    return (key + ".lora_B.weight", key + ".lora_A.weight") if part == "unet" else _kohya(part, module)


PEFT = (".lora_B.weight", ".lora_A.weight")
SCHEMES: Mapping[str, Scheme] = {
    "kohya": _kohya,
    "diffusers": _dotted(".lora.up.weight", ".lora.down.weight"),
    "diffusers, processors": _processors,
    "diffusers, oldest towers": _old_towers,
    "PEFT": _dotted(*PEFT),
    "PEFT, wrapped": _dotted(*PEFT, wrapped="base_model.model."),
    "PEFT, named adapter": _dotted(".lora_B.default.weight", ".lora_A.default.weight"),
    "PEFT, no prefix": _unwrapped,
    "LyCORIS": _lycoris,
    "full names": _full_names,
}


def original_modules(family: str) -> Mapping[str, tuple[int, ...]]:
    """The UNet's modules in the original names, of those that diffusers' UNet has, too."""
    shapes = names_of(family).shapes
    return {
        t.name.removesuffix(".weight"): s for t, s in shapes.items() if t.part == "unet" and t.name.endswith("weight")
    }


def low_rank_file(path: Path, family: str, unet: Mapping[str, tuple[int, ...]], scheme: Scheme) -> Path:
    """A LoRA of every matrix and kernel of a model, whose factors begin with the number of their module."""
    modules: list[tuple[str, str, tuple[int, ...]]] = [
        ("unet", module, shape) for module, shape in sorted(unet.items()) if len(shape) > 1
    ]
    for part, params in FAMILIES[family][2].items():
        modules += [(part, module, shape) for module, shape in transformers_modules(params).items()]
    tensors: dict[str, Tensor] = {}
    for number, (owner, module, shape) in enumerate(modules):
        up, down = low_rank(shape)
        up.flatten()[0] = number
        tensors |= zip(scheme(owner, module), (up, down), strict=True)
    return save(path, tensors)


def numbers(patch: Patch) -> dict[Target, int]:
    """The number of the module that each weight got its change from."""
    return {target: int(delta.up.flatten()[0]) for target, delta in patch.deltas.items() if isinstance(delta, LowRank)}


@pytest.mark.parametrize("blocks", ["original", "diffusers"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_names_the_same_weights(tmp_path: Path, scheme: str, blocks: str) -> None:
    modules = original_modules("miniature") if blocks == "original" else diffusers_modules("miniature")
    path = low_rank_file(tmp_path / "lora.safetensors", "miniature", modules, SCHEMES[scheme])
    patch = read_lora(path, names_of("miniature"))
    assert patch.unmatched == ()
    everything = {
        target
        for target, shape in names_of("miniature").shapes.items()
        if len(shape) > 1 and (target.part == "unet" or "encoder.layers" in target.name)
    }
    assert patch.deltas.keys() == everything
    usual = low_rank_file(tmp_path / "kohya.safetensors", "miniature", modules, _kohya)
    assert numbers(patch) == numbers(read_lora(usual, names_of("miniature")))
    if blocks == "original":
        unet = sorted(module for module, shape in modules.items() if len(shape) > 1)
        assert all(t.name == unet[n] + ".weight" for t, n in numbers(patch).items() if t.part == "unet")


@pytest.mark.parametrize("family", ["SDXL", "SD 1.5", "miniature", "tiny SD 1.5"])
def test_diffusers_names_lead_to_weights_of_the_same_shape(family: str) -> None:
    """Where names were mixed up, shapes would differ somewhere; that they are the same weights, see test_patches."""
    names = names_of(family)
    for module, shape in diffusers_modules(family).items():
        found = names.find("lora_unet_" + module.replace(".", "_"))
        assert found is not None and found[0] == "unet"
        ours = names.shapes[Target("unet", found[1] + ".weight")]
        assert math.prod(ours) == math.prod(shape) and ours[0] == shape[0], module
    found_modules = {names.find("unet." + module) for module in diffusers_modules(family)}
    assert len(found_modules) == len(diffusers_modules(family)) == len(original_modules(family))


def test_all_modules_of_the_published_few_step_loras_are_known() -> None:
    """LCM, Lightning and Hyper-SD change 788 modules of SDXL's UNet (transformers and residual blocks)."""
    trained = re.compile(
        r"(attn\d\.to_([qkv]|out\.0)|ff\.net\.(0\.proj|2)|proj_(in|out)|conv\d|conv_shortcut|time_emb_proj"
        r"|(down|up)samplers\.0\.conv)$"
    )
    modules = [module for module in diffusers_modules("SDXL") if trained.search(module)]
    assert len(modules) == 788
    assert all(names_of("SDXL").find("lora_unet_" + module.replace(".", "_")) for module in modules)


@pytest.mark.parametrize(
    ("key", "part", "module"),
    [
        ("lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_out_0", "unet",
         "input_blocks.4.1.transformer_blocks.1.attn2.to_out.0"),
        ("lora_unet_input_blocks_3_0_op", "unet", "input_blocks.3.0.op"),
        ("lora_unet_output_blocks_2_2_conv", "unet", "output_blocks.2.2.conv"),
        ("lora_unet_up_blocks_0_upsamplers_0_conv", "unet", "output_blocks.2.2.conv"),
        ("lora_unet_label_emb_0_0", "unet", "label_emb.0.0"),
        ("lora_unet_add_embedding_linear_2", "unet", "label_emb.0.2"),
        ("lora_unet_time_embed_2", "unet", "time_embed.2"),
        ("lora_unet_mid_block_resnets_1_conv1", "unet", "middle_block.2.in_layers.2"),
        ("lora_unet_out_2", "unet", "out.2"),
        ("unet.up_blocks.1.attentions.2.proj_in", "unet", "output_blocks.5.1.proj_in"),
        ("lora_te1_text_model_encoder_layers_11_mlp_fc2", "clip_l", "encoder.layers.11.mlp.fc2"),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1", "clip_l", "encoder.layers.0.mlp.fc1"),
        ("lora_te2_text_model_encoder_layers_31_self_attn_k_proj", "clip_g", "encoder.layers.31.self_attn.k_proj"),
        ("lora_te2_text_projection", "clip_g", "text_projection"),
        ("text_encoder_2.text_projection", "clip_g", "text_projection"),
        ("conditioner.embedders.0.transformer.text_model.final_layer_norm", "clip_l", "final_layer_norm"),
        ("model.diffusion_model.out.0", "unet", "out.0"),
    ],
)  # fmt: skip
def test_names_of_published_files(key: str, part: str, module: str) -> None:
    assert names_of("SDXL").find(key) == (part, module)


@pytest.mark.parametrize("key", ["lora_unet_input_blocks_41_transformer", "text_encoder_3.x", "bundle_emb.a", "", "."])
def test_other_names_mean_nothing(key: str) -> None:
    assert names_of("SDXL").find(key) is None


def test_a_lone_tower_is_meant_without_prefix_too() -> None:
    module = "text_model.encoder.layers.0.mlp.fc1"
    for prefix in ("", "base_model.model.", "text_encoder.", "lora_te_"):
        assert names_of("tiny SD 1.5").find(prefix + module) == ("clip_l", "encoder.layers.0.mlp.fc1")
        assert names_of("tiny refiner").find(prefix + module) == ("clip_g", "encoder.layers.0.mlp.fc1")
    assert names_of("SDXL").find(module) is None
