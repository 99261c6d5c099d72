"""What the networks are told of a job: which of its texts speak for the whole picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch

from ldm_patched.modules.conditioning import Conditioning, join_texts
from ldm_patched.modules.embeddings import NO_EMBEDDINGS
from ldm_patched.modules.sd import CLIP
from modules.prepare import _both_sides
from tests.modules.test_plan import jobs

TEXTS = ("a cat", "oil painting of a cat", "a cat, glow", "blurry", "photo")


class Reader:
    """Encodes each text to its own unit vector."""

    def encode(self, texts: Sequence[str], skip: int, top_k: int, embeddings: Any) -> Conditioning:
        each = [[(torch.zeros(1, 77, 4), {"pooled_output": torch.eye(5)[[TEXTS.index(text)]]})] for text in texts]
        return join_texts(cast("list[Conditioning]", each), top_k)


def pooled(**texts: Any) -> tuple[list[float], list[float]]:
    job = replace(jobs(guidance_scale=4)[0], **texts)
    sides = _both_sides("m", cast(CLIP, Reader()), job, NO_EMBEDDINGS)
    return tuple(vector[0].tolist() for _, vector in sides if vector is not None)  # type: ignore[return-value]


def test_every_style_speaks_for_the_whole_and_the_expansion_does_not() -> None:
    """The pooled vectors of all styles are added up on both sides; the words of the expansion are read one by one."""
    styles: dict[str, Any] = {"positive": TEXTS[:2], "negative": TEXTS[3:]}
    assert pooled(**styles) == ([1, 1, 0, 0, 0], [0, 0, 0, 1, 1])
    expanded = {**styles, "positive": TEXTS[:3], "expansion": TEXTS[2]}
    assert pooled(**expanded) == ([1, 1, 0, 0, 0], [0, 0, 0, 1, 1])
    assert pooled(**{**expanded, "expansion": ""}) == ([1, 1, 1, 0, 0], [0, 0, 0, 1, 1]), "a third style would count"


def test_texts_that_are_the_same_on_both_sides_are_two_sides_all_the_same() -> None:
    """What is avoided has no expansion, also where it is the very same tuple of texts."""
    same = TEXTS[:2]
    assert pooled(positive=same, negative=same, expansion=same[1]) == ([1, 0, 0, 0, 0], [1, 1, 0, 0, 0])
