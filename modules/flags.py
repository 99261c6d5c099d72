"""The command line of the page and the address it gets, and the flags of every command; needs no library."""

from __future__ import annotations

import argparse
import errno
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ldm_patched.modules.memory import Policy
from modules.settings import Settings, load_settings

PORTS_TRIED = 100
MAX_THREADS = 1024


class AddressError(ValueError):
    """The server cannot have the address it should have; the message says what to do."""


def parser() -> argparse.ArgumentParser:
    """The flags; one that is not given leaves the setting as the file and the environment have it."""
    made = argparse.ArgumentParser(
        prog="entry.py",
        description="Pinhole turns a sentence into a picture. Without flags it opens its page.",
        epilog='entry.py generate --prompt "..." makes pictures without the page, entry.py encode FILE encodes '
        "prompts ahead of time, entry.py download PRESET fetches its models, entry.py test runs every check; "
        "entry.py generate --help says more.",
    )
    made.add_argument("--port", type=int, metavar="N", help="the port of the page (without it: 7865 or the next free)")
    made.add_argument(
        "--listen", dest="host", nargs="?", const="0.0.0.0", metavar="ADDRESS",
        help="answer other machines as well (without ADDRESS: all that reach this one); they have to sign in",
    )  # fmt: skip
    made.add_argument(
        "--share", action="store_true", default=None,
        help="an address on the internet too, through Gradio's servers, for some days; everybody has to sign in",
    )  # fmt: skip
    made.add_argument("--preset", metavar="NAME", help="the preset to start with (a file in the presets folder)")
    made.add_argument(
        "--language", metavar="NAME", help="the page's language, a file in the folder language: zh, de, …"
    )
    made.add_argument("--theme", choices=("light", "dark"), help="the page's colours, until somebody chooses there")
    made.add_argument("--output-path", dest="outputs", type=Path, metavar="FOLDER", help="where pictures are saved")
    browser = made.add_mutually_exclusive_group()
    browser.add_argument(
        "--in-browser", dest="in_browser", action="store_true", default=None, help="open the page (it does by itself)"
    )
    browser.add_argument(
        "--disable-in-browser", dest="in_browser", action="store_false", default=None, help="do not open the page"
    )
    made.add_argument(
        "--disable-preset-download", dest="preset_downloads", action="store_false", default=None,
        help="what a preset names and is not there cannot be fetched from the page",
    )  # fmt: skip
    made.add_argument("--hf-mirror", dest="hf_mirror", metavar="URL", help="fetch from there, not from huggingface.co")
    made.add_argument(
        "--disable-metadata", dest="metadata", action="store_false", default=None,
        help="no picture file tells how it was made",
    )  # fmt: skip
    made.add_argument(
        "--disable-image-log", dest="keep", action="store_false", default=None,
        help="nothing is kept: pictures, queue and history are removed when Pinhole ends",
    )  # fmt: skip
    made.add_argument(
        "--temp-path", dest="temp", type=Path, metavar="FOLDER", help="where they are until then (the system's folder)"
    )
    made.add_argument(
        "--offline", action="store_true", default=None, help="open no connection beyond this machine, whoever asks"
    )
    add_memory_flags(made)
    for flag, (values, why) in _WITHOUT_EFFECT.items():
        made.add_argument(flag, action=_Accepted, nargs=values, const=why, help=argparse.SUPPRESS)
    return made


def add_memory_flags(made: argparse.ArgumentParser) -> None:
    """Add the flags that say where models lie and in which numbers they compute, to be read with `policy_of`."""
    where = made.add_argument_group(
        "memory", "without one of these, what is free decides"
    ).add_mutually_exclusive_group()
    for mode, meaning in _MODES:
        where.add_argument(f"--always-{mode}", dest="mode", action="store_const", const=mode, help=meaning)
    where.add_argument(
        "--always-cpu", dest="cpu", type=_threads, nargs="?", const=0, metavar="N",
        help="compute with the processor, with N threads if a number is given",
    )  # fmt: skip
    leaving = made.add_mutually_exclusive_group()
    leaving.add_argument(
        "--always-offload-from-vram", dest="offload", action="store_true", default=None,
        help="a model leaves the GPU as soon as it has done its part: other programs get the memory",
    )  # fmt: skip
    leaving.add_argument(
        "--disable-offload-from-vram", dest="offload", action="store_false", default=None,
        help="what is on the GPU stays there, also where memory is short",
    )  # fmt: skip
    numbers = made.add_argument_group("number formats", "without these, the device decides; fp32 is exact and large")
    for part, title, formats in _FORMATS:
        one = numbers.add_mutually_exclusive_group()
        for flag, value, meaning in formats:
            text = meaning.format(title)
            one.add_argument(f"--{part}-in-{flag}", dest=f"{part}_format", action="store_const", const=value, help=text)
    numbers.add_argument("--vae-in-cpu", action="store_true", help="the VAE computes with the processor")


def policy_of(arguments: argparse.Namespace) -> Policy:
    """What the flags of `add_memory_flags` say. A flag for one part goes over one for all parts."""
    unet = arguments.unet_format or arguments.all_format
    return Policy(
        mode="cpu" if arguments.cpu is not None else arguments.mode or "auto",
        threads=arguments.cpu or 0,
        offload=arguments.offload,
        unet="auto" if unet in (None, _EIGHT_BIT) else unet,
        towers=arguments.clip_format or arguments.all_format or "auto",
        vae=arguments.vae_format or ("fp32" if arguments.all_format == "fp32" else "auto"),
        vae_on_cpu=arguments.vae_in_cpu,
        eight_bit=unet == _EIGHT_BIT,
    )


_MODES = (
    ("gpu", "everything lies on the GPU, and it is an error if there is none"),
    ("high-vram", "every model stays on the GPU"),
    ("normal-vram", "the whole UNet is on the GPU while it works, also on a small card"),
    ("low-vram", "only a part of the UNet lies on the GPU, as much as fits: the same picture, slower"),
    ("no-vram", "nothing of the UNet stays on the GPU: the same picture, slower still"),
)
_EIGHT_BIT = "int8"
_STORED = "the UNet is stored in 8 bits: half the memory, a slightly different picture"
_OLDER = "the same as --unet-in-int8, which is as small and more exact"
_IN_FP32, _IN_FP16, _IN_BF16 = "the {0} in 32-bit numbers", "the {0} in fp16 (on a GPU only)", "the {0} in bf16"
_FORMATS = (
    ("all", "whole model", (("fp32", "fp32", _IN_FP32), ("fp16", "fp16", _IN_FP16 + "; not the VAE"))),
    (
        "unet",
        "UNet",
        (
            ("fp32", "fp32", _IN_FP32),
            ("fp16", "fp16", _IN_FP16),
            ("bf16", "bf16", _IN_BF16),
            ("int8", _EIGHT_BIT, _STORED),
            ("fp8-e4m3fn", _EIGHT_BIT, _OLDER),
            ("fp8-e5m2", _EIGHT_BIT, _OLDER),
        ),
    ),
    ("vae", "VAE", (("fp32", "fp32", _IN_FP32), ("fp16", "fp16", _IN_FP16), ("bf16", "bf16", _IN_BF16))),
    ("clip", "text encoders", (("fp32", "fp32", _IN_FP32), ("fp16", "fp16", _IN_FP16), ("bf16", "bf16", _IN_BF16))),
)


# Flags of older programs that people have in their start files: how many values follow, and why nothing comes of them.
_WITHOUT_EFFECT: Mapping[str, tuple[int | str, str]] = {
    "--disable-analytics": (0, "nothing is ever sent"),
    "--disable-server-log": (0, "there is none"),
    "--disable-server-info": (0, "none is given"),
    "--debug-mode": (0, "there is none"),
    "--multi-user": (0, "everybody has a queue and a history of their own"),
    "--attention-split": (0, "PyTorch's attention is used, which needs as little memory"),
    "--attention-quad": (0, "PyTorch's attention is used, which needs as little memory"),
    "--attention-pytorch": (0, "PyTorch's attention is used anyway"),
    "--disable-xformers": (0, "PyTorch's attention is used anyway"),
    "--disable-attention-upcast": (0, "PyTorch's attention needs no other numbers"),
    "--disable-ipex-hijack": (0, "there is no such thing"),
    "--async-cuda-allocation": (0, "PyTorch decides"),
    "--disable-async-cuda-allocation": (0, "PyTorch decides"),
    "--always-download-new-model": (0, "nothing is fetched unasked"),
    "--rebuild-hash-cache": ("?", "hashes are made anew when a file has changed"),
    "--preview-option": (1, "previews are always there"),
    "--web-upload-size": (1, "pictures have limits of their own"),
    "--disable-header-check": ("?", "the header check stays"),
}


class _Accepted(argparse.Action):
    """A flag of other programs that need not be there: it is said so, and the start goes on."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        sys.stderr.write(f"{self.option_strings[0]} has no effect: {self.const}.\n")


def _threads(text: str) -> int:
    """A number of threads; 0 or less, as for older programs, means as many as are usual."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of threads") from None
    if number > MAX_THREADS:
        raise argparse.ArgumentTypeError(f"{number} threads are more than {MAX_THREADS}")
    return max(0, number)


PAGE_SETTINGS = (
    "host", "port", "share", "preset", "language", "theme", "outputs", "in_browser", "preset_downloads", "hf_mirror",
    "offline", "metadata", "keep", "temp",
)  # fmt: skip
"""The flags that are fields of `Settings` by themselves."""


def read(root: Path, argv: Sequence[str], environ: Mapping[str, str]) -> tuple[Settings, socket.socket]:
    """The settings in force and the socket on which the page will be served, already bound and listening.

    Raises ``SettingsError`` and ``AddressError``; argparse ends the program by itself on flags it does not know.
    """
    arguments = parser().parse_args(argv)
    flags = {name: getattr(arguments, name) for name in PAGE_SETTINGS}
    settings = load_settings(root, {**flags, "memory": policy_of(arguments)}, environ)
    return settings, bind(settings.host, settings.port, search=flags["port"] is None)


def bind(host: str, port: int, search: bool) -> socket.socket:
    """A socket listening on ``host`` and ``port``; with ``search``, on the first free port from there on."""
    last = min(port + PORTS_TRIED, 65536) if search else port + 1
    for candidate in range(port, last):
        try:
            return _listen(host, candidate)
        except OSError as error:
            if not _is_taken(error):
                raise AddressError(
                    f"Pinhole cannot listen on {host}, port {candidate}: {error.strerror or error}. "
                    "Choose another port, for example --port 7865."
                ) from None
    if search:
        raise AddressError(f"All ports from {port} to {last - 1} are taken. Choose a free one with --port.")
    raise AddressError(
        f"Port {port} is taken by another program, perhaps another Pinhole. "
        f"Choose another one, for example --port {port + 1 if port < 65535 else 7865}, or leave --port out."
    )


def address_of(door: socket.socket) -> str:
    """The address to open; a server that listens everywhere is opened on this machine."""
    host, port = door.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{host}:{port}/"


def addresses_elsewhere(door: socket.socket) -> list[str]:
    """The addresses under which other machines find a server that listens everywhere, as far as they are known."""
    host, port = door.getsockname()[:2]
    if host not in ("0.0.0.0", "::"):
        return []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # sends nothing: it only asks which way would be taken
        return [f"http://{probe.getsockname()[0]}:{port}/"]
    return []


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            # There, SO_REUSEADDR would let two programs share a port.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(128)
    except OSError:
        with suppress(OSError):
            made.close()
        raise
    return made


def _is_taken(error: OSError) -> bool:
    return error.errno in (errno.EADDRINUSE, getattr(errno, "WSAEADDRINUSE", errno.EADDRINUSE))
