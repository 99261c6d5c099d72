"""Who may talk to the server: Host, Origin and path checks around the whole app; knows nothing of what is served."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


def content_policy(nonce: str = "") -> str:
    """What a document may load and run: nothing of elsewhere, no script in its text but those that carry ``nonce``."""
    # Gradio compiles its templates in the browser, and writes style sheets into the page.
    carried = f" 'nonce-{nonce}'" if nonce else ""
    return "; ".join(
        (
            "default-src 'self'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "style-src 'self' 'unsafe-inline'",
            f"script-src 'self'{carried} 'unsafe-eval'",
            "connect-src 'self'",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    # Other sites are told nothing. With "no-referrer" a browser would call the origin of our own forms "null".
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}

# All there is. Gradio's file, upload, proxy, history, monitoring and description routes are not in the list, so that
# nothing they could do is reachable.
PATHS = re.compile(
    r"/|/alive|/pinhole/[^/]+/[^/]+|/pictures/[^/]+|/style-picture|/downloads(?:/[a-z]+)?|/metadata"
    r"|/history(?:/[a-z]+|/zip/[0-9a-f]+)?|/thumbnails/[^/]+|/queue(?:/[a-z]+)?|/owner/[a-z]+"
    r"|/parameters|/prompt-list|/tasks(?:/[0-9a-f-]+(?:/[a-z]+)?)?"
    r"|/languages(?:/[A-Za-z0-9_-]+)?"
    r"|/config/?|/theme\.css|/robots\.txt|/(?:assets|static)/.+"
    r"|/gradio_api/(?:queue/(?:join|data)|run/[^/]+/?|heartbeat/[^/]+|cancel|reset/?|startup-events|app_id/?)"
)

_HOST = re.compile(r"(?:\[(?P<literal>[^\]@/\s]+)\]|(?P<name>[^\s:/@\[\]]+))(?::[0-9]{1,5})?")


def host_name(header: str) -> str:
    """The name in a Host header, lower case, without port and brackets; empty if it is none."""
    found = _HOST.fullmatch(header.strip().lower())
    return (found["literal"] or found["name"]) if found else ""


def is_loopback(name: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def host_check(bound_to: str) -> Callable[[str], bool]:
    """Which host names a server bound to this address answers to.

    Bound to loopback: loopback names only. Bound to more: any numeric address and this machine's own names. Other
    names are refused, because that is what DNS rebinding looks like: a stranger's name that points here.
    """
    if is_loopback(bound_to):
        return is_loopback
    machine = socket.gethostname().lower()
    short = machine.partition(".")[0]
    own_names = {machine, short, f"{short}.local", bound_to.lower()}

    def check(name: str) -> bool:
        if name in own_names or is_loopback(name):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    return check


def refusal(headers: Headers, is_own_host: Callable[[str], bool], scheme: str) -> str:
    """Why a request with these headers is refused, in words; empty when it is not.

    A browser tells where a request comes from: in Origin (always with requests that change something, and with every
    WebSocket) and in Sec-Fetch-Site. Another site's page, a sandboxed page (Origin ``null``) and a page under a
    rebound name are all seen there. Programs send neither header and are let through.
    """
    host = headers.get("host", "")
    if not is_own_host(host_name(host)):
        return f"Pinhole does not answer to the name {host[:100]!r}. Open it under the address it printed."
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in (f"{scheme}://{host.lower()}", f"https://{host.lower()}"):
        return "This request comes from another page. Pinhole takes orders from its own page only."
    site = headers.get("sec-fetch-site", "none")
    if site not in ("none", "same-origin") and headers.get("sec-fetch-mode") != "navigate":
        return "This request comes from another site. Pinhole serves its own page only."
    return ""


class Guard:
    """ASGI middleware: refuses foreign hosts and origins, adds the security headers to every answer."""

    def __init__(self, app: ASGIApp, is_own_host: Callable[[str], bool]) -> None:
        self.app = app
        self.is_own_host = is_own_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        scheme: str = {"ws": "http", "wss": "https"}.get(scope["scheme"]) or scope["scheme"]
        reason = refusal(Headers(scope=scope), self.is_own_host, scheme)
        if scope["type"] == "websocket":
            if reason:
                await send({"type": "websocket.close", "code": 1008, "reason": reason[:120]})
            else:
                await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("content-security-policy", content_policy())
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = PlainTextResponse(reason, status_code=403) if reason else self.app
        await answer(scope, receive, send_guarded)


class Door:
    """ASGI middleware: lets through only the paths that the page needs; the rest does not exist."""

    def __init__(self, app: ASGIApp, paths: re.Pattern[str] = PATHS) -> None:
        self.app = app
        self.paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self.paths.fullmatch(scope["path"]):
            await PlainTextResponse("There is nothing here.", status_code=404)(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self.app(_plain_for_this_machine(scope), receive, send)


def _plain_for_this_machine(scope: Scope) -> Scope:
    """A request from this machine asks for plain bytes: compressing them would take longer than sending them."""
    client = scope.get("client")
    if scope["type"] != "http" or client is None or not is_loopback(client[0]):
        return scope
    return {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]}
