"""Styles: the field's files are read, names are the field's, what is broken is said and loses nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ldm_patched.modules.sd import Checkpoint, load_checkpoint
from modules.styles import EXPANSION_STYLE, RANDOM_STYLE, Shelf, Style, normal_name, read_styles, sorted_names
from tests.ldm_patched.tiny import TINY_SDXL, write


def style_file(path: Path, *entries: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries), encoding="utf-8")


def test_the_files_that_are_used_most_come_first(tmp_path: Path) -> None:
    for stem in ("Ads", "mine", "sai", "fooocus"):
        style_file(tmp_path / f"{stem}.json", {"name": stem, "prompt": "{prompt}"})
    assert list(read_styles([tmp_path]).styles) == ["Fooocus", "SAI", "Ads", "Mine"]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("sai-anime", "SAI Anime"),
        ("sai-3d-model", "SAI 3D Model"),
        ("mre-sumi-e-detailed", "MRE Sumi E Detailed"),
        ("Fooocus Sharp", "Fooocus Sharp"),
        ("adorable 3D character", "Adorable 3D Character"),
        ("flat 2d art", "Flat 2d Art"),
        ("game-gta", "Game Gta"),
        ("misc (style)", "Misc (Style)"),
        ("  mk  van gogh ", "Mk Van Gogh"),
    ],
)
def test_names_are_written_as_the_field_does(written: str, shown: str) -> None:
    assert normal_name(written) == shown == normal_name(shown)


def test_files_of_all_folders_are_read_and_later_ones_win(tmp_path: Path) -> None:
    style_file(tmp_path / "a" / "b.json", {"name": "sai-anime", "prompt": "{prompt} b"}, {"name": "x"})
    style_file(tmp_path / "a" / "A.json", {"name": "SAI Anime", "prompt": "{prompt} a"}, {"name": "y", "prompt": None})
    style_file(tmp_path / "own" / "a.json", {"name": "x", "negative_prompt": "mine", "more": [1]})
    shelf = read_styles([tmp_path / "a", tmp_path / "own", tmp_path / "nowhere"])
    assert list(shelf.styles) == ["SAI Anime", "Y", "X"] and shelf.notes == ()
    assert shelf.styles["SAI Anime"] == Style("SAI Anime", "{prompt} b", "")
    assert shelf.styles["X"].negative_prompt == "mine"
    assert shelf.names() == [EXPANSION_STYLE, RANDOM_STYLE, "SAI Anime", "Y", "X"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "The style file bad.json was left out: it is not JSON ("),
        (b"{}", "The style file bad.json was left out: it must be a list of objects"),
        (b"[" * 100_000, "The style file bad.json was left out: it is not JSON"),
        (b"\xff\xfe", "The style file bad.json was left out: it is not a text file in UTF-8."),
        (b'[1, {"name": "kept"}]', "Entry 1 of the style file bad.json was left out: 1 is not an object."),
        (b'[{"name": "kept"}, {"prompt": "x"}]', "Entry 2 of the style file bad.json was left out: it has no name."),
        (b'[{"name": " "}]', "it has no name"),
        (b'[{"name": "\\ud83dx"}]', "its name is not one of 1 to 200 printable characters"),
        (b'[{"name": "' + b"n" * 201 + b'"}]', "its name is not one of 1 to 200 printable characters"),
        (b"[" + b"7" * 5000 + b"]", "it is not JSON of styles"),
        (b'[{"name": "a", "prompt": ["x"]}]', "the prompt of 'a' is not text"),
        (b'[{"name": "a", "negative_prompt": "\\ud83d"}]', "the negative_prompt of 'a' is not text"),
    ],
)
def test_what_is_broken_is_said_and_the_rest_is_there(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "bad.json").write_bytes(content)
    style_file(tmp_path / "good.json", {"name": "good"})
    shelf = read_styles([tmp_path])
    assert len(shelf.notes) == 1 and words in shelf.notes[0]
    assert set(shelf.styles) == {"Good"} | ({"Kept"} if b"kept" in content else set())
    assert "bad.json" not in shelf.missing("Gone")


@pytest.mark.parametrize(
    ("chosen", "query", "expected"),
    [
        ([], "", ["Ink", "Oil", "SAI Anime", "SAI Line Art"]),
        (["SAI Anime"], "", ["SAI Anime", "Ink", "Oil", "SAI Line Art"]),
        (["SAI Line Art", "Oil"], "", ["Oil", "SAI Line Art", "Ink", "SAI Anime"]),
        (["Oil"], "sai", ["SAI Anime", "SAI Line Art", "Oil", "Ink"]),
        (["Oil"], "art sai", ["SAI Line Art", "Oil", "Ink", "SAI Anime"]),
        (["Oil"], "zzz", ["Oil", "Ink", "SAI Anime", "SAI Line Art"]),
        (["Gone"], "", ["Gone", "Ink", "Oil", "SAI Anime", "SAI Line Art"]),
    ],
)
def test_the_list_is_sorted_by_what_is_found_and_what_is_chosen(
    chosen: list[str], query: str, expected: list[str]
) -> None:
    assert sorted_names(["Ink", "Oil", "SAI Anime", "SAI Line Art"], chosen, query) == expected


def test_a_style_is_applied_line_by_line() -> None:
    style = Style("X", "a {prompt} {prompt}\n b ", "c\nd")
    assert style.applied("cat") == (["a cat cat", "b"], ["c", "d"]) and style.holds_prompt
    assert Style("X", "", "c").applied("cat") == ([], ["c"])
    assert Shelf().names() == [EXPANSION_STYLE, RANDOM_STYLE]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load_checkpoint(write(tmp_path_factory.mktemp("tiny") / "tiny.safetensors", TINY_SDXL))


def test_styles_joined_are_what_separate_encoding_gives(tiny: Checkpoint) -> None:
    style = Style("Oil", "oil painting of {prompt}\nthick brush", "photo")
    texts, _ = style.applied("a (red:1.3) cat " * 30)  # more than a chunk
    ((joined, extras),) = tiny.clip.encode(texts, 2, top_k=len(texts))
    parts = [tiny.clip.encode([text], 2)[0] for text in texts]
    assert joined.shape[1] > 77 * len(texts)
    assert torch.equal(joined, torch.cat([hidden for hidden, _ in parts], dim=1))
    pooled = [extra["pooled_output"] for _, extra in parts if extra["pooled_output"] is not None]
    assert extras["pooled_output"] is not None and len(pooled) == len(texts)
    assert torch.equal(extras["pooled_output"], torch.stack(pooled).sum(0))
