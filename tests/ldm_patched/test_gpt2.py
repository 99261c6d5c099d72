"""GPT-2 against transformers' own, with the same random weights."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from ldm_patched.ldm.gpt2 import Gpt2, KeyValues, params_of

PREFIX = "transformer."


def reference(layers: int = 3, width: int = 128) -> GPT2LMHeadModel:
    """A small GPT-2 with weights large enough to matter."""
    torch.manual_seed(3)
    config = GPT2Config(vocab_size=300, n_positions=64, n_embd=width, n_layer=layers, n_head=width // 64)
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def ours(model: GPT2LMHeadModel) -> Gpt2:
    tensors = {
        name.removeprefix(PREFIX): tensor for name, tensor in model.state_dict().items() if name.startswith(PREFIX)
    }
    network = Gpt2(params_of({name: tuple(tensor.shape) for name, tensor in tensors.items()}))
    network.load_state_dict(tensors, strict=True)
    return network.eval()


def difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


@torch.no_grad()
def test_logits_are_those_of_transformers() -> None:
    model = reference()
    network = ours(model)
    tokens = torch.randint(0, 300, (2, 64))
    found = network.scores(network(tokens))
    assert difference(found, model(tokens).logits) < 1e-4
    rows = torch.tensor([7, 299, 0])
    assert torch.allclose(network.scores(network(tokens), rows), found[..., rows], atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("pieces", [(40, 24), (1,) * 10, (20, 1, 1, 30, 1), (63, 1)])
def test_a_text_read_in_pieces_is_the_whole_text(pieces: tuple[int, ...]) -> None:
    model = reference()
    network = ours(model)
    tokens = torch.randint(0, 300, (2, sum(pieces)))
    cache = KeyValues(network.params, sum(pieces), batch=2)
    states = torch.cat([network(piece, cache) for piece in tokens.split(pieces, dim=1)], dim=1)
    assert cache.length == sum(pieces)
    assert difference(network.scores(states), model(tokens).logits) < 1e-4


def test_sizes_are_read_off_the_tensors() -> None:
    params = ours(reference(layers=2, width=192)).params
    assert (params.vocabulary, params.positions, params.width, params.layers, params.heads) == (300, 64, 192, 2, 3)
    with pytest.raises(ValueError, match="longer than the 64"):
        ours(reference(layers=1))(torch.zeros(1, 65, dtype=torch.long))
    with pytest.raises(ValueError, match="no tensor wpe"):
        params_of({"wte.weight": (4, 64)})
    with pytest.raises(ValueError, match="not that of a GPT-2"):
        params_of({"wte.weight": (4, 64), "wpe.weight": (4, 64), "h.0.attn.c_attn.weight": (192, 64)})
