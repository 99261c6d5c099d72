"""What a call of SDXL's full-size UNet costs, counted without weights: operations, products, waits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.networks import SDXL
from ldm_patched.ldm.unet import UNet
from training.loop import channels_last

# What only gives a tensor another shape, what a fake tensor asks about itself, and what is asked once per process.
FREE = {"aten::_unsafe_view", "prim::device", "mkldnn::_is_mkldnn_bf16_supported"}


def _flops_of_fused(inputs: Sequence[int], other: object, weight: Sequence[int], *_: object, **__: object) -> int:
    """A product with a weight [out, in], of inputs [..., in]; the counter does not know the operation."""
    return 2 * math.prod(inputs) * weight[0]


class FusedSums(TorchDispatchMode):
    """Says what oneDNN's product with a sum would return; fake tensors know no shape for it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.ops.mkldnn._linear_pointwise.binary:
            return torch.empty_like(args[1])
        return func(*args, **(kwargs or {}))


class Operations(TorchDispatchMode):
    """Counts what a processor would be given to do."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        assert isinstance(func, torch._ops.OpOverload)
        if not func.is_view and func._schema.name not in FREE:
            self.counts[func._schema.name] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def counted() -> tuple[Counter[str], float]:
    """The operations of one call for 1024x1024 pixels, both sides of guidance in one batch, and its FLOPs."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with FakeTensorMode(), FusedSums(), torch.no_grad():
            unet = channels_last(UNet(SDXL)).requires_grad_(False)
            text = [unet.project_text(torch.empty(2, 77, 2048))]
            time = unet.project_time(torch.empty(2), torch.empty(2, SDXL.adm_channels))
            x = torch.empty(2, 4, 128, 128).to(memory_format=torch.channels_last)
            with Operations() as operations:
                unet(x, time, text)
            fused = {torch.ops.mkldnn._linear_pointwise: _flops_of_fused}
            with FlopCounterMode(display=False, custom_mapping=fused) as flops:
                unet(x, time, text)
    finally:
        torch.set_default_dtype(dtype)
    return operations.counts, float(flops.get_total_flops())


def test_a_call_is_few_operations(counted: tuple[Counter[str], float]) -> None:
    """The same network takes diffusers 1,994 (0.42.1).

    On a processor, where residuals are added in the product they are of; other devices are given 210 sums more.
    """
    assert counted[0].total() <= 1120
    assert counted[0]["mkldnn::_linear_pointwise"] == 210
    assert counted[0]["aten::_to_copy"] == counted[0]["aten::clone"] == 0, "nothing is copied"


def test_a_call_has_no_more_products_than_the_network(counted: tuple[Counter[str], float]) -> None:
    """6.76 TFLOP a side with the projections of the text, which are made once and not at every step.

    The counter does not know the processor's fused attention, 0.784 TFLOP a side.
    """
    assert counted[1] / 2e12 == pytest.approx(6.761 - 0.784 - 0.0525, abs=0.01)


def test_nothing_in_a_call_waits_for_a_value(counted: tuple[Counter[str], float]) -> None:
    assert not {"aten::item", "aten::_local_scalar_dense", "aten::nonzero", "aten::equal"} & counted[0].keys()
