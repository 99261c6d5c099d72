"""Any parameters -> a picture file -> the same parameters, as the page reads them; more with ``ROUND_TRIPS=300``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st

from modules.choices import A1111_SAMPLERS, METADATA_SCHEMES, NO_MODEL, OUTPUT_FORMATS, OWN_VAE
from modules.metadata import SchemeText, describe, encode_picture, read_picture, read_text, read_texts
from modules.metadata_texts import read_told
from modules.metadata_writing import scheme_text
from modules.model_search import Here
from modules.parameters import LORA_ROWS, GenerationParameters, leaves
from modules.performance import MODES
from modules.plan import ImageJob, ModelFacts, plan
from modules.prompts import Sources
from tests.modules.test_parameters import any_parameters

PICTURE = np.zeros((8, 8, 3), np.uint8)
MODE_LORAS = tuple(mode.lora.files[0] for mode in MODES.values() if mode.lora is not None)


def examine(check: Callable[[GenerationParameters, Any], None]) -> None:
    """Checks some parameters, or as many as the environment asks for."""
    rounds = int(os.environ.get("ROUND_TRIPS", "5"))
    shape = hypothesis_settings(max_examples=rounds, deadline=None, suppress_health_check=list(HealthCheck))
    shape(given(any_parameters(), st.data())(check))()


def drawn(parameters: GenerationParameters) -> GenerationParameters:
    """The same as they are once a task has them: with a seed, and guidance that ends after it begins."""
    begin, end = sorted((parameters.advanced.guidance_begin, parameters.advanced.guidance_end))
    seed = abs(parameters.image_seed)
    return parameters.with_values({"image_seed": seed, "advanced.guidance_begin": begin, "advanced.guidance_end": end})


def jobs_of(parameters: GenerationParameters) -> list[ImageJob]:
    return plan(parameters, ModelFacts(native=1024), Sources(loras=lambda: MODE_LORAS))


def files_of(parameters: GenerationParameters) -> Here:
    """The model folders of a machine that has what these parameters name, and a little more."""
    advanced = parameters.advanced
    found = {
        "checkpoints": [parameters.base_model, parameters.refiner_model],
        "vae": [advanced.vae_name],
        "loras": [*MODE_LORAS, *(parameters.get(f"{row}.name") for row in LORA_ROWS)],
    }
    around = {kind: ["other.safetensors", *names, "another.safetensors"] for kind, names in found.items()}
    return Here(around.__getitem__)


def back_in_the_form(parameters: GenerationParameters, data: st.DataObject) -> None:
    parameters = drawn(parameters)
    job = data.draw(st.sampled_from(jobs_of(parameters)))
    facts = {"task": "t", "index": job.index, "job": asdict(job)}
    wanted = parameters.with_values({"image_seed": job.seed})
    on_the_page = data.draw(any_parameters())  # whatever was in the form before
    for scheme in METADATA_SCHEMES:
        common = SchemeText(scheme, scheme_text(scheme, parameters, facts))
        for output_format in OUTPUT_FORMATS:
            file = encode_picture(PICTURE, output_format, describe(parameters, facts), common)
            reading = read_told(read_text(BytesIO(file)), files_of(parameters))
            assert (reading.problems, reading.unknown) == ([], {})
            assert on_the_page.with_values(reading.values) == wanted
            assert read_picture(BytesIO(file)).parameters == parameters


def test_any_parameters_are_back_in_the_form_from_every_format_and_scheme() -> None:
    examine(back_in_the_form)


def held(parameters: GenerationParameters, scheme: str) -> GenerationParameters:
    """What a scheme alone can hold of parameters: the rest is as by default."""
    default, advanced = GenerationParameters(), parameters.advanced
    lost = [
        "image_number", "refiner_switch", "advanced.disable_preview", "advanced.disable_intermediate_results",
        "advanced.output_format", "advanced.save_metadata_to_images", "advanced.metadata_scheme",
        "advanced.generate_image_grid",
        "advanced.disable_seed_increment", "advanced.read_wildcards_in_order", "advanced.guidance_rescale",
        "advanced.guidance_begin", "advanced.guidance_end",
    ]  # fmt: skip
    if parameters.refiner_model == NO_MODEL:
        lost += ["advanced.overwrite_switch", "advanced.refiner_swap_method"]
    if not advanced.freeu_enabled:
        lost += [each.path for each in leaves() if each.name.startswith("freeu_")]
    values: dict[str, Any] = {path: default.get(path) for path in lost}
    mode = MODES[parameters.performance_selection]
    if mode.overrides:
        values["performance_selection"], mode = "Speed", MODES["Speed"]
    if scheme == "fooocus":
        values["refiner_switch"] = parameters.refiner_switch
    else:
        values["style_selections"] = ()
        label = A1111_SAMPLERS.get(advanced.sampler_name)
        values["advanced.sampler_name"] = next(
            (name for name, other in A1111_SAMPLERS.items() if other == label), advanced.sampler_name
        )
    if advanced.overwrite_step == mode.steps:
        values["advanced.overwrite_step"] = -1
    sides = {path: parameters.get(path) // 8 * 8 for path in ("advanced.overwrite_width", "advanced.overwrite_height")}
    values |= sides  # both are given, so that the ratio is not needed
    values["aspect_ratios_selection"] = default.aspect_ratios_selection
    empty = {"enabled": True, "name": NO_MODEL, "weight": 1.0}
    rows = [{"enabled": True, "name": name, "weight": weight} for name, weight in parameters.loras()]
    values |= dict(zip(LORA_ROWS, [*rows, *[empty] * len(LORA_ROWS)], strict=False))
    return parameters.with_values(values)


def alone_in_its_text(parameters: GenerationParameters, data: st.DataObject) -> None:
    model = st.text("abXY01-_. é,'", min_size=1, max_size=9).map(lambda name: f"sub/{name}x.safetensors")
    names = data.draw(st.lists(model, min_size=8, max_size=8, unique_by=lambda name: PurePosixPath(name).stem))
    rows = {
        f"{row}.name": data.draw(st.sampled_from([NO_MODEL, name])) for row, name in zip(LORA_ROWS, names, strict=False)
    }
    parameters = drawn(parameters).with_values(
        {
            **rows,
            "base_model": names[5],
            "refiner_model": data.draw(st.sampled_from([NO_MODEL, names[6]])),
            "advanced.vae_name": data.draw(st.sampled_from([OWN_VAE, names[7]])),
            "lora_1.enabled": True,
        }
    )
    for scheme in METADATA_SCHEMES:
        wanted = held(parameters, scheme)
        job = jobs_of(wanted)[0]
        text = scheme_text(scheme, wanted, {"job": asdict(job)})
        for output_format in OUTPUT_FORMATS:
            file = encode_picture(PICTURE, output_format, json.dumps({}), SchemeText(scheme, text))
            carried = read_texts(BytesIO(file)).common
            if "\0" not in text:
                assert carried == text
            reading = read_told(carried if "\0" not in text else text, files_of(wanted))
            assert (reading.problems, reading.unknown) == ([], {})
            assert GenerationParameters(style_selections=(), image_number=2).with_values(
                {**reading.values, "image_number": 2}
            ) == wanted.with_values({"image_number": 2})


def test_what_a_scheme_can_hold_comes_back_from_its_text_alone() -> None:
    examine(alone_in_its_text)


@pytest.mark.parametrize("name", ["a, b", " x ", "v1.2", "it's", "Ab", "aB"])
def test_models_of_odd_names_are_found_again(name: str) -> None:
    files = [f"{each}.safetensors" for each in ("a", "b", "x", "v1", "ab", "AB", name)]
    parameters = GenerationParameters(image_seed=1, base_model=files[-1], style_selections=()).with_values(
        {
            "lora_1": {"name": files[-1], "weight": 0.5},
            "advanced.vae_name": files[-1],
            "refiner_model": files[-1],
            "advanced.sampler_name": "euler",
        }
    )
    for scheme in METADATA_SCHEMES:
        text = scheme_text(scheme, parameters, {"job": asdict(jobs_of(parameters)[0])})
        reading = read_told(text, Here(lambda kind: files))
        assert reading.problems == []
        made = GenerationParameters(style_selections=()).with_values(reading.values)
        assert made.with_values({"image_seed": 1}) == parameters
