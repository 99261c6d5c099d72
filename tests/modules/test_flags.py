"""The page's command line and its address."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ldm_patched.modules.memory import AUTOMATIC, Policy
from modules import cli, encode
from modules.flags import AddressError, bind, parser, policy_of, read
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


def test_flags_of_older_programs_are_taken_and_said_to_do_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--disable-analytics", "--attention-split", "--rebuild-hash-cache", "4", "--theme", "dark", "--port", "0"]
    settings, door = read(tmp_path, [*flags, "--disable-metadata", "--disable-image-log", "--offline"], {})
    door.close()
    assert (settings.theme, settings.metadata, settings.keep, settings.offline) == ("dark", False, False, True)
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in said] == flags[:3]
    assert said[0] == "--disable-analytics has no effect: nothing is ever sent."


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


@pytest.mark.parametrize(
    ("flags", "policy"),
    [
        ("", AUTOMATIC),
        ("--always-gpu", Policy(mode="gpu")),
        ("--always-high-vram", Policy(mode="high-vram")),
        ("--always-normal-vram", Policy(mode="normal-vram")),
        ("--always-low-vram", Policy(mode="low-vram")),
        ("--always-no-vram", Policy(mode="no-vram")),
        ("--always-cpu", Policy(mode="cpu")),
        ("--always-cpu 3", Policy(mode="cpu", threads=3)),
        ("--always-cpu -1", Policy(mode="cpu")),
        ("--always-offload-from-vram", Policy(offload=True)),
        ("--disable-offload-from-vram --always-low-vram", Policy(mode="low-vram", offload=False)),
        ("--all-in-fp32", Policy(unet="fp32", towers="fp32", vae="fp32")),
        ("--all-in-fp16", Policy(unet="fp16", towers="fp16")),  # SDXL's VAE overflows there
        ("--all-in-fp16 --unet-in-bf16 --clip-in-fp32", Policy(unet="bf16", towers="fp32")),
        ("--unet-in-int8", Policy(eight_bit=True)),
        ("--unet-in-fp8-e4m3fn", Policy(eight_bit=True)),
        ("--unet-in-fp8-e5m2 --vae-in-fp16", Policy(eight_bit=True, vae="fp16")),
        ("--vae-in-cpu --vae-in-bf16", Policy(vae_on_cpu=True, vae="bf16")),
    ],
)
def test_flags_of_memory_are_a_policy(tmp_path: Path, flags: str, policy: Policy) -> None:
    assert policy_of(parser().parse_args(flags.split())) == policy
    settings, door = read(tmp_path, [*flags.split(), "--port", "0"], {})
    door.close()
    assert settings.memory == policy
    assert policy_of(cli.parser().parse_args(["--prompt", "a cat", *flags.split()])) == policy
    assert policy_of(encode.parser().parse_args(["prompts.txt", *flags.split()])) == policy


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--always-gpu --always-cpu", "--always-cpu: not allowed with argument --always-gpu"),
        ("--always-low-vram --always-no-vram", "not allowed"),
        ("--always-offload-from-vram --disable-offload-from-vram", "not allowed"),
        ("--unet-in-fp16 --unet-in-int8", "not allowed"),
        ("--all-in-fp16 --all-in-fp32", "not allowed"),
        ("--vae-in-fp16 --vae-in-bf16", "not allowed"),
        ("--clip-in-fp16 --clip-in-fp32", "not allowed"),
        ("--always-cpu many", "'many' is not a number of threads"),
        ("--always-cpu 5000", "5000 threads are more than 1024"),
    ],
)
def test_flags_that_contradict_each_other(capsys: pytest.CaptureFixture[str], flags: str, named: str) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(flags.split())
    assert caught.value.code == 2
    assert named in capsys.readouterr().err


def test_every_flag_is_explained() -> None:
    actions = parser()._actions
    assert all(action.help for action in actions)
    assert "--always-no-vram" in parser().format_help()
