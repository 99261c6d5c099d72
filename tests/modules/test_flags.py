"""The page's command line and its address."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from modules.flags import AddressError, bind, read
from modules.settings import SettingsError


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on until the test ends."""
    door = socket.create_server(("127.0.0.1", 0))
    yield door.getsockname()[1]
    door.close()


def test_a_taken_port_is_said_in_one_sentence(taken: int) -> None:
    with pytest.raises(AddressError, match=f"Port {taken} is taken.*--port") as caught:
        bind("127.0.0.1", taken, search=False)
    assert "\n" not in str(caught.value)


def test_without_a_wish_the_next_free_port_is_taken(taken: int) -> None:
    with bind("127.0.0.1", taken, search=True) as door:
        assert taken < door.getsockname()[1] <= taken + 99


def test_an_address_of_another_machine(taken: int) -> None:
    with pytest.raises(AddressError, match="cannot listen on 203.0.113.7"):
        bind("203.0.113.7", taken + 1, search=True)


def test_flags_reach_the_settings(tmp_path: Path) -> None:
    flags = ["--port", "0", "--disable-in-browser", "--preset", "mini", "--output-path", str(tmp_path / "here")]
    settings, door = read(tmp_path, flags, {})
    door.close()
    assert (settings.in_browser, settings.preset, settings.outputs) == (False, "mini", tmp_path / "here")


def test_without_flags_the_settings_stay(tmp_path: Path) -> None:
    settings, door = read(tmp_path, [], {})
    door.close()
    assert settings.in_browser and settings.outputs == tmp_path / "outputs"


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_an_impossible_port(tmp_path: Path, port: str) -> None:
    with pytest.raises(SettingsError, match=port):
        read(tmp_path, ["--port", port], {})


def test_a_flag_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        read(tmp_path, ["--no-such-flag"], {})
    assert caught.value.code == 2
