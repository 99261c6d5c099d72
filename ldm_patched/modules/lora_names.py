"""Which weight a LoRA's module name means, in every naming scheme in use. Reads no file and no tensor.

Schemes differ in a prefix (kohya, diffusers, PEFT, LyCORIS, whole checkpoints), in how the UNet's blocks are called
(the original way or diffusers') and in whether levels are divided by dots or underscores. Names with underscores cannot
be taken apart, so they are looked up: every module of the actual network is listed under all its names, with
underscores. That works for any width and depth.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ldm_patched.modules.checkpoint_layout import Kind
from ldm_patched.modules.deltas import Target
from ldm_patched.modules.parts import Part

_UNET_PREFIXES = ("lora_unet_", "unet_", "lycoris_unet_", "lycoris_", "diffusion_model_", "model_diffusion_model_", "")
_LARGE_TOWER = ("lora_te2_", "text_encoder_2_", "clip_g_transformer_", "text_encoders_clip_g_transformer_")
_SMALL_TOWER = ("lora_te1_", "clip_l_transformer_", "text_encoders_clip_l_transformer_")
_ONLY_TOWER = ("lora_te_", "text_encoder_", "lycoris_text_encoder_", "lycoris_", "")

PREFIXES: Mapping[Kind, Mapping[Part, tuple[str, ...]]] = {
    "sdxl": {
        "unet": _UNET_PREFIXES,
        "clip_l": (*_SMALL_TOWER, "lora_te_", "text_encoder_", "conditioner_embedders_0_transformer_"),
        "clip_g": _LARGE_TOWER,
    },
    "sdxl_refiner": {"unet": _UNET_PREFIXES, "clip_g": (*_LARGE_TOWER, *_ONLY_TOWER)},
    "sd15": {
        "unet": _UNET_PREFIXES,
        "clip_l": (*_SMALL_TOWER, *_ONLY_TOWER, "cond_stage_model_transformer_"),
    },
}
"""What precedes a module's name, by family and part, with underscores. A lone tower needs no prefix."""

_RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_OUTER = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_BLOCK = re.compile(r"(input_blocks|output_blocks)\.(\d+)\.(\d+)\.(.+)|middle_block\.(\d+)\.(.+)")
_PLACE = re.compile(
    r"(?:down|up)_blocks_\d+_[a-z]+_\d+_(?:transformer_blocks_\d+_)?|"
    r"(?:input|output)_blocks_\d+_\d+_(?:transformer_blocks_\d+_)?|mid(?:dle)?_block_[a-z0-9_]+?transformer_blocks_\d+_"
)
_WEIGHT = re.compile(r"(.+)\.(?:weight|bias)")
_TOWER_PROJECTION = re.compile(r"self_attn\.(?:([qkv])_proj|(out)_proj)$")


@dataclass(frozen=True)
class NameTable:
    """The weights of a model that a patch may change, under all their names.

    shapes: of every weight. context_dim: width of the texts that the UNet knows. modules: for each part, the published
    name of a module by each of its names with underscores.
    """

    kind: Kind
    context_dim: int
    shapes: Mapping[Target, tuple[int, ...]]
    modules: Mapping[Part, Mapping[str, str]]

    @classmethod
    def of(cls, kind: Kind, context_dim: int, parts: Mapping[Part, Mapping[str, tuple[int, ...]]]) -> NameTable:
        """The table of a model. parts: published names and shapes of the weights of each part."""
        shapes = {Target(part, name): shape for part, weights in parts.items() for name, shape in weights.items()}
        modules = {
            part: _unet_aliases(_modules(weights)) if part == "unet" else _tower_aliases(_modules(weights))
            for part, weights in parts.items()
        }
        return cls(kind, context_dim, shapes, modules)

    def find(self, name: str) -> tuple[Part, str] | None:
        """The part and the published name of the module that a file calls `name`; None if there is no such module."""
        wanted = underscored(name)
        for part, known in self.modules.items():
            for prefix in PREFIXES[self.kind][part]:
                if wanted.startswith(prefix) and (module := known.get(wanted[len(prefix) :])):
                    return part, module
        return None

    def missing_block(self, name: str) -> str:
        """The block of a UNet that a name speaks of and this model does not have; empty if there is none."""
        match = _PLACE.search(underscored(name))
        if match is None or any(alias.startswith(match[0]) for alias in self.modules["unet"]):
            return ""
        return match[0].strip("_")


def underscored(name: str) -> str:
    """A module's name with underscores, without what PEFT wraps around a model and diffusers' attention processors."""
    return name.replace(".", "_").replace("base_model_model_", "").replace("_processor_", "_")


def _modules(weights: Iterable[str]) -> list[str]:
    """The modules that weights and biases belong to, each once."""
    return list(dict.fromkeys(match[1] for name in weights if (match := _WEIGHT.fullmatch(name))))


def _aliases(names: Iterable[tuple[str, str]]) -> dict[str, str]:
    """{name with underscores: module}. Raises ValueError if two modules would have the same name."""
    table: dict[str, str] = {}
    for name, module in names:
        if table.setdefault(underscored(name), module) != module:
            raise ValueError(f"{module} and {table[underscored(name)]} have the same name {underscored(name)!r}")
    return table


def _unet_aliases(modules: list[str]) -> dict[str, str]:
    renamed = diffusers_names(modules)
    both = [(name, module) for module in modules for name in (module, renamed[module])]
    outer = [(name.removesuffix(".0"), module) for name, module in both if name.endswith("to_out.0")]
    return _aliases(both + outer)  # diffusers' attention processors call `to_out.0` `to_out`


def _tower_aliases(modules: list[str]) -> dict[str, str]:
    names = []
    for module in modules:
        spellings = [module]
        if match := _TOWER_PROJECTION.search(module):  # the oldest files of diffusers
            spellings.append(module[: match.start()] + "self_attn.to_" + (match[1] or match[2]))
        names += [(prefix + spelling, module) for spelling in spellings for prefix in ("text_model.", "")]
    return _aliases(names)


def diffusers_names(modules: Iterable[str]) -> dict[str, str]:
    """What diffusers' UNet2DConditionModel calls the modules of a UNet: {original name: diffusers' name}.

    The original layout counts blocks over all levels, diffusers within a level; a level ends where the picture is
    made smaller or larger.
    """
    present = list(modules)
    places = _places(present, "input_blocks", 1) | _places(present, "output_blocks", 0)
    return {module: _diffusers_name(module, places) for module in present}


def _places(modules: list[str], side: str, first: int) -> dict[tuple[str, int], tuple[int, int]]:
    """For each numbered block of a side, its level and its number within the level. first: where levels begin."""
    resized = re.compile(rf"{side}\.(\d+)\.(?:0\.op|\d+\.conv)")
    ends = {int(match[1]) for module in modules if (match := resized.fullmatch(module))}
    blocks = {int(module.split(".")[1]) for module in modules if module.startswith(side + ".")}
    places: dict[tuple[str, int], tuple[int, int]] = {}
    level = index = 0
    for block in sorted(blocks):
        if block < first:
            continue
        places[side, block] = level, index
        level, index = (level + 1, 0) if block in ends else (level, index + 1)
    return places


def _diffusers_name(module: str, places: Mapping[tuple[str, int], tuple[int, int]]) -> str:
    if module in _OUTER:
        return _OUTER[module]
    match = _BLOCK.fullmatch(module)
    if match is None:
        return module
    if match[1] is None:
        rest = match[6]
        if rest in _RESIDUAL:
            return f"mid_block.resnets.{min(1, int(match[5]))}.{_RESIDUAL[rest]}"
        return f"mid_block.attentions.0.{rest}"
    level, index = places[match[1], int(match[2])]
    side, rest = ("down" if match[1] == "input_blocks" else "up"), match[4]
    if rest in ("op", "conv"):
        return f"{side}_blocks.{level}.{side}samplers.0.conv"
    if rest in _RESIDUAL:
        return f"{side}_blocks.{level}.resnets.{index}.{_RESIDUAL[rest]}"
    return f"{side}_blocks.{level}.attentions.{index}.{rest}"
