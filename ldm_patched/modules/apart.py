"""A UNet that computes the rows of a batch one after the other: half the memory of a step, for what is left of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ldm_patched.ldm.attention import TextProjection
from ldm_patched.ldm.unet import SkipHook, UNet


class RowByRow:
    """Has of a `UNet` what a denoiser uses, and computes what it computes: each row is independent of the others."""

    def __init__(self, unet: UNet) -> None:
        self.project_text = unet.project_text
        self.project_time = unet.project_time
        self.dtype = unet.dtype
        self.device = unet.device
        self._unet = unet

    def __call__(
        self, x: Tensor, time: Sequence[Tensor], text: Sequence[TextProjection], skip_hook: SkipHook | None = None
    ) -> Tensor:
        """See `UNet.forward`."""
        rows = [
            self._unet(x[row : row + 1], tuple(part[row : row + 1] for part in time), [projection], skip_hook)
            for row, projection in enumerate(_rows(text))
        ]
        return torch.cat(rows)


def _rows(text: Sequence[TextProjection]) -> Iterator[TextProjection]:
    for part in text:
        for row in range(part.batch):
            one = slice(row, row + 1)
            yield TextProjection(tuple((key[one], value[one]) for key, value in part.layers))
