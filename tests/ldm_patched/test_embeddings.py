"""Textual-inversion embeddings: found by name, refused in words, and their vectors at the place of a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ldm_patched.ldm.clip import ClipText, ClipTextParams
from ldm_patched.modules.conditioning import Conditioning
from ldm_patched.modules.embeddings import MAX_VECTORS, NO_EMBEDDINGS, Embeddings
from ldm_patched.modules.parts import FileIdentity
from ldm_patched.modules.sd import CLIP
from ldm_patched.modules.sdxl_clip import SDXLClip, Tower
from ldm_patched.modules.state_dict import WeightsError
from ldm_patched.modules.token_chunks import ROOM, pieces_with_embeddings
from tests.ldm_patched.lora_files import save

ROWS = 1000


def tower(width: int, projection: int) -> Tower:
    params = ClipTextParams(
        width=width, layers=2, heads=width // 64, inner=width, vocabulary=ROWS, positions=77,
        projection_dim=projection, activation="gelu" if projection else "quick_gelu",
    )  # fmt: skip
    model = ClipText(params)
    generator = torch.Generator().manual_seed(width)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return Tower(model.requires_grad_(False).eval(), 0 if projection else ROWS - 1, final_norm=False)


SMALL, LARGE = tower(64, 0), tower(128, 32)
SDXL, SD15, REFINER = SDXLClip([SMALL, LARGE]), SDXLClip([SMALL]), SDXLClip([LARGE])
PARAMS = {each.part: each.model.params for each in (SMALL, LARGE)}


def named_by(encoder: SDXLClip, texts: Sequence[str], folders: Sequence[Path]) -> Embeddings:
    params = {each.part: each.model.params for each in encoder.towers}
    return CLIP(lambda: encoder, params, torch.device("cpu")).find_embeddings(texts, folders)


def named(texts: Sequence[str], folders: Sequence[Path]) -> Embeddings:
    return named_by(SDXL, texts, folders)


def vectors(count: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(count, width, generator=generator) for key, width in (("clip_l", 64), ("clip_g", 128))}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "embeddings"
    (inner / "styles").mkdir(parents=True)
    save(inner / "Charm.safetensors", vectors(3, 1))
    save(inner / "styles" / "ink (v2).safetensors", vectors(1, 2))
    save(inner / "long.safetensors", vectors(90, 3))
    save(tmp_path / "secret.safetensors", vectors(1, 4))
    (inner / "old.pt").write_bytes(b"\x80\x02")
    return inner


def encode(text: str, embeddings: Embeddings, clip: SDXLClip = SDXL) -> Tensor:
    return clip.encode(text, 1, embeddings)[0][0]


def by_hand(rows: Mapping[str, list[int | Tensor]]) -> Tensor:
    """Hidden states of one chunk, with vectors where a row has one, straight from the networks."""
    states = []
    for each in (SMALL, LARGE):
        table = each.model.token_embedding.weight
        ids = [SDXL.tokenizer.start, *rows[each.part], SDXL.tokenizer.end]
        ids += [each.pad] * (77 - len(ids))
        embedded = torch.stack([table[entry] if isinstance(entry, int) else entry for entry in ids])
        states.append(each.model(embedded[None], torch.tensor([len(rows[each.part]) + 1]), 1)[0])
    return torch.cat(states, dim=-1)


def ids(text: str) -> list[int]:
    return [token for word in SDXL.tokenizer.encode(text) for token in word]


def test_vectors_stand_where_the_word_stood(folder: Path) -> None:
    text = "a embedding:charm, cat"
    embeddings = named([text], [folder])
    assert embeddings.warnings == ()
    rows: dict[str, list[int | Tensor]] = {
        key: [*ids("a"), *tensor, *ids(", cat")] for key, tensor in vectors(3, 1).items()
    }
    assert torch.equal(encode(text, embeddings), by_hand(rows))
    pooled, without = (SDXL.encode(t, 1, embeddings)[0][1]["pooled_output"] for t in (text, "a , cat"))
    assert pooled is not None and without is not None
    assert not torch.allclose(pooled, without)


def test_a_vector_of_the_table_equals_its_token(tmp_path: Path) -> None:
    (token,) = ids("in")
    table = {"clip_l": SMALL.model.token_embedding.weight[token], "clip_g": LARGE.model.token_embedding.weight[token]}
    save(tmp_path / "copy.safetensors", {key: vector.clone() for key, vector in table.items()})
    text = "red (embedding:copy:1.4) dog"
    found = named([text], [tmp_path])
    assert torch.equal(encode(text, found), SDXL.encode("red (in:1.4) dog", 1)[0][0])


def test_weights_count_for_every_vector(folder: Path) -> None:
    text = "red (embedding:charm:1.5)"
    embeddings = named([text], [folder])
    weighted, plain, empty = (encode(t, embeddings) for t in (text, "red embedding:charm", ""))
    begin = 1 + len(ids("red"))
    expected = plain.clone()
    expected[:, begin : begin + 3] = (plain - empty)[:, begin : begin + 3] * 1.5 + empty[:, begin : begin + 3]
    torch.testing.assert_close(weighted, expected)
    assert SDXL.tokenize_with_weights(text, embeddings)[0].weights[-3:] == (1.5,) * 3


def test_long_embeddings_are_divided_and_short_ones_moved(folder: Path) -> None:
    words = "a " * (ROOM - 2)
    embeddings = named(["embedding:charm embedding:long"], [folder])
    moved = SDXL.tokenize_with_weights(words + "embedding:charm", embeddings)
    assert [len(chunk.tokens) for chunk in moved] == [ROOM - 2, 3]
    divided = SDXL.tokenize_with_weights(words + "embedding:long", embeddings)
    assert [len(chunk.tokens) for chunk in divided] == [ROOM, ROOM, 13]
    numbers = [token for chunk in divided for token in chunk.tokens if token >= ROWS]
    assert numbers == list(range(ROWS + 3, ROWS + 93))  # those of charm come first
    assert encode(words + "embedding:long", embeddings).shape == (1, 3 * 77, 192)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("embedding:charm", [3]),
        ("EMBEDDING:CHARM.", [3, "."]),
        ("embedding:charm.safetensors", [3]),
        ("embedding:styles/ink(v2)", ["missing", "v2"]),
        ("cat,embedding:charm,dog", ["cat,", 3, ",dog"]),
        ("(embedding:charm) cat", [3, " cat"]),
        ("preembedding:charm", ["preembedding:charm"]),
        ("embedding: charm", ["embedding: charm"]),
        ("embedding:charm embedding:long", [3, 90]),
        ("embedding:none cat", ["missing", " cat"]),
    ],
)
def test_how_names_are_read(folder: Path, text: str, words: list[str | int]) -> None:
    embeddings = named([text], [folder])
    assert len(embeddings.warnings) == words.count("missing")
    found: list[int] = [token for chunk in SDXL.tokenize_with_weights(text, embeddings) for token in chunk.tokens]
    expected: list[int | None] = []
    for word in words:
        if word != "missing":
            expected += ids(word) if isinstance(word, str) else [None] * word
    assert [None if token >= ROWS else token for token in found] == expected


def test_a_folder_and_brackets_belong_to_a_name(folder: Path) -> None:
    (folder / "styles" / "ink (v2).safetensors").rename(folder / "styles" / "ink(v2).safetensors")
    for text in (r"embedding:styles/ink\(v2\)", r"(embedding:ink\(v2\):1.2)", r"embedding:styles\ink\(v2\)"):
        assert named([text], [folder]).warnings == ()


@pytest.mark.parametrize(
    "name", ["../secret", "styles/../../secret", "/etc/passwd", "..\\secret", "secret", "old", "~"]
)
def test_names_lead_nowhere_but_into_the_folder(folder: Path, name: str) -> None:
    text = f"cat embedding:{name} dog"
    embeddings = named([text, text], [folder])
    (warning,) = embeddings.warnings
    assert name in warning and "used without it" in warning
    assert ("Python pickle" in warning) == (name == "old")
    assert torch.equal(encode(text, embeddings), encode("cat dog", embeddings))


def test_a_text_without_names_looks_at_no_folder(tmp_path: Path) -> None:
    assert named(["a cat"], [tmp_path / "none"]) == Embeddings({})
    assert named(["embedding:x"], [tmp_path / "none"]).warnings


def test_the_first_folder_wins_and_the_outer_file(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "inner").mkdir(parents=True)
    for place, count in ((other / "charm", 5), (other / "inner" / "new", 6), (other / "new", 7)):
        save(place.with_suffix(".safetensors"), vectors(count))
    found = named(["embedding:charm embedding:new"], [folder, other]).found
    assert {name: embedding.count for name, embedding in found.items()} == {"charm": 3, "new": 7}


@pytest.mark.parametrize(
    ("clip", "tensors", "count"),
    [
        (SD15, {"emb_params": torch.ones(2, 64)}, 2),
        (SD15, {"<cat-toy>": torch.ones(64)}, 1),
        (SD15, {"clip_l": torch.ones(4, 64)}, 4),
        (SDXL, {"text_encoders_0": torch.ones(2, 64), "text_encoders_1": torch.ones(2, 128)}, 2),
        (REFINER, {"clip_l": torch.ones(2, 64), "clip_g": torch.ones(2, 128)}, 2),
        (SDXL, {key: tensor.half() for key, tensor in vectors(75).items()}, 75),
    ],
)
def test_layouts_of_files(tmp_path: Path, clip: SDXLClip, tensors: dict[str, Tensor], count: int) -> None:
    save(tmp_path / "x.safetensors", tensors)
    found = named_by(clip, ["embedding:x"], [tmp_path])
    assert found.found["x"].count == count
    assert torch.isfinite(encode("embedding:x", found, clip)).all()


@pytest.mark.parametrize(
    ("clip", "tensors", "words"),
    [
        (SDXL, {"emb_params": torch.ones(2, 768)}, r"no embedding for a model of SDXL's kind: it holds emb_params \[2, "
         r"768\]; expected clip_l 64 wide and clip_g 128 wide"),
        (SDXL, {"clip_l": torch.ones(1, 64)}, r"it holds clip_l \[1, 64\]; expected"),
        (SDXL, {"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 128)},
         r"does not fit this model: its vectors 'clip_l' are 768 wide \(an embedding for Stable Diffusion 1.5\); exp"),
        (SD15, {"emb_params": torch.ones(2, 1024)}, r"are 1024 wide \(an embedding for Stable Diffusion 2\); expected "
         "vectors 64 wide"),
        (SD15, vectors(1), r"no embedding for a model with one text encoder: it holds clip_g"),
        (SD15, {"a": torch.ones(1), "b": torch.ones(2)}, "it holds a"),
        (SD15, {"emb_params": torch.ones(())}, "are 1 wide"),
        (SD15, {"emb_params": torch.ones(1, 1, 64)}, "does not fit"),
        (SDXL, {"clip_l": torch.ones(1, 64), "clip_g": torch.ones(2, 128)}, "has 1 and 2 vectors; expected 1 to 750"),
        (SDXL, vectors(MAX_VECTORS + 1), "has 751 vectors; expected 1 to 750"),
        (SD15, {"emb_params": torch.ones(0, 64)}, "has 0 vectors"),
        (SD15, {"emb_params": torch.full((1, 64), float("nan"))}, "'emb_params' holds NaN or infinity"),
        (SD15, {}, "it holds nothing"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_refused_in_words(
    tmp_path: Path, clip: SDXLClip, tensors: dict[str, Tensor], words: str
) -> None:
    save(tmp_path / "x.safetensors", tensors)
    with pytest.raises(WeightsError, match=r"^x\.safetensors .*" + words):
        named_by(clip, ["embedding:x"], [tmp_path])


def test_encoded_texts_are_remembered_by_the_files_they_use(folder: Path) -> None:
    encoded: list[str] = []

    class Counting(SDXLClip):
        def encode(self, text: str, clip_skip: int = 2, embeddings: Embeddings = NO_EMBEDDINGS) -> Conditioning:
            encoded.append(text)
            return super().encode(text, clip_skip, embeddings)

    clip = CLIP(lambda: Counting([SMALL, LARGE]), PARAMS, torch.device("cpu"))
    text = "embedding:charm cat"
    before = clip.encode([text], embeddings=named([text], [folder]))[0][0]
    clip.encode([text, "dog"], embeddings=named([text], [folder]))
    clip.encode(["dog"])
    assert encoded == [text, "dog"]
    save(folder / "Charm.safetensors", vectors(4, 9))
    after = clip.encode([text], embeddings=named([text], [folder]))[0][0]
    assert encoded == [text, "dog", text]
    assert not torch.equal(before, after)
    assert torch.equal(clip.encode([text])[0][0], clip.encode(["cat"])[0][0])


def test_a_text_depends_on_its_own_embeddings_alone(folder: Path) -> None:
    texts = ["(embedding:charm:1.3) cat", "a dog", "embedding:Charm, embedding:charm. cat", "embedding:nothing"]
    pieces = [pieces_with_embeddings([text]) for text in texts]
    save(folder / "other.safetensors", vectors(1, 5))
    both = named([*texts, "embedding:other"], [folder])
    assert len(both.found) == 2
    charm = (FileIdentity.of(folder / "Charm.safetensors"),)
    assert [both.used_in(each) for each in pieces] == [charm, (), charm, ()]
    # So a text is not encoded again because another text of the job names another file.
    clip = CLIP(lambda: SDXLClip([SMALL, LARGE]), PARAMS, torch.device("cpu"))
    alone = clip.encode(texts[:1], embeddings=named(texts[:1], [folder]))[0][0]
    assert torch.equal(clip.encode(texts[:1], embeddings=both)[0][0], alone) and clip.encoded == 1
