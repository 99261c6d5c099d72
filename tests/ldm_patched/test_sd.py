"""Loading a checkpoint, and its parts at work: the same numbers as the networks give by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ldm_patched.ldm.attention import fuse_qkv
from ldm_patched.ldm.vae import AutoencoderKL
from ldm_patched.modules.autoencoder import VAE
from ldm_patched.modules.conditioning import size_vectors
from ldm_patched.modules.detection import Detection
from ldm_patched.modules.devices import Placement
from ldm_patched.modules.sd import Checkpoint, Refiner, load_checkpoint, load_refiner
from ldm_patched.modules.state_dict import WeightsError
from tests.ldm_patched.tiny import (
    FAMILIES,
    TINY_REFINER,
    TINY_REFINER_ALONE,
    TINY_SD15,
    TINY_SDXL,
    TINY_VAE,
    published_tensors,
    write,
)

CPU = torch.device("cpu")


def placement(dtype: torch.dtype) -> Placement:
    return Placement(CPU, dtype, dtype, dtype)


EXACT = placement(torch.float32)


@pytest.fixture(scope="module")
def sdxl_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("files") / "sdxl.safetensors", TINY_SDXL)


@pytest.fixture(scope="module")
def sdxl(sdxl_file: Path) -> Checkpoint:
    return load_checkpoint(sdxl_file, EXACT)


def predict(checkpoint: Checkpoint, vector: Tensor | None, tokens: int = 77) -> Tensor:
    unet = checkpoint.unet
    generator = torch.Generator().manual_seed(0)
    context = torch.randn(1, tokens, unet.params.context_dim, generator=generator)
    latent = torch.randn(1, 4, 8, 8, generator=generator)
    with torch.no_grad():
        moment = unet.project_time(torch.tensor([500.0]), vector)
        out: Tensor = unet(latent.to(unet.dtype), moment, [unet.project_text(context.to(unet.dtype))])
    return out


@pytest.mark.parametrize("found", FAMILIES, ids=lambda found: found.kind)
def test_every_family_loads_and_its_parts_fit_each_other(tmp_path: Path, found: Detection) -> None:
    checkpoint = load_checkpoint(write(tmp_path / "model.safetensors", found), EXACT)
    assert checkpoint.kind == found.kind
    assert checkpoint.unet.params == found.unet
    assert checkpoint.metadata == {"modelspec.resolution": "64x64"}
    assert checkpoint.vae.scale == (0.18215 if found is TINY_SD15 else 0.13025)
    ((hidden, extras),) = checkpoint.clip.encode(["a cat", "a dog"], clip_skip=1)
    assert hidden.shape == (1, 154, found.unet.context_dim)
    pooled = extras["pooled_output"]
    vector = None
    if found is TINY_SD15:
        assert pooled is None
    else:
        assert pooled is not None
        vector = torch.zeros(1, found.unet.adm_channels)
        vector[:, : pooled.shape[1]] = pooled
    assert torch.isfinite(predict(checkpoint, vector)).all()
    assert checkpoint.vae.decode(torch.randn(1, 4, 4, 5)).shape == (1, 3, 32, 40)


def test_every_tensor_of_the_file_arrives(sdxl: Checkpoint) -> None:
    stored = published_tensors(TINY_SDXL)
    prefix = "model.diffusion_model."
    unet = fuse_qkv({name.removeprefix(prefix): t for name, t in stored.items() if name.startswith(prefix)})
    state = sdxl.unet.state_dict()
    assert state.keys() == unet.keys()
    assert all(torch.equal(state[name], tensor.float()) for name, tensor in unet.items())
    vae = sdxl.vae.model.state_dict()
    assert all(torch.equal(vae[name], stored["first_stage_model." + name].float()) for name in vae)
    small, large = (tower.model for tower in sdxl.clip.encoder.towers)
    text = "conditioner.embedders.0.transformer.text_model."
    assert torch.equal(small.token_embedding.weight, stored[text + "embeddings.token_embedding.weight"].float())
    value = stored[text + "encoder.layers.1.self_attn.v_proj.weight"].float()
    assert torch.equal(small.state_dict()["transformer.resblocks.1.attn.in_proj_weight"][128:], value)
    assert torch.equal(large.text_projection, stored["conditioner.embedders.1.model.text_projection"].float())


def test_the_end_token_pads_the_smaller_tower_and_zero_the_larger(sdxl: Checkpoint, tmp_path: Path) -> None:
    assert [tower.pad for tower in sdxl.clip.encoder.towers] == [999, 0]
    assert [tower.final_norm for tower in sdxl.clip.encoder.towers] == [False, False]
    refiner = load_checkpoint(write(tmp_path / "refiner.safetensors", TINY_REFINER), EXACT)
    assert [tower.pad for tower in refiner.clip.encoder.towers] == [0]
    sd15 = load_checkpoint(write(tmp_path / "sd15.safetensors", TINY_SD15), EXACT)
    assert [(tower.pad, tower.final_norm) for tower in sd15.clip.encoder.towers] == [(999, True)]


def test_a_refiner_s_unet_alone_is_a_refiner_and_no_base(tmp_path: Path) -> None:
    path = write(tmp_path / "alone.safetensors", TINY_REFINER_ALONE)
    refiner = load_refiner(path, EXACT)
    stored = load_file(path)
    prefix = "model.diffusion_model."
    weight = refiner.unet.state_dict()["input_blocks.0.0.weight"]
    assert isinstance(refiner, Refiner) and refiner.kind == "sdxl_refiner"
    assert torch.equal(weight, stored[f"{prefix}input_blocks.0.0.weight"].float())
    with pytest.raises(WeightsError, match=r"alone.safetensors is the UNet of an SDXL refiner alone.*cannot begin one"):
        load_checkpoint(path, EXACT)
    del stored[f"{prefix}out.2.bias"]
    save_file(stored, path)
    with pytest.raises(WeightsError, match="1 tensors are missing, first 'model.diffusion_model.out.2.bias'"):
        load_refiner(path, EXACT)


def test_networks_are_ready_for_inference_only(sdxl: Checkpoint) -> None:
    for network in (sdxl.unet, sdxl.vae.model, *(tower.model for tower in sdxl.clip.encoder.towers)):
        assert not network.training
        assert not any(parameter.requires_grad or parameter.is_meta for parameter in network.parameters())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.05), (torch.float32, 1e-5)])
def test_the_dtype_is_a_choice(sdxl_file: Path, sdxl: Checkpoint, dtype: torch.dtype, tolerance: float) -> None:
    other = load_checkpoint(sdxl_file, placement(dtype))
    assert {parameter.dtype for parameter in other.unet.parameters()} == {dtype}
    vector = size_vectors(torch.randn(1, 64), 64, 64, 1.0).plain
    exact, rounded = predict(sdxl, vector), predict(other, vector).float()
    assert float((exact - rounded).abs().max() / exact.abs().max()) < tolerance


def test_the_policy_decides_where_nothing_is_said(sdxl_file: Path) -> None:
    checkpoint = load_checkpoint(sdxl_file)
    assert checkpoint.clip.encode(["a cat"])[0][0].dtype == torch.float32
    if not (torch.cuda.is_available() or torch.backends.mps.is_available() or torch.xpu.is_available()):
        assert checkpoint.unet.dtype in (torch.float32, torch.bfloat16)


def test_what_needs_no_change_stays_in_the_file(sdxl_file: Path) -> None:
    weight = load_checkpoint(sdxl_file, placement(torch.float16)).unet.time_embed[0].weight
    assert isinstance(weight, Tensor)
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("asks Linux which memory belongs to the file")
    assert any(
        int(low, 16) <= weight.data_ptr() < int(high, 16)
        for line in maps.read_text().splitlines()
        if line.endswith(sdxl_file.name)
        for low, high in [line.split()[0].split("-")]
    )


def test_v_prediction_and_zero_terminal_snr(tmp_path: Path) -> None:
    extra = {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([]), "model_ema.decay": torch.ones(1)}
    checkpoint = load_checkpoint(write(tmp_path / "v.safetensors", TINY_SDXL, extra), EXACT)
    assert (checkpoint.prediction, checkpoint.zero_terminal_snr) == ("v", True)


def test_an_incomplete_file_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    tensors = published_tensors(TINY_SDXL)
    del tensors["model.diffusion_model.out.2.bias"]
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "part.safetensors")
    with pytest.raises(WeightsError, match=r"part\.safetensors is incomplete.*model\.diffusion_model\.out\.2\.bias"):
        load_checkpoint(tmp_path / "part.safetensors", EXACT)


# Texts


def test_texts_are_encoded_one_by_one_and_joined(sdxl: Checkpoint) -> None:
    ((hidden, extras),) = sdxl.clip.encode(["a cat", "a (dog:1.3)", "a bird"], clip_skip=2, top_k=2)
    alone = [sdxl.clip.encode([text], clip_skip=2)[0] for text in ("a cat", "a (dog:1.3)", "a bird")]
    assert torch.equal(hidden, torch.cat([each[0] for each in alone], dim=1))
    first, second = (each[1]["pooled_output"] for each in alone[:2])
    assert first is not None and second is not None and extras["pooled_output"] is not None
    assert torch.equal(extras["pooled_output"], first + second)


def test_what_was_encoded_before_does_not_matter(sdxl: Checkpoint, sdxl_file: Path) -> None:
    for index in range(70):  # more than are remembered
        sdxl.clip.encode([f"text {index}"])
    fresh = load_checkpoint(sdxl_file, EXACT)
    assert torch.equal(sdxl.clip.encode(["text 0"])[0][0], fresh.clip.encode(["text 0"])[0][0])
    assert torch.equal(sdxl.clip.encode(["text 69"])[0][0], fresh.clip.encode(["text 69"])[0][0])
    assert not torch.equal(sdxl.clip.encode(["text 69"], 1)[0][0], fresh.clip.encode(["text 69"], 2)[0][0])


# Autoencoder


def test_decoded_pictures_are_within_range_and_rows_independent(sdxl: Checkpoint) -> None:
    latents = torch.randn(3, 4, 3, 5) * 3
    pictures = sdxl.vae.decode(latents)
    assert pictures.shape == (3, 3, 24, 40)
    assert pictures.dtype == torch.float32
    assert float(pictures.min()) >= 0.0
    assert float(pictures.max()) <= 1.0
    assert torch.equal(pictures[1:2], sdxl.vae.decode(latents[1:2]))
    direct = sdxl.vae.model.decode(latents[:1] / 0.13025)
    torch.testing.assert_close(pictures[:1], ((direct + 1) / 2).clamp(0, 1))


def test_encoding_samples_with_its_seed_and_crops_to_multiples_of_eight(sdxl: Checkpoint) -> None:
    picture = torch.rand(1, 3, 37, 26)
    latent = sdxl.vae.encode(picture, seed=5)
    assert latent.shape == (1, 4, 4, 3)
    assert latent.dtype == torch.float32
    cropped = picture[..., 2:34, 1:25]  # 37 = 32 + 5, 26 = 24 + 2: half of the rest is left out on top and left
    assert torch.equal(latent, sdxl.vae.encode(cropped, seed=5))
    assert not torch.equal(latent, sdxl.vae.encode(picture, seed=6))
    mean, log_variance = sdxl.vae.model.encode_moments(2 * cropped - 1)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(latent, (mean + (0.5 * log_variance).exp() * noise) * 0.13025)


def test_encoding_leaves_the_global_random_state_alone(sdxl: Checkpoint) -> None:
    picture = torch.rand(1, 3, 16, 16)
    before = torch.get_rng_state()
    sdxl.vae.encode(picture, seed=1)
    assert torch.equal(before, torch.get_rng_state())


def test_a_picture_that_is_too_small_is_refused_with_its_size(sdxl: Checkpoint) -> None:
    with pytest.raises(ValueError, match="40x7 pixels; the smallest is 8x8"):
        sdxl.vae.encode(torch.rand(1, 3, 7, 40), seed=0)


def overflowing(dtype: torch.dtype) -> AutoencoderKL:
    """An autoencoder whose values exceed float16, as those of SDXL's do, but not float32."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoencoderKL(TINY_VAE)
    with torch.no_grad():
        model.decoder.conv_in.weight *= 20_000.0
        model.encoder.conv_in.weight *= 200_000.0
    return model.to(dtype).requires_grad_(False).eval()


def test_where_half_precision_overflows_float32_takes_over_for_that_picture_only() -> None:
    model = overflowing(torch.float16)
    vae = VAE(model, 0.13025)
    latent = torch.randn(1, 4, 2, 2) * 4
    assert not torch.isfinite(model.decode((latent / 0.13025).half())).all()
    picture = vae.decode(latent)
    assert torch.isfinite(picture).all()
    assert float(picture.std()) > 0
    assert model.post_quant_conv.weight.dtype == torch.float16
    assert torch.equal(picture, VAE(overflowing(torch.float16).float(), 0.13025).decode(latent))


def test_numbers_that_float32_cannot_save_stay_visible() -> None:
    picture = VAE(overflowing(torch.float32), 0.13025).decode(torch.full((1, 4, 2, 2), float("nan")))
    assert torch.isnan(picture).all()
