"""A streamed network is the network: to the bit, whatever stays, whatever is merged, whatever goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ldm_patched.ldm.unet import ResBlock, UNet
from ldm_patched.modules.devices import Placement
from ldm_patched.modules.lora import read_lora
from ldm_patched.modules.patches import Patcher
from ldm_patched.modules.sd import Checkpoint, load_checkpoint
from ldm_patched.modules.streaming import BUFFERS, Ring, stream, visiting
from tests.ldm_patched.lora_files import module_tensors, save
from tests.ldm_patched.tiny import FAMILIES, TINY_SDXL, write

CPU = torch.device("cpu")


def load(path: Path, dtype: torch.dtype = torch.float32, eight_bit: bool = False) -> Checkpoint:
    return load_checkpoint(path, Placement(CPU, dtype, torch.float32, torch.float32, eight_bit=eight_bit))


@torch.inference_mode()
def predict(unet: UNet, calls: int = 2) -> Tensor:
    """Projections once and several evaluations, as in a run of a sampler."""
    generator = torch.Generator().manual_seed(0)
    width = unet.params.adm_channels
    context = torch.randn(1, 77, unet.params.context_dim, generator=generator).to(unet.dtype)
    x = torch.randn(1, 4, 9, 7, generator=generator).to(unet.dtype)
    vector = torch.randn(1, width, generator=generator) if width else None
    text, time = [unet.project_text(context)], unet.project_time(torch.tensor([500.0]), vector)
    for _ in range(calls):
        x = unet(x, time, text)
    return x


def places(unet: UNet) -> list[int]:
    return [tensor.data_ptr() for tensor in (*unet.parameters(), *unet.buffers())]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {found.kind: write(folder / f"{found.kind}.safetensors", found) for found in FAMILIES}


CASES = [
    *(
        (kind, dtype, 0, False)
        for kind in ("sdxl", "sdxl_refiner", "sd15")
        for dtype in (torch.float32, torch.bfloat16)
    ),
    *(("sdxl", torch.float32, resident, False) for resident in (1_000_000, 1 << 40)),
    *(("sdxl", dtype, resident, True) for dtype, resident in ((torch.float32, 0), (torch.bfloat16, 300_000))),
    ("sdxl", torch.float16, 0, False),  # in which the file stores it: the blocks come out of the mapped file itself
]


@pytest.mark.parametrize(("kind", "dtype", "resident", "eight_bit"), CASES, ids=str)
def test_the_same_bits_as_without(
    files: dict[str, Path], kind: str, dtype: torch.dtype, resident: int, eight_bit: bool
) -> None:
    expected = predict(load(files[kind], dtype, eight_bit).unet)
    unet = load(files[kind], dtype, eight_bit).unet
    before = places(unet)
    ring = stream(unet, CPU, resident)
    assert torch.equal(predict(unet), expected)
    assert ring.most <= BUFFERS, "never more than the ring's blocks"
    assert ring.resident == 0
    assert places(unet) == before, "everything is in main memory again"


@pytest.fixture
def tiny(tmp_path: Path) -> Checkpoint:
    return load(write(tmp_path / "model.safetensors", TINY_SDXL))


class Watch:
    """Notes for each layer that computes how many blocks point into the ring, and which tensors."""

    def __init__(self, unet: UNet, ring: Ring) -> None:
        self.most = 0
        self.away: list[set[str]] = []
        home = {name: parameter.data_ptr() for name, parameter in unet.named_parameters()}

        def note(module: nn.Module, arguments: Any) -> None:
            self.most = max(self.most, ring.resident)
            self.away.append({name for name, p in unet.named_parameters() if p.data_ptr() != home[name]})

        for module in unet.modules():
            if not any(module.children()):
                module.register_forward_pre_hook(note)


def test_only_the_block_that_computes_is_there_and_the_next_one_on_its_way(tiny: Checkpoint) -> None:
    ring = stream(tiny.unet, CPU)
    watch = Watch(tiny.unet, ring)
    predict(tiny.unet)
    assert watch.most == ring.most == BUFFERS
    for away in watch.away:
        blocks = {name.partition(".transformer_blocks")[0].rsplit(".", 1)[0] if "transformer" in name else
                  ".".join(name.split(".")[:3 if name[0] in "io" else 2]) for name in away}  # fmt: skip
        assert len(blocks) <= 1, away
    # Whatever is large was in the ring at some time; whatever all blocks use stayed.
    ever = set().union(*watch.away)
    assert any("attn2.to_k" in name for name in ever) and any("ff.net" in name for name in ever)
    assert not any(name.startswith(("time_embed", "label_emb", "out.")) or "emb_layers" in name for name in ever)


def test_more_memory_means_less_to_bring(tiny: Checkpoint, tmp_path: Path) -> None:
    counts = []
    for resident in (0, 500_000, 2_000_000, 1 << 40):
        unet = load(tmp_path / "model.safetensors").unet
        ring = stream(unet, CPU, resident)
        watch = Watch(unet, ring)
        predict(unet)
        away = set().union(*watch.away)
        sizes = {name: parameter.nbytes for name, parameter in unet.named_parameters()}
        counts.append(sum(sizes[name] for name in away if "attn2.to_k" not in name and "attn2.to_v" not in name))
    assert counts[0] > counts[1] > counts[2] > counts[3] == 0


def test_patches_are_merged_where_the_weights_live(tiny: Checkpoint, tmp_path: Path) -> None:
    """Merged, replaced and taken out between runs: each time the very bits of a network that is not streamed."""
    other = load(tmp_path / "model.safetensors")
    stream(tiny.unet, CPU)
    key = "lora_unet_middle_block_1_transformer_blocks_0_ff_net_0_proj"
    first = "lora_unet_input_blocks_1_0_in_layers_2"  # of the very first block that comes
    tensors = module_tensors(key, (1024, 128)) | module_tensors(first, (64, 64, 3, 3))
    path = save(tmp_path / "lora.safetensors", {name: torch.randn(zeros.shape) / 8 for name, zeros in tensors.items()})
    patchers = Patcher.of(tiny), Patcher.of(other)
    pristine = predict(other.unet)
    for strength in (1.0, -0.5, 0.0, 2.0):
        for patcher in patchers:
            patcher.apply([(read_lora(path, patcher.names), strength)])
        expected = predict(other.unet)
        assert torch.equal(predict(tiny.unet), expected)
        assert torch.equal(expected, pristine) == (strength == 0.0)


def test_a_run_that_breaks_off_leaves_everything_in_place(tiny: Checkpoint, tmp_path: Path) -> None:
    before = places(tiny.unet)
    ring = stream(tiny.unet, CPU)
    expected = predict(load(tmp_path / "model.safetensors").unet)
    blocks = [module for module in tiny.unet.modules() if isinstance(module, ResBlock)]
    for block in (blocks[0], blocks[2], blocks[-1]):

        def fail(module: nn.Module, arguments: object) -> None:
            raise torch.OutOfMemoryError("that was too much")

        for place in (block.in_layers, block.out_layers):
            handle = place.register_forward_pre_hook(fail)
            with pytest.raises(torch.OutOfMemoryError):
                predict(tiny.unet)
            handle.remove()
            assert places(tiny.unet) == before
            assert torch.equal(predict(tiny.unet), expected)
    assert ring.resident == 0


def test_a_weight_that_cannot_be_brought_is_an_error_of_the_run(tiny: Checkpoint) -> None:
    ring = stream(tiny.unet, CPU)

    def fail(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("no room")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ring, "_bring", fail)
        with pytest.raises(torch.OutOfMemoryError):
            predict(tiny.unet)
    assert ring.resident == 0
    assert torch.isfinite(predict(tiny.unet)).all()


def test_a_network_and_its_ring_go_without_the_garbage_collector(tiny: Checkpoint, tmp_path: Path) -> None:
    import gc
    import weakref

    unet = load(tmp_path / "model.safetensors").unet
    gone = weakref.ref(stream(unet, CPU)), weakref.ref(unet)
    predict(unet)
    gc.disable()
    try:
        del unet
        assert [each() for each in gone] == [None, None]
    finally:
        gc.enable()


def test_a_visit_to_where_it_is_costs_nothing() -> None:
    network = nn.Linear(4, 4)
    before = network.weight.data_ptr()
    with visiting([network], CPU):
        assert network.weight.data_ptr() == before


@pytest.mark.gpu
def test_a_visit_leaves_nothing_behind() -> None:
    network = nn.Linear(4, 4)
    before = network.weight.data_ptr()
    with pytest.raises(KeyError), visiting([network], torch.device("cuda")):
        assert network.weight.is_cuda and network.bias.is_cuda
        raise KeyError
    assert network.weight.data_ptr() == before


@pytest.mark.gpu
@pytest.mark.parametrize("eight_bit", [False, True], ids=["", "eight bit"])
def test_a_gpu_computes_the_same_with_blocks_that_come(files: dict[str, Path], eight_bit: bool) -> None:
    device, half = torch.device("cuda"), torch.float16
    whole = load_checkpoint(files["sdxl"], Placement(device, half, half, half, eight_bit=eight_bit)).unet
    comes = load_checkpoint(files["sdxl"], Placement(device, half, half, half, streamed=True, eight_bit=eight_bit)).unet
    with torch.device(device):
        assert torch.equal(predict(comes, calls=8), predict(whole, calls=8))


def test_a_network_that_is_not_streamed_pays_nothing(tiny: Checkpoint) -> None:
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tiny.unet.modules())
