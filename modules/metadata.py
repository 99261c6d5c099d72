"""Pictures as files: encoding them with their parameters inside, and reading those back; knows no store and no engine.

Nothing that is read is ever evaluated: it is JSON, parsed by the schema of the parameters.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from modules import __version__
from modules.controls import shown
from modules.parameters import GenerationParameters, ParameterError, leaves

if TYPE_CHECKING:
    import numpy as np

SCHEME = "pinhole"
SOFTWARE = f"Pinhole {__version__}"
QUALITY = 95

# EXIF tags, in the main directory
_SOFTWARE, _MAKER_NOTE, _USER_COMMENT = 0x0131, 0x927C, 0x9286
_MAX_EXIF_TEXT = 60_000  # an EXIF block of a JPEG file ends at 65,533 bytes
_MAX_TEXT = 4_000_000
_PACKED = "zlib:"


class MetadataError(ValueError):
    """A picture without readable parameters; the message is fit for the user's eyes."""


@dataclass(frozen=True)
class PictureInfo:
    """What a picture file tells about itself. ``notes`` names what was left out, not being known here."""

    parameters: GenerationParameters
    facts: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def describe(parameters: GenerationParameters, facts: Mapping[str, Any]) -> str:
    """The text that is saved in a picture: JSON of the parameters, and of the facts of this one picture."""
    values = {"software": SOFTWARE, "parameters": parameters.model_dump(), "picture": dict(facts)}
    return json.dumps(values, ensure_ascii=True, allow_nan=False)


def encode_picture(picture: np.ndarray[Any, Any], output_format: str, text: str) -> bytes:
    """A picture (uint8 [height, width, 3], RGB) as the bytes of a png, jpeg or webp file that carries ``text``."""
    image = Image.fromarray(picture)
    buffer = BytesIO()
    if output_format == "png":
        info = PngInfo()
        info.add_text("parameters", text)
        info.add_text("fooocus_scheme", SCHEME)
        image.save(buffer, "PNG", pnginfo=info)
    elif output_format == "jpeg":
        image.save(buffer, "JPEG", quality=QUALITY, optimize=True, progressive=True, exif=_exif(_fitting(text)))
    elif output_format == "webp":
        image.save(buffer, "WEBP", quality=QUALITY, exif=_exif(text))
    else:
        raise ValueError(f"{shown(output_format)} is not an output format")
    return buffer.getvalue()


def encode_preview(picture: np.ndarray[Any, Any]) -> bytes:
    """A preview (uint8 [height, width, 3], RGB) as a small JPEG."""
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def read_picture(source: Path | BinaryIO) -> PictureInfo:
    """The parameters saved in a picture file; raises ``MetadataError``.

    Parameters that this version does not know are left out and named; a known one with an impossible value is an error.
    """
    return parse(read_text(source))


def read_text(source: Path | BinaryIO) -> str:
    """The text that ``encode_picture`` put into the file; raises ``MetadataError`` if there is none."""
    try:
        with Image.open(source, formats=("PNG", "JPEG", "WEBP")) as image:
            found = image.info.get("parameters")
            if found is None:
                found = image.getexif().get(_USER_COMMENT)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MetadataError(f"This is not a PNG, JPEG or WEBP picture that can be read: {error}") from None
    if isinstance(found, bytes):
        found = found.removeprefix(b"ASCII\0\0\0").decode("utf-8", errors="replace")
    if not isinstance(found, str) or not found:
        raise MetadataError("There are no parameters in this picture.")
    return _unpacked(found)


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
    known, unknown = _split(values["parameters"], "")
    facts = values.get("picture")
    try:
        parameters = GenerationParameters.from_mapping(known)
    except ParameterError as error:
        raise MetadataError(f"The parameters in this picture cannot be used: {error}") from None
    notes = (f"Left out, not known here: {', '.join(unknown[:10])}.",) if unknown else ()
    return PictureInfo(parameters, facts if isinstance(facts, dict) else {}, notes)


def _split(values: Mapping[str, Any], prefix: str) -> tuple[dict[str, Any], list[str]]:
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
            inner_known, inner_unknown = _split(value, f"{path}.")
            known |= inner_known
            unknown += inner_unknown
        else:
            unknown.append(shown(path)[1:-1])
    return known, unknown


def _exif(text: str) -> Image.Exif:
    exif = Image.Exif()
    exif[_USER_COMMENT] = text
    exif[_SOFTWARE] = SOFTWARE
    exif[_MAKER_NOTE] = SCHEME
    return exif


def _fitting(text: str) -> str:
    """``text`` as it fits into a JPEG file: packed when it is long, without the prompts if even that does not do."""
    if len(text) <= _MAX_EXIF_TEXT:
        return text
    packed = _PACKED + base64.b64encode(zlib.compress(text.encode("ascii"), 9)).decode("ascii")
    if len(packed) <= _MAX_EXIF_TEXT:
        return packed
    values = json.loads(text)
    del values["parameters"]["prompt"], values["parameters"]["negative_prompt"]
    for name in ("positive", "negative"):
        values["picture"].get("job", {}).pop(name, None)
    return json.dumps(values, ensure_ascii=True)


def _unpacked(text: str) -> str:
    if not text.startswith(_PACKED):
        return text
    try:
        packed = base64.b64decode(text.removeprefix(_PACKED), validate=True)
        return zlib.decompressobj().decompress(packed, _MAX_TEXT).decode("ascii")
    except (ValueError, zlib.error):
        raise MetadataError("The parameters in this picture are damaged.") from None
