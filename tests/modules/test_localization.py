"""Language files: what is taken of them, what is said of those that cannot be used, and which language is meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from modules.localization import MAX_CHARACTERS, LanguageError, Languages, read_language


def write(folder: Path, name: str, content: object) -> Path:
    path = folder / f"{name}.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_a_file_of_the_field_works_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path, "example", {"Generate": "Los", "Nobody says this any more": "nie", "rtl": False})
    language = read_language(path)
    assert language.name == "example" and language.said("Generate") == "Los" and language.said("Stop") == "Stop"
    assert not language.right_to_left


def test_values_stand_where_the_grammar_wants_them_and_are_not_read_again(tmp_path: Path) -> None:
    language = read_language(write(tmp_path, "xx", {"{count} of {all} left": "von {all} noch {count}"}))
    assert language.said("{count} of {all} left", count="{all}", all=3) == "von 3 noch {all}"
    assert language.said("{count} files", count=2) == "2 files"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "it is not JSON"),
        ("[]", "must be a JSON object"),
        ("[" * 100_000, "it is not JSON"),
        ({"a": 1}, "the translation of 'a' is not text"),
        ({"a": None}, "is not text"),
        ({"a": "x" * (MAX_CHARACTERS + 1)}, f"more than {MAX_CHARACTERS} characters"),
        ({"Saved.": "{secret}"}, "holds {secret}, which the English does not"),
    ],
)
def test_a_file_that_cannot_be_used_is_left_out_in_words(tmp_path: Path, content: object, words: str) -> None:
    write(tmp_path, "bad", content)
    write(tmp_path, "good", {"Stop": "Halt"})
    languages = Languages(tmp_path)
    assert languages.names() == ("en", "good")
    (note,) = languages.notes()
    assert "bad.json" in note and words in note
    with pytest.raises(LanguageError, match=r"bad\.json"):
        languages.language("bad")


def test_bytes_that_are_no_text_and_files_that_are_too_large(tmp_path: Path) -> None:
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe{}")
    (tmp_path / "huge.json").write_bytes(b" " * (4 * 10**6 + 1))
    assert Languages(tmp_path).names() == ("en",)
    assert [each.split(":")[1].strip(" .") for each in Languages(tmp_path).notes()] == [
        "it is not a text file in UTF-8", "it has more than 4 MB",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["../secret", "a/b", "", ".", "x" * 41, "en\0", "C:\\x"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "language"
    folder.mkdir()
    write(tmp_path, "secret", {"Stop": "Halt"})
    with pytest.raises(LanguageError, match="There is no language"):
        Languages(folder).language(name)


def test_what_was_changed_is_read_again(tmp_path: Path) -> None:
    write(tmp_path, "xx", {"Stop": "Halt"})
    assert Languages(tmp_path).language("xx").said("Stop") == "Halt"
    write(tmp_path, "xx", {"Stop": "Genug"})
    assert Languages(tmp_path).language("xx").said("Stop") == "Genug"


def test_the_nearest_language_is_meant(tmp_path: Path) -> None:
    for name in ("zh", "pt-BR", "pt"):
        write(tmp_path, name, {"Stop": name})
    languages = Languages(tmp_path)
    wanted = {"zh-CN": "zh", "PT_br": "pt-BR", "pt-PT": "pt", "xx": "en", "en-GB": "en", "": "en"}
    assert {each: languages.nearest([each]).name for each in wanted} == wanted
    assert languages.nearest(["xx", "zh-TW", "pt"]).name == "zh" and languages.nearest([]).name == "en"
    assert languages.notes("zh-CN") == () and "no language 'xx'" in languages.notes("xx")[0]


def test_languages_written_from_the_right_are_known_and_a_file_may_say_so(tmp_path: Path) -> None:
    told = {"ar": {}, "he-IL": {}, "de": {}, "own": {"rtl": True}, "fa": {"rtl": False}}
    for name, content in told.items():
        write(tmp_path, name, content)
    found = {name: Languages(tmp_path).language(name).right_to_left for name in told}
    assert found == {"ar": True, "he-IL": True, "de": False, "own": True, "fa": False}


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_a_file_holds_it_is_read_or_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "any.json").write_bytes(content)
    try:
        language = read_language(tmp_path / "any.json")
    except LanguageError as error:
        assert str(error).startswith("The language file any.json was left out: ")
    else:
        assert all(isinstance(text, str) for pair in language.texts.items() for text in pair)
