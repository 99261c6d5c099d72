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
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO

from modules.parameters import GenerationParameters, ParameterError, leaf
from modules.spelling import path_named, spelt

MARK = "---"
MAX_LINES = 1000
MAX_CHARACTERS = 2**20  # of a list, and bytes of a file
MAX_PROBLEMS = 20  # that are told one by one
MAX_SHOWN = 40  # characters of a line with which something is wrong

_OPTION = re.compile(r'(?<!\S)--([A-Za-z][\w.]*)(?:\s+|$)("(?:[^"\\]|\\.)*"(?!\S)|(?:(?!(?<!\S)--[A-Za-z]).)*)')
_ESCAPED = re.compile(r"\\(.)")


class PromptListError(ValueError):
    """A list that cannot be read at all; the message is for the user."""


@dataclass(frozen=True)
class Line:
    """A line of a list, with its number in what it was read from."""

    number: int
    text: str


@dataclass(frozen=True)
class Lines:
    """The lines of a file, and what is wrong with others of it, in sentences."""

    lines: tuple[Line, ...]
    problems: tuple[str, ...] = ()


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


def one_task(parameters: GenerationParameters) -> GenerationParameters:
    """The same parameters; raises ``PromptListError`` where their prompt is a list."""
    if is_list(parameters.prompt):
        raise PromptListError(f"The prompt is a list, because of its line {MARK}: one task cannot be made of it.")
    return parameters


def first_task(parameters: GenerationParameters) -> GenerationParameters:
    """The parameters of the first task of a prompt that is a list, of any other the same. Raises ``ValueError``."""
    if not is_list(parameters.prompt):
        return parameters
    found = read_list(parameters.prompt, parameters)
    if not found.tasks:
        raise PromptListError(found.problems[0])
    return found.tasks[0]


def read_list(prompt: str, parameters: GenerationParameters) -> PromptList:
    """The tasks of a prompt that is a list; all else is as in ``parameters``. Raises ``PromptListError``.

    Lines are counted from below ``---``.
    """
    if len(prompt) > MAX_CHARACTERS:
        raise PromptListError(f"This list is too long: {len(prompt):,} characters, {MAX_CHARACTERS:,} at most.")
    lines = prompt.splitlines()
    mark = next((number for number, line in enumerate(lines) if line.strip() == MARK), len(lines))
    wanted = [Line(number, line.strip()) for number, line in enumerate(lines[mark + 1 :], 1) if _says(line)]
    if not wanted:
        raise PromptListError(f"Below the line {MARK} there is no prompt: write one on each line.")
    return tasks_of(wanted, "\n".join(lines[:mark]), parameters)


def tasks_of(lines: Sequence[Line], common: str, parameters: GenerationParameters) -> PromptList:
    """A task for each line, with ``common`` behind its prompt. Raises ``PromptListError``."""
    if len(lines) > MAX_LINES:
        raise PromptListError(f"This list has {len(lines):,} lines; {MAX_LINES:,} is the most.")
    main, *more = common.strip().splitlines() or [""]
    tasks, problems = [], []
    for line in lines:
        try:
            tasks.append(_task(line.text, main.strip(), more, parameters))
        except ParameterError as error:
            problems.append(f"Line {line.number} ({_cut(line.text)}): {error}")
    return PromptList(tuple(tasks), shortened(problems))


def common_of(prompt: str) -> str:
    """What the lines of a list have in common: the prompt up to ``---``, if it has such a line."""
    lines = prompt.splitlines()
    mark = next((number for number, line in enumerate(lines) if line.strip() == MARK), len(lines))
    return "\n".join(lines[:mark]).strip()


def read_file(data: bytes, table: bool) -> Lines:
    """The lines of a text, or of a table. Raises ``PromptListError``."""
    if len(data) > MAX_CHARACTERS:
        raise PromptListError(f"it is larger than {MAX_CHARACTERS // 2**20} MB.")
    try:
        text = data.decode("utf-16" if data[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) else "utf-8-sig")
    except UnicodeDecodeError:
        raise PromptListError("it is not a text in UTF-8.") from None
    if "\0" in text:
        raise PromptListError("it is not a text.")
    found = lines_of_table(text) if table else lines_of_text(text)
    if not found.lines:
        raise PromptListError(" ".join(["there is no prompt in it.", *found.problems]))
    if len(found.lines) > MAX_LINES:
        raise PromptListError(f"it has {len(found.lines):,} prompts; {MAX_LINES:,} is the most.")
    return found


def lines_of_text(text: str) -> Lines:
    """The lines of a text that are prompts."""
    lines = (Line(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if _says(line))
    return _possible(line for line in lines if line.text != MARK)


def lines_of_table(text: str) -> Lines:
    """A table, whose first row names parameters, as lines of a list.

    Columns are parted by commas, semicolons or tabs; empty cells are left to the form. Raises ``PromptListError``.
    """
    first = text.split("\n", 1)[0]
    reader = csv.reader(StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    found: list[Line] = []
    problems: list[str] = []
    try:
        head = _columns(next(reader, []))
        number = reader.line_num + 1
        for row in reader:
            if len(row) > len(head):
                problems.append(f"Line {number} has {len(row)} cells, the first line has {len(head)}.")
            elif line := _line_of_row(head, row):
                found.append(Line(number, line))
            number = reader.line_num + 1
    except csv.Error as error:
        raise PromptListError(f"line {reader.line_num} of this table cannot be read: {error}.") from None
    possible = _possible(found)
    return Lines(possible.lines, shortened([*problems, *possible.problems]))


def joined(common: str, lines: Iterable[str]) -> str:
    """A prompt that is a list, of what its lines have in common and the lines."""
    return "\n".join((*filter(None, [common.strip()]), MARK, *lines))


def shortened(problems: Sequence[str]) -> tuple[str, ...]:
    """The first of so many sentences, and how many more there are."""
    left = len(problems) - MAX_PROBLEMS
    return (*problems[:MAX_PROBLEMS], *([f"And {left} more lines like these."] if left > 0 else []))


def _columns(row: Sequence[str]) -> list[str]:
    """The keys of a table's columns, as options have them; an empty one is a column without meaning."""
    if not any(cell.strip() for cell in row):
        raise PromptListError("this table has no first line that names its columns.")
    try:
        return [path_named(cell) if cell.strip() else "" for cell in row]
    except ParameterError as error:
        raise PromptListError(f"the first line of a table names parameters, such as prompt or seed. {error}.") from None


def _line_of_row(head: Sequence[str], row: Sequence[str]) -> str:
    cells = {key: " ".join(cell.split()) for key, cell in zip(head, row, strict=False) if key and cell.strip()}
    words = cells.pop("prompt", "")
    options = [f"--{key} {_quoted(cell)}" for key, cell in cells.items()]
    if words.startswith(("#", MARK)) or _OPTION.search(words):
        options.insert(0, f"--prompt {_quoted(words)}")
        words = ""
    return " ".join(filter(None, (words, *options)))


def _possible(lines: Iterable[Line]) -> Lines:
    """The lines whose own words can be used, whatever the form says."""
    kept, problems, plain = [], [], GenerationParameters()
    for line in lines:
        try:
            _task(line.text, "", (), plain)
        except ParameterError as error:
            problems.append(f"Line {line.number} ({_cut(line.text)}): {error}")
        else:
            kept.append(line)
    return Lines(tuple(kept), shortened(problems))


def _says(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _task(line: str, common: str, more: Sequence[str], parameters: GenerationParameters) -> GenerationParameters:
    values = dict(_options(line))
    words = _OPTION.sub("", line).strip()
    own = ", ".join(filter(None, (words, values.pop("prompt", ""), common))) or parameters.prompt
    return parameters.with_values({**values, "prompt": "\n".join((own, *more))})


def _options(line: str) -> Iterator[tuple[str, str]]:
    given = set()
    for key, value in _OPTION.findall(line):
        path = path_named(key)
        if path in given:
            raise ParameterError(f"--{key} is given twice")
        given.add(path)
        quoted = len(value) > 1 and value.startswith('"') and value.endswith('"')
        yield path, spelt(leaf(path), _ESCAPED.sub(r"\1", value[1:-1]) if quoted else value.strip())


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
