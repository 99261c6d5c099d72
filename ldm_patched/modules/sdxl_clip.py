"""Weighted tokens become hidden states: the text towers. Knows no files and no UNet.

`SDXLClip` serves SDXL (two towers), its refiner (the larger one) and SD 1.5 (the smaller one).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ldm_patched.ldm.clip import ClipText, ClipTextParams
from ldm_patched.modules.conditioning import Conditioning
from ldm_patched.modules.embeddings import NO_EMBEDDINGS, Embeddings
from ldm_patched.modules.parts import TowerPart
from ldm_patched.modules.token_chunks import CHUNK, ROOM, Chunk, tokenize_with_weights
from ldm_patched.modules.tokenizer import Tokenizer

_BATCH = 16
"""Chunks encoded at once, which bounds the memory that a long text needs."""


def part_of(params: ClipTextParams) -> TowerPart:
    """Which of the published towers has these parameters: OpenAI's has the cheaper activation."""
    return "clip_l" if params.activation == "quick_gelu" else "clip_g"


@dataclass(frozen=True)
class Tower:
    """A text tower and how its published model uses it.

    pad: the token after the end token. final_norm: whether the hidden state goes through the tower's last layer norm.
    """

    model: ClipText
    pad: int
    final_norm: bool

    @property
    def part(self) -> TowerPart:
        """Which of the published towers it is."""
        return part_of(self.model.params)

    def encode(
        self, rows: Tensor, ends: Tensor, clip_skip: int, vectors: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Encode chunks.

        rows: token ids [chunks, 77]. ends: positions of the end tokens [chunks]. vectors: [n, width], what ids from
        the size of the vocabulary on stand for. Returns float32 hidden states [chunks, 77, width] and pooled vectors
        [chunks, projection_dim], or None for a tower without them.
        """
        device = self.model.positional_embedding.device
        hidden, pooled = self.model(self._embed(rows.to(device), vectors), ends.to(device), clip_skip)
        if self.final_norm:
            hidden = self.model.ln_final(hidden)
        return hidden.float(), None if pooled is None else pooled.float()

    def _embed(self, rows: Tensor, vectors: Tensor | None) -> Tensor:
        if vectors is None:
            return self.model.embed(rows)
        number = rows - self.model.params.vocabulary
        embedded = self.model.embed(rows.clamp(max=self.model.params.vocabulary - 1))
        injected = vectors.to(embedded.device, embedded.dtype)[number.clamp(min=0)]
        return torch.where(number[:, :, None] >= 0, injected, embedded)


class SDXLClip:
    """One or two text towers with their common vocabulary."""

    def __init__(self, towers: Sequence[Tower]) -> None:
        rows = {tower.model.params.vocabulary for tower in towers}
        if len(rows) != 1:
            raise ValueError(f"the text encoders of a model share one vocabulary; these have {sorted(rows)} tokens")
        self.towers = tuple(towers)
        self.tokenizer = Tokenizer(rows.pop())

    def tokenize_with_weights(self, text: str, embeddings: Embeddings = NO_EMBEDDINGS) -> list[Chunk]:
        """The chunks of a text, at least one."""
        return tokenize_with_weights(self.tokenizer, text, embeddings.split)

    @torch.no_grad()
    def encode_token_weights(
        self, chunks: Sequence[Chunk], clip_skip: int = 2, embeddings: Embeddings = NO_EMBEDDINGS
    ) -> Conditioning:
        """Encode the chunks of one text. embeddings: those the text was tokenized with.

        clip_skip: 1..layers, which hidden state is used, counted from the last layer. A token of weight w gets
        (z - z_empty) * w + z_empty, with z_empty the state of the empty text at its position; the
        chunk's mean is left as that makes it. Returns
        [(hidden, {"pooled_output": pooled})], float32: hidden [1, 77 * chunks, widths of all towers], pooled
        [1, projection_dim] of the first chunk, or None if no tower has one. Equal chunks are encoded once.
        """
        weighted = any(weight != 1.0 for chunk in chunks for weight in chunk.weights)
        wanted = [chunk.tokens for chunk in chunks] + [()] * weighted
        distinct = list(dict.fromkeys(wanted))
        row_of = {tokens: index for index, tokens in enumerate(distinct)}
        order = torch.tensor([row_of[chunk.tokens] for chunk in chunks])
        hiddens: list[Tensor] = []
        pooled: Tensor | None = None
        for tower in self.towers:
            states, vectors = self._states(tower, distinct, clip_skip, embeddings.table(tower.part))
            hidden = states[order.to(states.device)]
            if weighted:
                weights = _weights(chunks).to(states.device)
                empty = states[row_of[()]]
                hidden = torch.where(weights == 1.0, hidden, (hidden - empty) * weights + empty)
            hiddens.append(hidden.flatten(0, 1)[None])
            pooled = vectors[:1] if vectors is not None else pooled
        return [(torch.cat(hiddens, dim=-1), {"pooled_output": pooled})]

    def encode(self, text: str, clip_skip: int = 2, embeddings: Embeddings = NO_EMBEDDINGS) -> Conditioning:
        """`encode_token_weights` of a text's chunks."""
        return self.encode_token_weights(self.tokenize_with_weights(text, embeddings), clip_skip, embeddings)

    def _states(
        self, tower: Tower, rows: Sequence[tuple[int, ...]], clip_skip: int, injected: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        start, end = self.tokenizer.start, self.tokenizer.end
        ids = torch.tensor([[start, *row, end] + [tower.pad] * (ROOM - len(row)) for row in rows])
        ends = torch.tensor([len(row) + 1 for row in rows])
        batches = [
            tower.encode(ids[at : at + _BATCH], ends[at : at + _BATCH], clip_skip, injected)
            for at in range(0, len(rows), _BATCH)
        ]
        vectors = [vector for _, vector in batches if vector is not None]
        return torch.cat([hidden for hidden, _ in batches]), torch.cat(vectors) if vectors else None


def _weights(chunks: Sequence[Chunk]) -> Tensor:
    """[chunks, 77, 1]; start, end and padding weigh 1."""
    rows = [[1.0, *chunk.weights] + [1.0] * (CHUNK - 1 - len(chunk.weights)) for chunk in chunks]
    return torch.tensor(rows)[:, :, None]
