"""Parameters in picture files: three formats there and back, and what strangers may put there."""

from __future__ import annotations

import json
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
    Carried,
    MetadataError,
    SchemeText,
    describe,
    encode_picture,
    encode_preview,
    parse,
    read_picture,
    read_text,
    read_texts,
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


LONG = 100_000  # characters
LONG_PROMPTS = {
    "repeated": "a red cat, " * (LONG // 11),
    "emoji": "".join(chr(0x1F300 + number * number % 700) for number in range(LONG)),
    "patternless": "".join(map(chr, np.random.default_rng(1).integers(0x4E00, 0x9FFF, LONG).tolist())),
}


@pytest.mark.parametrize("output_format", OUTPUT_FORMATS)
@pytest.mark.parametrize("kind", LONG_PROMPTS)
def test_prompts_of_any_length_are_whole_in_every_format(output_format: str, kind: str) -> None:
    prompt = LONG_PROMPTS[kind]
    text = json.dumps({"parameters": {"prompt": prompt, "negative_prompt": prompt[::-1]}})
    common = SchemeText("a1111", f"{prompt}\nNegative prompt: {prompt[::-1]}\nSteps: 1, Seed: 2, Size: 8x8")
    data = encode_picture(PICTURE, output_format, text, common)
    assert read_texts(BytesIO(data)) == Carried(text, common.text, "a1111")
    with Image.open(BytesIO(data)) as image:
        image.load()
        assert image.size == (40, 24)
    alone = BytesIO(encode_picture(PICTURE, output_format, text))
    assert read_texts(alone).common == text


def test_a_long_prompt_told_for_many_styles_comes_back_and_is_not_told_again_to_the_page() -> None:
    prompt = LONG_PROMPTS["patternless"][:20_000]
    parameters = GenerationParameters(prompt=prompt, negative_prompt=prompt[::-1])
    facts = {**FACTS, "job": {"seed": 5, "positive": [prompt] * 5, "negative": [prompt] * 5}, "hashes": {"a": "b"}}
    for output_format in OUTPUT_FORMATS:
        data = encode_picture(PICTURE, output_format, describe(parameters, facts))
        info = read_picture(BytesIO(data))
        assert (info.parameters, info.facts) == (parameters, facts)
        told = read_text(BytesIO(data))
        assert len(told) < 50_000 and parse(told).parameters == parameters
        assert parse(told).facts == {**facts, "job": {"seed": 5}}


def test_who_reads_one_segment_of_a_jpeg_only_finds_the_common_text() -> None:
    common = SchemeText("fooocus", json.dumps({"prompt": "a cat"}))
    data = encode_picture(PICTURE, "jpeg", json.dumps({"parameters": LONG_PROMPTS["patternless"]}), common)
    begin = data.index(b"\xff\xe1")
    length = int.from_bytes(data[begin + 2 : begin + 4], "big")
    first, rest = data[begin : begin + 2 + length], data[begin + 2 + length :]
    assert rest.startswith(b"\xff\xe1") and length == 0xFFFF
    exif = Image.Exif()
    with pytest.warns(UserWarning, match="Truncated"):  # ours ends in the next segments
        exif.load(first[4:])
    assert exif[0x9286] == common.text and exif[0x927C] == "fooocus"


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
