"""The real pipeline on the built-in miniature: what a job's picture depends on, and what it does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ldm_patched.modules.detection import Detection
from ldm_patched.modules.patches import Patcher
from ldm_patched.modules.state_dict import WeightsError
from modules.files import ModelFileError
from modules.loaded import ModelError
from modules.model_folders import ModelFolders
from modules.parameters import BUILT_IN_MODEL, GenerationParameters
from modules.pipeline import Pipeline
from modules.plan import ImageJob, ModelFacts, plan
from modules.prepare import PipelineError
from tests.ldm_patched.tiny import TINY_REFINER, TINY_SD15, TINY_SDXL, write

MODELS = Path(__file__).resolve().parents[2] / "models"


@dataclass
class Watcher:
    """An observer that keeps everything and wishes something once, when it is told of a certain step."""

    wish: Literal["", "skip", "stop"] = ""
    when: tuple[int, int] = (-1, -1)  # job, step
    pictures: dict[int, Any] = field(default_factory=dict)
    previews: list[Any] = field(default_factory=list)
    steps: list[tuple[int, int]] = field(default_factory=list)
    timings: dict[int, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    told: list[tuple[str, int, int]] = field(default_factory=list)

    def progress(self, job: int, step: int, steps: int, text: str, preview: Callable[[], Any] | None) -> None:
        self.steps.append((job, step))
        self.told.append((text, step, steps))
        if preview is not None:
            self.previews.append(preview())

    def note(self, text: str) -> None:
        self.notes.append(text)

    def cancelled(self) -> Literal["", "skip", "stop"]:
        if (self.steps or [(-1, -2)])[-1] != self.when:
            return ""
        self.when = (-1, -1)
        return self.wish

    def finished(self, job: int, picture: Any, timings: dict[str, float]) -> None:
        self.pictures[job] = picture
        self.timings[job] = timings


def jobs(count: int = 1, **changes: Any) -> list[ImageJob]:
    parameters = GenerationParameters(
        prompt="a red cat, meadow", image_seed=7, image_number=count, base_model=BUILT_IN_MODEL
    )
    parameters = parameters.with_set(["overwrite_width=96", "overwrite_height=64", "overwrite_step=3"])
    return [replace(job, **changes) for job in plan(parameters, ModelFacts(256))]


def run(pipeline: Pipeline, wanted: Sequence[ImageJob], watcher: Watcher | None = None) -> Watcher:
    watcher = watcher or Watcher()
    pipeline.run(wanted, watcher)
    return watcher


def only(folder: Path) -> ModelFolders:
    """Checkpoints in `folder` and nothing else."""
    return replace(ModelFolders.under(folder), checkpoints=(folder,))


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(ModelFolders.under(MODELS))


def test_a_picture_has_its_size_and_is_no_flat_colour(pipeline: Pipeline) -> None:
    seen = run(pipeline, jobs())
    assert seen.pictures[0].shape == (64, 96, 3)
    assert seen.pictures[0].dtype == np.uint8
    assert seen.pictures[0].std() > 5
    assert {"load", "encode", "sample", "decode"} == seen.timings[0].keys()


def test_stop_ends_everything_within_a_step(pipeline: Pipeline) -> None:
    watcher = Watcher("stop", (1, 1))
    run(pipeline, jobs(3), watcher)
    assert watcher.pictures.keys() == {0}
    assert max(watcher.steps) == (1, 1)


def test_stop_is_heard_while_prompts_are_read(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    plain = Pipeline._prepare

    def prepared(self: Pipeline, loaded: Any, job: ImageJob, observer: Any) -> Any:
        read.append(job.index)
        return plain(self, loaded, job, observer)

    monkeypatch.setattr(Pipeline, "_prepare", prepared)

    class Impatient(Watcher):
        def cancelled(self) -> Literal["", "skip", "stop"]:
            return "stop" if len(read) >= 2 else ""

    watcher = Impatient()
    run(pipeline, jobs(6), watcher)
    assert read == [0, 1] and watcher.pictures == {}


@pytest.mark.parametrize("count", [1, 2])
def test_skips_while_prompts_are_read_leave_the_first_pictures(pipeline: Pipeline, count: int) -> None:
    class Picky(Watcher):
        left = count

        def cancelled(self) -> Literal["", "skip", "stop"]:
            self.left -= 1
            return "skip" if self.left >= 0 else ""

    assert run(pipeline, jobs(3), Picky()).pictures.keys() == {0, 1, 2} - set(range(count))
    assert run(pipeline, jobs(count), Picky()).pictures == {}


def test_each_job_is_told_its_own_texts_whatever_its_number(pipeline: Pipeline) -> None:
    class Listener(Watcher):
        made: list[Any]

        def finished(self, job: int, picture: Any, timings: dict[str, float]) -> None:
            self.made.append(picture)

    listener = Listener()
    listener.made = []
    several = [*jobs(positive=("a red fox",)), *jobs(positive=("a blue boat",))]
    assert {job.index for job in several} == {0}
    pipeline.run(several, listener)
    for job, picture in zip(several, listener.made, strict=True):
        assert np.array_equal(run(pipeline, [job]).pictures[0], picture)


def test_stop_before_the_model_is_loaded_loads_none() -> None:
    class Stopped(Watcher):
        def cancelled(self) -> Literal["", "skip", "stop"]:
            return "stop"

    fresh = Pipeline(ModelFolders.under(MODELS))
    run(fresh, jobs(2), Stopped())
    assert fresh.loaded is None


def test_skip_in_the_middle_goes_on_with_the_next(pipeline: Pipeline) -> None:
    watcher = Watcher("skip", (0, 1))
    run(pipeline, jobs(2), watcher)
    assert watcher.pictures.keys() == {1}


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"positive": ("a blue boat, beach",)},
        {"negative": ("a red cat",)},
        {"width": 64},
        {"steps": 4},
        {"sampler": "euler"},
        {"sampler": "euler_ancestral"},
        {"scheduler": "normal"},
        {"scheduler": "sgm_uniform"},
        {"guidance_scale": 7.0},
        {"guidance_scale": 1.0},
        {"sharpness": 30.0},
        {"adaptive_cfg": 1.0},
        {"adm_scaler_positive": 3.0},
        {"adm_scaler_negative": 3.0},
        {"adm_scaler_end": 0.9},
        {"clip_skip": 1},
        {"guidance_rescale": 0.7},
        {"guidance_begin": 0.5},
        {"guidance_end": 0.5},
        {"freeu": (1.3, 1.4, 0.9, 0.2)},
    ],
    ids=str,
)
def test_every_parameter_of_a_job_changes_the_picture(pipeline: Pipeline, change: dict[str, Any]) -> None:
    before = run(pipeline, jobs()).pictures[0]
    after = run(pipeline, jobs(**change)).pictures[0]
    assert before.shape != after.shape or not np.array_equal(before, after)


def test_long_and_unequal_texts_go_together(pipeline: Pipeline) -> None:
    seen = run(pipeline, jobs(positive=("a red cat " * 60, "in a meadow"), negative=("blurry",)))
    assert seen.pictures[0].shape == (64, 96, 3)


def test_an_empty_prompt_makes_a_picture(pipeline: Pipeline) -> None:
    assert 0 in run(pipeline, jobs(positive=("",))).pictures


def test_previews_show_what_comes_of_it(pipeline: Pipeline) -> None:
    seen = run(pipeline, jobs(steps=12))
    last = seen.previews[-1].astype(float)
    picture = seen.pictures[0].astype(float).reshape(16, 4, 24, 4, 3).mean(axis=(1, 3))
    assert last.shape == picture.shape
    assert np.corrcoef(last.ravel(), picture.ravel())[0, 1] > 0.8


def test_without_a_preview_decoder_there_is_still_a_preview(tmp_path: Path) -> None:
    seen = run(Pipeline(replace(ModelFolders.under(MODELS), previews=tmp_path)), jobs())
    assert seen.previews[-1].shape == (8, 12, 3)


def test_a_layer_that_the_text_encoders_do_not_have_is_named(pipeline: Pipeline) -> None:
    with pytest.raises(PipelineError, match="CLIP skip is 12"):
        run(pipeline, jobs(clip_skip=12))


def test_a_missing_model_is_named(pipeline: Pipeline) -> None:
    with pytest.raises(ModelFileError, match=r"gone\.safetensors is not in"):
        run(pipeline, jobs(checkpoint="gone.safetensors"))


@pytest.mark.parametrize("content", [b"", b"\x80\x04].", b"PK\x03\x04" + bytes(100)], ids=["empty", "pickle", "zip"])
def test_what_is_no_checkpoint_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=r"odd\.safetensors"):
        run(Pipeline(only(tmp_path)), jobs(checkpoint="odd.safetensors"))


def test_damaged_weights_make_no_black_picture(tmp_path: Path) -> None:
    tensors = load_file(MODELS / "checkpoints" / BUILT_IN_MODEL)
    tensors["model.diffusion_model.out.2.bias"] = torch.full((4,), float("nan"), dtype=torch.float16)
    save_file(tensors, tmp_path / "nan.safetensors")
    with pytest.raises(PipelineError, match=r"nan\.safetensors"):
        run(Pipeline(only(tmp_path)), jobs(checkpoint="nan.safetensors"))


def for_the_miniature(found: Detection) -> Detection:
    """A family of the tests' tiny checkpoints that reads the miniature's texts."""
    tower = found.towers[-1]
    numbers = found.unet.adm_channels - tower.params.projection_dim
    wider = replace(tower, params=replace(tower.params, projection_dim=128))
    unet = replace(found.unet, adm_channels=128 + numbers)
    return replace(found, unet=unet, towers=(*found.towers[:-1], wider))


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> ModelFolders:
    """The miniature, and beside it tiny models of random weights: a refiner, a second SDXL model, others."""
    folder = tmp_path_factory.mktemp("checkpoints")
    write(folder / "refiner.safetensors", for_the_miniature(TINY_REFINER))
    write(folder / "second.safetensors", for_the_miniature(TINY_SDXL), seed=1)
    write(folder / "sd15.safetensors", TINY_SD15)
    write(folder / "narrow-refiner.safetensors", TINY_REFINER)
    models = ModelFolders.under(MODELS)
    return replace(models, checkpoints=(*models.checkpoints, folder), vae=(folder,))


@pytest.mark.parametrize("method", ["joint", "separate"])
@pytest.mark.parametrize("refiner", ["refiner.safetensors", "second.safetensors"])
@pytest.mark.parametrize("sampler", ["dpmpp_2m_sde_gpu", "heun"])
def test_a_refiner_changes_the_end_of_a_run(several: ModelFolders, method: str, refiner: str, sampler: str) -> None:
    pipeline = Pipeline(several)
    plain = run(pipeline, jobs(steps=4, sampler=sampler))
    change: dict[str, Any] = {"steps": 4, "sampler": sampler, "refiner": refiner, "swap_method": method}
    refined = run(pipeline, jobs(**change, switch=2))
    assert not np.array_equal(plain.pictures[0], refined.pictures[0])
    assert refined.steps[-1] == plain.steps[-1] and refined.steps.count((0, 3)) == 1
    # Both begin alike: the previews of the first steps are the base model's.
    assert np.array_equal(plain.previews[0], refined.previews[0])
    assert not np.array_equal(plain.previews[3], refined.previews[3])
    late = run(pipeline, jobs(**change, switch=4))
    assert np.array_equal(plain.pictures[0], late.pictures[0]), "a refiner that never gets a turn changes nothing"
    whole = run(pipeline, jobs(**change, switch=0))
    assert not np.array_equal(whole.pictures[0], refined.pictures[0])


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "dpmpp_2m_sde_gpu", "heun", "uni_pc", "dpmpp_3m_sde_gpu"])
@pytest.mark.parametrize("switch", [1, 3])
def test_joint_with_the_model_itself_is_the_plain_run(pipeline: Pipeline, sampler: str, switch: int) -> None:
    plain = run(pipeline, jobs(steps=5, sampler=sampler))
    joint = run(pipeline, jobs(steps=5, sampler=sampler, refiner=BUILT_IN_MODEL, switch=switch))
    assert np.array_equal(plain.pictures[0], joint.pictures[0])


def test_separate_with_the_model_itself_is_the_plain_run_where_a_sampler_remembers_nothing(pipeline: Pipeline) -> None:
    plain = run(pipeline, jobs(steps=4, sampler="euler"))
    change: dict[str, Any] = {"refiner": BUILT_IN_MODEL, "switch": 2, "swap_method": "separate"}
    separate = run(pipeline, jobs(steps=4, sampler="euler", **change))
    assert np.array_equal(plain.pictures[0], separate.pictures[0])


@pytest.mark.parametrize(
    ("name", "words"),
    [("narrow-refiner.safetensors", "text encoders")],
)
def test_what_cannot_refine_is_refused_in_words(several: ModelFolders, name: str, words: str) -> None:
    with pytest.raises(ModelError, match=f"{name}.*{words}"):
        run(Pipeline(several), jobs(refiner=name, switch=1))


def test_a_change_of_refiner_or_vae_leaves_the_checkpoint_in_memory(several: ModelFolders) -> None:
    pipeline = Pipeline(several)
    run(pipeline, jobs())
    assert pipeline.loaded is not None
    checkpoint = pipeline.loaded.checkpoint
    run(pipeline, jobs(refiner="second.safetensors", switch=1))
    assert pipeline.loaded.checkpoint is checkpoint and pipeline.loaded.refiner is not None
    refiner = pipeline.loaded.refiner
    other = run(pipeline, jobs(refiner="second.safetensors", switch=1, vae="second.safetensors"))
    assert pipeline.loaded.checkpoint is checkpoint and pipeline.loaded.refiner is refiner
    own = run(pipeline, jobs(refiner="second.safetensors", switch=1))
    assert not np.array_equal(other.pictures[0], own.pictures[0])


def test_what_is_no_vae_is_refused_in_words(tmp_path: Path) -> None:
    save_file({"decoder.conv_in.weight": torch.zeros(1)}, tmp_path / "half.safetensors")
    folders = replace(ModelFolders.under(MODELS), vae=(tmp_path,))
    with pytest.raises(
        WeightsError, match=r"half\.safetensors is not a VAE.*post_quant_conv|half\.safetensors.*encoder"
    ):
        run(Pipeline(folders), jobs(vae="half.safetensors"))


def some_lora(path: Path, prefix: str = "lora_unet_", width: int = 128) -> Path:
    """A LoRA, in kohya's names, of one text projection and one attention of the miniature, strong enough to be seen."""
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, torch.Tensor] = {}
    for module, rows, columns in (
        ("middle_block_1_transformer_blocks_0_attn2_to_v", width, 192),
        ("middle_block_1_transformer_blocks_0_attn1_to_q", width, width),
    ):
        name = f"{prefix}{module}"
        tensors[f"{name}.lora_down.weight"] = torch.randn(4, columns, generator=generator)
        tensors[f"{name}.lora_up.weight"] = 0.3 * torch.randn(rows, 4, generator=generator)
        tensors[f"{name}.alpha"] = torch.tensor(4.0)
    save_file(tensors, path)
    return path


@pytest.fixture
def with_loras(tmp_path: Path, several: ModelFolders) -> ModelFolders:
    """The miniature with LoRAs: two that fit, one that fits nothing, one that is none."""
    some_lora(tmp_path / "a.safetensors")
    some_lora(tmp_path / "b.safetensors", "lora_te1_text_model_encoder_layers_0_self_attn_q_proj_not_")
    save_file({"x": torch.zeros(1)}, tmp_path / "none.safetensors")
    return replace(several, loras=(tmp_path,))


def test_a_lora_changes_the_picture_by_its_strength_and_leaves_no_trace(with_loras: ModelFolders) -> None:
    pipeline = Pipeline(with_loras)
    plain = run(pipeline, jobs()).pictures[0]
    full = run(pipeline, jobs(loras=(("a.safetensors", 1.0),))).pictures[0]
    half = run(pipeline, jobs(loras=(("a.safetensors", 0.5),))).pictures[0]
    assert not np.array_equal(plain, full) and not np.array_equal(full, half)
    assert np.array_equal(run(pipeline, jobs()).pictures[0], plain)
    again = run(Pipeline(with_loras), jobs(loras=(("a.safetensors", 0.5),)))
    assert np.array_equal(again.pictures[0], half) and again.notes == []
    twice = run(pipeline, jobs(loras=(("a.safetensors", 0.5), ("a.safetensors", 0.5))))
    assert np.array_equal(twice.pictures[0], full)


def test_a_second_model_takes_loras_too(with_loras: ModelFolders) -> None:
    pipeline = Pipeline(with_loras)
    change: dict[str, Any] = {"refiner": "second.safetensors", "switch": 0, "swap_method": "separate"}
    plain = run(pipeline, jobs(**change)).pictures[0]
    changed = run(pipeline, jobs(**change, loras=(("a.safetensors", 1.0),))).pictures[0]
    assert not np.array_equal(plain, changed)
    assert np.array_equal(run(pipeline, jobs(**change)).pictures[0], plain)


@pytest.mark.parametrize(
    ("name", "words"), [("gone.safetensors", "is not in"), ("none.safetensors", "LoRA"), ("b.safetensors", "LoRA")]
)
def test_a_lora_that_cannot_be_used_is_left_out_in_words(with_loras: ModelFolders, name: str, words: str) -> None:
    pipeline = Pipeline(with_loras)
    seen = run(pipeline, jobs(loras=((name, 1.0), ("a.safetensors", 1.0))))
    (note,) = seen.notes
    assert name in note and words in note and note.endswith("The picture is made without this LoRA.")
    assert np.array_equal(seen.pictures[0], run(pipeline, jobs(loras=(("a.safetensors", 1.0),))).pictures[0])


def test_embeddings_stand_in_a_prompt(several: ModelFolders, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = {"clip_l": torch.randn(2, 64, generator=generator), "clip_g": torch.randn(2, 128, generator=generator)}
    save_file(vectors, tmp_path / "charm.safetensors")
    save_file({"clip_l": torch.zeros(1, 8), "clip_g": torch.zeros(1, 8)}, tmp_path / "narrow.safetensors")
    pipeline = Pipeline(replace(several, embeddings=(tmp_path,)))
    plain = run(pipeline, jobs(positive=("a red cat, meadow",)))
    charmed = run(pipeline, jobs(positive=("a red cat, (embedding:charm:1.3), meadow",)))
    assert not np.array_equal(plain.pictures[0], charmed.pictures[0]) and charmed.notes == []
    missing = run(pipeline, jobs(positive=("a red cat, embedding:nothing meadow",)))
    assert "nothing" in missing.notes[0]
    with pytest.raises(WeightsError, match=r"narrow\.safetensors.*8.*64"):
        run(pipeline, jobs(positive=("embedding:narrow",)))


def test_a_text_that_was_encoded_once_needs_no_text_encoders(tmp_path: Path) -> None:
    models = ModelFolders.under(MODELS)
    cold, plain = Pipeline(models, tmp_path), Pipeline(models)
    wanted = jobs(positive=("a red cat, (meadow:1.2)",))
    first = run(cold, wanted).pictures[0]
    assert np.array_equal(first, run(plain, wanted).pictures[0])
    warm = Pipeline(models, tmp_path)  # as in a new process
    assert np.array_equal(run(warm, wanted).pictures[0], first)
    assert np.array_equal(run(warm, jobs(positive=("a red cat, (meadow:1.2)",), seed=8)).pictures[0], first) is False
    assert warm.loaded is not None and not warm.loaded.checkpoint.clip.loaded
    run(warm, jobs(positive=("something new",)))
    assert warm.loaded.checkpoint.clip.loaded


@pytest.mark.parametrize("change", [{"clip_skip": 1}, {"positive": ("a blue cat, meadow",)}], ids=str)
def test_an_encoded_text_is_taken_for_no_other(tmp_path: Path, change: dict[str, Any]) -> None:
    models = ModelFolders.under(MODELS)
    run(Pipeline(models, tmp_path), jobs())
    warm = run(Pipeline(models, tmp_path), jobs(**change)).pictures[0]
    assert np.array_equal(warm, run(Pipeline(models), jobs(**change)).pictures[0])


def test_a_refiner_that_was_the_base_itself_leaves_no_lora_behind(with_loras: ModelFolders) -> None:
    pipeline = Pipeline(with_loras)
    lora = (("a.safetensors", 1.0),)
    run(pipeline, jobs(refiner=BUILT_IN_MODEL, switch=1, loras=lora))
    other: dict[str, Any] = {"checkpoint": "second.safetensors", "refiner": BUILT_IN_MODEL, "switch": 1}
    after = run(pipeline, jobs(**other)).pictures[0]
    assert np.array_equal(after, run(Pipeline(with_loras), jobs(**other)).pictures[0])
    merged = run(pipeline, jobs(**other, loras=lora)).pictures[0]
    run(pipeline, jobs(refiner=BUILT_IN_MODEL, switch=1))
    assert np.array_equal(run(pipeline, jobs(**other, loras=lora)).pictures[0], merged)


def test_a_file_that_was_replaced_is_loaded_anew(several: ModelFolders, tmp_path: Path) -> None:
    mini = tmp_path / "mine.safetensors"
    mini.write_bytes((MODELS / "checkpoints" / BUILT_IN_MODEL).read_bytes())
    write(tmp_path / "second.safetensors", for_the_miniature(TINY_SDXL), seed=1)
    write(tmp_path / "vae.safetensors", for_the_miniature(TINY_SDXL), seed=2)
    folders = replace(several, checkpoints=(tmp_path,), vae=(tmp_path,))
    change: dict[str, Any] = {"checkpoint": "mine.safetensors", "refiner": "second.safetensors", "switch": 1}
    wanted = jobs(**change, vae="vae.safetensors")
    pipeline = Pipeline(folders, tmp_path / "texts")
    last = run(pipeline, wanted).pictures[0]
    assert np.array_equal(run(pipeline, wanted).pictures[0], last)
    for name in ("second.safetensors", "vae.safetensors", "mine.safetensors"):
        tensors = {key: tensor.clone() for key, tensor in load_file(tmp_path / name).items()}
        for key, tensor in tensors.items():
            if tensor.ndim > 1:
                tensors[key] = tensor * 1.05
        other = tmp_path / "other"
        save_file(tensors, other)
        if name == "mine.safetensors":  # the very file is overwritten, on which the networks still lie
            (tmp_path / name).write_bytes(other.read_bytes())
        else:
            other.replace(tmp_path / name)
        now = run(pipeline, wanted).pictures[0]
        assert not np.array_equal(now, last), name
        assert np.array_equal(now, run(Pipeline(folders), wanted).pictures[0]), name
        last = now


def test_all_files_are_found_before_any_is_loaded(several: ModelFolders, tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"no checkpoint at all")
    folders = replace(several, checkpoints=(tmp_path,))
    changes: list[dict[str, Any]] = [{"refiner": "gone.safetensors", "switch": 1}, {"vae": "gone.safetensors"}]
    for change in changes:
        with pytest.raises(ModelFileError, match=r"gone\.safetensors is not in"):
            run(Pipeline(folders), jobs(checkpoint="broken.safetensors", **change))


def test_a_second_model_that_cannot_take_a_lora_says_so_once(with_loras: ModelFolders) -> None:
    (folder,) = with_loras.loras
    # A block that the miniature has and the second model has not.
    name = "lora_unet_input_blocks_5_1_transformer_blocks_0_attn1_to_q"
    factors = {f"{name}.lora_down.weight": torch.ones(1, 128), f"{name}.lora_up.weight": torch.ones(128, 1)}
    save_file(factors, folder / "deep.safetensors")
    # What is for the text encoders is not missed in a model that has nothing to do with texts.
    tower = "lora_te1_text_model_encoder_layers_0_mlp_fc2"
    factors = {f"{tower}.lora_down.weight": torch.ones(1, 256), f"{tower}.lora_up.weight": torch.ones(64, 1)}
    save_file(factors | load_file(folder / "a.safetensors"), folder / "texts.safetensors")
    loras = (("deep.safetensors", 1.0), ("texts.safetensors", 1.0), ("none.safetensors", 1.0))
    seen = run(Pipeline(with_loras), jobs(2, refiner="second.safetensors", switch=1, loras=loras))
    none, deep = seen.notes
    assert none.startswith("none.safetensors") and none.endswith("The picture is made without this LoRA.")
    assert deep.startswith("second.safetensors: deep.safetensors looks like a LoRA for another UNet")
    assert deep.endswith("Its part of the picture is made without this LoRA.")


def test_after_loras_that_failed_the_next_job_is_as_ever(
    with_loras: ModelFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = (("a.safetensors", 1.0),)
    pipeline = Pipeline(with_loras)
    plain, merged = run(pipeline, jobs()).pictures[0], run(pipeline, jobs(loras=lora)).pictures[0]
    run(pipeline, jobs())
    merge = Patcher._merge
    done: list[int] = []

    def fails_at_the_second(self: Patcher, *arguments: Any) -> None:
        if done:
            raise MemoryError
        done.append(1)
        merge(self, *arguments)

    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(Patcher, "_merge", fails_at_the_second)
        run(pipeline, jobs(loras=lora))
    assert np.array_equal(run(pipeline, jobs()).pictures[0], plain)
    assert np.array_equal(run(pipeline, jobs(loras=lora)).pictures[0], merged)


def test_a_lora_of_the_unet_loads_no_text_encoders(with_loras: ModelFolders, tmp_path: Path) -> None:
    run(Pipeline(with_loras, tmp_path / "kept"), jobs())
    warm = Pipeline(with_loras, tmp_path / "kept")
    run(warm, jobs(loras=(("a.safetensors", 1.0),)))
    assert warm.loaded is not None and not warm.loaded.checkpoint.clip.loaded


def test_the_last_word_counts_the_steps_of_the_run(pipeline: Pipeline) -> None:
    seen = run(pipeline, jobs(scheduler="ddim_uniform", steps=7, sampler="euler"))  # 1000 // 7 makes it 8
    assert (seen.told[-1], seen.steps[-1]) == (("Painting the picture", 8, 8), (0, 8))


def test_a_scheduler_for_another_kind_of_model_is_told_in_words(tmp_path: Path) -> None:
    playground: dict[str, Any] = {"scheduler": "edm_playground_v2.5"}
    tensors = load_file(MODELS / "checkpoints" / BUILT_IN_MODEL)
    save_file(tensors, tmp_path / "v.safetensors")
    assert tensors.pop("v_pred") is not None
    save_file(tensors, tmp_path / "eps.safetensors")
    save_file(tensors | {"edm_mean": torch.zeros(4), "edm_std": torch.ones(4)}, tmp_path / "edm.safetensors")
    own = Pipeline(only(tmp_path))
    (note,) = run(own, jobs(2, checkpoint="eps.safetensors", **playground)).notes
    assert note.startswith("eps.safetensors") and "Playground" in note
    assert run(own, jobs(checkpoint="eps.safetensors")).notes == []
    with pytest.raises(PipelineError, match=r"v\.safetensors.*edm_playground_v2\.5"):
        run(own, jobs(checkpoint="v.safetensors", **playground))
    with pytest.raises(PipelineError, match=r"edm\.safetensors.*lcm"):
        run(own, jobs(checkpoint="edm.safetensors", scheduler="lcm"))
    seen = run(own, jobs(checkpoint="edm.safetensors", **playground))
    assert seen.notes == []
    assert np.array_equal(
        run(own, jobs(checkpoint="edm.safetensors", scheduler="karras")).pictures[0], seen.pictures[0]
    )
    with pytest.raises(PipelineError, match="refiner"):
        run(own, jobs(checkpoint="edm.safetensors", refiner="v.safetensors", switch=1))
