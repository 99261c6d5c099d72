"""HTTPS to servers elsewhere, at addresses that were checked; knows neither files nor presets.

The standard library, because it lets the address that was checked be the one that is connected to: huggingface_hub
and httpx look a name up themselves, after any check, and follow redirects to wherever they point.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from functools import cache
from threading import Event, Lock
from urllib.parse import SplitResult, quote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi

from modules.connections import OFFLINE, Connections, Request

MAX_REDIRECTS = 5
MAX_URL_CHARACTERS = 4000  # signed addresses of storage servers have about 1500
CONNECT_SECONDS = 15.0
REDIRECTS = frozenset({301, 302, 303, 307, 308})
HUB = "https://huggingface.co"
AGENT = "Pinhole"
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class FetchError(ValueError):
    """Something cannot be fetched, and trying again would not help; the message is fit for the user's eyes."""


class Interrupted(Exception):
    """A connection that failed on the way; trying again may help. ``wait`` is what the server asks for, in seconds."""

    def __init__(self, words: str, wait: float | None = None) -> None:
        super().__init__(words)
        self.wait = wait


class Stopped(Exception):
    """The user has asked to stop."""


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What may be reached, and how. ``mirror`` stands for the Hub's address; ``stall`` is in seconds without a byte.

    ``private``: addresses of this machine and its network as well, this machine also without TLS. ``offline``: nothing
    at all. ``log`` is where every request is noted before it is made.
    """

    mirror: str = ""
    private: bool = False
    stall: float = 30.0
    offline: bool = False
    log: Connections = field(default_factory=Connections, compare=False)


class Body:
    """What a server sends, counted as it is read."""

    def __init__(self, source: http.client.HTTPResponse, noted: Request) -> None:
        self._source = source
        self._noted = noted

    def read1(self, most: int) -> bytes:
        """Some bytes, at most so many; none at the end."""
        return self._counted(self._source.read1(most))

    def read(self) -> bytes:
        """All that is left."""
        return self._counted(self._source.read())

    def _counted(self, data: bytes) -> bytes:
        self._noted.received += len(data)
        return data


class Stop:
    """The wish to stop, heard at once also by a thread that waits for bytes."""

    def __init__(self) -> None:
        self._event = Event()
        self._lock = Lock()
        self._socket: socket.socket | None = None

    def ask(self) -> None:
        """Ends what goes on now."""
        self._event.set()
        with self._lock:
            if self._socket is not None:
                with suppress(OSError):
                    # The plain socket's: the one of TLS would pull the connection from under the thread that reads.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def check(self) -> None:
        """Raises ``Stopped`` if it was asked for."""
        if self._event.is_set():
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Waits, but not longer than until ``ask``, which raises ``Stopped``."""
        self._event.wait(seconds)
        self.check()

    @contextmanager
    def watching(self, connected: socket.socket) -> Iterator[None]:
        """While inside, ``ask`` ends this connection."""
        with self._lock:
            self._socket = connected
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._socket = None


@dataclass(frozen=True)
class Answer:
    """A server's answer, its body not read yet. ``linked`` are headers in which any redirect described the file."""

    host: str
    status: int
    headers: Message
    linked: Mapping[str, str]
    body: Body


def checked_url(url: str, reach: Reach) -> SplitResult:
    """The parts of an address that may be asked: https, with a host, without a password; raises ``FetchError``."""
    if len(url) > MAX_URL_CHARACTERS or not url.isprintable() or any(each.isspace() for each in url):
        raise FetchError(f"{url[:80]!r} is not an address.")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
        host.encode("idna")
    except ValueError:
        raise FetchError(f"{url[:80]!r} is not an address.") from None
    if not host or port == 0:
        raise FetchError(f"{url[:80]!r} is not an address.")
    if parts.username is not None or parts.password is not None:
        raise FetchError(f"The address at {host} holds a user name or a password, which belongs into no preset.")
    if parts.scheme != "https" and not (parts.scheme == "http" and reach.private and _means_this_machine(host)):
        raise FetchError(f"{url[:80]} begins with {parts.scheme or 'nothing'}: only https addresses are asked.")
    return parts


def mirrored(url: str, mirror: str) -> str:
    """``url`` with the Hub's address replaced by the mirror's."""
    return f"{mirror.rstrip('/')}{url[len(HUB) :]}" if mirror and url.startswith(f"{HUB}/") else url


@contextmanager
def ask(url: str, headers: Mapping[str, str], reach: Reach, stop: Stop, purpose: str) -> Iterator[Answer]:
    """GET ``url``, through at most ``MAX_REDIRECTS`` redirects, each checked as the address itself.

    ``purpose`` is what for, in words for the list of requests.

    Raises ``FetchError``, ``Interrupted`` and ``Stopped``, also from inside the block when the connection breaks there:
    an ``OSError`` in the block is taken for the connection's.
    """
    if reach.offline:
        raise FetchError(OFFLINE)
    url = mirrored(url, reach.mirror)
    linked: dict[str, str] = {}
    for _ in range(MAX_REDIRECTS + 1):
        parts = checked_url(url, reach)
        stop.check()
        with (
            reach.log.request(parts.hostname or "", purpose) as noted,
            _connected(parts, reach, stop) as connection,
            _broken_is_interrupted(parts, reach, stop),
        ):
            connection.request("GET", _target(parts), headers={**_HEADERS, **headers})
            with connection.getresponse() as body:
                named = ((name.lower(), value) for name, value in body.headers.items())
                linked |= {name: value for name, value in named if name.startswith("x-linked-")}
                location = body.headers.get("location")
                if body.status not in REDIRECTS or location is None:
                    yield Answer(parts.hostname or "", body.status, body.headers, linked, Body(body, noted))
                    return
        try:
            url = urljoin(url, location)
        except ValueError:
            raise FetchError(f"{parts.hostname} redirects to {location[:80]!r}, which is not an address.") from None
    raise FetchError(f"{urlsplit(url).hostname} redirects more than {MAX_REDIRECTS} times.")


_HEADERS = {"User-Agent": AGENT, "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"}


@contextmanager
def _broken_is_interrupted(parts: SplitResult, reach: Reach, stop: Stop) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise Interrupted(f"the server {parts.hostname} has sent nothing for {reach.stall:.0f} seconds") from None
    except (http.client.HTTPException, OSError, ValueError) as error:
        if isinstance(error, FetchError):
            raise
        stop.check()
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise Interrupted(f"the connection to {parts.hostname} broke: {reason}") from None


@contextmanager
def _connected(parts: SplitResult, reach: Reach, stop: Stop) -> Iterator[http.client.HTTPConnection]:
    host = parts.hostname or ""
    try:
        connection = _through_proxy(parts, reach) or _Direct(parts, reach)
        connection.connect()
    except ssl.SSLCertVerificationError as error:
        raise FetchError(f"{host} shows a certificate that is not its own ({error.verify_message}).") from None
    except socket.gaierror:
        stop.check()
        raise Interrupted(f"the server {host} cannot be found: is this machine online?") from None
    except (OSError, http.client.HTTPException) as error:
        stop.check()
        raise Interrupted(f"the server {host} cannot be reached: {getattr(error, 'strerror', None) or error}") from None
    try:
        with stop.watching(connection.sock):
            yield connection
    finally:
        connection.close()


class _Direct(http.client.HTTPConnection):
    """A connection to an address that was checked, with TLS unless the address is plain."""

    def __init__(self, parts: SplitResult, reach: Reach) -> None:
        self._tls = parts.scheme == "https"
        super().__init__(parts.hostname or "", parts.port or (443 if self._tls else 80), timeout=reach.stall)
        self._reach = reach

    def connect(self) -> None:
        """Connects to the first checked address that answers."""
        plain = _socket_to(self.host, self.port, self._reach)
        plain.settimeout(self._reach.stall)
        self.sock = _tls_context().wrap_socket(plain, server_hostname=self.host) if self._tls else plain


def _through_proxy(parts: SplitResult, reach: Reach) -> http.client.HTTPConnection | None:
    """A connection through the proxy that this machine is set up to use. The proxy looks names up, not we."""
    host, address = parts.hostname or "", getproxies().get(parts.scheme)
    if not address or parts.scheme != "https" or proxy_bypass(host):
        return None
    with suppress(ValueError):
        _check_address(host, ipaddress.ip_address(host), reach)
    proxy = urlsplit(address if "//" in address else f"//{address}")
    connection = http.client.HTTPSConnection(
        proxy.hostname or "", proxy.port or 8080, timeout=reach.stall, context=_tls_context()
    )
    connection.set_tunnel(host, parts.port or 443)
    return connection


def _socket_to(host: str, port: int, reach: Reach) -> socket.socket:
    """A socket connected to ``host``, at none but a checked address; raises ``FetchError`` and ``OSError``."""
    last: OSError | FetchError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        made = socket.socket(family, kind, protocol)
        try:
            _check_address(host, ipaddress.ip_address(str(address[0]).partition("%")[0]), reach)
            made.settimeout(min(CONNECT_SECONDS, reach.stall))
            made.connect(address)
        except (OSError, FetchError) as error:
            made.close()
            last = error
        else:
            return made
    raise last or OSError("it has no address")


def _check_address(host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address, reach: Reach) -> None:
    """Refuses what lies on this machine or its network, also where IPv4 is wrapped into IPv6."""
    if isinstance(address, ipaddress.IPv6Address):
        wrapped = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            wrapped = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        address = wrapped or address
    if (not address.is_global or address.is_multicast) and not reach.private:
        raise FetchError(
            f"{host} lies in a private network ({address}), where presets may not point. "
            '"download_from_private_addresses": true in config.txt allows it.'
        )


def _means_this_machine(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _target(parts: SplitResult) -> str:
    """Path and query as they are sent: what an address may not hold is escaped, what is escaped already stays."""
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]")
    return f"{path}?{query}" if query else path


@cache
def _tls_context() -> ssl.SSLContext:
    """This machine's trusted authorities, and Mozilla's: Python on macOS comes with none."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
