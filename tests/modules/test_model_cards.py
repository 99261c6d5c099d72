"""What model files say of themselves: families, networks, trigger words, and headers that want to do harm."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st

from modules.files import ModelLibrary
from modules.model_cards import MAX_WORD, MAX_WORDS, Card, Catalogue
from modules.model_fit import badges, base_problem, label, lora_problem, refiner_problem
from modules.model_folders import ModelFolders
from modules.ui.model_notes import ModelNotes, file_lists

UNET = "model.diffusion_model."
ATTENTION = f"{UNET}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
KOHYA = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"


def model(path: Path, shapes: dict[str, Any], metadata: dict[str, str] | None = None) -> Path:
    """A safetensors file with tensors of these shapes and no data behind them."""
    header: dict[str, Any] = {
        name: {"dtype": "F16", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()
    }
    if metadata is not None:
        header["__metadata__"] = metadata
    return raw(path, json.dumps(header).encode())


def raw(path: Path, text: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return path


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(ModelLibrary(ModelFolders.under(tmp_path)), tmp_path / "cards.json")


def checkpoint(width: int, *others: str) -> dict[str, Any]:
    return {ATTENTION: [640, width], **dict.fromkeys(others, [1])}


SDXL = checkpoint(2048, "conditioner.embedders.1.model.ln_final.weight")
MINI = checkpoint(192, "conditioner.embedders.1.model.ln_final.weight")
REFINER = checkpoint(1280, "conditioner.embedders.0.model.ln_final.weight")
SD15 = checkpoint(768, "cond_stage_model.transformer.x")


@pytest.mark.parametrize(
    ("name", "shapes", "metadata", "expected"),
    [
        ("a", SDXL, {}, ("SDXL",)),
        ("a", MINI, {}, ("miniature SDXL",)),
        ("a", REFINER, {}, ("SDXL refiner",)),
        ("a", SD15, {}, ("SD 1.5",)),
        ("a", {**SDXL, "v_pred": [0]}, {}, ("SDXL", "v-prediction")),
        ("a", SDXL, {"modelspec.prediction_type": "v"}, ("SDXL", "v-prediction")),
        ("Some_Lightning_4step", SDXL, {}, ("SDXL", "few-step by its name")),
        ("hyperreal-flclcm", SDXL, {}, ("SDXL",)),
        ("a", {**SDXL, f"{UNET}time_embed.cond_proj.weight": [320, 256]}, {}, ("SDXL", "few-step by its tensors")),
        ("a", {f"{KOHYA}.lora_down.weight": [16, 2048]}, {}, ("for SDXL", "rank 16")),
        ("a", {f"{KOHYA}.lora_down.weight": [8, 768]}, {}, ("for SD 1.5", "rank 8")),
        ("a", {"unet.x.attn2.to_k.lora_A.default.weight": [4, 2048]}, {}, ("for SDXL", "rank 4")),
        ("a", {"unet.x.attn2.to_k.lora.down.weight": [4, 768]}, {}, ("for SD 1.5", "rank 4")),
        ("a", {f"{KOHYA}.hada_w1_a": [640, 8], f"{KOHYA}.hada_w1_b": [8, 2048]}, {}, ("for SDXL", "LoHa", "rank 8")),
        ("a", {f"{KOHYA}.lokr_w1": [16, 32], f"{KOHYA}.lokr_w2": [40, 64]}, {}, ("for SDXL", "LoKr")),
        ("a", {"x.lora_down.weight": [4, 9]}, {"ss_base_model_version": "sdxl_base_v1-0"}, ("for SDXL", "rank 4")),
        ("a", {"x.lora_down.weight": [4, 9]}, {"ss_base_model_version": "sd_v1"}, ("for SD 1.5", "rank 4")),
        ("a", {"lora_te2_x.lora_down.weight": [4, 9]}, {}, ("for SDXL", "rank 4")),
        ("a", {"lora_unet_double_blocks_0.lora_down.weight": [4, 9]}, {}, ("for FLUX", "rank 4")),
        ("a", {"x.lora_down.weight": [4, 9]}, {}, ("base unknown", "rank 4")),
    ],
)  # fmt: skip
def test_a_file_is_known_by_its_tensors(
    catalogue: Catalogue, tmp_path: Path, name: str, shapes: dict[str, Any], metadata: dict[str, str], expected: Any
) -> None:
    model(tmp_path / "loras" / f"{name}.safetensors", shapes, metadata)
    card = catalogue.card("loras", f"{name}.safetensors")
    assert badges(card) == expected
    assert label("some.safetensors", card) == f"some.safetensors  ·  {expected[0]}"


def test_words_are_the_stated_ones_else_the_most_frequent_tags(catalogue: Catalogue, tmp_path: Path) -> None:
    tags = {"10_one": {"red coat": 3, "ganyu (genshin)": 9, "<lora:x:1>": 99}, "2_two": {"red coat ": 4, "bad": -5}}
    frequent = {"ss_tag_frequency": json.dumps(tags)}
    lora = {"x.lora_down.weight": [4, 9]}
    model(tmp_path / "loras" / "a.safetensors", lora, frequent)
    model(tmp_path / "loras" / "b.safetensors", lora, {**frequent, "modelspec.trigger_phrase": "ohwx man, in  oil"})
    assert catalogue.card("loras", "a.safetensors").words == ("ganyu (genshin)", "red coat")
    assert catalogue.card("loras", "b.safetensors").words == ("ohwx man", "in oil")
    html = ModelNotes(catalogue).of("", "x", "None", ["a.safetensors"])[2]
    assert 'data-words="ganyu \\(genshin\\)">ganyu (genshin)</button>' in html


def cards(tmp_path: Path, **files: dict[str, Any]) -> dict[str, Card]:
    catalogue = Catalogue(ModelLibrary(ModelFolders.under(tmp_path)))
    for name, shapes in files.items():
        model(tmp_path / "loras" / f"{name}.safetensors", shapes)
    return {name: catalogue.card("loras", f"{name}.safetensors") for name in files}


def test_what_cannot_work_together_is_said(tmp_path: Path) -> None:
    known = cards(
        tmp_path, xl=SDXL, mini=MINI, refiner=REFINER, old=SD15, vae={"decoder.conv_in.weight": [1]},
        lora_xl={f"{KOHYA}.lora_down.weight": [16, 2048]}, lora_old={f"{KOHYA}.lora_down.weight": [16, 768]},
        lora_any={"x.lora_down.weight": [4, 9]}, flux={"lora_unet_double_blocks_0.lora_down.weight": [4, 9]},
    )  # fmt: skip
    bases = {name: base_problem(name, card) for name, card in known.items()}
    assert {name for name, problem in bases.items() if not problem} == {"xl", "mini", "old"}
    assert "is a refiner: it can only finish" in bases["refiner"]
    refiners = {name: refiner_problem(name, card, "base", known["xl"]) for name, card in known.items()}
    assert {name for name, problem in refiners.items() if not problem} == {"xl", "refiner", "old"}
    assert "mini is miniature SDXL and does not go with base, which is SDXL" in refiners["mini"]
    on_old = refiner_problem("refiner", known["refiner"], "old", known["old"])
    assert "old is an SD 1.5 model, and refiners go" in on_old
    assert "is no refiner: it looks like a LoRA" in refiners["lora_xl"]
    assert "is the base model already" in refiner_problem("xl", known["xl"], "xl", known["xl"])
    loras = {name: lora_problem(name, card, "base", known["xl"]) for name, card in known.items()}
    assert {name for name, problem in loras.items() if not problem} == {"lora_xl", "lora_any"}
    assert "lora_old was trained for SD 1.5 and does nothing for base, which is SDXL" in loras["lora_old"]
    assert "xl is no LoRA: it looks like an SDXL checkpoint" in loras["xl"]


def test_what_fits_is_listed_first_and_all_stay_searchable(catalogue: Catalogue, tmp_path: Path) -> None:
    model(tmp_path / "checkpoints" / "old.safetensors", SD15)
    model(tmp_path / "checkpoints" / "z.safetensors", SDXL)
    raw(tmp_path / "checkpoints" / "broken.safetensors", b"no")
    for name, width in (("a15", 768), ("b-any", 0), ("c-xl", 2048)):
        shapes = {f"{KOHYA}.lora_down.weight": [4, width]} if width else {"x.lora_down.weight": [4, 9]}
        model(tmp_path / "loras" / f"{name}.safetensors", shapes)
    names, text = file_lists(catalogue, "z.safetensors")
    assert names("checkpoints") == ["z.safetensors", "old.safetensors", "broken.safetensors"]
    assert names("loras") == ["c-xl.safetensors", "b-any.safetensors", "a15.safetensors"]
    assert file_lists(catalogue, "old.safetensors")[0]("loras")[0] == "a15.safetensors"
    assert text("loras", "a15.safetensors") == "a15.safetensors  ·  for SD 1.5"
    assert text("vae", "x.safetensors") == "x.safetensors"


def test_headers_are_read_once_even_over_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = ModelLibrary(ModelFolders.under(tmp_path))
    shapes = {f"{KOHYA}_{number}.lora_down.weight": [4, 2048] for number in range(300)}
    for number in range(200):
        model(tmp_path / "loras" / f"{number}.safetensors", shapes, {"ss_tag_frequency": '{"a": {"word": 3}}'})
    first = Catalogue(library, tmp_path / "cards.json")
    known = first.cards("loras", 60)
    assert all(card is not None and card.words == ("word",) for card in known.values()) and len(known) == 200
    monkeypatch.setattr("modules.model_cards.read_header", lambda path: pytest.fail(f"{path} is read again"))
    again = Catalogue(library, tmp_path / "cards.json")
    assert again.cards("loras", 60) == known
    begin = time.process_time()
    file_lists(again, "x")[0]("loras")
    assert time.process_time() - begin < 0.2
    monkeypatch.undo()
    model(tmp_path / "loras" / "7.safetensors", SDXL)
    assert again.card("loras", "7.safetensors").kind == "sdxl-base"


def test_a_file_that_could_not_be_read_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions and network disks come back without any change of the file."""
    path = model(tmp_path / "loras" / "a.safetensors", SDXL)
    library = ModelLibrary(ModelFolders.under(tmp_path))
    first = Catalogue(library, tmp_path / "cards.json")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        assert first.card("loras", path.name).problem == "a.safetensors cannot be read: Permission denied"
    first.keep()
    assert first.card("loras", path.name).kind == "sdxl-base"
    assert Catalogue(library, tmp_path / "cards.json").card("loras", path.name).kind == "sdxl-base"


def test_nobody_waits_long_for_headers(catalogue: Catalogue, tmp_path: Path) -> None:
    model(tmp_path / "loras" / "a.safetensors", SDXL)
    assert catalogue.cards("loras", -1) == {"a.safetensors": None}
    catalogue.card("loras", "a.safetensors")
    assert catalogue.cards("loras", -1) != {"a.safetensors": None}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', '{"version": 1, "cards": {"x": [1, 2, {"a": 3}]}}'])
def test_broken_memory_is_no_obstacle(tmp_path: Path, text: str) -> None:
    (tmp_path / "cards.json").write_text(text)
    model(tmp_path / "loras" / "a.safetensors", SDXL)
    catalogue = Catalogue(ModelLibrary(ModelFolders.under(tmp_path)), tmp_path / "cards.json")
    assert catalogue.card("loras", "a.safetensors").family == "SDXL"


TEXT = st.text(max_size=60) | st.sampled_from(
    ["<script>x</script>", '"><img src=x onerror=y>', "\ud800", "a" * 500, "ss", "1e999", "-1", "[" * 50,
     '{"a":{"b":1}}']
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    [
        f"{KOHYA}.lora_down.weight", f"{KOHYA}.hada_w1_b", f"{KOHYA}.lokr_w1", f"{KOHYA}.lokr_w2", ATTENTION,
        "conditioner.embedders.1.x", "conditioner.embedders.0.x", "cond_stage_model.x", "v_pred",
    ]
)  # fmt: skip
SIDES = st.integers(-5, 10**30) | st.sampled_from([0, 768, 2048, 10**400]) | JSON
TENSORS = st.fixed_dictionaries({"shape": st.lists(SIDES, max_size=5) | JSON, "data_offsets": st.just([0, 0]) | JSON})
KEYS = st.sampled_from(
    ["modelspec.title", "ss_tag_frequency", "modelspec.trigger_phrase", "modelspec.architecture", "ss_network_dim"]
)
TAGS = st.dictionaries(TEXT, st.dictionaries(TEXT, JSON, max_size=5) | JSON, max_size=3).map(json.dumps)


@given(
    tensors=st.dictionaries(NAMES | TEXT, TENSORS | JSON, max_size=6),
    metadata=st.dictionaries(KEYS | TEXT, TEXT | JSON | TAGS, max_size=5) | JSON,
)
@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_no_header_does_harm(tmp_path: Path, tensors: dict[str, Any], metadata: Any) -> None:
    text = json.dumps({**tensors, "__metadata__": metadata}).encode("utf-8", "surrogatepass")
    raw(tmp_path / "loras" / "evil.safetensors", text)
    raw(tmp_path / "checkpoints" / "evil.safetensors", text)
    notes = ModelNotes(Catalogue(ModelLibrary(ModelFolders.under(tmp_path))))
    for html in notes.of("", "evil.safetensors", "evil.safetensors", ["evil.safetensors"]):
        assert "<script" not in html and "<img" not in html
        html.encode("utf-8")
        assert len(html) < 9_000
    card = notes.catalogue.card("loras", "evil.safetensors")
    assert len(card.words) <= MAX_WORDS and all(word.isprintable() and len(word) <= MAX_WORD for word in card.words)
    json.dumps(card.__dict__)
