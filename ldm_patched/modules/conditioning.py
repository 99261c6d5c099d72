"""What tells a UNet what to draw besides time: encoded texts joined, and the size vector (ADM). Knows no text encoder.

A conditioning is `[(hidden, {"pooled_output": pooled})]`, with hidden [1, tokens, context_dim] and pooled [1, width]
or None for a model that takes none (SD 1.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from ldm_patched.ldm.unet import timestep_embedding

NUMBER_WIDTH = 256
"""Width of the sinusoidal embedding of one number of the size vector."""

SIZE_NUMBERS = 6
"""Numbers of SDXL's size vector: height, width, crop top, crop left, target height, target width."""

REFINER_NUMBERS = 5
"""Numbers of the refiner's: height, width, crop top, crop left, aesthetic score."""

LAST_TIMESTEP = 999.0


class Extras(TypedDict):
    """What comes with the hidden states of a text."""

    pooled_output: Tensor | None


Conditioning = list[tuple[Tensor, Extras]]


def join_texts(parts: Sequence[Conditioning], top_k: int = 1) -> Conditioning:
    """One conditioning of several texts that were encoded separately.

    Their tokens are concatenated; the pooled vectors of the first `top_k` texts are added up. So a text that
    only enriches the others (an expansion) goes last and stays out of the sum.
    """
    if not parts:
        raise ValueError("there is no text to join; an empty prompt is encoded as the text ''")
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; at least one text gives the pooled vector")
    hidden = torch.cat([part[0][0] for part in parts], dim=1)
    pooled = [vector for part in parts[:top_k] if (vector := part[0][1]["pooled_output"]) is not None]
    return [(hidden, {"pooled_output": torch.stack(pooled).sum(dim=0) if pooled else None})]


@dataclass(frozen=True)
class SizeVectors:
    """The size vectors of one text, each [1, pooled width + embeddings]: one for early timesteps, one for late ones.

    The early one may claim another size than the picture has, which emphasises (scale above 1) or weakens details.
    """

    emphasised: Tensor
    plain: Tensor

    def at(self, timestep: float, end: float) -> Tensor:
        """The vector for a timestep 0..999. end: fraction 0..1 of the run after which the plain one is used."""
        return self.emphasised if emphasised_at(timestep, end) else self.plain


def emphasised_at(timestep: float, end: float) -> bool:
    """Whether the emphasised vector applies at a timestep 0..999, with `end` the fraction of the run where it ends."""
    return timestep > LAST_TIMESTEP * (1.0 - end)


def size_vectors(pooled: Tensor, width: int, height: int, scale: float) -> SizeVectors:
    """SDXL's size conditioning (arXiv 2307.01952, section 2.2) in its emphasised and its plain form.

    pooled: [1, p]. width, height: of the picture in pixels. scale: factor on the claimed original size in the
    emphasised form. Both forms are [1, p + 1536].
    """
    rounded = (64 * round(height / 64), 64 * round(width / 64))
    emphasised = (int(height * scale), int(width * scale), 0, 0, *rounded)
    return SizeVectors(_with_numbers(pooled, emphasised), _with_numbers(pooled, (*rounded, 0, 0, *rounded)))


def refiner_vector(pooled: Tensor, width: int, height: int, score: float) -> Tensor:
    """The refiner's vector [1, p + 1280]. score: the claimed aesthetic score: 6 for positive texts, 2.5 else."""
    return _with_numbers(pooled, (height, width, 0, 0, score))


def _with_numbers(pooled: Tensor, numbers: Sequence[float]) -> Tensor:
    values = torch.tensor(numbers, dtype=torch.float32, device=pooled.device)
    return torch.cat([pooled.float(), timestep_embedding(values, NUMBER_WIDTH).flatten()[None]], dim=1)
