"""A list of prompts -> the parameters of a task for each line; pure, knows no queue and no page.

In a prompt, what stands after a line ``---`` is such a list::

    watercolor, soft light
    ---
    a red cat
    a blue boat --image_number 4 --negative_prompt "people, text"
    # this line is left out

Every line is the prompt of a task of its own, with what stands before ``---`` behind it. ``--key value`` sets any
parameter for this line: the value goes on to the next one, or is in double quotes. A table (.csv) becomes such lines.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO

from modules.parameters import GenerationParameters, ParameterError, full_path

MARK = "---"
MAX_LINES = 1000
MAX_CHARACTERS = 2**20
MAX_PROBLEMS = 20  # that are told one by one

# What other programs and people call the same, in lists that they already have.
ALIASES: Mapping[str, str] = {
    "seed": "image_seed",
    "steps": "advanced.overwrite_step",
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "negative": "negative_prompt",
    "width": "advanced.overwrite_width",
    "height": "advanced.overwrite_height",
    "sampler": "advanced.sampler_name",
    "scheduler": "advanced.scheduler_name",
    "styles": "style_selections",
    "style": "style_selections",
    "performance": "performance_selection",
    "aspect_ratio": "aspect_ratios_selection",
    "number": "image_number",
    "count": "image_number",
    "model": "base_model",
    "checkpoint": "base_model",
}
_OPTION = re.compile(r'(?<!\S)--([A-Za-z][\w.]*)(?:\s+|$)("(?:[^"\\]|\\.)*"(?!\S)|(?:(?!(?<!\S)--[A-Za-z]).)*)')
_ESCAPED = re.compile(r"\\(.)")


class PromptListError(ValueError):
    """A list that cannot be read at all; the message is for the user."""


@dataclass(frozen=True)
class PromptList:
    """The tasks of a list in its order, and what is wrong with its other lines, in sentences."""

    tasks: tuple[GenerationParameters, ...]
    problems: tuple[str, ...]

    @property
    def pictures(self) -> int:
        """Of all tasks."""
        return sum(task.image_number for task in self.tasks)


def is_list(prompt: str) -> bool:
    """Whether a prompt has a line ``---``."""
    return any(line.strip() == MARK for line in prompt.splitlines())


def read_list(parameters: GenerationParameters) -> PromptList:
    """The tasks of a prompt that is a list; all else is as in ``parameters``. Raises ``PromptListError``."""
    if len(parameters.prompt) > MAX_CHARACTERS:
        raise PromptListError(
            f"This list is too long: {len(parameters.prompt):,} characters, {MAX_CHARACTERS:,} at most."
        )
    lines = parameters.prompt.splitlines()
    mark = next((number for number, line in enumerate(lines) if line.strip() == MARK), len(lines))
    common, *more = lines[:mark] or [""]
    wanted = [(number, line.strip()) for number, line in enumerate(lines[mark + 1 :], 1) if _says(line)]
    if not wanted:
        raise PromptListError(f"Below the line {MARK} there is no prompt: write one on each line.")
    if len(wanted) > MAX_LINES:
        raise PromptListError(f"This list has {len(wanted):,} lines; {MAX_LINES:,} is the most.")
    tasks, problems = [], []
    for number, line in wanted:
        try:
            tasks.append(_task(line, common.strip(), more, parameters))
        except ParameterError as error:
            problems.append(f"Line {number}: {error}")
    return PromptList(tuple(tasks), _shortened(problems))


def lines_of_text(text: str) -> list[str]:
    """The lines of a text file that are prompts."""
    return [line.strip() for line in text.splitlines() if _says(line) and line.strip() != MARK]


def lines_of_table(text: str) -> list[str]:
    """A table, whose first row names parameters, as lines of a list.

    Columns are parted by commas, semicolons or tabs; empty cells are left to the form. Raises ``PromptListError``.
    """
    first = text.split("\n", 1)[0]
    try:
        rows = list(csv.reader(StringIO(text.replace("\0", "")), delimiter=max(",;\t", key=first.count), strict=True))
    except csv.Error as error:
        raise PromptListError(f"This table cannot be read: {error}.") from None
    if not rows:
        raise PromptListError("This table is empty.")
    head = [cell.strip().lstrip("\ufeff").lower().replace(" ", "_") for cell in rows[0]]
    paths = [_path(key) for key in head if key]
    if "prompt" not in paths:
        raise PromptListError("The first row of a table names its columns, and one of them must be prompt.")
    found = []
    for number, row in enumerate(rows[1:], 2):
        if len(row) > len(head):
            raise PromptListError(f"Row {number} of this table has {len(row)} cells, its first row has {len(head)}.")
        cells = {key: " ".join(cell.split()) for key, cell in zip(head, row, strict=False) if key and cell.strip()}
        words = cells.pop("prompt", "")
        options = [f"--{key} {_quoted(cell)}" for key, cell in cells.items()]
        if words.startswith(("#", MARK)) or _OPTION.search(words):
            options.insert(0, f"--prompt {_quoted(words)}")
            words = ""
        if words or options:
            found.append(" ".join(filter(None, (words, *options))))
    return found


def joined(common: str, lines: Sequence[str]) -> str:
    """A prompt that is a list, of what its lines have in common and the lines."""
    return "\n".join((*filter(None, [common.strip()]), MARK, *lines))


def _says(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _task(line: str, common: str, more: Sequence[str], parameters: GenerationParameters) -> GenerationParameters:
    values = dict(_options(line))
    words = _OPTION.sub("", line).strip()
    own = ", ".join(filter(None, (words, values.pop("prompt", ""), common)))
    return parameters.with_values({**values, "prompt": "\n".join((own, *more))})


def _options(line: str) -> Iterator[tuple[str, str]]:
    given = set()
    for key, value in _OPTION.findall(line):
        path = _path(key)
        if path in given:
            raise ParameterError(f"--{key} is given twice")
        given.add(path)
        quoted = len(value) > 1 and value.startswith('"') and value.endswith('"')
        yield path, _ESCAPED.sub(r"\1", value[1:-1]) if quoted else value.strip()


def _path(key: str) -> str:
    return ALIASES.get(key.lower()) or full_path(key)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _shortened(problems: Sequence[str]) -> tuple[str, ...]:
    left = len(problems) - MAX_PROBLEMS
    return (*problems[:MAX_PROBLEMS], *([f"And {left} more lines like these."] if left > 0 else []))
