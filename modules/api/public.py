"""The page's address on the internet, by a tunnel through Gradio's servers; knows nothing of what is served there.

The tunnel ends at a door of its own on this machine, so that what comes from the internet is told apart by the door it
came through, whatever its headers say.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gradio import tunneling
from gradio.networking import GRADIO_API_SERVER
from starlette.types import ASGIApp, Receive, Scope, Send

from modules.api.guard import Guard, is_loopback
from modules.flags import bind
from modules.https import FetchError, Interrupted, Reach, Stop, ask
from modules.settings import Settings

OWN_SERVER = "GRADIO_SHARE_SERVER_ADDRESS"  # host:port of another tunnel server than Gradio's, as Gradio calls it
MOST_WORDS = 1 << 16  # bytes of the answer that names the server
MOST_BYTES = 1 << 26  # of the program
ELSEWHERE = "elsewhere"  # the address of a client that nobody has told


class ShareError(RuntimeError):
    """There is no address on the internet; the message says why."""


@dataclass(frozen=True)
class Server:
    """Where a tunnel begins. ``certificate``: the file by which it is known, None where nothing is encrypted."""

    host: str
    port: int
    certificate: Path | None


@dataclass(frozen=True)
class Source:
    """Where it stands which server to ask, and where the program for tunnels comes from and goes to."""

    servers: str
    program: str
    sha256: str | None
    path: Path

    @classmethod
    def gradio(cls) -> Source:
        """Gradio's own, as this version of it knows them."""
        url = tunneling.BINARY_URL
        return cls(GRADIO_API_SERVER, url, tunneling.CHECKSUMS.get(url), Path(tunneling.BINARY_PATH))


class Public:
    """The address, if one is wanted, and the door behind it, which answers nobody until the address is known."""

    def __init__(
        self,
        settings: Settings,
        reach: Reach,
        tell: Callable[[str], object] = sys.stdout.write,
        source: Source | None = None,
    ) -> None:
        """settings: whether there is to be one. reach: how servers are asked, and where that is noted.

        source: Gradio's, if None.
        """
        self.doors = [bind("127.0.0.1", 0, search=False)] if settings.share else []
        self._folder = settings.data
        self._reach = reach
        self._source = source or Source.gradio()
        self._tell = tell
        self._tunnel: tunneling.Tunnel | None = None
        self._scheme = "https"
        self._name = ""

    def open(self) -> None:
        """Opens the tunnel, in a thread as it takes some seconds, and tells the address or what is wrong."""
        if self.doors:
            threading.Thread(target=self._open, name="share", daemon=True).start()

    def close(self) -> None:
        """Closes the tunnel and the door behind it."""
        self._name = ""
        if self._tunnel is not None:
            self._tunnel.kill()  # type: ignore[no-untyped-call]
        for door in self.doors:
            door.close()

    def beside(self, at_home: ASGIApp, inside: ASGIApp) -> ASGIApp:
        """A server that takes what comes through the tunnel under the public name only, and all else ``at_home``."""
        if not self.doors:
            return at_home
        port = self._port
        guarded = Guard(inside, lambda name: name != "" and name == self._name)

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] in ("http", "websocket") and (scope.get("server") or ("", 0))[1] == port:
                await guarded(self._from_elsewhere(scope), receive, send)
            else:
                await at_home(scope, receive, send)

        return answer

    @property
    def _port(self) -> int:
        return int(self.doors[0].getsockname()[1])

    def _from_elsewhere(self, scope: Scope) -> Scope:
        """The request as it was made: not from this machine, where the tunnel ends."""
        client = scope.get("client")
        told = client if client is not None and not is_loopback(client[0]) else (ELSEWHERE, 0)
        return {**scope, "client": told, **({"scheme": self._scheme} if scope["type"] == "http" else {})}

    def _open(self) -> None:
        try:
            address = self._dig()
        except ShareError as error:
            self._tell(f"--share: {error} The page goes on without; the next start tries again.\n")
        else:
            self._tell(
                f"On the internet: {address}\n"
                "What is written and shown there passes through the servers of that address. It ends with Pinhole, or "
                "after some days.\n"
            )
        sys.stdout.flush()

    def _dig(self) -> str:
        server = self._own_server() or self._gradios_server()
        self._fetch_program()
        certificate = None if server.certificate is None else str(server.certificate)
        token = secrets.token_urlsafe(32)
        self._tunnel = tunneling.Tunnel(server.host, server.port, "127.0.0.1", self._port, token, certificate)
        try:
            with self._reach.log.request(server.host, "the tunnel of --share"):
                found = urlsplit(self._tunnel.start_tunnel())
        except (OSError, ValueError) as error:
            self._tunnel.kill()  # type: ignore[no-untyped-call]
            raise ShareError(f"The server {server.host} gave no address ({' '.join(str(error).split())}).") from None
        self._scheme = "http" if server.certificate is None else "https"
        self._name = (found.hostname or "").lower()
        return f"{self._scheme}://{found.netloc}/"

    def _own_server(self) -> Server | None:
        told = os.environ.get(OWN_SERVER, "")
        if not told:
            return None
        host, _, port = told.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ShareError(f"{OWN_SERVER} is {told!r} and should be a host and a port, as in example.org:7000.")
        return Server(host, int(port), None)

    def _gradios_server(self) -> Server:
        try:
            told = json.loads(self._got(self._source.servers, "an address for --share", MOST_WORDS))[0]
            host, port, certificate = str(told["host"]), int(told["port"]), str(told["root_ca"])
        except (ValueError, LookupError, TypeError):
            raise ShareError("Gradio's server answered something that is no address.") from None
        path = self._folder / "share.pem"
        try:
            path.write_text(certificate, encoding="utf-8")
        except OSError as error:
            raise ShareError(f"{path} cannot be written ({error.strerror}).") from None
        return Server(host, port, path)

    def _fetch_program(self) -> None:
        """Gradio's program for tunnels, of which this version of Gradio knows the checksum."""
        path = self._source.path
        if path.exists():
            return
        if self._source.sha256 is None:
            raise ShareError("Gradio has no program for tunnels from a machine like this one.")
        program = self._got(self._source.program, "the program for --share", MOST_BYTES)
        if hashlib.sha256(program).hexdigest() != self._source.sha256:
            raise ShareError("Gradio's program for tunnels came damaged, and was thrown away.")
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(program)
            part.chmod(0o755)
            part.replace(path)
        except OSError as error:
            raise ShareError(f"{path} cannot be written ({error.strerror}).") from None

    def _got(self, url: str, purpose: str, most: int) -> bytes:
        """What lies at an address, if it has at most so many bytes."""
        received = bytearray()
        try:
            with ask(url, {}, self._reach, Stop(), purpose) as answer:
                while len(received) <= most and (block := answer.body.read1(most + 1 - len(received))):
                    received += block
        except (FetchError, Interrupted) as error:
            raise ShareError(f"{urlsplit(url).hostname} gave nothing: {str(error).rstrip('.')}.") from None
        if answer.status != 200 or len(received) > most:
            raise ShareError(f"{urlsplit(url).hostname} gave nothing that can be used (status {answer.status}).")
        return bytes(received)
