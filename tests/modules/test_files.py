"""What lies in model folders: kinds and sizes from headers, and files that are not what they should be."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from pathlib import Path

import pytest

from modules.files import ModelFileError, ModelFiles, check_base_model, read_header
from modules.plan import ModelFacts
from tests.modules.conftest import SDXL_NAMES, safetensors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "checkpoints"
    made.mkdir()
    return made


@pytest.mark.parametrize(
    ("names", "metadata", "expected"),
    [
        (SDXL_NAMES, None, ModelFacts(1024, "sdxl-base")),
        (SDXL_NAMES, {"modelspec.resolution": "256x256"}, ModelFacts(256, "sdxl-base")),
        (SDXL_NAMES, {"modelspec.resolution": "nonsense"}, ModelFacts(1024, "sdxl-base")),
        (SDXL_NAMES, {"modelspec.resolution": "00x00"}, ModelFacts(1024, "sdxl-base")),
        (SDXL_NAMES, {"modelspec.resolution": "99999x99999"}, ModelFacts(1024, "sdxl-base")),
        (
            ["model.diffusion_model.x", "conditioner.embedders.0.model.ln_final.weight"],
            None,
            ModelFacts(1024, "sdxl-refiner"),
        ),
        (["model.diffusion_model.x", "cond_stage_model.transformer.x"], None, ModelFacts(512, "sd15")),
        (["lora_unet_x.lora_up.weight"], None, ModelFacts(1024, "lora")),
        (["decoder.conv_in.weight"], None, ModelFacts(1024, "vae")),
        (["whatever"], None, ModelFacts(1024, "unknown")),
    ],
)
def test_facts_come_from_the_header(
    folder: Path, names: list[str], metadata: dict[str, str] | None, expected: ModelFacts
) -> None:
    safetensors(folder / "m.safetensors", names, metadata)
    assert ModelFiles([folder]).facts("m.safetensors") == expected


def damaged(folder: Path) -> dict[str, tuple[bytes, str]]:
    whole = safetensors(folder / "whole.safetensors", SDXL_NAMES).read_bytes()
    archive = folder / "archive"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("data.pkl", pickle.dumps({"a": 1}))
    return {
        "empty": (b"", "has only 0 bytes"),
        "short": (b"abc", "has only 3 bytes"),
        "header cut off": (whole[:30], "is cut off or unreadable"),
        "tensors cut off": (whole[:-1], "is cut off: 3 of 4 bytes"),
        "old pickle": (pickle.dumps({"a": 1}, protocol=2), "is a pickle"),
        "new pickle": (archive.read_bytes(), "is a pickle"),
        "web page": (b"<!DOCTYPE html><html></html>", "is a web page"),
        "no json": (struct.pack("<Q", 8) + b"notjson!", "is cut off or unreadable"),
        "a list": (struct.pack("<Q", 2) + b"[]", "is not a JSON object"),
        "no shapes": (struct.pack("<Q", 7) + b'{"a":1}', "says nothing sensible about 'a'"),
        "huge header": (struct.pack("<Q", 2**62) + bytes(100), "announce a header of"),
        "cut off, and begins with a byte of pickles": (struct.pack("<Q", 640) + b"{", "is cut off or unreadable"),
        "large header": (struct.pack("<Q", 30_000_000) + bytes(100), "announce a header of 30000000"),
        "deep": (struct.pack("<Q", 100_000) + b"[" * 100_000, "is cut off or unreadable"),
    }


@pytest.mark.parametrize("ending", ["lora_A.default.weight", "lora.down.weight", "hada_w1_b"])
def test_a_lora_of_whatever_makers_tells_what_it_was_made_for(folder: Path, ending: str) -> None:
    header = {f"unet.x.attn2.to_k.{ending}": {"dtype": "F16", "shape": [4, 768], "data_offsets": [0, 0]}}
    text = json.dumps(header).encode()
    (folder / "m.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    assert ModelFiles([folder]).facts("m.safetensors").text_width == 768


def test_damaged_files_are_refused_in_words(folder: Path) -> None:
    for title, (data, words) in damaged(folder).items():
        path = folder / "bad.safetensors"
        path.write_bytes(data)
        with pytest.raises(ModelFileError) as caught:
            read_header(path)
        assert words in str(caught.value) and "bad.safetensors" in str(caught.value), title


def test_names_are_relative_sorted_and_earlier_folders_win(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for path in (first / "b.safetensors", first / "sub" / "A.safetensors", second / "b.safetensors"):
        safetensors(path, ["x"])
    (first / "note.txt").write_text("")
    (first / ".hidden.safetensors").write_text("")
    files = ModelFiles([first, second, tmp_path / "missing"])
    assert files.names() == ["b.safetensors", "sub/A.safetensors"]
    assert files.find("b.safetensors") == first / "b.safetensors"
    assert files.has("sub/A.safetensors") and not files.has("c.safetensors")


@pytest.mark.parametrize("name", ["missing.safetensors", "../first/b.safetensors", "/etc/passwd", ""])
def test_what_is_not_there_is_named(folder: Path, name: str) -> None:
    with pytest.raises(ModelFileError):
        ModelFiles([folder]).facts(name)


def test_a_file_that_changed_is_read_again(folder: Path) -> None:
    files = ModelFiles([folder])
    safetensors(folder / "m.safetensors", SDXL_NAMES)
    assert files.facts("m.safetensors").native == 1024
    safetensors(folder / "m.safetensors", SDXL_NAMES, {"modelspec.resolution": "256x256"})
    assert files.facts("m.safetensors").native == 256


def test_a_wrong_kind_cannot_be_the_base_model() -> None:
    with pytest.raises(ModelFileError, match=r"x cannot be the base model: it looks like a LoRA"):
        check_base_model("x", ModelFacts(1024, "lora"))
    check_base_model("x", ModelFacts(1024, "sdxl-base"))
