"""A file of the LoRA family becomes a patch of named weights. Knows neither how patches are applied nor the networks.

The kinds, by what follows a module's name: LoRA and LoCon (`lora_up`, `lora_down`, `lora_mid`; `lora_A` and `lora_B` in
PEFT), LoHa (`hada_...`), LoKr (`lokr_...`), GLoRA (`a1` to `b2`), whole differences (`diff`, `diff_b`, `w_norm`,
`b_norm`); `dora_scale` makes a DoRA of any but the last, `alpha` / rank scales them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ldm_patched.modules.checkpoint_layout import UNET_PREFIX
from ldm_patched.modules.deltas import (
    Decomposed,
    Delta,
    Full,
    Generalised,
    Hadamard,
    Kronecker,
    LowRank,
    Misfit,
    Patch,
    Product,
    Quantised,
    Target,
    weight_size,
)
from ldm_patched.modules.detection import looks_like
from ldm_patched.modules.lora_alphas import AdapterAlphas
from ldm_patched.modules.lora_names import NameTable, underscored
from ldm_patched.modules.parts import FileIdentity
from ldm_patched.modules.state_dict import TensorFile, WeightsError

MAX_STRENGTH = 2.0
"""A LoRA is applied with a strength of -2 to 2."""

_NAME = re.compile(
    r"(?P<module>.+?)(?:"
    r"(?P<lora_up>\.lora_up\.weight|[._]lora\.up\.weight|\.lora_linear_layer\.up\.weight|\.lora_B(?:\.\w+)?\.weight)|"
    r"(?P<lora_down>\.lora_down\.weight|[._]lora\.down\.weight|\.lora_linear_layer\.down\.weight"
    r"|\.lora_A(?:\.\w+)?\.weight)|"
    r"(?P<lora_mid>\.lora_mid\.weight)|(?P<alpha>\.alpha)|(?P<dora_scale>\.dora_scale)|"
    r"(?P<magnitude>[._]lora_magnitude_vector(?:\.\w+){0,2})|"
    r"(?P<hada_w1_a>\.hada_w1_a)|(?P<hada_w1_b>\.hada_w1_b)|(?P<hada_t1>\.hada_t1)|"
    r"(?P<hada_w2_a>\.hada_w2_a)|(?P<hada_w2_b>\.hada_w2_b)|(?P<hada_t2>\.hada_t2)|"
    r"(?P<lokr_w1>\.lokr_w1)|(?P<lokr_w1_a>\.lokr_w1_a)|(?P<lokr_w1_b>\.lokr_w1_b)|"
    r"(?P<lokr_w2>\.lokr_w2)|(?P<lokr_w2_a>\.lokr_w2_a)|(?P<lokr_w2_b>\.lokr_w2_b)|(?P<lokr_t2>\.lokr_t2)|"
    r"(?P<a1>\.a1\.weight)|(?P<a2>\.a2\.weight)|(?P<b1>\.b1\.weight)|(?P<b2>\.b2\.weight)|"
    r"(?P<diff>\.diff)|(?P<diff_b>\.diff_b)|(?P<w_norm>\.w_norm)|(?P<b_norm>\.b_norm))"
)
_TEXT_WIDTHS = {
    192: "Pinhole's miniature",
    768: "Stable Diffusion 1.5",
    1024: "Stable Diffusion 2",
    1280: "the SDXL refiner",
    2048: "SDXL",
}
_FOREIGN: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"(double|single)_blocks_\d|single_transformer_blocks_\d", "Flux"),
        (r"joint_blocks_\d|attn2?_add_[kqv]_proj|lora_te3_|^text_encoder_3_", "Stable Diffusion 3"),
        (r"(^|_)blocks_\d+_(self_attn|cross_attn|attn)_|temporal|motion_modules", "a video model"),
        (r"^lora_prior_|_channelwise_|effnet", "Stable Cascade"),
        (r"^(lora_)?transformer_(?!resblocks|text_model)|(^|_)layers_\d+_attention_", "another kind of network"),
    )
)
_TEXT_PROJECTION = re.compile(r"attn2_to_[kv]$")

_BIAS = frozenset({"diff_b", "b_norm"})

Factors = Mapping[str, Tensor]
Changes = Mapping[str, Mapping[str, Delta]]
"""By a module's name in the file: what happens to its "weight" and its "bias"."""


@dataclass(frozen=True, order=True)
class LoraSpec:
    """A wish: a file with a strength from -2 to 2. Hashable; equal specs mean that nothing has to be done."""

    file: FileIdentity
    strength: float

    def __post_init__(self) -> None:
        if not -MAX_STRENGTH <= self.strength <= MAX_STRENGTH:
            raise ValueError(
                f"{self.file.name} has a strength of {self.strength:g}; "
                f"it must be from {-MAX_STRENGTH:g} to {MAX_STRENGTH:g}"
            )

    @classmethod
    def of(cls, path: Path, strength: float) -> LoraSpec:
        """The wish for a file as it is now. Raises ValueError for a strength out of range or without a file."""
        try:
            return cls(FileIdentity.of(path), strength)
        except OSError as error:
            raise WeightsError(f"{path.name} does not exist in {path.parent}") from error


def read_lora(path: Path, names: NameTable) -> Patch:
    """The patch that a safetensors file of the LoRA family is for a model.

    The factors stay in the memory-mapped file. Raises WeightsError, with a sentence for the user, for a file that is
    no LoRA, is made for another architecture, is incomplete, does not fit or holds NaN or infinity.
    """
    identity = LoraSpec.of(path, 1.0).file
    file = TensorFile(path)
    modules, unknown = _group(file)
    if not modules:
        shapes = {name: info.shape for name, info in file.infos.items()}
        whole = any(name.startswith(UNET_PREFIX) for name in file)
        looks = "a whole checkpoint" if whole else looks_like(shapes)
        raise WeightsError(f"{path.name} looks like {looks}; expected a LoRA for {_model(names)}")
    alphas = AdapterAlphas.of(path.name, file.metadata)
    changes: dict[str, dict[str, Delta]] = {}
    for module, roles in modules.items():
        factors = {role: _factor(file, name) for role, name in roles.items()}
        changes[module] = _changes(path.name, module, factors, alphas)
    deltas, unmatched = _bind(path.name, changes, names)
    file.prefetch(file.infos)
    for roles in modules.values():
        for name in roles.values():
            _check_finite(file, name)
    unknown += [
        name
        for module, leaf in unmatched
        for role, name in modules[module].items()
        if (role in _BIAS) == (leaf == "bias")
    ]
    return Patch(identity, deltas, tuple(sorted(unknown)))


def quantised_patch(
    identity: FileIdentity, weights: Mapping[str, tuple[Tensor, float, float]], names: NameTable
) -> Patch:
    """The inpaint engine's patch: for each full weight name, codes (uint8) and the values of codes 0 and 255.

    Raises WeightsError as `read_lora` does.
    """
    changes: dict[str, dict[str, Delta]] = {}
    for name, (codes, low, high) in weights.items():
        module, _, leaf = name.rpartition(".")
        try:
            changes.setdefault(module, {})[leaf] = Quantised(codes, low, high)
        except Misfit as error:
            raise WeightsError(f"{identity.name}: {name} {error}") from error
    deltas, unmatched = _bind(identity.name, changes, names)
    return Patch(identity, deltas, tuple(f"{module}.{leaf}" for module, leaf in unmatched))


# Tensors of a file


def _group(file: TensorFile) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Names of tensors by module and role, and those that have no known role."""
    modules: dict[str, dict[str, str]] = {}
    unknown: list[str] = []
    for name in file:
        match = _NAME.fullmatch(name)
        if match is None or match.lastgroup is None:
            unknown.append(name)
        else:
            other = modules.setdefault(match["module"], {}).setdefault(match.lastgroup, name)
            if other != name:
                raise WeightsError(f"{file.path.name} changes one weight twice: {other!r} and {name!r}")
    for module in [module for module, roles in modules.items() if roles.keys() == {"alpha"}]:
        unknown.append(modules.pop(module)["alpha"])
    return modules, unknown


def _factor(file: TensorFile, name: str) -> Tensor:
    info = file.infos[name]
    if not info.dtype.is_floating_point and math.prod(info.shape) != 1:  # some trainers write alpha as an integer
        raise WeightsError(f"{file.path.name} stores {name!r} as {info.dtype}; a LoRA holds floating-point numbers")
    if 0 in info.shape:
        raise WeightsError(f"{file.path.name} has no numbers in {name!r}, which is {list(info.shape)}")
    return file[name]


def _check_finite(file: TensorFile, name: str) -> None:
    tensor = file[name]
    # The extremes tell of NaN too, in one pass without a copy; torch has none for 8 bits.
    least, greatest = torch.aminmax(tensor.float() if tensor.element_size() == 1 else tensor)
    if not bool(torch.isfinite(least) & torch.isfinite(greatest)):
        raise WeightsError(f"{file.path.name} is damaged: {name!r} holds NaN or infinity")


# Factors of a module -> deltas


def _changes(file: str, module: str, factors: Factors, alphas: AdapterAlphas) -> dict[str, Delta]:
    """What the factors of a module do to its weight and its bias."""
    try:
        weight: list[Delta] = [Full(factors[role]) for role in ("diff", "w_norm") if role in factors]
        bias: list[Delta] = [Full(factors[role]) for role in sorted(_BIAS) if role in factors]
        decomposed = not {"dora_scale", "magnitude"}.isdisjoint(factors)
        for build, roles in _KINDS.items():
            if not roles.isdisjoint(factors):
                direction = build(factors, lambda rank: alphas.scale(module, factors.get("alpha"), rank))
                weight.append(_decompose(direction, factors) if decomposed else direction)
        if len(weight) > 1 or len(bias) > 1:
            raise Misfit(f"has several kinds of change at once ({', '.join(sorted(factors))})")
        if decomposed and not weight:
            raise Misfit("has magnitudes (DoRA) but no direction")
    except KeyError as error:
        raise WeightsError(f"{file} is incomplete: {module} has no {error.args[0]}") from error
    except Misfit as error:
        raise WeightsError(f"{file} is damaged: {module} {error}") from error
    return {leaf: delta for leaf, deltas in (("weight", weight), ("bias", bias)) for delta in deltas}


Scale = Callable[[int], float]
"""alpha / rank of a rank, 1 where a file tells no alpha."""


def _low_rank(factors: Factors, scale: Scale) -> Delta:
    up, down = factors["lora_up"], factors["lora_down"]
    return LowRank(up, down, scale(down.shape[0] if down.ndim else 1), factors.get("lora_mid"))


def _hadamard(factors: Factors, scale: Scale) -> Delta:
    first, second = (
        Product(
            factors[f"hada_w{n}_a"], factors[f"hada_w{n}_b"], f"hada_w{n}_a and hada_w{n}_b", factors.get(f"hada_t{n}")
        )
        for n in (1, 2)
    )
    return Hadamard(first, second, scale(first.right.shape[0]))


def _kronecker(factors: Factors, scale: Scale) -> Delta:
    """A factor that is not decomposed has no rank; alpha counts only where one has."""
    first, second = (
        factors[name]
        if name in factors
        else Product(factors[name + "_a"], factors[name + "_b"], f"{name}_a and {name}_b", core)
        for name, core in (("lokr_w1", None), ("lokr_w2", factors.get("lokr_t2")))
    )
    ranks = [factor.right.shape[0] for factor in (first, second) if isinstance(factor, Product)]
    return Kronecker(first, second, scale(ranks[0]) if ranks else 1.0)


def _generalised(factors: Factors, scale: Scale) -> Delta:
    """Files exist in both orders, x2 x1 and x1 x2: the rank, which is the smaller side, has to be in the middle."""
    (a_left, a_right), (b_left, b_right) = (
        (second, first) if _is_product(second, first) else (first, second)
        for first, second in ((factors["a1"], factors["a2"]), (factors["b1"], factors["b2"]))
    )
    return Generalised(a_left, a_right, b_left, b_right, scale(b_right.shape[0]))


def _is_product(left: Tensor, right: Tensor) -> bool:
    """Whether `left right` is the low-rank product of two matrices, and not `right left`."""
    if left.ndim < 2 or right.ndim < 2 or left.shape[1] != right.shape[0]:
        return False
    return right.shape[1] != left.shape[0] or left.shape[1] <= left.shape[0]


_KINDS: Mapping[Callable[[Factors, Scale], Delta], frozenset[str]] = {
    _low_rank: frozenset({"lora_up", "lora_down", "lora_mid"}),
    _hadamard: frozenset({f"hada_{part}" for part in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")}),
    _kronecker: frozenset({f"lokr_{part}" for part in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")}),
    _generalised: frozenset({"a1", "a2", "b1", "b2"}),
}


def _decompose(direction: Delta, factors: Factors) -> Delta:
    """PEFT has a magnitude per output, whatever its shape; elsewhere the shape [1, in, ...] means one per input."""
    if "magnitude" in factors:
        return Decomposed(direction, factors["magnitude"], 0)
    magnitude = factors["dora_scale"]
    inputs = magnitude.ndim > 1 and magnitude.shape[0] == 1 and magnitude.shape[1] > 1
    return Decomposed(direction, magnitude, int(inputs))


# Deltas -> weights of a model


def _bind(file: str, changes: Changes, names: NameTable) -> tuple[dict[Target, Delta], list[tuple[str, str]]]:
    """Changes by the weights of a model, and those (module, "weight" or "bias") that fit none.

    Raises WeightsError if nothing matches, the shapes do not fit, or the names are those of another architecture.
    """
    found = {module: names.find(module) for module in changes}
    _check_architecture(file, changes, found, names)
    deltas: dict[Target, Delta] = {}
    origin: dict[Target, str] = {}
    unmatched: list[tuple[str, str]] = []
    for module, place in found.items():
        for leaf, delta in changes[module].items():
            target = Target(place[0], f"{place[1]}.{leaf}") if place else None
            if target is None or target not in names.shapes:
                unmatched.append((module, leaf))
            elif target in origin:
                raise WeightsError(f"{file} changes one weight twice: {origin[target]} and {module}")
            else:
                _check_size(file, module, delta, target, names)
                deltas[target], origin[target] = delta, module
    if not deltas:
        raise WeightsError(f"{file} changes only biases that {_model(names)} has not, as that of {unmatched[0][0]!r}")
    return deltas, unmatched


def _check_size(file: str, module: str, delta: Delta, target: Target, names: NameTable) -> None:
    shape = names.shapes[target]
    if delta.size != weight_size(shape):
        raise WeightsError(
            f"{file} does not fit this model: {module} is made for a weight of {list(delta.size)}, "
            f"but {target.name} is {list(shape)}; expected a LoRA for {_model(names)}"
        )
    if isinstance(delta, Decomposed) and delta.magnitude.numel() != shape[delta.axis]:
        raise WeightsError(
            f"{file} does not fit this model: {module} has magnitudes (DoRA) of shape {list(delta.magnitude.shape)}, "
            f"but {target.name} is {list(shape)}"
        )


def _check_architecture(file: str, changes: Changes, found: Mapping[str, object], names: NameTable) -> None:
    widths = {
        change["weight"].size[1]
        for module, change in changes.items()
        if "weight" in change and _TEXT_PROJECTION.search(underscored(module))
    }
    missing = next((block for name, place in found.items() if not place and (block := names.missing_block(name))), "")
    foreign = _foreign(changes)
    if not foreign and not missing and not widths - {names.context_dim} and any(found.values()):
        return
    if not foreign and len(widths) == 1 and widths != {names.context_dim}:
        foreign = _by_width(widths.pop())
    elif not foreign and missing:
        foreign = f"another UNet, with a block {missing!r}"
    elif not foreign:
        foreign = f"something unknown (its first module of {len(changes)} is {min(changes)!r})"
    raise WeightsError(f"{file} looks like a LoRA for {foreign}; expected one for {_model(names)}")


def _foreign(modules: Iterable[str]) -> str:
    """The architecture that names tell, in words, if it is none of ours; empty otherwise."""
    keys = [underscored(module) for module in modules]
    return next((words for pattern, words in _FOREIGN if any(pattern.search(key) for key in keys)), "")


def _by_width(width: int) -> str:
    return _TEXT_WIDTHS.get(width, f"a model whose texts are {width} wide")


def _model(names: NameTable) -> str:
    return _by_width(names.context_dim)
