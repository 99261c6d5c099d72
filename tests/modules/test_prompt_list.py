"""Lists of prompts: what a line may say, what is wrong with it, tables, and that no text is answered with a crash."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as some

from modules.parameters import GenerationParameters
from modules.prompt_list import (
    MAX_CHARACTERS,
    MAX_LINES,
    MAX_PROBLEMS,
    Lines,
    PromptList,
    PromptListError,
    first_task,
    is_list,
    joined,
    lines_of_table,
    lines_of_text,
    one_task,
    read_file,
    read_list,
    tasks_of,
)


def read(prompt: str, **values: object) -> PromptList:
    return read_list(prompt, GenerationParameters().with_values(values))


def texts(found: Lines) -> list[str]:
    return [line.text for line in found.lines]


def test_each_line_is_a_task_with_what_they_have_in_common_behind_it() -> None:
    found = read("watercolor\nsoft light\n---\n a red cat \n\n# not this\na boat", sharpness=5)
    assert [task.prompt for task in found.tasks] == [
        "a red cat, watercolor\nsoft light",
        "a boat, watercolor\nsoft light",
    ]
    assert {task.sharpness for task in found.tasks} == {5} and found.problems == ()
    assert [task.prompt for task in read("---\na cat").tasks] == ["a cat"]


def test_a_line_sets_parameters_of_its_own() -> None:
    line = 'a cat --image_number 4 --negative "people, \\"text\\" \\\\" --sampler_name euler --styles Fooocus V2, Gone'
    (task,) = read(f"---\n{line}", image_number=1).tasks
    assert (task.prompt, task.image_number, task.negative_prompt) == ("a cat", 4, 'people, "text" \\')
    assert task.advanced.sampler_name == "euler" and task.style_selections == ("Fooocus V2", "Gone")
    assert [each.image_number for each in read("---\na --number 3\nb", image_number=2).tasks] == [3, 2]
    assert read("---\na --number 3\nb", image_number=2).pictures == 5
    assert read("x\n---\n--seed 5").tasks[0].prompt == "x", "a line may be options alone"
    assert read('---\n--prompt "# a -- b --seed"').tasks[0].prompt == "# a -- b --seed"


def test_what_looks_like_an_option_and_is_none() -> None:
    for words in ("1girl -- a --- b", "long--haired cat", "a cat--seed 5", "-- --"):
        assert [task.prompt for task in read(f"---\n{words}").tasks] == [words]


def test_a_line_with_which_something_is_wrong_does_not_disturb_the_others() -> None:
    found = read("---\na --ar 16:9\nb\nc --seed 1 --seed 2\nd --number 99\ne --seed\n\nf --number x")
    assert [task.prompt for task in found.tasks] == ["b"]
    lines = [problem.partition(" (")[0] for problem in found.problems]
    assert lines == ["Line 1", "Line 3", "Line 4", "Line 5", "Line 7"]
    many = read("---\nfine\n" + "a --ar 1\n" * 50)
    assert len(many.problems) == MAX_PROBLEMS + 1 and many.problems[-1] == "And 30 more lines like these."


@pytest.mark.parametrize(
    ("prompt", "words"), [("a\n---\n \n#b", "no prompt"), ("---\n" + "a\n" * (MAX_LINES + 1), "1,001")]
)
def test_a_list_that_cannot_be_read(prompt: str, words: str) -> None:
    with pytest.raises(PromptListError, match=words):
        read(prompt)


def test_a_table_becomes_lines() -> None:
    table = 'Prompt;Negative Prompt;seed\n"a; ""big"" cat";"no\npeople";\n#1 dog;;7\n;;\n;;8\n'
    lines = texts(lines_of_table(table))
    first, second, third = read(joined("x", lines)).tasks
    assert (first.prompt, first.negative_prompt, first.image_seed) == ('a; "big" cat, x', "no people", -1)
    assert (second.prompt, second.image_seed) == ("#1 dog, x", 7)
    assert (third.prompt, third.image_seed) == ("x", 8)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("", "no first line"),
        (" , \na,b", "no first line"),
        ("a cat\na dog", "names parameters, such as prompt or seed. a cat: there is no such parameter"),
        ('prompt\n"a', "line 2 of this table cannot be read"),
        ("prompt\n" + "a" * 200_000, "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_read(table: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        lines_of_table(table)


def test_a_text_file_has_a_prompt_on_each_line() -> None:
    found = lines_of_text("a cat\r\n\r\n # no\n---\nb --seed 5\nc --ar 1\nd")
    assert [(line.number, line.text) for line in found.lines] == [(1, "a cat"), (5, "b --seed 5"), (7, "d")]
    assert [problem.partition(":")[0] for problem in found.problems] == ["Line 6 (c --ar 1)"]


def test_rows_with_which_something_is_wrong_are_named_by_their_line_and_the_others_stay() -> None:
    table = 'prompt,seed,aspect ratio\na,1,1152x896\n\n"b\nb",x,\nc,2,3,4\nd,3,1:1\ne,,1024 × 1024\n'
    found = lines_of_table(table)
    assert [line.number for line in found.lines] == [2, 8]
    assert [problem.split()[1] for problem in found.problems] == ["6", "4", "7"]
    assert "image_seed: 'x'" in found.problems[1] and "4 cells" in found.problems[0]
    first, last = read(joined("", texts(found))).tasks
    assert (first.aspect_ratios_selection, last.aspect_ratios_selection) == ("1152*896", "1024*1024")


def test_a_table_need_not_have_prompts() -> None:
    lines = texts(lines_of_table("seed\n1\n2\n"))
    assert [(task.prompt, task.image_seed) for task in read(joined("a cat", lines)).tasks] == [
        ("a cat", 1),
        ("a cat", 2),
    ]
    found = tasks_of(lines_of_table("seed\n1\n").lines, "", GenerationParameters(prompt="of the preset"))
    assert found.tasks[0].prompt == "of the preset"


def test_a_list_may_be_longer_than_a_prompt() -> None:
    lines = [f"a red cat in the snow, watercolor, soft light, number {number}" for number in range(MAX_LINES)]
    assert len(read(joined("", lines)).tasks) == MAX_LINES
    with pytest.raises(PromptListError, match="too long"):
        read(joined("", ["a" * MAX_CHARACTERS]))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xfe\x00", "UTF-8"),
        (b"\xc3", "UTF-8"),
        (b"PK\0\0", "not a text"),
        (b"# no\n", "no prompt"),
        (b"a --ar 1", "Line 1"),
        (b"a\n" * (MAX_LINES + 1), "1,001"),
        (b"a" * (MAX_CHARACTERS + 1), "1 MB"),
    ],
)
def test_a_file_that_is_no_list(data: bytes, words: str) -> None:
    with pytest.raises(PromptListError, match=words):
        read_file(data, table=False)


def test_the_texts_of_other_systems_are_read() -> None:
    for data in ("\ufeffein Kätzchen\r\nb".encode(), "ein Kätzchen\nb".encode("utf-16")):
        assert texts(read_file(data, table=False)) == ["ein Kätzchen", "b"]


def test_a_list_is_no_single_task() -> None:
    assert first_task(GenerationParameters(prompt="a\n---\nb\nc")).prompt == "b, a"
    plain = GenerationParameters(prompt="a --- b")
    assert first_task(plain) is plain and one_task(plain) is plain
    with pytest.raises(PromptListError, match="is a list"):
        one_task(GenerationParameters(prompt="a\n---\nb"))


WORDS = some.text(alphabet=some.characters(exclude_categories=("Cs", "Cc")), max_size=30)
PIECES = some.sampled_from(["---", "--seed", '"', "\\", "#", "\n", " ", "--prompt", "5", "--negative", ","]) | WORDS


@hypothesis_settings(max_examples=300, deadline=None)
@given(pieces=some.lists(PIECES, max_size=20))
def test_no_text_is_answered_with_a_crash(pieces: list[str]) -> None:
    text = "".join(pieces)
    try:
        found = read(f"{text}\n---\n{text}")
        assert is_list(f"{text}\n---") and (found.tasks or found.problems)
    except PromptListError as error:
        assert "no prompt" in str(error)
    try:
        lines_of_table(text)
    except ValueError as error:
        assert str(error)


@hypothesis_settings(max_examples=200, deadline=None)
@given(rows=some.lists(some.tuples(WORDS, WORDS), min_size=1, max_size=5))
def test_every_cell_of_a_table_arrives(rows: list[tuple[str, str]]) -> None:
    cells = [tuple(" ".join(cell.split()) for cell in row) for row in rows]
    written = io.StringIO()
    csv.writer(written).writerows([("prompt", "negative_prompt"), *cells])
    wanted = [row for row in cells if any(row)]
    if wanted:
        found = read(joined("", texts(lines_of_table(written.getvalue()))))
        assert [(task.prompt, task.negative_prompt) for task in found.tasks] == wanted and not found.problems
