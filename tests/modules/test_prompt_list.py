"""Lists of prompts: what a line may say, what is wrong with it, tables, and that no text is answered with a crash."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as some

from modules.parameters import GenerationParameters
from modules.prompt_list import (
    ALIASES,
    MAX_LINES,
    MAX_PROBLEMS,
    PromptList,
    PromptListError,
    is_list,
    joined,
    lines_of_table,
    lines_of_text,
    read_list,
)


def read(prompt: str, **values: object) -> PromptList:
    return read_list(GenerationParameters(prompt=prompt).with_values(values))


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


def test_other_names_of_parameters_are_known_ones() -> None:
    for alias, path in ALIASES.items():
        GenerationParameters().get(path)
        assert "." in path or alias != path


def test_a_line_with_which_something_is_wrong_does_not_disturb_the_others() -> None:
    found = read("---\na --ar 16:9\nb\nc --seed 1 --seed 2\nd --number 99\ne --seed\n\nf --number x")
    assert [task.prompt for task in found.tasks] == ["b"]
    lines = [problem.partition(":")[0] for problem in found.problems]
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
    table = '\ufeffPrompt;Negative Prompt;seed\n"a; ""big"" cat";"no\npeople";\n#1 dog;;7\n;;\n;;8\n'
    lines = lines_of_table(table)
    first, second, third = read(joined("x", lines)).tasks
    assert (first.prompt, first.negative_prompt, first.image_seed) == ('a; "big" cat, x', "no people", -1)
    assert (second.prompt, second.image_seed) == ("#1 dog, x", 7)
    assert (third.prompt, third.image_seed) == ("x", 8)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("", "empty"),
        ("a cat\na dog", "no such parameter"),
        ("seed\n1", "must be prompt"),
        ("prompt\na,b", "Row 2"),
        ('prompt\n"a', "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_read(table: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        lines_of_table(table)


def test_a_text_file_has_a_prompt_on_each_line() -> None:
    assert lines_of_text("a cat\r\n\r\n # no\n---\nb --seed 5\u2028c") == ["a cat", "b --seed 5", "c"]


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
        found = read(joined("", lines_of_table(written.getvalue())))
        assert [(task.prompt, task.negative_prompt) for task in found.tasks] == wanted and not found.problems
