"""The command line of the page, and the address it gets; needs nothing that takes time to load."""

from __future__ import annotations

import argparse
import errno
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from modules.settings import Settings, load_settings

PORTS_TRIED = 100


class AddressError(ValueError):
    """The server cannot have the address it should have; the message says what to do."""


def parser() -> argparse.ArgumentParser:
    """The flags; one that is not given leaves the setting as the file and the environment have it."""
    made = argparse.ArgumentParser(
        prog="entry.py",
        description="Pinhole turns a sentence into a picture. Without flags it opens its page.",
        epilog='entry.py generate --prompt "..." makes pictures without the page, entry.py encode FILE encodes '
        "prompts ahead of time, entry.py test runs every check; entry.py generate --help says more.",
    )
    made.add_argument("--port", type=int, metavar="N", help="the port of the page (without it: 7865 or the next free)")
    made.add_argument("--preset", metavar="NAME", help="the preset to start with (a file in the presets folder)")
    made.add_argument("--output-path", dest="outputs", type=Path, metavar="FOLDER", help="where pictures are saved")
    browser = made.add_mutually_exclusive_group()
    browser.add_argument(
        "--in-browser", dest="in_browser", action="store_true", default=None, help="open the page (it does by itself)"
    )
    browser.add_argument(
        "--disable-in-browser", dest="in_browser", action="store_false", default=None, help="do not open the page"
    )
    return made


def read(root: Path, argv: Sequence[str], environ: Mapping[str, str]) -> tuple[Settings, socket.socket]:
    """The settings in force and the socket on which the page will be served, already bound and listening.

    Raises ``SettingsError`` and ``AddressError``; argparse ends the program by itself on flags it does not know.
    """
    flags = vars(parser().parse_args(argv))
    settings = load_settings(root, flags, environ)
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
