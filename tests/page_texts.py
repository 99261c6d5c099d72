"""Gathers every English text that the page can show: from the built page, the code's sentences, the scripts.

What changes in a text stands as `{name}`; its shape, with `{}` there, tells it from others. The code is read, not run:
whatever reads like a sentence and can reach the page is found, whoever wrote it. Knows no translation.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "modules" / "ui" / "assets"
# Nothing of these is seen in the page: they speak to a terminal, to a file, or to people who write code.
ELSEWHERE = frozenset(
    {
        "modules/flags.py", "modules/cli.py", "modules/installer.py", "modules/environment.py", "modules/download.py",
        "modules/encode.py", "modules/day_log.py", "modules/style_pictures.py", "modules/store_schema.py",
        "modules/metadata_writing.py", "modules/ui/theme.py", "modules/api/server.py", "modules/locks.py",
        "modules/engine_messages.py", "modules/ui/panel.py", "modules/ui/components.py", "modules/api/guard.py",
        "modules/api/routes.py", "modules/api/front.py", "modules/localization.py",
        "modules/auth.py", "modules/machine.py", "modules/api/task_routes.py", "modules/api/public.py",
    }
)  # fmt: skip
# The engine's parts that nothing the page sends can make complain, as it is checked before.
ENGINE_ELSEWHERE = frozenset(
    {
        "autoencoder", "bridge", "conditioning", "lora_alphas", "patches", "sample", "samplers", "sdxl_clip",
        "tokenizer", "devices",
    }
)  # fmt: skip
# What looks like a text and is none: names in files of other programs, a font, a media type, a line of SQL.
NO_TEXTS = frozenset(
    {
        "Euler a", "Model hash", "Schedule type", "Raw prompt", "Raw negative prompt", "Refiner hash", "Lora hashes",
        "Refiner switch at", "Adaptive CFG", "Clip skip", "Overwrite Switch", "Lora weights", "Negative prompt:",
        "Refiner Model", "Refiner Switch", "Fooocus V2 Expansion", "Fooocus V2", "Fooocus Enhance", "Fooocus Sharp",
        "Fooocus V2: {}", "LoRAs: {}", "SD 1.5", "SD 2", "SD 3", "Stable Diffusion", "Stable Diffusion 1.5",
        "Stable Diffusion 2", "Stable Diffusion 3", "Stable Cascade", "LoRA {}", "LoRA {} {}", "{}, {} and {}",
        "{} and {}", "a1 and a2", "b1 and b2", "{}_a and {}_b", "hada_w{}_a and hada_w{}_b", "lora_up and lora_down",
        "{} {} wide",
        "lora_mid, lora_up (transposed) and lora_down", "CMP 30HX", "{} GB", "{}: {} is not a folder",
        "DPM fast", "DPM adaptive", "Pinhole", "Notification", "Hyper-SD", "FreeU", "CLIP", "VAE", "LoRA", "WebP",
        "Ctrl", "SDXL", "ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Escape", "Enter", "Files",
        "noopener noreferrer", "input, textarea", "(pointer: coarse)", "{} Replace it?",
        "Other machines are answered, so there is a login now.\n\n    Name      {}\n    Password  {}\n\n"
        "It is not shown again. "
        "To get another one, delete {} and start again.",
        "be used", "(history.created, picture) < (?, ?)", "state IN ('waiting', 'running')", "$words",
        "account {}", "ADM Guidance", "CFG scale", "VAE hash", "FreeU B1", "FreeU B2", "FreeU S1", "FreeU S2",
        "{} of {} ·", "Prompt S/R", "{} is not a task id", "{} is not an output format", "{} {}, {}",
        "a red cat on the left, in a meadow, watercolor", "a small yellow boat on a beach, oil painting",
        "a purple rocket at night, neon", "a blue butterfly in the forest, flat illustration",
    }
)  # fmt: skip
SAY_NOTHING = frozenset(
    {
        "shown", "str", "round", "len", "name", "if", "else", "value", "text", "error", "for", "in", "join", "self",
        "or", "and",
    }
)  # fmt: skip
SILENT_CALLS = frozenset(
    {
        "debug",
        "info",
        "warning",
        "error",
        "exception",
        "critical",
        "add_argument",
        "compile",
        "execute",
        "write",
    }
)
CODE_ERRORS = frozenset(
    {"TypeError", "LayoutError", "AssertionError", "NotImplementedError", "RuntimeError", "KeyError"}
)
SHOWN_ATTRIBUTES = ("title", "placeholder", "aria-label", "alt")
SHOWN_PROPERTIES = ("label", "info", "placeholder", "value", "html_template")
_WORDS = re.compile(r"[^\W\d_]{2,}[,;:.]? +(?:[^\W\d_]|\{|\d)|\} +[^\W\d_]{2,}|^[A-Z][a-z]{3,} ?[.!?…]$")
_NAMES = re.compile(r"^LoRA \d$|\.safetensors")  # in the built page; what is said of them is in the code
_CAPITAL = re.compile(r"[A-Z][a-z]{2,}(?!\w)")
_CODE = re.compile(
    r"=>|[{;]\s*\w+\s*:|^[MLHV]\d|^[#.\[]|^\w+\[|::|\]\s|(?:^|[({])\s*--|^image/|^https?:|^[a-z-]+: [a-z0-9]+;"
    r"|SELECT|TABLE|\b(?:AND|IS|BY|SET)\b|^private, |filename="
)


@dataclass(frozen=True)
class Found:
    """A text, with names for its values, and where it is from."""

    text: str
    source: str


def page_texts(config: Mapping[str, Any]) -> dict[str, Found]:
    """Shape of each text -> the text. ``config`` is the built page's, as Gradio gives it to the browser."""
    found: dict[str, Found] = {}
    for source, texts in (("the built page", config_texts(config)), *_code(), *_scripts()):
        for text in texts:
            shape = shape_of(text)
            if shape not in NO_TEXTS:
                found.setdefault(shape, Found(_told_apart(text.strip()), source))
    return found


def shape_of(text: str) -> str:
    """A text in which every value is ``{}``."""
    return re.sub(r"\{[a-z0-9_]*\}", "{}", text.strip())


def reads_like_text(shape: str, single_words: bool = False) -> bool:
    """Whether a literal of the code is something that people read; ``single_words``: capitalised ones as well."""
    plain = shape.replace("{}", "")
    if not re.search(r"[^\W\d_]{2,}", plain) or _CODE.search(shape):
        return False
    if plain == plain.lower() and re.search(r"\w-\w", plain) and not re.search(r"\w{2} \w+ \w{2}", plain):
        return False  # the names of classes
    return bool(_WORDS.search(shape) or (single_words and _CAPITAL.match(shape)))


class _Html(HTMLParser):
    """Texts and shown attributes of a piece of HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.silent = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.silent = tag in ("style", "script")
        self.texts += [value for name, value in attrs if name in SHOWN_ATTRIBUTES and value]

    def handle_data(self, data: str) -> None:
        text = " ".join(re.sub(r"\$\w+", "", data).split())  # without what a template puts there
        self.texts += [text] if text and not self.silent else []


def html_texts(markup: str) -> list[str]:
    """What a piece of HTML shows."""
    reader = _Html()
    reader.feed(markup)
    reader.close()
    return [text for text in reader.texts if re.search(r"[^\W\d_]{2,}", shape_of(text).replace("{}", ""))]


# ---- the built page --------------------------------------------------------------------------------------------------
def config_texts(config: Mapping[str, Any]) -> list[str]:
    """Labels, infos, placeholders, tabs, buttons and words of choices of the page that Gradio has built."""
    found: list[str] = []
    for component in config["components"]:
        props = component["props"]
        for name in SHOWN_PROPERTIES:
            text = props.get(name)
            is_text = isinstance(text, str) and (name != "value" or component["type"] in ("button", "html"))
            if is_text and "visible" in props and props["visible"] != "hidden":
                found += html_texts(text) if component["type"] == "html" else [text]
        if props.get("elem_id") not in ("style_selections", "preset", "start_with"):
            words = (words for words, value in props.get("choices") or () if isinstance(words, str))
            found += [each for each in words if each != each.lower()]  # a name in small letters is one everywhere
    return [text for text in found if re.search(r"[^\W\d_]{2,}", text) and not _NAMES.search(text)]


# ---- the code's sentences --------------------------------------------------------------------------------------------
def _code() -> Iterator[tuple[str, list[str]]]:
    for path in (
        ROOT / "webui.py",
        *sorted((ROOT / "modules").rglob("*.py")),
        *sorted((ROOT / "ldm_patched").rglob("*.py")),
    ):
        name = path.relative_to(ROOT).as_posix()
        if (
            name not in ELSEWHERE
            and not name.startswith("ldm_patched/ldm/")
            and not (name.startswith("ldm_patched/") and path.stem in ENGINE_ELSEWHERE)
        ):
            yield name, list(python_texts(ast.parse(path.read_text(encoding="utf-8"))))


def python_texts(node: ast.AST) -> Iterator[str]:
    """What reads like text in a piece of Python, but for docstrings, logs and errors that tell of mistakes in code."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and ast.unparse(node.exc.func) in CODE_ERRORS:
        return
    if isinstance(node, ast.Call) and (node.func.attr if isinstance(node.func, ast.Attribute) else "") in SILENT_CALLS:
        return
    shape = _python_shape(node)
    if shape is not None and re.search(r"</?\w+[ >]", shape):
        yield from html_texts(shape)
    elif shape is not None and reads_like_text(shape_of(shape)):
        yield shape.strip()
    if isinstance(node, ast.BinOp) and shape is not None:
        return
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)):
            yield from python_texts(child)


def _python_shape(node: ast.AST) -> str | None:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(map(_python_part, values))
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            both = _python_shape(left), _python_shape(right)
            return None if both[0] is None or both[1] is None else both[0] + both[1]
        case _:
            return None


def _python_part(part: ast.expr) -> str:
    return f"{{{_name(ast.unparse(part.value))}}}" if isinstance(part, ast.FormattedValue) else ast.literal_eval(part)


def _told_apart(text: str) -> str:
    """A text in which no two values have one name."""
    seen: dict[str, int] = {}

    def named(match: re.Match[str]) -> str:
        seen[match[1]] = seen.get(match[1], 0) + 1
        return f"{{{match[1]}{seen[match[1]] if seen[match[1]] > 1 else ''}}}"

    return re.sub(r"\{([a-z][a-z0-9_]*)\}", named, text)


def _name(expression: str) -> str:
    """A name for a value that is computed so: the last one in it that says something."""
    names = [name.lower().strip("_") for name in re.findall(r"(?<![\w\"'`])[A-Za-z_]\w*", expression)]
    return next((name for name in reversed(names) if len(name) > 1 and name not in SAY_NOTHING), "value")


# ---- the scripts -----------------------------------------------------------------------------------------------------
def _scripts() -> Iterator[tuple[str, list[str]]]:
    for path in sorted(ASSETS.glob("*.js")):
        literals = script_literals(path.read_text(encoding="utf-8"))
        yield (
            f"modules/ui/assets/{path.name}",
            [text for text in literals if reads_like_text(shape_of(text), single_words=True)],
        )
    for path in sorted(ASSETS.glob("*.html")):
        yield f"modules/ui/assets/{path.name}", html_texts(path.read_text(encoding="utf-8"))


_TOKEN = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)
      | (?P<regex>(?<=[(,=:\[!&|?;])\s*/(?![/*])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])+/[a-z]*)
      | (?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
      | (?P<template>`)""",
    re.VERBOSE | re.DOTALL,
)


def script_literals(script: str) -> Iterator[str]:
    """The literals of a script, templates with their values as ``{}``, those in values after those around them."""
    place = 0
    while token := _TOKEN.search(script, place):
        place = token.end()
        if token["text"]:
            yield _unescaped(token["text"][1:-1])
        elif token["template"]:
            shape, values, place = _template(script, place)
            yield _unescaped(shape).strip()
            for value in values:
                yield from script_literals(value)


def _template(script: str, place: int) -> tuple[str, list[str], int]:
    """Shape of the template that begins before ``place``, the code of its values, and where it ends."""
    shape, values = "", []
    while script[place] != "`":
        if script.startswith("${", place):
            end = _value_end(script, place + 2)
            values.append(script[place + 2 : end])
            shape, place = f"{shape}{{{_name(values[-1])}}}", end + 1
        else:
            step = 2 if script[place] == "\\" else 1
            shape, place = shape + script[place : place + step], place + step
    return shape, values, place + 1


def _value_end(script: str, place: int) -> int:
    depth = 1
    while True:
        if script[place] == "`":
            place = _template(script, place + 1)[2]
            continue
        if script[place] in "\"'":
            place = script.index(script[place], place + 1)
        depth += {"{": 1, "}": -1}.get(script[place], 0)
        if not depth:
            return place
        place += 1


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
