"""Accounts, sessions and guesses."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as some

from modules.auth import Accounts, AuthError, hash_of
from modules.sessions import FREE_TRIES, MAX_KNOWN, MAX_SESSIONS, SESSION_SECONDS, Attempts, Sessions


def kept(path: Path, *entries: object) -> Accounts:
    path.write_text(json.dumps(entries))
    return Accounts(path)


def test_the_fields_forms_are_read_and_become_scrypt(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    digest = hashlib.sha256("zwei ü".encode()).hexdigest()
    accounts = kept(path, {"user": "a", "pass": "eins"}, {"user": "b", "hash": digest.upper(), "pass": "x"})
    assert not accounts.check("a", "zwei ü") and not accounts.check("b", "x") and not accounts.check("c", "eins")
    assert accounts.check("a", "eins")
    first, second = json.loads(path.read_text())
    assert first["user"] == "a" and first["hash"].startswith("scrypt$") and "pass" not in first
    assert second == {"user": "b", "hash": digest.upper()}, "that one has not been used yet"
    assert accounts.check("b", "zwei ü")
    again = Accounts(path)
    assert again.check("a", "eins") and again.check("b", "zwei ü") and not again.check("a", "")
    assert all(each["hash"].startswith("scrypt$") for each in json.loads(path.read_text()))
    if sys.platform != "win32":
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_password_that_was_not_used_stays_as_it_is_when_another_is_kept_anew(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    accounts = kept(path, {"user": "a", "pass": "eins"}, {"user": "b", "pass": "scrypt$"})
    assert accounts.check("a", "eins")
    assert json.loads(path.read_text())[1] == {"user": "b", "pass": "scrypt$"}
    assert Accounts(path).check("b", "scrypt$")


def test_the_hash_is_that_of_rfc_7914(tmp_path: Path) -> None:
    """The third test vector of section 12: password `pleaseletmein`, salt `SodiumChloride`, N 16384, r 8, p 1."""
    key = bytes.fromhex(
        "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
        "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"
    )
    told = f"scrypt$16384$8$1${b64encode(b'SodiumChloride').decode()}${b64encode(key).decode()}"
    accounts = kept(tmp_path / "auth.json", {"user": "a", "hash": told})
    assert accounts.check("a", "pleaseletmein") and not accounts.check("a", "pleaseletmeim")


def test_an_account_is_made_with_a_password_that_nobody_guesses(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path / "home" / "auth.json")
    assert not accounts
    name, password = accounts.make_first()
    assert re.fullmatch(r"[a-z2-9]{5}(-[a-z2-9]{5}){2}", password) and password not in accounts.path.read_text()
    assert accounts and Accounts(accounts.path).check(name, password)
    assert hash_of("a") != hash_of("a"), "salted"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "JSON"),
        ("{}", "list"),
        ("[]", "at least one"),
        ("[" * 100_000, "JSON"),
        ('["a"]', 'entry 1 has no "user"'),
        ('[{"user": " ", "pass": "a"}]', 'no "user"'),
        ('[{"user": "a"}]', "neither"),
        ('[{"user": "a", "pass": ""}]', "neither"),
        ('[{"user": "a", "pass": 5}]', "neither"),
        ('[{"user": "a", "hash": "abc"}]', "sha256"),
        ('[{"user": "a", "hash": "scrypt$1$2"}]', "cannot be one"),
        ('[{"user": "a", "hash": "scrypt$99999999$8$1$YQ==$YQ=="}]', "out of range"),
        ('[{"user": "a", "pass": "x"}, {"user": "a", "pass": "y"}]', "once more"),
    ],
)
def test_a_file_that_is_no_accounts_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "auth.json"
    path.write_text(text)
    with pytest.raises(AuthError, match=words) as raised:
        Accounts(path)
    assert str(path) in str(raised.value)


VALUES = some.recursive(
    some.none() | some.integers() | some.text(),
    lambda each: some.lists(each) | some.dictionaries(some.sampled_from(["user", "pass", "hash", "x"]), each),
    max_leaves=6,
)


@hypothesis_settings(max_examples=200, deadline=None)
@given(text=some.text() | VALUES.map(json.dumps))
def test_no_file_is_answered_with_a_crash(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "auth.json"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        assert Accounts(path)
    except AuthError as error:
        assert str(path) in str(error)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_session_outlives_a_restart_and_ends(tmp_path: Path) -> None:
    accounts, clock, path = Accounts(tmp_path / "auth.json"), Clock(), tmp_path / "data" / "sessions.json"
    user, _ = accounts.make_first()
    sessions = Sessions(path, accounts, clock)
    token, other = sessions.begin(user), sessions.begin(user)
    assert token not in path.read_text() and len(token) >= 43
    later = Sessions(path, accounts, clock)
    assert later.user(token) == user and later.user("") is None and later.user(token[:-1]) is None
    later.end(token)
    assert later.user(token) is None and later.user(other) == user
    accounts.make_first()
    assert later.user(other) is None, "another password ends the sessions of the old one"
    third = later.begin(user)
    clock.now += SESSION_SECONDS + 1
    assert later.user(third) is None
    path.write_text('{"a": 5}')
    assert Sessions(path, accounts, clock).user(token) is None
    many = Sessions(path, accounts, clock)
    for _ in range(3):
        first = many.begin(user)
    assert many.user(first) == user and MAX_SESSIONS > 3


def test_guessing_takes_longer_and_longer() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    waits = []
    for _ in range(FREE_TRIES + 12):
        waits.append(attempts.wait("1.2.3.4", "me"))
        clock.now += waits[-1]
        attempts.failed("1.2.3.4", "me")
    assert waits[:FREE_TRIES] == [0] * FREE_TRIES and waits[FREE_TRIES : FREE_TRIES + 4] == [1, 2, 4, 8]
    assert attempts.wait("1.2.3.4", "you") > 600, "the address"
    assert 0 < attempts.wait("5.6.7.8", "me") <= 30, "the user, from elsewhere: not locked out for long"
    assert attempts.wait("5.6.7.8", "you") == 0
    guesses = sum(1 for _ in range(FREE_TRIES)) + 86400 / 900
    assert guesses < 120, "a day of guesses"
    attempts.succeeded("1.2.3.4", "me")
    assert attempts.wait("1.2.3.4", "me") == 0


def test_what_is_remembered_of_guesses_is_bounded() -> None:
    attempts = Attempts(Clock())
    for number in range(MAX_KNOWN + 100):
        attempts.failed(f"10.0.{number}", f"user {number}")
    assert len(attempts._failures) == MAX_KNOWN


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs a user who may not write everywhere")
def test_accounts_that_cannot_be_kept(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(AuthError, match="cannot be written"):
            Accounts(tmp_path / "auth.json").make_first()
    finally:
        tmp_path.chmod(0o700)
