"""What a patch adds to one weight: the LoRA family as values that can be summed. Knows no file and no network.

A weight of shape [out, in, ...] is seen as a matrix [out, in * ...]; the vectors of norms and biases have one column.
All arithmetic is float32 on the device of the weight, whatever the factors are stored as. r is the rank.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ldm_patched.modules.parts import FileIdentity, Part


@dataclass(frozen=True, order=True)
class Target:
    """A weight: the part of the model it belongs to, and its published name within it.

    The names are those of the original SDXL checkpoint for the UNet (`input_blocks.4.1.proj_in.weight`) and of
    transformers' CLIPTextModel for a text tower (`encoder.layers.0.mlp.fc1.weight`).
    """

    part: Part
    name: str


class Misfit(ValueError):
    """Factors do not fit each other. The message is the rest of a sentence that begins with the module's name."""


class Delta(ABC):
    """A change of one weight."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Rows and columns of the weight, seen as a matrix, that this is made for."""

    def rows(self, begin: int, end: int) -> Delta | None:
        """The change of some rows alone, for merging in small pieces; None if it is made as a whole."""
        return None

    @abstractmethod
    def add_to(self, merged: Tensor, pristine: Tensor, strength: float) -> None:
        """Add `strength` times the change to `merged`.

        merged: float32 in the weight's shape, which may hold other changes already. pristine: the weight without any,
        in whatever dtype it is stored.
        """


@dataclass(frozen=True)
class Patch:
    """The deltas of one file. unmatched: names of its tensors that fit no weight of the model, and are left out.

    Equal identities promise equal deltas.
    """

    identity: FileIdentity
    deltas: Mapping[Target, Delta]
    unmatched: tuple[str, ...] = ()

    def notice(self) -> str:
        """A sentence about the tensors that are left out, empty where there are none."""
        if not self.unmatched:
            return ""
        first = ", ".join(self.unmatched[:3]) + (", ..." if len(self.unmatched) > 3 else "")
        count = len(self.unmatched)
        return f"{self.identity.name}: {count} of its tensors fit nothing in this model and are left out ({first})."


def weight_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a weight seen as a matrix."""
    return shape[0], math.prod(shape[1:])


def _float(tensor: Tensor, like: Tensor) -> Tensor:
    return tensor.to(like.device).to(torch.float32)


def _matrix(tensor: Tensor) -> Tensor:
    """[out, in, ...] as [out, in * ...]: a view, so that it can be written to."""
    return tensor if tensor.ndim == 2 else tensor.view(tensor.shape[0], -1)


def _flat(tensor: Tensor) -> Tensor:
    """A factor as a matrix. Kernels of convolutions may be stored in any order of memory."""
    return tensor.reshape(tensor.shape[0], -1)


def _core(core: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Tucker decomposition of a kernel (arXiv 2108.06098): core [r, r, h, w], factors [r, out] and [r, in]."""
    return torch.einsum("ijhw,io,jc->ochw", core, first, second)


def _check_product(left: Tensor, right: Tensor, names: str) -> None:
    if left.ndim < 2 or right.ndim < 2 or _flat(left).shape[1] != right.shape[0]:
        raise Misfit(f"has {names} of shapes {list(left.shape)} and {list(right.shape)}, which are of no common rank")


def _check_core(core: Tensor, first: Tensor, second: Tensor, names: str) -> None:
    """first [r, out] and second [r, in] fit core [r, r, h, w]."""
    shapes = [list(tensor.shape) for tensor in (core, first, second)]
    fits = core.ndim == 4 and first.ndim == 2 and second.ndim == 2
    if not fits or core.shape[:2] != (first.shape[0], second.shape[0]):
        raise Misfit(f"has {names} of shapes {shapes[0]}, {shapes[1]} and {shapes[2]}, which are of no common rank")


@dataclass(frozen=True)
class LowRank(Delta):
    """LoRA (arXiv 2106.09685): scale * up down, with up [out, r] and down [r, in, ...].

    mid: the [r, r, h, w] core of a LoCon in Tucker form, whose down is [r, in].
    """

    up: Tensor
    down: Tensor
    scale: float
    mid: Tensor | None = None

    def __post_init__(self) -> None:
        if self.mid is None:
            _check_product(self.up, self.down, "lora_up and lora_down")
        else:
            _check_core(self.mid, _flat(self.up).T, _flat(self.down), "lora_mid, lora_up (transposed) and lora_down")

    @property
    def size(self) -> tuple[int, int]:
        kernel = 1 if self.mid is None else math.prod(self.mid.shape[2:])
        return self.up.shape[0], math.prod(self.down.shape[1:]) * kernel

    def rows(self, begin: int, end: int) -> Delta | None:
        return LowRank(self.up[begin:end], self.down, self.scale) if self.mid is None else None

    def add_to(self, merged: Tensor, pristine: Tensor, strength: float) -> None:
        up, down = _flat(_float(self.up, merged)), _flat(_float(self.down, merged))
        if self.mid is None:
            _matrix(merged).addmm_(up, down, alpha=strength * self.scale)
        else:
            kernel = _core(_float(self.mid, merged), up.T, down)
            _matrix(merged).add_(_flat(kernel), alpha=strength * self.scale)


@dataclass(frozen=True)
class Product:
    """A factor of LoHa and LoKr: `left right`, or a Tucker core [r, r, h, w] with left [r, out] and right [r, in]."""

    left: Tensor
    right: Tensor
    names: str
    core: Tensor | None = None

    def __post_init__(self) -> None:
        if self.core is None:
            _check_product(self.left, self.right, self.names)
        else:
            _check_core(self.core, self.left, self.right, "the core and " + self.names)

    @property
    def size(self) -> tuple[int, int]:
        if self.core is None:
            return self.left.shape[0], math.prod(self.right.shape[1:])
        return self.left.shape[1], self.right.shape[1] * math.prod(self.core.shape[2:])

    def matrix(self, like: Tensor) -> Tensor:
        """The product in float32, on the device of `like`."""
        left, right = _float(self.left, like), _float(self.right, like)
        if self.core is None:
            return _flat(left) @ _flat(right)
        return _flat(_core(_float(self.core, like), left, right))


@dataclass(frozen=True)
class Hadamard(Delta):
    """LoHa (arXiv 2108.06098): scale * (first o second), element by element."""

    first: Product
    second: Product
    scale: float

    def __post_init__(self) -> None:
        if self.first.size != self.second.size:
            sizes = f"{list(self.first.size)} and {list(self.second.size)}"
            raise Misfit(f"multiplies matrices of shapes {sizes} element by element")

    @property
    def size(self) -> tuple[int, int]:
        return self.first.size

    def add_to(self, merged: Tensor, pristine: Tensor, strength: float) -> None:
        change = self.first.matrix(merged).mul_(self.second.matrix(merged))
        _matrix(merged).add_(change, alpha=strength * self.scale)


@dataclass(frozen=True)
class Kronecker(Delta):
    """LoKr (arXiv 2309.14859): scale * first (x) second, where only the second has a kernel's height and width."""

    first: Tensor | Product
    second: Tensor | Product
    scale: float

    def __post_init__(self) -> None:
        if any(isinstance(factor, Tensor) and factor.ndim < 2 for factor in (self.first, self.second)):
            raise Misfit("has a Kronecker factor that is no matrix")

    @property
    def size(self) -> tuple[int, int]:
        (rows, columns), (inner_rows, inner_columns) = map(_factor_size, (self.first, self.second))
        return rows * inner_rows, columns * inner_columns

    def add_to(self, merged: Tensor, pristine: Tensor, strength: float) -> None:
        first, second = (
            factor.matrix(merged) if isinstance(factor, Product) else _flat(_float(factor, merged))
            for factor in (self.first, self.second)
        )
        _matrix(merged).add_(torch.kron(first, second), alpha=strength * self.scale)


def _factor_size(factor: Tensor | Product) -> tuple[int, int]:
    return factor.size if isinstance(factor, Product) else weight_size(tuple(factor.shape))


@dataclass(frozen=True)
class Generalised(Delta):
    """GLoRA (arXiv 2306.07967, its A and B): scale * (b_left b_right + W a_left a_right).

    a_left [in, r] and a_right [r, in] mix the weight's inputs, b_left [out, r] and b_right [r, in, ...] are a LoRA.
    """

    a_left: Tensor
    a_right: Tensor
    b_left: Tensor
    b_right: Tensor
    scale: float

    def __post_init__(self) -> None:
        _check_product(self.a_left, self.a_right, "a1 and a2")
        _check_product(self.b_left, self.b_right, "b1 and b2")
        inputs = self.a_left.shape[0]
        if math.prod(self.a_right.shape[1:]) != inputs or inputs not in (self.b_right.shape[1], self.size[1]):
            shapes = f"{list(self.a_left.shape)}, {list(self.a_right.shape)} and {list(self.b_right.shape)}"
            raise Misfit(f"has a1, a2 and b of shapes {shapes}, which are of no common number of inputs")

    @property
    def size(self) -> tuple[int, int]:
        return self.b_left.shape[0], math.prod(self.b_right.shape[1:])

    def add_to(self, merged: Tensor, pristine: Tensor, strength: float) -> None:
        a_left, a_right, b_left, b_right = (
            _flat(_float(factor, merged)) for factor in (self.a_left, self.a_right, self.b_left, self.b_right)
        )
        weight = _float(pristine, merged)
        if weight.ndim > 2 and a_left.shape[0] == weight.shape[1]:  # a kernel: its channels are mixed, place by place
            mixed = (weight.movedim(1, -1) @ a_left @ a_right).movedim(-1, 1)
        else:
            mixed = _flat(weight) @ a_left @ a_right
        _matrix(merged).add_(_flat(mixed).addmm(b_left, b_right), alpha=strength * self.scale)


@dataclass(frozen=True)
class Full(Delta):
    """A whole difference: `diff`, `diff_b`, `w_norm`, `b_norm`."""

    difference: Tensor

    @property
    def size(self) -> tuple[int, int]:
        return weight_size(tuple(self.difference.shape))

    def rows(self, begin: int, end: int) -> Delta | None:
        return Full(self.difference[begin:end])

    def add_to(self, merged: Tensor, pristine: Tensor, strength: float) -> None:
        _matrix(merged).add_(_flat(_float(self.difference, merged)), alpha=strength)


@dataclass(frozen=True)
class Quantised(Delta):
    """A whole difference in 256 steps from `low` to `high`: the inpaint engine's patch. codes: uint8."""

    codes: Tensor
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.codes.dtype != torch.uint8:
            raise Misfit(f"is quantised as {self.codes.dtype}; expected torch.uint8")
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise Misfit(f"is quantised between {self.low} and {self.high}, which are no numbers")

    @property
    def size(self) -> tuple[int, int]:
        return weight_size(tuple(self.codes.shape))

    def rows(self, begin: int, end: int) -> Delta | None:
        return Quantised(self.codes[begin:end], self.low, self.high)

    def add_to(self, merged: Tensor, pristine: Tensor, strength: float) -> None:
        change = _flat(_float(self.codes, merged)).mul_((self.high - self.low) / 255.0).add_(self.low)
        _matrix(merged).add_(change, alpha=strength)


@dataclass(frozen=True)
class Decomposed(Delta):
    """DoRA (arXiv 2402.09353, eq. 5): magnitude * V / |V| with V = W + direction.

    magnitude: a number for each output (axis 0) or each input (axis 1), as the norms |V| are taken. The strength goes
    in a straight line from the weight to the full result.
    """

    direction: Delta
    magnitude: Tensor
    axis: int

    def __post_init__(self) -> None:
        wanted = self.direction.size[self.axis]
        inputs = self.axis == 1 and self.direction.size[1] % max(1, self.magnitude.numel()) == 0
        if self.magnitude.numel() != wanted and not inputs:
            raise Misfit(
                f"has {self.magnitude.numel()} magnitudes (dora_scale {list(self.magnitude.shape)}) "
                f"for {wanted} {'inputs' if self.axis else 'outputs'}"
            )

    @property
    def size(self) -> tuple[int, int]:
        return self.direction.size

    def add_to(self, merged: Tensor, pristine: Tensor, strength: float) -> None:
        weight = _float(pristine, merged).contiguous()
        direction = weight.clone()
        self.direction.add_to(direction, pristine, 1.0)
        others = [axis for axis in range(weight.ndim) if axis != self.axis]
        norm = torch.linalg.vector_norm(direction, dim=others, keepdim=True)
        # A row of zeros has no direction; it stays zero instead of becoming NaN.
        factor = _float(self.magnitude, merged).view(norm.shape) / norm.clamp_min(torch.finfo(torch.float32).tiny)
        merged.add_(direction.mul_(factor).sub_(weight), alpha=strength)
