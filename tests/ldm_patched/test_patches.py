"""Merging patches: the right numbers in the right rows, and back to the last bit."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.networks import MINI, MINI_G, MINI_L, adopt, fill, on_meta, relative_error
from ldm_patched.ldm.attention import split_qkv
from ldm_patched.ldm.clip import ClipText, ClipTextParams
from ldm_patched.ldm.unet import UNet
from ldm_patched.modules.checkpoint_layout import to_transformers_layout
from ldm_patched.modules.deltas import Full, Patch, Target
from ldm_patched.modules.lora import quantised_patch, read_lora
from ldm_patched.modules.parts import FileIdentity, Part
from ldm_patched.modules.patches import Patcher
from ldm_patched.modules.sd import Checkpoint
from tests.ldm_patched.lora_files import KERNEL_KINDS, KINDS, Kind, checkpoint, save

LINEAR = "input_blocks.3.1.transformer_blocks.0.attn2.to_k"
FUSED = "input_blocks.3.1.transformer_blocks.0.attn1.to_k"
FEED_FORWARD = "middle_block.1.transformer_blocks.0.ff.net.0.proj"
KERNEL = "input_blocks.3.0.in_layers.2"
WEIGHTS = [LINEAR, FUSED, FEED_FORWARD, KERNEL]
CASES = [(name, kind, weight) for name, kind in KINDS.items() for weight in WEIGHTS] + [
    (name, kind, KERNEL) for name, kind in KERNEL_KINDS.items()
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def sdxl(folder: Path) -> Checkpoint:
    return checkpoint(folder)


def weights(model: Checkpoint) -> dict[str, Tensor]:
    """All weights of a checkpoint that patches may change, copied, under published names."""
    named = {f"unet.{name}": tensor.clone() for name, tensor in split_qkv(model.unet.state_dict()).items()}
    for tower in model.clip.encoder.towers:
        for name, tensor in to_transformers_layout(tower.model.state_dict()).items():
            named[f"{tower.part}.{name}"] = tensor.clone()
    return named


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


def bits(model: Checkpoint) -> list[bytes]:
    tensors = [*model.unet.parameters(), *(p for tower in model.clip.encoder.towers for p in tower.model.parameters())]
    return [tensor.detach().contiguous().view(torch.uint8).numpy().tobytes() for tensor in tensors]


# The numbers


@pytest.mark.parametrize(("name", "kind", "weight"), CASES, ids=[f"{name}, {weight}" for name, _, weight in CASES])
def test_a_merged_weight_is_the_explicit_sum(
    sdxl: Checkpoint, tmp_path: Path, name: str, kind: Kind, weight: str
) -> None:
    before = weights(sdxl)
    full_name = f"unet.{weight}.weight"
    pristine = before[full_name]
    factors = kind.factors(tuple(pristine.shape), seed=len(name))
    key = "lora_unet_" + weight.replace(".", "_")
    path = save(tmp_path / "lora.safetensors", {f"{key}.{role}": tensor for role, tensor in factors.items()})
    patcher = Patcher.of(sdxl)
    patch = read_lora(path, patcher.names)
    assert patch.unmatched == ()
    exact = {role: tensor.double() for role, tensor in factors.items()}
    for strength in (-1.3, 0.7, 2.0):
        patcher.apply([(patch, strength)])
        after = weights(sdxl)
        expected = kind.result(exact, pristine.double(), strength)
        assert float((after[full_name] - expected).norm() / expected.norm()) < 1e-6
        assert float((after[full_name] - expected).abs().max() / expected.abs().max()) < 1e-5
        assert changed(before, after) == {full_name}
    assert patcher.restore() == {"unet"}
    assert not changed(before, weights(sdxl))


@pytest.mark.parametrize(
    ("module", "role", "leaf"),
    [
        ("lora_unet_input_blocks_3_0_in_layers_2", "diff_b", "unet.input_blocks.3.0.in_layers.2.bias"),
        ("lora_unet_middle_block_1_transformer_blocks_0_norm2", "w_norm",
         "unet.middle_block.1.transformer_blocks.0.norm2.weight"),
        ("lora_unet_middle_block_1_transformer_blocks_0_norm2", "b_norm",
         "unet.middle_block.1.transformer_blocks.0.norm2.bias"),
        ("lora_te1_text_model_encoder_layers_1_self_attn_v_proj", "diff_b",
         "clip_l.encoder.layers.1.self_attn.v_proj.bias"),
        ("lora_te2_text_model_encoder_layers_2_self_attn_q_proj", "diff_b",
         "clip_g.encoder.layers.2.self_attn.q_proj.bias"),
        ("lora_te2_text_model_final_layer_norm", "w_norm", "clip_g.final_layer_norm.weight"),
    ],
)  # fmt: skip
def test_biases_and_norms(sdxl: Checkpoint, tmp_path: Path, module: str, role: str, leaf: str) -> None:
    before = weights(sdxl)
    difference = torch.randn(before[leaf].shape)
    patcher = Patcher.of(sdxl)
    patch = read_lora(save(tmp_path / "lora.safetensors", {f"{module}.{role}": difference}), patcher.names)
    patcher.apply([(patch, 0.5)])
    after = weights(sdxl)
    torch.testing.assert_close(after[leaf], before[leaf] + 0.5 * difference)
    assert changed(before, after) == {leaf}
    patcher.restore()


def test_a_quantised_patch_counts_from_its_least_to_its_greatest_value(sdxl: Checkpoint) -> None:
    before = weights(sdxl)
    name = f"unet.{KERNEL}.weight"
    codes = torch.randint(0, 256, before[name].shape, dtype=torch.uint8)
    patcher = Patcher.of(sdxl)
    entries = {f"diffusion_model.{KERNEL}.weight": (codes, -0.25, 0.75)}
    patcher.apply([(quantised_patch(FileIdentity("inpaint.fooocus.patch", 1, 1), entries, patcher.names), 1.0)])
    expected = before[name].double() + codes.double() / 255.0 * (0.75 + 0.25) - 0.25
    after = weights(sdxl)
    torch.testing.assert_close(after[name], expected.float())
    assert changed(before, after) == {name}
    patcher.restore()


def test_a_row_without_direction_stays_zero(sdxl: Checkpoint) -> None:
    from ldm_patched.modules.deltas import Decomposed, LowRank

    weight, merged = torch.zeros(3, 4), torch.zeros(3, 4)
    direction = LowRank(torch.tensor([[0.0], [1.0], [0.0]]), torch.ones(1, 4), 1.0)
    Decomposed(direction, torch.full((3, 1), 2.0), 0).add_to(merged, weight, 1.0)
    torch.testing.assert_close(merged, torch.tensor([0.0, 1.0, 0.0])[:, None].expand(3, 4))


# Several patches, and back


def some_patches(patcher: Patcher, folder: Path, dtype: torch.dtype) -> list[Patch]:
    """Three files that overlap, in the three parts of a model."""
    made = []
    for index, kind in enumerate((KINDS["LoRA"], KINDS["DoRA of outputs"], KINDS["LoKr, second divided"])):
        tensors: dict[str, Tensor] = {}
        for number, (target, shape) in enumerate(sorted(patcher.names.shapes.items())):
            attention = "attn" in target.name and target.name.endswith("weight")
            if attention and number % (index + 1) == 0:
                module = {"unet": "lora_unet_", "clip_l": "lora_te1_", "clip_g": "lora_te2_"}[target.part]
                module += target.name.removesuffix(".weight").replace(".", "_")
                factors = kind.factors(shape, seed=number)
                tensors |= {f"{module}.{role}": tensor.to(dtype) for role, tensor in factors.items()}
        made.append(read_lora(save(folder / f"{index}.safetensors", tensors), patcher.names))
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_thirty_rounds_and_not_a_bit_of_drift(folder: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    model, untouched = checkpoint(folder, dtype), checkpoint(folder, dtype)
    pristine = bits(model)
    patcher, fresh = Patcher.of(model), Patcher.of(untouched)
    patches = some_patches(patcher, tmp_path, torch.float16)
    chance = random.Random(int(torch.finfo(dtype).bits))
    for _ in range(30):
        chosen = [(patch, round(chance.uniform(-2, 2), 2)) for patch in chance.sample(patches, chance.randint(0, 3))]
        patcher.apply(chosen)
        if chance.random() < 0.2:
            fresh.restore()
            fresh.apply(list(reversed(chosen)))
            assert bits(model) == bits(untouched)
        if chance.random() < 0.3:
            patcher.restore()
            assert bits(model) == pristine
    patcher.restore()
    assert patcher.patched == 0
    assert bits(model) == pristine


def test_a_half_precision_weight_is_rounded_once(folder: Path, tmp_path: Path) -> None:
    model = checkpoint(folder, torch.bfloat16)
    patcher = Patcher.of(model)
    before = weights(model)[f"unet.{LINEAR}.weight"]
    differences = [torch.randn(before.shape) * 0.01 for _ in range(2)]
    key = "lora_unet_" + LINEAR.replace(".", "_") + ".diff"
    patches = [
        read_lora(save(tmp_path / f"{index}.safetensors", {key: difference}), patcher.names)
        for index, difference in enumerate(differences)
    ]
    patcher.apply([(patches[0], 0.5), (patches[1], -0.25)])
    expected = before.double() + 0.5 * differences[0].double() - 0.25 * differences[1].double()
    half_a_step = 2.0 ** (expected.abs().log2().floor() - 8)  # of bfloat16's eight bits; two roundings would exceed it
    assert bool(((weights(model)[f"unet.{LINEAR}.weight"].double() - expected).abs() <= 1.001 * half_a_step).all())


def test_only_weights_whose_patches_change_are_written(sdxl: Checkpoint, tmp_path: Path) -> None:
    patcher = Patcher.of(sdxl)
    keys = ["lora_unet_" + name.replace(".", "_") for name in (LINEAR, KERNEL)]
    shapes = [patcher.names.shapes[Target("unet", name + ".weight")] for name in (LINEAR, KERNEL)]
    first, second = (
        read_lora(save(tmp_path / f"{key}.safetensors", {f"{key}.diff": torch.randn(shape)}), patcher.names)
        for key, shape in zip(keys, shapes, strict=True)
    )
    assert patcher.apply([(first, 0.8)]) == {"unet"}
    linear, kernel = sdxl.unet.get_parameter(LINEAR + ".weight"), sdxl.unet.get_parameter(KERNEL + ".weight")
    merged = linear.data_ptr(), kernel.data_ptr()
    assert patcher.apply([(first, 0.8)]) == patcher.apply([(first, 0.8), (second, 0.0)]) == frozenset()
    patcher.apply([(second, 1.0), (first, 0.8)])
    assert linear.data_ptr() == merged[0]
    assert kernel.data_ptr() != merged[1]
    patcher.apply([(first, 0.8)])
    assert kernel.data_ptr() == merged[1]  # the pristine tensor itself, not a copy
    assert patcher.patched == 1
    patcher.restore()


def test_a_patch_given_twice_counts_twice(sdxl: Checkpoint, tmp_path: Path) -> None:
    patcher = Patcher.of(sdxl)
    patch = some_patches(patcher, tmp_path, torch.float32)[0]
    patcher.apply([(patch, 0.25), (patch, 0.5)])
    twice = weights(sdxl)
    patcher.apply([(patch, 0.75)])
    for name, tensor in weights(sdxl).items():
        torch.testing.assert_close(twice[name], tensor)
    patcher.restore()


def test_a_patch_that_was_read_for_another_model_is_refused(sdxl: Checkpoint) -> None:
    patch = Patch(FileIdentity("other.safetensors", 0, 0), {Target("unet", "nothing.weight"): Full(torch.zeros(1))})
    with pytest.raises(ValueError, match=r"^other\.safetensors was read for another model"):
        Patcher.of(sdxl).apply([(patch, 1.0)])


@pytest.mark.parametrize("in_place", [False, True])
def test_after_a_change_that_failed_every_weight_is_the_checkpoint_s_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    model = checkpoint(folder)
    pristine, plain = bits(model), model.clip.encode(["a cat"])[0][0]
    patcher = Patcher.of(model)
    good, before = some_patches(patcher, tmp_path, torch.float32)[:2]

    class OutOfMemory(Full):
        def rows(self, begin: int, end: int) -> None:
            return None

        def add_to(self, merged: Tensor, pristine: Tensor, strength: float) -> None:
            raise MemoryError

    target = sorted(good.deltas)[len(good.deltas) // 2]
    bad = Patch(FileIdentity("bad", 0, 0), {target: OutOfMemory(torch.zeros(patcher.names.shapes[target]))})
    if in_place:
        monkeypatch.setattr("ldm_patched.modules.patches._stays", lambda parameter: True)
    patcher.apply([(before, 1.0)])
    assert bits(model) != pristine
    with pytest.raises(MemoryError):
        patcher.apply([(good, 1.0), (bad, 1.0)])
    assert bits(model) == pristine and patcher.patched == 0
    assert patcher.recipe("unet", "clip_l", "clip_g") == ()
    encoded = model.clip.encoded
    assert torch.equal(model.clip.encode(["a cat"])[0][0], plain)
    assert model.clip.encoded == encoded, "and known to be: the text is not encoded again"
    patcher.apply([(good, 1.0)])
    whole = bits(model)
    patcher.restore()
    assert bits(model) == pristine
    patcher.apply([(good, 1.0)])
    assert bits(model) == whole != pristine


def test_text_encoders_are_loaded_for_what_changes_them(folder: Path, tmp_path: Path) -> None:
    model = checkpoint(folder)
    patcher = Patcher.of(model)
    key = "lora_unet_" + KERNEL.replace(".", "_") + ".diff_b"
    bias = torch.ones(patcher.names.shapes[Target("unet", KERNEL + ".bias")])
    patcher.apply([(read_lora(save(tmp_path / "unet.safetensors", {key: bias}), patcher.names), 1.0)])
    patcher.restore()
    loaded = [model.clip.loaded]
    everything = some_patches(patcher, tmp_path, torch.float32)[0]
    assert patcher.apply([(everything, 1.0)]) == {"unet", "clip_l", "clip_g"}
    assert [*loaded, model.clip.loaded] == [False, True]
    merged = bits(model)
    patcher.restore()
    eager = checkpoint(folder)
    assert eager.clip.encoder.towers and bits(model) == bits(eager)
    Patcher.of(eager).apply([(everything, 1.0)])
    assert bits(eager) == merged


def test_beside_another_model_s_texts_only_the_unet_changes(folder: Path, tmp_path: Path) -> None:
    base, second, whole = checkpoint(folder), checkpoint(folder), checkpoint(folder)
    patcher = Patcher.beside(base.clip, second.kind, second.unet)
    patch = some_patches(patcher, tmp_path, torch.float32)[0]
    assert patch.unmatched == (), "what is for the towers fits them"
    assert patcher.apply([(patch, 1.0)]) == {"unet"} and not base.clip.loaded
    Patcher.of(whole).apply([(patch, 1.0)])
    for mine, theirs in zip(second.unet.parameters(), whole.unet.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_on_a_device_weights_stay_where_they_are(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Main memory stands in for the device's: every weight is written in place, from a copy."""
    model, elsewhere = checkpoint(folder, torch.float16), checkpoint(folder, torch.float16)
    patcher, other = Patcher.of(model), Patcher.of(elsewhere)
    patches = some_patches(patcher, tmp_path, torch.float16)
    other.apply([(patches[0], 0.5), (patches[1], -1.0)])
    merged, pristine = bits(elsewhere), bits(model)
    places = [parameter.data_ptr() for parameter in model.unet.parameters()]
    monkeypatch.setattr("ldm_patched.modules.patches._stays", lambda parameter: True)
    for _ in range(3):
        patcher.apply([(patches[2], 1.5)])
        patcher.apply([(patches[0], 0.5), (patches[1], -1.0)])
        assert bits(model) == merged
        assert places == [parameter.data_ptr() for parameter in model.unet.parameters()]
        patcher.restore()
        assert bits(model) == pristine


def test_a_large_weight_is_merged_in_pieces_with_the_same_result(
    sdxl: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patcher = Patcher.of(sdxl)
    patches = some_patches(patcher, tmp_path, torch.float32)
    patcher.apply([(patch, 0.4) for patch in patches])
    whole = weights(sdxl)
    patcher.restore()
    monkeypatch.setattr("ldm_patched.modules.patches._PIECE", 1000)
    patcher.apply([(patch, 0.4) for patch in patches])
    for name, tensor in weights(sdxl).items():
        torch.testing.assert_close(tensor, whole[name], rtol=1e-6, atol=1e-6)
    patcher.restore()


def test_what_is_computed_with_a_part_is_known_by_its_recipe(sdxl: Checkpoint, tmp_path: Path) -> None:
    patcher = Patcher.of(sdxl)
    key = "lora_unet_" + KERNEL.replace(".", "_") + ".diff_b"
    bias = torch.ones(patcher.names.shapes[Target("unet", KERNEL + ".bias")])
    only_unet = read_lora(save(tmp_path / "unet.safetensors", {key: bias}), patcher.names)
    everything = some_patches(patcher, tmp_path, torch.float32)[0]
    patcher.apply([(only_unet, 1.0), (everything, 0.5)])
    assert patcher.recipe("clip_l", "clip_g") == ((everything.identity, 0.5),)
    assert set(patcher.recipe("unet")) == {(everything.identity, 0.5), (only_unet.identity, 1.0)}
    assert patcher.apply([(only_unet, -1.0), (everything, 0.5)]) == {"unet"}
    patcher.restore()
    assert patcher.recipe("unet") == ()


def test_texts_are_encoded_anew_after_a_tower_has_changed(folder: Path, tmp_path: Path) -> None:
    model = checkpoint(folder)
    patcher = Patcher.of(model)
    plain = model.clip.encode(["a cat"])[0][0]
    patch = some_patches(patcher, tmp_path, torch.float32)[0]
    assert patcher.apply([(patch, 1.0)]) == {"unet", "clip_l", "clip_g"}
    assert not torch.equal(model.clip.encode(["a cat"])[0][0], plain)
    patcher.restore()
    assert torch.equal(model.clip.encode(["a cat"])[0][0], plain)


def test_convolutions_keep_their_order_in_memory(sdxl: Checkpoint, tmp_path: Path) -> None:
    patcher = Patcher.of(sdxl)
    key = "lora_unet_" + KERNEL.replace(".", "_")
    shape = patcher.names.shapes[Target("unet", KERNEL + ".weight")]
    patcher.apply(
        [(read_lora(save(tmp_path / "a.safetensors", {key + ".diff": torch.randn(shape)}), patcher.names), 1)]
    )
    assert sdxl.unet.get_parameter(KERNEL + ".weight").is_contiguous(memory_format=torch.channels_last)
    patcher.restore()


def test_a_weight_in_the_file_is_not_copied(folder: Path, tmp_path: Path) -> None:
    model = checkpoint(folder, torch.float16)
    parameter = model.unet.get_parameter(LINEAR + ".weight")
    mapped = parameter.data_ptr()
    patcher = Patcher.of(model)
    patch = some_patches(patcher, tmp_path, torch.float16)[0]
    patcher.apply([(patch, 1.0)])
    assert parameter.data_ptr() != mapped
    patcher.restore()
    assert parameter.data_ptr() == mapped


# Against other implementations, which get the sum of weight and change as their weight


@torch.no_grad()
def test_every_projection_of_the_unet_lands_where_diffusers_has_it(tmp_path: Path) -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    unet = on_meta(lambda: UNet(MINI))
    fill(unet, 1)
    config = {"class_embed_type": None, "addition_embed_type": "text_time", "num_class_embeds": None,
              "layers_per_block": MINI.num_res_blocks}  # fmt: skip

    def as_diffusers() -> dict[str, Tensor]:
        state = {f"model.diffusion_model.{name}": t.clone() for name, t in split_qkv(unet.state_dict()).items()}
        theirs: dict[str, Tensor] = convert_ldm_unet_checkpoint(state, config)
        return theirs

    before = as_diffusers()
    kind = KINDS["LoRA"]
    tensors: dict[str, Tensor] = {}
    expected = dict(before)
    for seed, (name, weight) in enumerate(before.items()):
        if weight.ndim > 1:
            factors = kind.factors(tuple(weight.shape), seed)
            key = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
            tensors |= {f"{key}.{role}": tensor for role, tensor in factors.items()}
            exact = {role: tensor.double() for role, tensor in factors.items()}
            expected[name] = kind.result(exact, weight.double(), 0.6).float()
    patcher = Patcher("sdxl", unet, {})
    patch = read_lora(save(tmp_path / "lora.safetensors", tensors), patcher.names)
    assert len(patch.deltas) == len(tensors) / 3
    patcher.apply([(patch, 0.6)])
    after = as_diffusers()
    assert after.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(after[name], tensor, rtol=1e-5, atol=1e-6, msg=name)


@torch.no_grad()
@pytest.mark.parametrize("params", [MINI_L, MINI_G], ids=["clip_l", "clip_g"])
def test_a_patched_tower_equals_transformers_with_the_same_sums(tmp_path: Path, params: ClipTextParams) -> None:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    large = params is MINI_G
    tower, unet = on_meta(lambda: ClipText(params)), on_meta(lambda: UNet(MINI))
    state = {f"text_model.{name}": tensor for name, tensor in to_transformers_layout(fill(tower, 5)).items()}
    projection = state.pop("text_model.text_projection.weight", torch.zeros(params.width, params.width))
    state["text_projection.weight"] = projection
    prefix, tensors = ("lora_te2_" if large else "lora_te1_"), dict[str, Tensor]()
    for seed, (name, weight) in enumerate(sorted(state.items())):
        patched = name.startswith("text_model.encoder") or (large and name == "text_projection.weight")
        if weight.ndim == 2 and patched:
            factors = KINDS["LoRA"].factors(tuple(weight.shape), seed)
            key = prefix + name.removesuffix(".weight").replace(".", "_")
            tensors |= {f"{key}.{role}": 0.3 * tensor for role, tensor in factors.items()}
            up, down, alpha = (0.3 * factors[role] for role in ("lora_up.weight", "lora_down.weight", "alpha"))
            state[name] = weight + 0.8 * alpha / len(down) * (up @ down)
    config = CLIPTextConfig(
        vocab_size=params.vocabulary, hidden_size=params.width, intermediate_size=params.inner,
        projection_dim=projection.shape[0], num_hidden_layers=params.layers, num_attention_heads=params.heads,
        max_position_embeddings=params.positions, hidden_act=params.activation, eos_token_id=params.vocabulary - 1,
    )  # fmt: skip
    theirs = CLIPTextModelWithProjection(config)
    adopt(theirs, state)
    part: Part = "clip_g" if large else "clip_l"
    other: Part = "clip_l" if large else "clip_g"
    patcher = Patcher("sdxl", unet, {part: tower, other: on_meta(lambda: ClipText(MINI_L if large else MINI_G))})
    patch = read_lora(save(tmp_path / "lora.safetensors", tensors), patcher.names)
    assert patch.unmatched == ()
    tokens = torch.randint(1, params.vocabulary - 2, (1, 77), generator=torch.Generator().manual_seed(6))
    tokens[0, 40] = params.vocabulary - 1
    end = torch.tensor([40])
    plain = tower(tower.embed(tokens), end, 1)
    patcher.apply([(patch, 0.8)])
    hidden, pooled = tower(tower.embed(tokens), end, 1)
    expected = theirs(tokens, output_hidden_states=True)
    assert relative_error(hidden, expected.hidden_states[-1]) < 1e-4
    assert relative_error(hidden, plain[0]) > 0.1
    if large:
        assert relative_error(pooled, expected.text_embeds) < 1e-4
