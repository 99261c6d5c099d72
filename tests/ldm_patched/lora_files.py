"""LoRA files of every kind, with the change that each stands for worked out in float64, for tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.networks import CLIP_G, CLIP_L, MINI, MINI_G, MINI_L, SDXL, on_meta
from ldm_patched.ldm.clip import ClipText
from ldm_patched.ldm.unet import UNet, UNetParams
from ldm_patched.modules.checkpoint_layout import Kind as Family
from ldm_patched.modules.detection import Detection
from ldm_patched.modules.devices import Placement
from ldm_patched.modules.lora_names import NameTable
from ldm_patched.modules.parts import Part
from ldm_patched.modules.patches import Patcher
from ldm_patched.modules.sd import Checkpoint, load_checkpoint
from tests.ldm_patched.tiny import TINY_REFINER, TINY_SD15, TINY_SDXL, write

RANK = 4
ALPHA = 3.0
Matrices = Mapping[str, Tensor]


def checkpoint(folder: Path, dtype: torch.dtype = torch.float32, found: Detection = TINY_SDXL) -> Checkpoint:
    """A tiny checkpoint, loaded on the CPU."""
    path = folder / f"{found.kind}.safetensors"
    if not path.exists():
        write(path, found)
    return load_checkpoint(path, Placement(torch.device("cpu"), dtype, dtype, dtype))


def save(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    """Write a file of tensors."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    return path


@dataclass(frozen=True)
class Kind:
    """A kind of change: the factors' names and shapes for a weight, and what they do to it.

    shapes: of a weight's shape. result: of the factors, the weight and a strength, all float64.
    """

    shapes: Callable[[tuple[int, ...]], dict[str, tuple[int, ...]]]
    result: Callable[[Matrices, Tensor, float], Tensor]

    def factors(self, shape: tuple[int, ...], seed: int) -> dict[str, Tensor]:
        """Random factors whose product is about as large as the weight."""
        generator = torch.Generator().manual_seed(seed)
        made = {}
        for name, size in self.shapes(shape).items():
            made[name] = 0.5 * torch.randn(size, generator=generator)
            if name == "dora_scale":
                made[name] = made[name].abs() + 1.0
            elif name == "alpha":
                made[name] = torch.tensor(ALPHA)
        return made


def _added(change: Callable[[Matrices, Tensor], Tensor], scaled: bool = True) -> Callable[..., Tensor]:
    def result(f: Matrices, weight: Tensor, strength: float) -> Tensor:
        return weight + strength * (ALPHA / RANK if scaled else 1.0) * change(f, weight).reshape(weight.shape)

    return result


def _decomposed(change: Callable[[Matrices, Tensor], Tensor], axis: int) -> Callable[..., Tensor]:
    def result(f: Matrices, weight: Tensor, strength: float) -> Tensor:
        full = weight + ALPHA / RANK * change(f, weight).reshape(weight.shape)
        for index in range(weight.shape[axis]):
            row = full.select(axis, index)
            row *= f["dora_scale"].flatten()[index] / math.sqrt(float((row**2).sum()))
        return weight + strength * (full - weight)

    return result


def _rest(shape: tuple[int, ...]) -> int:
    return math.prod(shape[1:])


def _lora_shapes(shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    ones = (1,) * (len(shape) - 2)
    return {
        "lora_up.weight": (shape[0], RANK, *ones),
        "lora_down.weight": (RANK, *shape[1:]),
        "alpha": (),
    }


def _lora(f: Matrices, weight: Tensor) -> Tensor:
    return f["lora_up.weight"].reshape(len(weight), RANK) @ f["lora_down.weight"].reshape(RANK, -1)


def _mid(f: Matrices, weight: Tensor) -> Tensor:
    out = torch.zeros(weight.shape, dtype=torch.float64)
    for a in range(RANK):
        for b in range(RANK):
            plane = torch.outer(f["lora_up.weight"].flatten(1)[:, a], f["lora_down.weight"].flatten(1)[b])
            out += plane[:, :, None, None] * f["lora_mid.weight"][a, b]
    return out


def _loha_shapes(shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    halves = {
        f"hada_w{n}_{side}": size
        for n in (1, 2)
        for side, size in (("a", (shape[0], RANK)), ("b", (RANK, _rest(shape))))
    }
    return halves | {"alpha": ()}


def _loha(f: Matrices, weight: Tensor) -> Tensor:
    return (f["hada_w1_a"] @ f["hada_w1_b"]) * (f["hada_w2_a"] @ f["hada_w2_b"])


def _tucker(core: Tensor, first: Tensor, second: Tensor) -> Tensor:
    out = torch.zeros(first.shape[1], second.shape[1], *core.shape[2:], dtype=torch.float64)
    for i in range(RANK):
        for j in range(RANK):
            out += torch.outer(first[i], second[j])[:, :, None, None] * core[i, j]
    return out


def _loha_tucker(f: Matrices, weight: Tensor) -> Tensor:
    first, second = (_tucker(f[f"hada_t{n}"], f[f"hada_w{n}_a"], f[f"hada_w{n}_b"]) for n in (1, 2))
    return first * second


def _lokr(f: Matrices, weight: Tensor) -> Tensor:
    first = f["lokr_w1"] if "lokr_w1" in f else f["lokr_w1_a"] @ f["lokr_w1_b"]
    if "lokr_t2" in f:
        second = _tucker(f["lokr_t2"], f["lokr_w2_a"], f["lokr_w2_b"])
    else:
        second = f["lokr_w2"] if "lokr_w2" in f else f["lokr_w2_a"] @ f["lokr_w2_b"]
        second = second.reshape(second.shape[0], weight.shape[1] // first.shape[1], *weight.shape[2:])
    blocks = [torch.cat([entry * second for entry in row], dim=1) for row in first]
    return torch.cat(blocks)


def _lokr_shapes(*roles: str) -> Callable[[tuple[int, ...]], dict[str, tuple[int, ...]]]:
    def shapes(shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        rows, columns = shape[0] // 8, shape[1] // 4
        known = {
            "lokr_w1": (8, 4),
            "lokr_w1_a": (8, RANK),
            "lokr_w1_b": (RANK, 4),
            "lokr_w2": (rows, columns, *shape[2:]),
            "lokr_w2_a": (RANK, rows) if "lokr_t2" in roles else (rows, RANK),
            "lokr_w2_b": (RANK, columns) if "lokr_t2" in roles else (RANK, columns * _rest(shape[1:])),
            "lokr_t2": (RANK, RANK, *shape[2:]),
        }
        return {role: known[role] for role in roles} | {"alpha": ()}

    return shapes


def _glora_shapes(shape: tuple[int, ...], tall: str, wide: str) -> dict[str, tuple[int, ...]]:
    ones = (1,) * (len(shape) - 2)
    return {
        f"a{tall}.weight": (shape[1], RANK, *ones),
        f"a{wide}.weight": (RANK, shape[1], *ones),
        f"b{tall}.weight": (shape[0], RANK, *ones),
        f"b{wide}.weight": (RANK, *shape[1:]),
        "alpha": (),
    }


def _glora(tall: str, wide: str) -> Callable[[Matrices, Tensor], Tensor]:
    def change(f: Matrices, weight: Tensor) -> Tensor:
        inputs = f[f"a{tall}.weight"].flatten(1) @ f[f"a{wide}.weight"].flatten(1)
        mixed = torch.einsum("oi...,ij->oj...", weight, inputs)
        return mixed + (f[f"b{tall}.weight"].flatten(1) @ f[f"b{wide}.weight"].flatten(1)).reshape(weight.shape)

    return change


def _with_magnitudes(
    shapes: Callable[[tuple[int, ...]], dict[str, tuple[int, ...]]], axis: int
) -> Callable[[tuple[int, ...]], dict[str, tuple[int, ...]]]:
    def both(shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        magnitudes = tuple(size if index == axis else 1 for index, size in enumerate(shape))
        return shapes(shape) | {"dora_scale": magnitudes}

    return both


KINDS: Mapping[str, Kind] = {
    "LoRA": Kind(_lora_shapes, _added(_lora)),
    "LoHa": Kind(_loha_shapes, _added(_loha)),
    "LoKr, whole": Kind(_lokr_shapes("lokr_w1", "lokr_w2"), _added(_lokr, scaled=False)),
    "LoKr, first divided": Kind(_lokr_shapes("lokr_w1_a", "lokr_w1_b", "lokr_w2"), _added(_lokr)),
    "LoKr, second divided": Kind(_lokr_shapes("lokr_w1", "lokr_w2_a", "lokr_w2_b"), _added(_lokr)),
    "LoKr, both divided": Kind(_lokr_shapes("lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b"), _added(_lokr)),
    "GLoRA, x2 x1": Kind(lambda shape: _glora_shapes(shape, "2", "1"), _added(_glora("2", "1"))),
    "GLoRA, x1 x2": Kind(lambda shape: _glora_shapes(shape, "1", "2"), _added(_glora("1", "2"))),
    "DoRA of outputs": Kind(_with_magnitudes(_lora_shapes, 0), _decomposed(_lora, 0)),
    "DoRA of inputs": Kind(_with_magnitudes(_lora_shapes, 1), _decomposed(_lora, 1)),
    "DoRA of a LoHa": Kind(_with_magnitudes(_loha_shapes, 0), _decomposed(_loha, 0)),
    "DoRA of a LoKr": Kind(
        _with_magnitudes(_lokr_shapes("lokr_w1", "lokr_w2_a", "lokr_w2_b"), 1), _decomposed(_lokr, 1)
    ),
    "DoRA of a GLoRA": Kind(
        _with_magnitudes(lambda shape: _glora_shapes(shape, "2", "1"), 0), _decomposed(_glora("2", "1"), 0)
    ),
    "difference": Kind(lambda shape: {"diff": shape}, _added(lambda f, w: f["diff"], scaled=False)),
}
KERNEL_KINDS: Mapping[str, Kind] = {
    "LoCon with core": Kind(
        lambda shape: {
            "lora_up.weight": (shape[0], RANK, 1, 1),
            "lora_mid.weight": (RANK, RANK, *shape[2:]),
            "lora_down.weight": (RANK, shape[1], 1, 1),
            "alpha": (),
        },
        _added(_mid),
    ),
    "LoHa with cores": Kind(
        lambda shape: {
            **{f"hada_t{n}": (RANK, RANK, *shape[2:]) for n in (1, 2)},
            **{f"hada_w{n}_a": (RANK, shape[0]) for n in (1, 2)},
            **{f"hada_w{n}_b": (RANK, shape[1]) for n in (1, 2)},
            "alpha": (),
        },
        _added(_loha_tucker),
    ),
    "LoKr with core": Kind(_lokr_shapes("lokr_w1", "lokr_w2_a", "lokr_w2_b", "lokr_t2"), _added(_lokr)),
}
"""Only for kernels of convolutions."""


# Models without memory, and factors for their weights

SD15 = replace(
    SDXL, channel_mult=(1, 2, 4, 4), transformer_depth=(1, 1, 1, 0), middle_depth=1, context_dim=768, adm_channels=0,
    linear_projections=False, head_channels=0, heads=8,
)  # fmt: skip


@cache
def names_of(family: str) -> NameTable:
    """The names of a whole model, made without memory."""
    kind, unet, towers = FAMILIES[family]
    made: dict[Part, ClipText] = {part: on_meta(partial(ClipText, params)) for part, params in towers.items()}
    return Patcher(kind, on_meta(lambda: UNet(unet)), made).names


FAMILIES: Mapping[str, tuple[Family, UNetParams, Mapping[Part, Any]]] = {
    "SDXL": ("sdxl", SDXL, {"clip_l": CLIP_L, "clip_g": CLIP_G}),
    "miniature": ("sdxl", MINI, {"clip_l": MINI_L, "clip_g": MINI_G}),
    "SD 1.5": ("sd15", SD15, {"clip_l": CLIP_L}),
    "tiny SD 1.5": ("sd15", TINY_SD15.unet, {"clip_l": TINY_SD15.towers[0].params}),
    "tiny refiner": ("sdxl_refiner", TINY_REFINER.unet, {"clip_g": TINY_REFINER.towers[0].params}),
}


@cache
def diffusers_modules(family: str) -> Mapping[str, tuple[int, ...]]:
    """What diffusers calls the modules of the same UNet, with the shapes of their weights; its own word for it."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    params = FAMILIES[family][1]
    attends = [depth > 0 for depth in params.transformer_depth]
    widths = tuple(params.model_channels * mult for mult in params.channel_mult)
    added = {
        "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": params.adm_channels,
    } if params.adm_channels else {}  # fmt: skip
    with torch.device("meta"):
        theirs = UNet2DConditionModel(
            block_out_channels=widths, layers_per_block=params.num_res_blocks,
            down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends),
            up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
            transformer_layers_per_block=tuple(max(1, depth) for depth in params.transformer_depth),
            attention_head_dim=8, cross_attention_dim=params.context_dim,
            use_linear_projection=params.linear_projections, norm_num_groups=8, **added,
        )  # fmt: skip
    weights = ((name, tuple(tensor.shape)) for name, tensor in theirs.state_dict().items())
    return {name.removesuffix(".weight"): shape for name, shape in weights if name.endswith(".weight")}


def transformers_modules(params: Any) -> dict[str, tuple[int, ...]]:
    """What transformers calls the modules of a tower."""
    inner, width = params.inner, params.width
    layer = {f"self_attn.{part}_proj": (width, width) for part in ("q", "k", "v", "out")}
    layer |= {"mlp.fc1": (inner, width), "mlp.fc2": (width, inner)}
    return {
        f"text_model.encoder.layers.{index}.{module}": shape
        for index in range(params.layers)
        for module, shape in layer.items()
    }


def low_rank(shape: tuple[int, ...], rank: int = 2) -> tuple[Tensor, Tensor]:
    """Factors of zeros; they need no memory to speak of."""
    ones = (1,) * (len(shape) - 2)
    return torch.zeros(shape[0], rank, *ones), torch.zeros(rank, *shape[1:])


def module_tensors(key: str, shape: tuple[int, ...]) -> dict[str, Tensor]:
    return dict(zip((key + ".lora_up.weight", key + ".lora_down.weight"), low_rank(shape), strict=True))
