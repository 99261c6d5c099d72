"""Names and shapes of a file's tensors become the parameters of networks. Reads no tensor and trusts no file name.

Two numbers cannot be read off the tensors and follow rules instead: SDXL's attention heads are 64 wide, SD 1.5 has 8
of them at every width.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ldm_patched.ldm.clip import ClipText, ClipTextParams
from ldm_patched.ldm.unet import UNet, UNetParams
from ldm_patched.ldm.vae import AutoencoderKL, VAEParams
from ldm_patched.modules.checkpoint_layout import (
    EDM,
    TOWERS,
    UNET_PREFIX,
    V_PREDICTION,
    VAE_PREFIX,
    ZERO_TERMINAL_SNR,
    Kind,
    Prediction,
    TowerSlot,
    tower_to_published,
    unet_to_published,
)
from ldm_patched.modules.conditioning import NUMBER_WIDTH, REFINER_NUMBERS, SIZE_NUMBERS
from ldm_patched.modules.state_dict import WeightsError, with_prefix
from ldm_patched.modules.token_chunks import CHUNK

Shapes = Mapping[str, tuple[int, ...]]

EXPECTED = "expected a checkpoint of the SDXL, SDXL refiner or SD 1.5 family with UNet, text encoders and VAE"

_HEAD_WIDTH = 64
_SD15_HEADS = 8

_LOOKS: tuple[tuple[str, str], ...] = (
    (r"lora_controlnet", "a Control-LoRA"),
    (r"lora_(up|down)\.|\.lora_[AB]\.|\.lora\.(up|down)|^lora_(unet|te)", "a LoRA"),
    (r"\.hada_w1|\.lokr_w|\.oft_(blocks|diag)", "a LoRA (LyCORIS)"),
    (r"^(control_model\.|controlnet_|input_hint_block\.|zero_convs\.)", "a ControlNet"),
    (r"^(ip_adapter|image_proj)\.", "an IP-Adapter"),
    (r"^(emb_params|clip_[gl]|string_to_param)$", "a textual-inversion embedding"),
    (r"double_blocks\.\d", "a Flux or Hunyuan-Video model"),
    (r"joint_blocks\.\d", "a Stable Diffusion 3 model"),
    (r"time_stack\.|motion_modules\.", "a video model"),
    (r"^(model\.)?conv_first\.|^model\.0\.weight$|^body\.0\.rdb", "an upscaler"),
    (r"^(unet\.)?down_blocks\.\d", "a UNet in diffusers' layout"),
    (r"^(encoder\.down_blocks|decoder\.up_blocks)\.\d", "a VAE in diffusers' layout"),
    (r"^(encoder|decoder)\.conv_in\.", "a VAE"),
    (r"^first_stage_model\.", "a VAE"),
    (r"^(vision_model|visual)\.", "a CLIP image encoder"),
    (r"^(text_model\.|transformer\.resblocks\.|transformer\.text_model\.)", "a text encoder"),
    (r"^encoder\.block\.\d|^shared\.weight$", "a T5 text encoder"),
    (r"^input_blocks\.\d", "a UNet without its prefix"),
)


@dataclass(frozen=True)
class TowerDetection:
    """A text tower of a checkpoint."""

    slot: TowerSlot
    params: ClipTextParams


@dataclass(frozen=True)
class Detection:
    """What a checkpoint is. vae: None, and no towers, where a file holds the UNet of a refiner alone."""

    kind: Kind
    unet: UNetParams
    vae: VAEParams | None
    towers: tuple[TowerDetection, ...]
    prediction: Prediction
    zero_terminal_snr: bool


def detect(file: str, shapes: Shapes) -> Detection:
    """The parameters of a checkpoint's networks.

    file: its name, for messages. shapes: of all its tensors. Raises WeightsError for what is no such checkpoint.
    """
    try:
        found = _detect(shapes)
    except KeyError as error:
        raise WeightsError(f"{file} is incomplete: it has no tensor {error.args[0]!r}; {EXPECTED}") from error
    except Unusual as error:
        raise WeightsError(f"{file} {error}; {EXPECTED}") from error
    except (IndexError, ZeroDivisionError) as error:
        raise WeightsError(f"{file} is damaged: a tensor has the wrong number of dimensions; {EXPECTED}") from error
    _check_dimensions(file, found)
    return found


def _detect(shapes: Shapes) -> Detection:
    unet_shapes = _part(shapes, UNET_PREFIX)
    if "input_blocks.0.0.weight" not in unet_shapes:
        raise Unusual(f"looks like {looks_like(shapes)}")
    unet = detect_unet(unet_shapes)
    kind = _kind(shapes, unet)
    slots = () if _is_refiner_alone(shapes, unet) else TOWERS[kind]
    return Detection(
        kind=kind,
        unet=unet,
        vae=detect_vae(_part(shapes, VAE_PREFIX)) if slots else None,
        towers=tuple(TowerDetection(slot, detect_tower(slot, _part(shapes, slot.prefix))) for slot in slots),
        prediction="v" if V_PREDICTION in shapes else "edm" if EDM in shapes else "eps",
        zero_terminal_snr=ZERO_TERMINAL_SNR in shapes,
    )


def looks_like(shapes: Shapes) -> str:
    """What a file that is no checkpoint seems to be, in words."""
    for pattern, words in _LOOKS:
        search = re.compile(pattern).search
        if any(search(name) for name in shapes):
            return words
    return f"something unknown (its first tensor of {len(shapes)} is {min(shapes)!r})" if shapes else "an empty file"


class Unusual(Exception):
    """A network differs from the family in a way that is said in words, as the rest of a sentence."""


class _Part(dict[str, tuple[int, ...]]):
    """Shapes of one part by their names within it. A name that is missing is reported as the file has it."""

    def __init__(self, shapes: Shapes, prefix: str) -> None:
        super().__init__({short: shapes[name] for short, name in with_prefix(shapes, prefix).items()})
        self._prefix = prefix

    def __missing__(self, name: str) -> tuple[int, ...]:
        raise KeyError(self._prefix + name)


def _part(shapes: Shapes, prefix: str) -> Shapes:
    return _Part(shapes, prefix)


def _count(shapes: Shapes, prefix: str) -> int:
    """How many numbered children a prefix has."""
    return len({name[len(prefix) :].split(".", 1)[0] for name in shapes if name.startswith(prefix)})


# UNet


def detect_unet(shapes: Shapes) -> UNetParams:
    """Parameters of a UNet from its tensors, named without prefix. Raises KeyError or Unusual."""
    base, in_channels = shapes["input_blocks.0.0.weight"][0], shapes["input_blocks.0.0.weight"][1]
    if in_channels != 4:
        words = {9: " (an inpainting model)", 8: " (an editing model)", 7: " (an upscaling model)"}.get(in_channels, "")
        raise Unusual(f"has a UNet with {in_channels} input channels{words}")
    levels = _levels(shapes)
    blocks = {len(level) for level in levels}
    if len(blocks) != 1 or not blocks.isdisjoint({0}):
        raise Unusual(f"has a UNet with {[len(level) for level in levels]} residual blocks per level")
    for index, level in enumerate(levels):
        if len(set(level)) != 1 or level[0][0] % base:
            raise Unusual(f"has a UNet with unequal blocks in level {index} (a distilled model?)")
    depths = tuple(level[0][1] for level in levels)
    middle = _count(shapes, "middle_block.1.transformer_blocks.")
    first = next((name for name in shapes if name.endswith("attn2.to_k.weight")), "")
    linear = any(name.endswith("proj_in.weight") and len(shape) == 2 for name, shape in shapes.items())
    adm_channels = shapes["label_emb.0.0.weight"][1] if "label_emb.0.0.weight" in shapes else 0
    wide_heads = bool(adm_channels) or linear
    return UNetParams(
        in_channels=in_channels,
        out_channels=shapes["out.2.weight"][0],
        model_channels=base,
        channel_mult=tuple(level[0][0] // base for level in levels),
        num_res_blocks=blocks.pop(),
        transformer_depth=depths,
        middle_depth=middle,
        context_dim=shapes[first or "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"][1],
        adm_channels=adm_channels,
        linear_projections=linear,
        head_channels=_HEAD_WIDTH if wide_heads else 0,
        heads=0 if wide_heads else _SD15_HEADS,
    )


def _levels(shapes: Shapes) -> list[list[tuple[int, int]]]:
    """Per level, (channels, transformer depth) of each of its input blocks."""
    levels: list[list[tuple[int, int]]] = [[]]
    for index in range(1, _count(shapes, "input_blocks.")):
        block = f"input_blocks.{index}."
        if block + "0.op.weight" in shapes:
            levels.append([])
        else:
            channels = shapes[block + "0.in_layers.2.weight"][0]
            levels[-1].append((channels, _count(shapes, block + "1.transformer_blocks.")))
    return levels


# Autoencoder and text towers


def detect_vae(shapes: Shapes) -> VAEParams:
    """Parameters of an autoencoder from its tensors, named without prefix. Raises KeyError or Unusual."""
    channels = shapes["encoder.conv_in.weight"][0]
    widths = [
        shapes[f"encoder.down.{level}.block.0.conv1.weight"][0] for level in range(_count(shapes, "encoder.down."))
    ]
    if not widths or any(width % channels for width in widths):
        raise Unusual(f"has a VAE with levels of {widths} channels after {channels}")
    if len(widths) != 4:
        raise Unusual(f"has a VAE that reduces by {2 ** (len(widths) - 1)} instead of 8")
    return VAEParams(
        channels=channels,
        channel_mult=tuple(width // channels for width in widths),
        num_res_blocks=_count(shapes, "encoder.down.0.block."),
        latent_channels=shapes["post_quant_conv.weight"][0],
    )


def detect_tower(slot: TowerSlot, shapes: Shapes) -> ClipTextParams:
    """Parameters of a text tower from its tensors, named without prefix. Raises KeyError or Unusual."""
    if slot.layout == "transformers":
        table = shapes["embeddings.token_embedding.weight"]
        positions = shapes["embeddings.position_embedding.weight"][0]
        layers = _count(shapes, "encoder.layers.")
        inner = shapes["encoder.layers.0.mlp.fc1.weight"][0]
        projection = 0
    else:
        table = shapes["token_embedding.weight"]
        positions = shapes["positional_embedding"][0]
        layers = _count(shapes, "transformer.resblocks.")
        inner = shapes["transformer.resblocks.0.mlp.c_fc.weight"][0]
        projection = shapes["text_projection"][1]
    vocabulary, width = table[0], table[1]
    if positions != CHUNK:
        raise Unusual(f"has a text encoder of {positions} positions instead of {CHUNK}")
    if width % _HEAD_WIDTH:
        raise Unusual(f"has a text encoder of width {width}, which is no multiple of {_HEAD_WIDTH}")
    return ClipTextParams(
        width=width,
        layers=layers,
        heads=width // _HEAD_WIDTH,
        inner=inner,
        vocabulary=vocabulary,
        positions=positions,
        projection_dim=projection,
        activation=slot.activation,
    )


def _kind(shapes: Shapes, unet: UNetParams) -> Kind:
    """Which family a checkpoint belongs to, by the text towers it has."""
    for kind, slots in TOWERS.items():
        has_towers = all(any(name.startswith(slot.prefix) for name in shapes) for slot in slots)
        if has_towers and bool(unet.adm_channels) == (kind != "sd15"):
            return kind
    if _is_refiner_alone(shapes, unet):
        return "sdxl_refiner"
    if any(name.startswith("cond_stage_model.model.") for name in shapes):
        raise Unusual("looks like a Stable Diffusion 2 checkpoint")
    family = "SDXL" if unet.adm_channels else "Stable Diffusion"
    raise Unusual(f"looks like a UNet of the {family} family without its text encoders")


def _is_refiner_alone(shapes: Shapes, unet: UNetParams) -> bool:
    """Whether there is no text tower, and the UNet reads one text as wide as its summary, and a refiner's numbers."""
    has_towers = any(name.startswith(("conditioner.", "cond_stage_model.")) for name in shapes)
    return not has_towers and unet.adm_channels == unet.context_dim + REFINER_NUMBERS * NUMBER_WIDTH


def _check_dimensions(file: str, found: Detection) -> None:
    """The parts must fit each other."""
    if found.vae is None:
        return
    context = sum(tower.params.width for tower in found.towers)
    if found.unet.context_dim != context:
        raise WeightsError(
            f"{file} has a UNet for texts {found.unet.context_dim} wide, but text encoders of {context} together"
        )
    if len({tower.params.vocabulary for tower in found.towers}) != 1:
        raise WeightsError(f"{file} has text encoders with different vocabularies")
    if found.kind != "sd15":
        numbers = SIZE_NUMBERS if found.kind == "sdxl" else REFINER_NUMBERS
        adm = found.towers[-1].params.projection_dim + numbers * NUMBER_WIDTH
        if found.unet.adm_channels != adm:
            raise WeightsError(f"{file} has a UNet for size vectors {found.unet.adm_channels} wide; expected {adm}")
    if found.vae.latent_channels != found.unet.in_channels:
        raise WeightsError(
            f"{file} has a VAE of {found.vae.latent_channels} latent channels, its UNet {found.unet.in_channels}"
        )


# Networks without weights


@dataclass(frozen=True)
class Skeleton:
    """The networks of a checkpoint on the meta device: names, shapes and code, no memory."""

    unet: UNet
    vae: AutoencoderKL | None
    towers: tuple[ClipText, ...]


class _WithoutInitialisation(TorchFunctionMode):
    """Leaves out the random initialisation of layers. On the meta device it has no effect, but takes 2 s the first
    time: torch imports a symbolic algebra system for it.
    """

    _skipped = frozenset({nn.init.kaiming_uniform_, nn.init.normal_, nn.init.uniform_})

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in self._skipped:
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        return func(*args, **(kwargs or {}))


def build(file: str, found: Detection) -> Skeleton:
    """The networks of a detection. Raises WeightsError for sizes from which no network can be built."""
    try:
        with torch.device("meta"), _WithoutInitialisation():
            vae = None if found.vae is None else AutoencoderKL(found.vae)
            return Skeleton(UNet(found.unet), vae, tuple(ClipText(tower.params) for tower in found.towers))
    except (ValueError, ZeroDivisionError, RuntimeError) as error:
        raise WeightsError(f"{file} has networks of impossible sizes: {error}; {EXPECTED}") from error


def published_shapes(found: Detection, skeleton: Skeleton) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors that a checkpoint of this kind must have."""
    parts = [
        (UNET_PREFIX, unet_to_published(skeleton.unet.state_dict())),
        *(
            (tower.slot.prefix, tower_to_published(tower.slot, model.state_dict()))
            for tower, model in zip(found.towers, skeleton.towers, strict=True)
        ),
        (VAE_PREFIX, {} if skeleton.vae is None else skeleton.vae.state_dict()),
    ]
    return {prefix + name: tuple(tensor.shape) for prefix, tensors in parts for name, tensor in tensors.items()}


def check_complete(file: str, shapes: Shapes, wanted: Shapes) -> None:
    """Raises WeightsError unless a file has every wanted tensor in the right shape."""
    missing = sorted(wanted.keys() - shapes.keys())
    if missing:
        raise WeightsError(
            f"{file} is incomplete: {len(missing)} tensors are missing, first {missing[0]!r}; {EXPECTED}"
        )
    for name, shape in wanted.items():
        if shapes[name] != shape:
            raise WeightsError(
                f"{file} does not fit its family: {name!r} is {list(shapes[name])}, expected {list(shape)}"
            )
