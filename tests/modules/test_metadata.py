"""Parameters in picture files: three formats there and back, and what strangers may put there."""

from __future__ import annotations

import json
import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings as hypothesis_settings
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from modules.choices import OUTPUT_FORMATS
from modules.metadata import (
    SCHEME,
    MetadataError,
    describe,
    encode_picture,
    encode_preview,
    parse,
    read_picture,
    read_text,
)
from modules.parameters import GenerationParameters
from tests.modules.test_parameters import any_parameters

FACTS = {"task": "t", "index": 3, "job": {"seed": 2**63 - 1}, "seconds": {"sampling": 0.5}}
PICTURE = np.arange(24 * 40 * 3, dtype=np.uint8).reshape(24, 40, 3)


def saved(text: str, output_format: str = "png") -> BytesIO:
    return BytesIO(encode_picture(PICTURE, output_format, text))


def stranger(text: str) -> BytesIO:
    """A PNG file with any text in it."""
    buffer, info = BytesIO(), PngInfo()
    info.add_text("parameters", text)
    Image.new("RGB", (1, 1)).save(buffer, "PNG", pnginfo=info)
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize("output_format", OUTPUT_FORMATS)
def test_parameters_and_facts_come_back(output_format: str, tmp_path: Path) -> None:
    parameters = GenerationParameters(prompt="größer \U0001f600 \x00 \"'\\", image_seed=2**63 - 1)
    path = tmp_path / "picture"
    path.write_bytes(encode_picture(PICTURE, output_format, describe(parameters, FACTS)))
    info = read_picture(path)
    assert (info.parameters, info.facts, info.notes) == (parameters, FACTS, ())
    with Image.open(path) as image:
        assert image.format == output_format.upper() and image.size == (40, 24)
        if output_format == "png":
            assert image.info["fooocus_scheme"] == SCHEME
            assert np.array_equal(np.asarray(image), PICTURE)
        else:
            assert image.getexif()[0x927C] == SCHEME


@hypothesis_settings(max_examples=20, deadline=None)
@given(any_parameters())
def test_any_parameters_come_back(parameters: GenerationParameters) -> None:
    text = describe(parameters, FACTS)
    for output_format in OUTPUT_FORMATS:
        data = encode_picture(np.zeros((8, 8, 3), np.uint8), output_format, text)
        assert read_picture(BytesIO(data)).parameters == parameters


def test_long_prompts_fit_into_a_jpeg() -> None:
    repeated = GenerationParameters(prompt="\U0001f600 a cat " * 2000)
    assert read_picture(saved(describe(repeated, FACTS), "jpeg")).parameters == repeated
    random = os.urandom(80_000).decode("utf-32-le", errors="ignore")
    text = "".join(chr(0x4E00 + byte * 80 % 20000 + index % 97) for index, byte in enumerate(os.urandom(20_000)))
    patternless = GenerationParameters(prompt=text, negative_prompt=(random + text)[::-1][:20_000])
    info = read_picture(saved(describe(patternless, FACTS), "jpeg"))
    assert info.parameters.prompt in ("", text) and info.facts["index"] == 3


def test_noise_of_full_size_can_be_saved_in_all_formats() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 512, 3), dtype=np.uint8)
    for output_format in OUTPUT_FORMATS:
        with Image.open(BytesIO(encode_picture(noise, output_format, "{}"))) as image:
            image.load()
    with Image.open(BytesIO(encode_preview(noise))) as image:
        assert image.format == "JPEG"


def test_unknown_parameters_are_left_out_and_named() -> None:
    values: dict[str, Any] = json.loads(describe(GenerationParameters(prompt="x"), FACTS))
    values["parameters"]["from_the_future"] = 1
    values["parameters"]["advanced"]["also"] = {"deep": 1}
    info = parse(json.dumps(values))
    assert info.parameters.prompt == "x"
    assert info.notes == ("Left out, not known here: advanced.also, from_the_future.",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "There are no parameters"),
        ("a cat\nSteps: 30", "not in a form that is known"),
        ("[1]", "not in a form that is known"),
        ('{"parameters": []}', "not in a form that is known"),
        ("[" * 50_000, "not in a form that is known"),
        ('{"parameters": {"sharpness": 99}}', "sharpness: 99 is outside 0 to 30"),
        ('{"parameters": {"sharpness": NaN}}', "sharpness: nan is not a finite number"),
        ('{"parameters": {"base_model": "../../x"}}', "is not a plain file name"),
        ('{"parameters": {"base_model": "http://x/y"}}', "is not a plain file name"),
        ('{"parameters": {"prompt": "__import__(\'os\')", "image_number": "__import__(\'os\')"}}', "image_number"),
        ("zlib:AAAA", "damaged"),
        ("zlib:?", "damaged"),
    ],
)
def test_what_strangers_write_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(MetadataError, match=words):
        read_picture(stranger(text))


def test_what_is_no_picture_is_refused_in_words() -> None:
    for data in (b"", b"PK\x03\x04", b"\x89PNG\r\n\x1a\n", saved("{}").getvalue()[:40]):
        with pytest.raises(MetadataError):
            read_text(BytesIO(data))
