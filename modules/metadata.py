"""Pictures as files: encoding them with their parameters inside, and reading those back; knows no store and no engine.

A file carries two texts: ours, which is complete, where no other program looks; and where all of them look, one of the
two that they know. Nothing that is read is ever evaluated: ours is JSON, parsed by the schema of the parameters.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from modules.controls import shown
from modules.metadata_writing import SOFTWARE
from modules.parameters import GenerationParameters, ParameterError, leaves

if TYPE_CHECKING:
    import numpy as np

SCHEME = "pinhole"
QUALITY = 95

# EXIF tags, in the main directory
_SOFTWARE, _MAKER_NOTE, _USER_COMMENT = 0x0131, 0x927C, 0x9286
_OURS = 0xFDE8  # the first tag of those that TIFF leaves to everybody's own use
_EXIF_DIRECTORY = 0x8769
_EXIF = b"Exif\0\0"
_SEGMENT = 65_533 - len(_EXIF)  # what one segment of a JPEG file holds of EXIF, in bytes
_MAX_EXIF_TEXT = 60_000  # beyond that, ours is packed
_MAX_TEXT = 32_000_000
_LONG = 100_000
_PACKED = "zlib:"


class MetadataError(ValueError):
    """A picture without readable parameters; the message is fit for the user's eyes."""


@dataclass(frozen=True)
class PictureInfo:
    """What a picture file tells about itself. ``notes`` names what was left out, not being known here."""

    parameters: GenerationParameters
    facts: Mapping[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SchemeText:
    """A text for other programs, and the name of the scheme it is written in."""

    scheme: str
    text: str


@dataclass(frozen=True)
class Carried:
    """The texts in a picture file, empty where there is none: ``ours``, and the one for everybody with its scheme."""

    ours: str
    common: str
    scheme: str


def describe(parameters: GenerationParameters, facts: Mapping[str, Any]) -> str:
    """The text that is saved in a picture: JSON of the parameters, and of the facts of this one picture."""
    values = {"software": SOFTWARE, "parameters": parameters.model_dump(), "picture": dict(facts)}
    return json.dumps(values, ensure_ascii=True, allow_nan=False)


def describe_place(task: str, index: int) -> str:
    """The text of a picture that is not to tell how it was made: whose it is, so that none is made twice."""
    return json.dumps({"picture": {"task": task, "index": index}})


def encode_picture(
    picture: np.ndarray[Any, Any], output_format: str, text: str, common: SchemeText | None = None
) -> bytes:
    """A picture (uint8 [height, width, 3], RGB) as the bytes of a png, jpeg or webp file.

    ``text`` is our own and complete; ``common`` is what other programs find. Without it ours is in its place; an empty
    one leaves the place empty.
    """
    buffer = BytesIO()
    encode_image(Image.fromarray(picture), output_format, text, common, buffer)
    return buffer.getvalue()


def encode_image(
    image: Image.Image, output_format: str, text: str, common: SchemeText | None, buffer: BinaryIO
) -> None:
    """Writes a picture as ``encode_picture`` does."""
    if output_format == "png":
        info = PngInfo()
        if common is None or common.text:
            info.add_text("parameters", text if common is None else _png_text(common.text))
            info.add_text("fooocus_scheme", SCHEME if common is None else common.scheme)
        if common is not None:
            info.add_text(SCHEME, text)
        image.save(buffer, "PNG", pnginfo=info)
    elif output_format == "jpeg":
        segments = _segments(_exif(_short(text, common), common))
        image.save(buffer, "JPEG", quality=QUALITY, optimize=True, progressive=True, extra=segments)
    elif output_format == "webp":
        image.save(buffer, "WEBP", quality=QUALITY, exif=_exif(text, common))
    else:
        raise ValueError(f"{shown(output_format)} is not an output format")


def encode_preview(picture: np.ndarray[Any, Any]) -> bytes:
    """A preview (uint8 [height, width, 3], RGB) as a small JPEG."""
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def read_picture(source: Path | BinaryIO) -> PictureInfo:
    """The parameters saved in a picture file; raises ``MetadataError``.

    Parameters that this version does not know are left out and named; a known one with an impossible value is an error.
    """
    return parse(_whole_text(source))


def read_facts(source: Path | BinaryIO) -> Mapping[str, Any]:
    """What a file tells of the picture itself, beside its parameters; raises ``MetadataError``."""
    carried = read_texts(source)
    try:
        values = json.loads(carried.ours or carried.common)
    except (ValueError, RecursionError):
        return {}
    facts = values.get("picture") if isinstance(values, dict) else None
    return facts if isinstance(facts, dict) else {}


def picture_facts(path: Path, task_id: str, index: int) -> Mapping[str, Any] | None:
    """The facts of the finished picture ``index`` of this task, if the file is that, by what is written in it."""
    try:
        facts = read_facts(path)
    except MetadataError:
        return None
    return facts if facts.get("task") == task_id and facts.get("index") == index else None


def read_text(source: Path | BinaryIO) -> str:
    """Our own text in the file, or else the one for everybody; raises ``MetadataError`` if there is none.

    A long one of ours comes without what was made of the prompts, which repeats them for every style.
    """
    text = _whole_text(source)
    if _LONG < len(text) <= _MAX_TEXT:
        with suppress(ValueError, RecursionError):
            values = json.loads(text)
            if isinstance(values, dict) and isinstance(picture := values.get("picture"), dict):
                job = picture.get("job")
                seed = {"seed": job["seed"]} if isinstance(job, dict) and "seed" in job else {}
                return json.dumps({**values, "picture": {**picture, "job": seed}}, ensure_ascii=False)
    return text


def _whole_text(source: Path | BinaryIO) -> str:
    carried = read_texts(source)
    ours = carried.ours if '"parameters"' in carried.ours else ""
    if not (found := ours or carried.common):
        raise MetadataError("There are no parameters in this picture.")
    return found


def read_texts(source: Path | BinaryIO) -> Carried:
    """The texts in a picture file. Only its headers are read, never its pixels; raises ``MetadataError``."""
    try:
        with Image.open(source, formats=("PNG", "JPEG", "WEBP")) as image:
            info, exif = image.info, image.getexif()
            inner = exif.get_ifd(_EXIF_DIRECTORY)  # where cameras and some programs put the comment
            common = info.get("parameters") or exif.get(_USER_COMMENT) or inner.get(_USER_COMMENT)
            scheme = info.get("fooocus_scheme") or exif.get(_MAKER_NOTE)
            ours = info.get(SCHEME) or exif.get(_OURS)
    except Image.DecompressionBombError:
        raise MetadataError("This picture has too many pixels to be looked at.") from None
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, struct.error, OverflowError) as error:
        raise MetadataError(f"This is not a PNG, JPEG or WEBP picture that can be read: {error}") from None
    return Carried(_unpacked(_as_text(ours)), _unpacked(_as_text(common)), _as_text(scheme))


def _as_text(found: object) -> str:
    """A value of EXIF or of a PNG chunk as text: EXIF's comments begin with 8 bytes that name their encoding."""
    if isinstance(found, bytes):
        kind, rest = found[:8], found[8:]
        if kind == b"UNICODE\0":
            return rest.decode("utf-16-le" if rest[1:2] == b"\0" else "utf-16-be", errors="replace")
        return (rest if kind in (b"ASCII\0\0\0", bytes(8)) else found).decode("utf-8", errors="replace")
    return found if isinstance(found, str) else ""


def parse(text: str) -> PictureInfo:
    """The meaning of a picture's text; raises ``MetadataError``."""
    if len(text) > _MAX_TEXT:
        raise MetadataError(f"The parameters in this picture are too long: {len(text)} characters.")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise MetadataError("The parameters in this picture are not in a form that is known here.") from None
    if not isinstance(values, dict) or not isinstance(values.get("parameters"), dict):
        raise MetadataError("The parameters in this picture are not in a form that is known here.")
    known, unknown = split_known(values["parameters"], "")
    facts = values.get("picture")
    try:
        parameters = GenerationParameters.from_mapping(known)
    except ParameterError as error:
        raise MetadataError(f"The parameters in this picture cannot be used: {error}") from None
    notes = (f"Left out, not known here: {', '.join(unknown[:10])}.",) if unknown else ()
    return PictureInfo(parameters, facts if isinstance(facts, dict) else {}, notes)


def split_known(values: Mapping[str, Any], prefix: str) -> tuple[dict[str, Any], list[str]]:
    """The values of known parameters by their path, and the names of the others."""
    paths = {leaf.path for leaf in leaves()}
    groups = {path.rpartition(".")[0] for path in paths}
    known: dict[str, Any] = {}
    unknown: list[str] = []
    for key, value in values.items():
        path = f"{prefix}{key}"
        if path in paths:
            known[path] = value
        elif path in groups and isinstance(value, dict):
            inner_known, inner_unknown = split_known(value, f"{path}.")
            known |= inner_known
            unknown += inner_unknown
        else:
            unknown.append(shown(path)[1:-1])
    return known, unknown


def _png_text(text: str) -> str:
    """A chunk ends at the first NUL of its text for some readers."""
    return text.replace("\0", "")


def _exif(text: str, common: SchemeText | None) -> Image.Exif:
    exif = Image.Exif()
    exif[_SOFTWARE] = SOFTWARE
    if common is None:
        exif[_USER_COMMENT] = text
        exif[_MAKER_NOTE] = SCHEME
    elif not common.text:
        exif[_OURS] = text
    else:
        plain = common.text.isascii() and "\0" not in common.text
        exif[_USER_COMMENT] = common.text if plain else b"UNICODE\0" + common.text.encode("utf-16-be")
        exif[_MAKER_NOTE] = common.scheme
        exif[_OURS] = text
    return exif


def _short(text: str, common: SchemeText | None) -> str:
    """Our text as it is put into a JPEG file: packed when the two of them are longer than one segment."""
    if len(text) + (2 * len(common.text) if common else 0) <= _MAX_EXIF_TEXT:
        return text
    return _PACKED + base64.b64encode(zlib.compress(text.encode("ascii"), 9)).decode("ascii")


def _segments(exif: Image.Exif) -> bytes:
    """EXIF as segments of a JPEG file: one, or as many as it needs, which readers join (Pillow and ExifTool do)."""
    data = exif.tobytes().removeprefix(_EXIF)
    parts = [_EXIF + data[begin : begin + _SEGMENT] for begin in range(0, len(data), _SEGMENT)]
    return b"".join(b"\xff\xe1" + struct.pack(">H", 2 + len(part)) + part for part in parts)


def _unpacked(text: str) -> str:
    if not text.startswith(_PACKED):
        return text
    try:
        packed = base64.b64decode(text.removeprefix(_PACKED), validate=True)
        return zlib.decompressobj().decompress(packed, _MAX_TEXT).decode("ascii")
    except (ValueError, zlib.error):
        raise MetadataError("The parameters in this picture are damaged.") from None
