"""Intact files are read without copies; everything else is refused in words that name the file and what it is."""

from __future__ import annotations

import gc
import json
import mmap
import pickle
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors.torch import save_file

from ldm_patched.modules.state_dict import TensorFile, WeightsError, cast, read_header, with_prefix

TENSORS = {
    "a.weight": torch.randn(3, 5),
    "a.bias": torch.arange(6).half(),
    "b.half": torch.randn(2, 2, 2).bfloat16(),
    "b.whole": torch.tensor([[1, -2], [3, 1 << 40]]),
    "b.flags": torch.tensor([True, False, True]),
    "c.scalar": torch.tensor(2.5),
    "c.none": torch.empty(0, 4),
    "c.small": torch.randn(9).to(torch.float8_e4m3fn),
}


@pytest.fixture
def intact(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file(TENSORS, path, {"modelspec.title": "A title"})
    return path


def write_raw(path: Path, header: object, data: bytes = b"", pad: int = 0) -> Path:
    text = json.dumps(header).encode() + b" " * pad
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        TensorFile(path)
    message = str(caught.value)
    assert path.name in message
    return message


def test_every_tensor_comes_out_as_it_went_in(intact: Path) -> None:
    file = TensorFile(intact)
    assert set(file) == set(TENSORS)
    assert len(file) == len(TENSORS)
    assert file.metadata == {"modelspec.title": "A title"}
    for name, tensor in TENSORS.items():
        assert file[name].dtype == tensor.dtype
        assert file[name].shape == tensor.shape
        assert torch.equal(
            file[name].view(torch.uint8) if tensor.ndim else file[name],
            tensor.view(torch.uint8) if tensor.ndim else tensor,
        )
        assert file.infos[name].shape == tuple(tensor.shape)


def test_tensors_are_views_that_outlive_the_file_object_and_never_change_the_file(intact: Path) -> None:
    before = intact.read_bytes()
    file = TensorFile(intact)
    first, second = file["a.weight"], file["a.weight"]
    assert first.data_ptr() == second.data_ptr()
    del file, second
    gc.collect()
    assert torch.equal(first, TENSORS["a.weight"])
    first.zero_()
    assert intact.read_bytes() == before
    assert torch.equal(TensorFile(intact)["a.weight"], TENSORS["a.weight"])


def test_opening_reads_nothing_but_the_header(tmp_path: Path) -> None:
    # 8 TiB that do not exist on the disk: whoever reads them does not come back.
    path = write_raw(
        tmp_path / "large.safetensors", {"x": {"dtype": "F16", "shape": [1 << 42], "data_offsets": [0, 1 << 43]}}
    )
    try:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size + (1 << 43))
    except OSError:
        pytest.skip("this file system has no sparse files of 8 TiB")
    assert TensorFile(path).infos["x"].shape == (1 << 42,)


def test_releasing_pages_keeps_the_values(intact: Path) -> None:
    file = TensorFile(intact)
    view = file["a.weight"]
    file.prefetch(file)
    file.release(file)
    assert torch.equal(view, TENSORS["a.weight"])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for the resident pages")
def test_released_pages_are_no_longer_resident(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"x": torch.ones(4_000_000)}, path)
    file = TensorFile(path)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[2]) * mmap.PAGESIZE  # of files

    float(file["x"].sum())
    before = resident()
    file.release(["x"])
    assert before - resident() > 12_000_000


def test_tensors_that_are_not_aligned_are_read_all_the_same(tmp_path: Path) -> None:
    values = torch.randn(7)
    header = {"x": {"dtype": "F32", "shape": [7], "data_offsets": [0, 28]}}
    for pad in range(4):
        path = write_raw(tmp_path / f"{pad}.safetensors", header, values.numpy().tobytes(), pad)
        assert torch.equal(TensorFile(path)["x"], values)


def test_prefixes() -> None:
    assert with_prefix(["a.b", "a.c.d", "b.a.", "ab"], "a.") == {"b": "a.b", "c.d": "a.c.d"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(), (1,), (32_768,), (32_769,), (300, 333), (3, 5, 7, 2)])
def test_cast_is_bitwise_torchs_own(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    special = torch.tensor([0.0, -0.0, 6e-8, 65504.0, float("inf"), float("-inf"), 1.00390625])
    tensor = torch.randn(shape).half()
    flat = tensor.view(-1)
    flat[: len(special)] = special[: len(flat)].half()
    assert torch.equal(cast(tensor, dtype), tensor.to(dtype))
    turned = tensor.transpose(0, -1) if tensor.ndim > 1 else tensor
    assert torch.equal(cast(turned, dtype), turned.to(dtype))
    assert torch.isnan(cast(torch.tensor([float("nan")]).half(), dtype)).all()


def test_cast_copies_only_what_changes() -> None:
    tensor = torch.randn(4).half()
    assert cast(tensor, torch.float16) is tensor


# Refusals


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none.safetensors")
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    assert "is a folder" in refusal(folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty (0 bytes)"),
        (b"\x10\x00", "no safetensors file"),
        (b"\x00" * 100, "no safetensors file"),
        (b"\xff" * 100, "no safetensors file"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"GGUF\x03\x00\x00\x00" + b"\x00" * 50, "GGUF"),
        ((40).to_bytes(8, "little") + b'{"x": {"dtype"', "cut short"),
        ((20).to_bytes(8, "little") + b"this is no JSON text", "no safetensors file"),
        ((6).to_bytes(8, "little") + b"[1, 2]", "no table of tensors"),
        ((5).to_bytes(8, "little") + b'{"\xff"}', "its header cannot be read"),
        ((100_000).to_bytes(8, "little") + b"[" * 100_000, "no safetensors file"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert words in refusal(path)


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("unpickled"),)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_renamed_pickle_is_named_and_never_opened(
    tmp_path: Path, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Bomb(), protocol) + b"\x00" * 100)
    assert "Python pickle" in refusal(path)
    assert not (tmp_path / "unpickled").exists()


def test_a_renamed_torch_file_is_named_and_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.safetensors"
    torch.save({"x": Bomb()}, path)
    assert "zip archive" in refusal(path)
    assert not (tmp_path / "unpickled").exists()
    with zipfile.ZipFile(tmp_path / "other.safetensors", "w") as archive:
        archive.writestr("a", "b")
    assert "zip archive" in refusal(tmp_path / "other.safetensors")


@pytest.mark.parametrize("lost", [1, 20, 100])
def test_a_file_that_is_cut_short_says_how_much_is_missing(intact: Path, lost: int) -> None:
    whole = intact.read_bytes()
    intact.write_bytes(whole[:-lost])
    message = refusal(intact)
    assert "cut short" in message
    assert f"{lost:,} of {len(whole):,} bytes are missing" in message


def entry(**changes: object) -> dict[str, object]:
    return {"x": {"dtype": "F16", "shape": [2, 2], "data_offsets": [0, 8]} | changes}


@pytest.mark.parametrize(
    ("header", "size", "words"),
    [
        (entry(), 9, "1 bytes follow the last tensor"),
        (entry(data_offsets=[8, 16]), 16, "leave gaps"),
        (entry() | {"y": {"dtype": "F16", "shape": [2], "data_offsets": [4, 8]}}, 8, "overlap"),
        (entry(data_offsets=[8, 0]), 8, "damaged"),
        (entry(data_offsets=[-8, 0]), 8, "damaged"),
        (entry(data_offsets=[0, 8, 16]), 8, "not a tensor's"),
        (entry(data_offsets=None), 8, "not a tensor's"),
        (entry(shape=[3, 2]), 8, "damaged"),
        (entry(shape=[-2, -2]), 8, "damaged"),
        (entry(shape=[2.0, 2]), 8, "damaged"),
        (entry(shape=[True, 4]), 8, "damaged"),
        (entry(shape="4"), 8, "damaged"),
        (entry(shape=[10**30, 10**30]), 8, "damaged"),
        (entry(dtype="F4"), 8, "stores 'x' as F4; known are F64"),
        (entry(dtype=["F16"]), 8, "stores 'x' as"),
        ({"x": 5}, 0, "not a tensor's"),
        ({"x": {}}, 0, "not a tensor's"),
        ({"__metadata__": [1]}, 0, "metadata is no table"),
    ],
)
def test_damaged_headers(tmp_path: Path, header: object, size: int, words: str) -> None:
    assert words in refusal(write_raw(tmp_path / "model.safetensors", header, b"\x00" * size))


def test_a_file_without_tensors_is_a_file(tmp_path: Path) -> None:
    assert dict(TensorFile(write_raw(tmp_path / "model.safetensors", {}))) == {}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_damage_gives_anything_but_a_refusal(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    save_file({"a": torch.ones(3), "b": torch.ones(2, 2).half()}, path, {"k": "v"})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        file = TensorFile(path)
    except WeightsError as error:
        assert "damaged.safetensors" in str(error)
    else:
        for tensor in file.values():
            tensor.sum()


def test_reading_a_header_leaves_no_file_open(intact: Path) -> None:
    infos, metadata = read_header(intact)
    assert infos["a.weight"].dtype == torch.float32
    assert metadata == {"modelspec.title": "A title"}
    intact.unlink()  # fails on Windows while the file is open
