"""Presets and settings: what is shipped loads, layers lie in order, and what is wrong is said in words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st

from modules.files import ModelFiles, ModelLibrary
from modules.parameters import BUILT_IN_MODEL, GenerationParameters
from modules.performance import MODES
from modules.presets import (
    HABITS,
    OTHER_KEYS,
    PRESET_KEYS,
    TYPED,
    PresetError,
    apply_preset,
    preset_names,
    preset_values,
    resolved,
    start_file,
)
from modules.settings import Settings, SettingsError, load_settings
from modules.styles import read_styles
from modules.wanted_files import wanted_files
from tests.modules.conftest import ROOT, SDXL_NAMES, safetensors
from tests.modules.test_parameters import any_parameters

SHIPPED = sorted(path.stem for path in (ROOT / "presets").glob("*.json"))
BUILT_IN_REFINER = "pinhole-mini-refiner.safetensors"
BUILT_IN = {
    "mini": {BUILT_IN_MODEL, BUILT_IN_REFINER},
    "blueprint": {BUILT_IN_MODEL, "pinhole-mini-blueprint-lora.safetensors"},
}
JUGGERNAUT = "juggernautXL_v8Rundiffusion.safetensors"

# Each example writes the same files anew.
on_one_home = hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def write_preset(settings: Settings, name: str, **values: Any) -> None:
    (settings.presets / f"{name}.json").write_text(json.dumps(values))


def applied(settings: Settings, name: str = "", base: GenerationParameters | None = None) -> Any:
    return apply_preset(name, settings, ModelFiles(settings.models.checkpoints), base)


def test_what_presets_of_other_programs_hold_besides_is_no_obstacle(settings: Settings) -> None:
    others: dict[str, Any] = {f"{kind}_downloads": {} for kind in ("checkpoint", "lora", "embeddings", "vae")}
    others |= {"default_inpaint_engine_version": "v2.6", "default_save_metadata_to_images": False}
    write_preset(settings, "theirs", default_model=BUILT_IN_MODEL, **others)
    assert applied(settings, "theirs").notes == ()


@pytest.mark.parametrize("name", SHIPPED)
def test_every_preset_loads_when_its_model_is_there(name: str, settings: Settings) -> None:
    values = json.loads((ROOT / "presets" / f"{name}.json").read_text(encoding="ascii"))
    write_preset(settings, name, **values)
    safetensors(settings.models.checkpoints[0] / values["default_model"], SDXL_NAMES)
    start = applied(settings, name)
    assert start.preset == name and start.notes == ()
    assert start.parameters.base_model == values["default_model"]
    known = read_styles((ROOT / "sdxl_styles",)).names()
    assert set(start.parameters.style_selections) <= set(known)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_preset_says_where_its_files_can_be_had(name: str, settings: Settings) -> None:
    (settings.presets / f"{name}.json").write_bytes((ROOT / "presets" / f"{name}.json").read_bytes())
    wanted = wanted_files(name, settings, ModelLibrary(settings.models))
    assert wanted.complaints == ()
    assert {file.name for file in wanted.files if not file.url} == BUILT_IN.get(name, set())
    mode = applied(settings, name).parameters.performance_selection
    if (lora := MODES[mode].lora) is not None:
        assert f"loras/{lora.files[0]}" in [file.id for file in wanted.files], "what the mode needs is offered as well"


def test_without_its_model_the_miniature_is_used_and_a_note_says_so(settings: Settings) -> None:
    start = applied(settings)
    assert start.preset == "mini" and start.parameters.base_model == BUILT_IN_MODEL
    assert start.parameters.guidance_scale == 3.0
    assert JUGGERNAUT in start.notes[0] and "miniature" in start.notes[0]


def test_an_earlier_version_of_the_model_is_used(settings: Settings) -> None:
    old = "juggernautXL_v7Rundiffusion.safetensors"
    safetensors(settings.models.checkpoints[0] / old, SDXL_NAMES)
    start = applied(settings)
    assert (start.preset, start.parameters.base_model, start.notes) == ("default", old, ())
    write_preset(settings, "mine", default_model="mine.safetensors")
    assert applied(settings, "mine").preset == "mini"


def test_layers_lie_in_order(settings: Settings) -> None:
    safetensors(settings.models.checkpoints[0] / JUGGERNAUT, SDXL_NAMES)
    layered = replace(settings, defaults={"default_cfg_scale": 8.0, "default_sample_sharpness": 5.0, "default_x": 1})
    write_preset(settings, "mine", default_cfg_scale=9.0)
    assert applied(layered).parameters.guidance_scale == 8.0
    mine = applied(layered, "mine").parameters
    assert (mine.guidance_scale, mine.sharpness) == (9.0, 5.0)
    assert applied(replace(layered, preset="mine"), "initial").parameters == mine


def test_a_preset_keeps_what_it_does_not_set(settings: Settings) -> None:
    write_preset(settings, "wordy", default_model=BUILT_IN_MODEL, default_prompt="a house")
    base = GenerationParameters(prompt="a cat", image_seed=7, image_number=5, sharpness=9.0)
    kept = applied(settings, "mini", base).parameters
    assert (kept.prompt, kept.image_seed, kept.image_number, kept.sharpness) == ("a cat", 7, 5, 2.0)
    assert applied(settings, "wordy", base).parameters.prompt == "a house"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"default_cfg_scale": 99}', "guidance_scale: 99 is outside 1 to 30"),
        ('{"pinhole": 5}', "pinhole must be an object of parameters, not 5"),
        ('{"pinhole": {"advanced.freeu_b1": 9}}', "advanced.freeu_b1: 9 is outside 0 to 2"),
        ('{"default_max_lora_number": "' + "9" * 5000 + '"}', "must be a whole number from 1 on"),
        ('{"x": "' + "x" * 1_000_000 + '"}', "more than 1000000 bytes"),
        ('{"default_model": "../x"}', "is not a plain file name"),
        ("[]", "must be a JSON object"),
        ("nonsense", "cannot be read as JSON"),
    ],
)
def test_a_wrong_preset_is_refused_in_words(settings: Settings, text: str, words: str) -> None:
    (settings.presets / "wrong.json").write_text(text)
    with pytest.raises(PresetError) as caught:
        applied(settings, "wrong")
    assert words in str(caught.value) and "wrong" in str(caught.value)


def test_a_preset_that_is_not_there_is_refused(settings: Settings) -> None:
    assert preset_names(settings.preset_folders) == ["initial", "default", "mini"]
    for name in ("missing", "../presets/default", ""[:0] + "default/../default"):
        with pytest.raises(PresetError, match="There is no preset"):
            applied(settings, name)


class Everything(ModelFiles):
    """A disk on which every model is."""

    def has(self, name: str) -> bool:
        return True


@on_one_home
@given(parameters=any_parameters(), others=any_parameters())
def test_any_parameters_come_back_from_a_preset(
    settings: Settings, parameters: GenerationParameters, others: GenerationParameters
) -> None:
    models = Everything(())
    settings.preset_folders[1].mkdir(parents=True, exist_ok=True)
    path = settings.preset_folders[1] / "猫.json"
    path.write_text(json.dumps(preset_values(parameters, TYPED), ensure_ascii=False), "utf-8")
    whole = apply_preset("猫", settings, models)
    assert (whole.parameters, whole.notes) == (parameters, ())
    assert apply_preset("猫", settings, models, others).parameters == parameters.with_values(
        {} if parameters.prompt else {"prompt": others.prompt}
    )
    path.write_text(json.dumps(preset_values(parameters), ensure_ascii=False), "utf-8")
    typed = {path: others.get(path) for path in TYPED}
    assert apply_preset("猫", settings, models, others).parameters == parameters.with_values(typed)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@on_one_home
@given(st.dictionaries(st.sampled_from([*PRESET_KEYS, *OTHER_KEYS]) | st.text(max_size=8), json_values, max_size=6))
def test_no_preset_does_more_than_being_refused(settings: Settings, values: dict[str, Any]) -> None:
    (settings.presets / "odd.json").write_text(json.dumps(values))
    for ask in (lambda: applied(settings, "odd"), lambda: wanted_files("odd", settings, ModelLibrary(settings.models))):
        try:
            ask()
        except PresetError as error:
            assert str(error).startswith("The preset odd")


def test_a_preset_leaves_habits_alone_and_resets_the_look(settings: Settings) -> None:
    look = {"advanced.freeu_enabled": True, "advanced.adm_scaler_end": 0.9, "advanced.overwrite_width": 512}
    base = GenerationParameters().with_values({**look, "advanced.disable_preview": True, "image_number": 7})
    found = applied(settings, "mini", base).parameters
    assert all(found.get(path) == base.get(path) for path in HABITS)
    assert all(found.get(path) == GenerationParameters().get(path) for path in look)
    write_preset(settings, "looks", default_model=BUILT_IN_MODEL, pinhole={"advanced.disable_preview": False, **look})
    assert not (named := applied(settings, "looks", base).parameters).advanced.disable_preview
    assert all(named.get(path) == base.get(path) for path in look)
    reset = apply_preset("mini", settings, ModelFiles(settings.models.checkpoints), base, keep=TYPED).parameters
    assert (reset.image_number, reset.advanced.disable_preview) == (2, False)


def test_what_is_not_known_is_told_and_no_obstacle(settings: Settings) -> None:
    write_preset(settings, "theirs", default_model=BUILT_IN_MODEL, default_enhance_tabs=3, pinhole={"<b>": 1})
    assert applied(settings, "theirs").notes == (
        "The preset theirs also holds what is not known here and was left alone: default_enhance_tabs, <b>.",
    )


def test_an_own_preset_stands_in_for_the_one_of_its_name(settings: Settings) -> None:
    own = settings.preset_folders[1]
    own.mkdir(parents=True)
    (own / "default.json").write_text(json.dumps({"default_model": BUILT_IN_MODEL, "default_cfg_scale": 9}))
    assert applied(settings).parameters.guidance_scale == 9
    write_preset(settings, "other", default_model=BUILT_IN_MODEL)
    assert applied(settings, "other").parameters.guidance_scale == 4, "what comes along lies under the others, not this"
    assert preset_names(settings.preset_folders) == ["initial", "default", "mini", "other"]


def test_the_page_starts_with_what_was_chosen(settings: Settings) -> None:
    write_preset(settings, "mine", default_model=BUILT_IN_MODEL)
    start_file(settings).parent.mkdir(parents=True, exist_ok=True)
    for text, preset in (
        ('{"preset": "mine"}', "mine"), ('{"preset": "gone"}', "default"), ('{"preset": "initial"}', "default"),
        ('{"preset": ["mine"]}', "default"), ("[]", "default"), ("nonsense", "default"),
    ):  # fmt: skip
        start_file(settings).write_text(text)
        assert resolved("initial", settings) == preset
    start_file(settings).write_text('{"preset": "mine"}')
    assert resolved("", replace(settings, preset="mini")) == "mini", "the flag of this start comes first"


def test_settings_come_from_file_environment_and_flags(tmp_path: Path) -> None:
    (tmp_path / "config.txt").write_text(
        json.dumps(
            {
                "path_checkpoints": ["a", "/b"],
                "path_vae": "c",
                "path_outputs": "out",
                "default_cfg_scale": 8,
                "strange": 1,
            }
        )
    )
    found = load_settings(tmp_path, {}, {})
    assert found.models.checkpoints == (tmp_path / "a", Path("/b")) and found.outputs == tmp_path / "out"
    assert found.models.loras == (tmp_path / "models" / "loras",) and found.models.vae == (tmp_path / "c",)
    assert dict(found.defaults) == {"default_cfg_scale": 8}
    assert found.notes == ("config.txt: 'strange' is not a setting and was ignored.",)
    environ = {"path_outputs": "/env", "default_cfg_scale": "9", "HOME": "/x"}
    found = load_settings(tmp_path, {"port": 99, "host": None}, environ)
    assert (found.outputs, found.port, found.host) == (Path("/env"), 99, "127.0.0.1")
    assert dict(found.defaults) == {"default_cfg_scale": "9"}
    assert load_settings(tmp_path, {"outputs": tmp_path / "flag"}, environ).outputs == tmp_path / "flag"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "cannot be read as JSON"),
        ("[]", "must be a JSON object"),
        ('{"path_outputs": 5}', "path_outputs: 5 is not a folder"),
        ('{"path_outputs": ["a", "b"]}', "only one folder is possible"),
        ('{"path_checkpoints": []}', "path_checkpoints: [] is not a folder"),
    ],
)
def test_wrong_settings_are_refused_in_words(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "config.txt").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path, {}, {})
    assert words in str(caught.value)
    with pytest.raises(SettingsError, match="port: 70000"):
        load_settings(tmp_path / "elsewhere", {"port": 70000}, {})


def test_a_preset_sets_refiner_vae_and_loras(settings: Settings) -> None:
    preset = {
        "default_model": BUILT_IN_MODEL,
        "default_refiner": "r.safetensors",
        "default_refiner_switch": 0.6,
        "default_vae": "v.safetensors",
        "default_overwrite_switch": 7,
        "default_loras": [[False, "a.safetensors", 0.5], ["b.safetensors", -1]],
    }
    (settings.presets / "full.json").write_text(json.dumps(preset))
    found = applied(settings, "full").parameters
    assert (found.refiner_model, found.refiner_switch) == ("r.safetensors", 0.6)
    assert (found.advanced.vae_name, found.advanced.overwrite_switch) == ("v.safetensors", 7)
    assert found.loras() == (("b.safetensors", -1.0),) and found.lora_1.name == "a.safetensors"
    (settings.presets / "away.json").write_text(json.dumps({**preset, "default_model": "away.safetensors"}))
    away = applied(settings, "away").parameters
    assert (away.base_model, away.refiner_model) == (BUILT_IN_MODEL, BUILT_IN_REFINER), "the miniature's own"
    assert not away.loras(), "not this model's"
    (settings.presets / "plain.json").write_text(json.dumps({"default_model": BUILT_IN_MODEL}))
    after = applied(settings, "plain", found).parameters
    assert after.loras() == () and after.refiner_model == "None", "a preset knows its model: what it leaves out is off"


@pytest.mark.parametrize("loras", ["x", [["x"]], [["x", 1, 2, 3]], 5, [["../x.safetensors", 1]], [["x", 9]]])
def test_wrong_loras_of_a_preset_are_named(settings: Settings, loras: object) -> None:
    (settings.presets / "odd.json").write_text(json.dumps({"default_loras": loras}))
    with pytest.raises(PresetError, match=r"preset odd: .*(default_loras|lora_1)"):
        applied(settings, "odd")


def test_more_loras_than_there_are_rows_are_told_of(settings: Settings) -> None:
    rows = [[True, f"{letter}.safetensors", 0.5] for letter in "abcdefg"] + [[True, "None", 1.0]]
    rows[5][0] = False  # switched off: nobody misses it
    write_preset(settings, "many", default_model=BUILT_IN_MODEL, default_loras=rows)
    start = applied(settings, "many")
    assert [name for name, _ in start.parameters.loras()] == [f"{letter}.safetensors" for letter in "abcde"]
    assert start.notes == ("The preset many has more LoRAs than there is room for; left out: g.safetensors.",)
    write_preset(settings, "few", default_model=BUILT_IN_MODEL, default_loras=rows[:3], default_max_lora_number=2)
    few = applied(settings, "few")
    assert len(few.parameters.loras()) == 2 and "left out: c.safetensors" in few.notes[0]
    write_preset(settings, "room", default_model=BUILT_IN_MODEL, default_loras=rows[:3], default_max_lora_number=12)
    assert applied(settings, "room").notes == ()
    for wrong in (0, -1, 2.5, "x", [3]):
        write_preset(settings, "wrong", default_loras=rows, default_max_lora_number=wrong)
        with pytest.raises(PresetError, match="preset wrong: default_max_lora_number must be a whole number"):
            applied(settings, "wrong")


def test_limits_of_other_programs_sliders_are_no_obstacle(settings: Settings) -> None:
    limits = {"default_loras_min_weight": -3, "default_loras_max_weight": 3, "default_max_lora_number": 5}
    write_preset(settings, "theirs", default_model=BUILT_IN_MODEL, default_refiner_switch=0, **limits)
    start = applied(settings, "theirs")
    assert (start.parameters.refiner_switch, start.notes) == (0.1, ())
    write_preset(
        settings, "early", default_model=BUILT_IN_MODEL, default_refiner="r.safetensors", default_refiner_switch=0
    )
    (note,) = applied(settings, "early").notes
    assert note == "The preset early switches to the refiner at 0; the earliest is 0.1."
    write_preset(settings, "never", default_refiner_switch=-0.1)
    with pytest.raises(PresetError, match="preset never: refiner_switch: -0.1 is outside"):
        applied(settings, "never")


def test_styles_come_from_presets_and_unknown_ones_are_kept(settings: Settings) -> None:
    assert applied(settings).parameters.style_selections == ()  # the miniature's
    write_preset(settings, "mine", default_model=BUILT_IN_MODEL, default_styles=["Fooocus V2", "Not Here"])
    assert applied(settings, "mine").parameters.style_selections == ("Fooocus V2", "Not Here")
    write_preset(settings, "mine", default_model=BUILT_IN_MODEL, default_styles=7)
    with pytest.raises(PresetError, match="style_selections: 7 is not a list of names"):
        applied(settings, "mine")


def test_folders_of_words_and_styles_can_be_set(tmp_path: Path) -> None:
    found = load_settings(tmp_path, {}, {})
    assert found.wildcards == tmp_path / "wildcards"
    assert found.styles == (tmp_path / "sdxl_styles", tmp_path / "data" / "styles")
    moved = load_settings(tmp_path, {}, {"path_wildcards": "words", "path_styles": "mine"})
    assert (moved.wildcards, moved.styles[1]) == (tmp_path / "words", tmp_path / "mine")
