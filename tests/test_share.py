"""`--share`: the page at an address on the internet; Gradio's program for tunnels has a stand-in joining two ports."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from gradio import tunneling

from modules.api.public import Public, Server, ShareError, Source
from modules.https import Reach
from modules.settings import SettingsError, built_in_settings, load_settings
from tests.modules.conftest import ROOT
from tests.test_attacks import Answer, Attacker

NAME = "0123456789abcdef.gradio.live"

# Takes what Gradio passes on, tells an address as its program does, and joins the port behind it to the page's.
PROGRAM = f"""#!{sys.executable}
import socket, sys, threading
given = dict(zip(sys.argv, sys.argv[1:]))
host, _, port = given["--server_addr"].rpartition(":")
public = socket.create_server((host, int(port)))

def join(one, other):
    while part := one.recv(65536):
        other.sendall(part)
    other.shutdown(socket.SHUT_WR)

print("start proxy success: http://{NAME}", flush=True)
while True:
    visitor = public.accept()[0]
    page = socket.create_connection((given["-i"], int(given["-l"])))
    threading.Thread(target=join, args=(visitor, page), daemon=True).start()
    threading.Thread(target=join, args=(page, visitor), daemon=True).start()
"""


@dataclass
class Shared:
    """A page that is shared, what it said when it began, and its two doors."""

    process: subprocess.Popen[str]
    said: str
    home: Attacker
    public: Attacker

    def ask(self, method: str, target: str, body: bytes | None = None, **headers: str) -> Answer:
        """A request from the internet."""
        return self.public.send(method, target, body, **{"Host": NAME, **headers})

    def sign_in(self) -> Answer:
        """With the name and the password that were shown."""
        shown = dict(re.findall(r"(Name|Password) +(\S+)", self.said))
        body = f"user={shown['Name']}&password={shown['Password']}".encode()
        return self.ask("POST", "/login", body, Origin=f"http://{NAME}", **FORM)


FORM = {"Content_Type": "application/x-www-form-urlencoded"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


def started(folder: Path, program: str, server: str, until: str) -> tuple[subprocess.Popen[str], str]:
    """A page that shares, and what it said up to this word."""
    path = folder / "hub" / "gradio" / "frpc" / tunneling.BINARY_FILENAME
    path.parent.mkdir(parents=True)
    path.write_text(program)
    path.chmod(0o755)
    environment = {**os.environ, "HF_HOME": str(folder / "hub"), "GRADIO_SHARE_SERVER_ADDRESS": server}
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "tests.ui.page_server", str(folder / "home"), "0", "--share"],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if until in line:
            return process, said
    raise AssertionError(said)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    port = free_port()
    process, said = started(tmp_path_factory.mktemp("shared"), PROGRAM, f"127.0.0.1:{port}", "On the internet")
    at_home = re.search(r"ready at http://127\.0\.0\.1:(\d+)/", said)
    assert at_home is not None
    yield Shared(process, said, Attacker(int(at_home[1])), Attacker(port))
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    until = time.monotonic() + 5
    while time.monotonic() < until:  # the tunnel ends with the page
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except ConnectionRefusedError:
            break
        time.sleep(0.1)
    else:
        raise AssertionError("the tunnel is still open")


def test_the_address_and_an_account_are_told(shared: Shared) -> None:
    assert f"On the internet: http://{NAME}/" in shared.said
    assert "Name      pinhole" in shared.said and "Password" in shared.said


def test_who_comes_from_the_internet_signs_in_and_sees_the_page(shared: Shared) -> None:
    assert shared.ask("GET", "/", Accept="text/html").status == 303
    assert shared.ask("GET", "/config").status == 401
    signed = shared.sign_in()
    assert signed.status == 303
    cookie = {"Cookie": signed.headers["set-cookie"].partition(";")[0]}
    page = shared.ask("GET", "/", None, Accept="text/html", **cookie)
    assert page.status == 200 and b"127.0.0.1" not in page.body and NAME.encode() in page.body


def test_it_answers_to_no_other_name_there_and_not_to_that_one_at_home(shared: Shared) -> None:
    home = f"127.0.0.1:{shared.home.port}"
    for name in (home, f"127.0.0.1:{shared.public.port}", "localhost", "evil.example", f"x.{NAME}", ""):
        assert shared.ask("GET", "/login", Host=name).status in (400, 403), name
    assert shared.home.send("GET", "/login", Host=NAME).status == 403
    assert shared.home.send("GET", "/login").status == 200


def test_orders_of_other_pages_are_refused_there_too(shared: Shared) -> None:
    for origin in ("null", "https://evil.example", f"http://x.{NAME}", f"http://127.0.0.1:{shared.home.port}"):
        assert shared.ask("POST", "/login", b"user=a&password=b", Origin=origin, **FORM).status == 403, origin


@pytest.mark.parametrize("forged", [{}, {"X_Forwarded_For": "127.0.0.1"}, {"X_Real_Ip": "::1", "Forwarded": "for=::1"}])
def test_nobody_from_the_internet_is_the_owner_of_the_machine(shared: Shared, forged: dict[str, str]) -> None:
    cookie = {"Cookie": shared.sign_in().headers["set-cookie"].partition(";")[0]}
    for path in ("/owner/settings", "/owner/connections"):
        assert shared.ask("GET", path, None, **cookie, **forged).status == 403


def test_the_owner_sees_the_tunnel_among_the_connections(shared: Shared) -> None:
    shown = dict(re.findall(r"(Name|Password) +(\S+)", shared.said))
    body = f"user={shown['Name']}&password={shown['Password']}".encode()
    cookie = shared.home.send("POST", "/login", body, **FORM).headers["set-cookie"].partition(";")[0]
    told = shared.home.send("GET", "/owner/connections", Cookie=cookie)
    assert told.status == 200 and b"the tunnel of --share" in told.body


@pytest.mark.parametrize(
    ("server", "program", "words"),
    [
        ("nowhere", PROGRAM, "should be a host and a port"),
        ("127.0.0.1:9", f"#!{sys.executable}\nprint('login to server failed: no')\n", "127.0.0.1 gave no address"),
        ("127.0.0.1:9", "this is no program", "127.0.0.1 gave no address"),
    ],
)
def test_without_an_address_the_page_goes_on_at_home(tmp_path: Path, server: str, program: str, words: str) -> None:
    process, said = started(tmp_path, program, server, "The page goes on without")
    assert words in said
    at_home = re.search(r"ready at http://127\.0\.0\.1:(\d+)/", said)
    assert at_home is not None and Attacker(int(at_home[1])).send("GET", "/login").status == 200
    process.kill()
    process.wait()


def test_sharing_offline_is_a_contradiction(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--share needs a connection to Gradio's servers"):
        load_settings(tmp_path, {"share": True, "offline": True}, {})


class Elsewhere(BaseHTTPRequestHandler):
    """Gradio's two servers in one: it gives what lies there."""

    lies: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        found = self.lies.get(self.path)
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Length", str(len(found or b"")))
        self.end_headers()
        self.wfile.write(found or b"")

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class Digging:
    """What is asked of Gradio for an address, with its servers on this machine."""

    def __init__(self, folder: Path, port: int, sha256: str | None) -> None:
        address = f"http://127.0.0.1:{port}"
        self.program = folder / "hub" / "frpc"
        self.reach = Reach(private=True)
        settings = replace(built_in_settings(folder), data=folder)
        source = Source(f"{address}/servers", f"{address}/program", sha256, self.program)
        self.public = Public(settings, self.reach, source=source)


@pytest.fixture
def elsewhere() -> Iterator[int]:
    Elsewhere.lies = {
        "/servers": json.dumps([{"host": "share.example", "port": 7000, "root_ca": "a certificate"}]).encode(),
        "/program": b"the program",
    }
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield int(server.server_address[1])
        server.shutdown()


def test_gradios_servers_tell_where_and_give_the_program(tmp_path: Path, elsewhere: int) -> None:
    digging = Digging(tmp_path, elsewhere, hashlib.sha256(b"the program").hexdigest())
    server = digging.public._gradios_server()
    assert server == Server("share.example", 7000, tmp_path / "share.pem")
    assert (tmp_path / "share.pem").read_text() == "a certificate"
    digging.public._fetch_program()
    assert digging.program.read_bytes() == b"the program" and os.access(digging.program, os.X_OK)
    assert [each["purpose"] for each in digging.reach.log.told()] == [
        "the program for --share",
        "an address for --share",
    ]
    Elsewhere.lies = {}
    digging.public._fetch_program()  # it is there


@pytest.mark.parametrize(
    "told", [b"", b"[]", b"{}", b"[{}]", b'[{"host": 1}]', b"\xff", b'[{"host": "a", "port": "x"}]']
)
def test_what_is_no_address_is_said(tmp_path: Path, elsewhere: int, told: bytes) -> None:
    Elsewhere.lies["/servers"] = told
    with pytest.raises(ShareError, match="answered something that is no address"):
        Digging(tmp_path, elsewhere, None).public._gradios_server()


def test_a_program_that_is_not_gradios_is_thrown_away(tmp_path: Path, elsewhere: int) -> None:
    digging = Digging(tmp_path, elsewhere, hashlib.sha256(b"another program").hexdigest())
    with pytest.raises(ShareError, match="came damaged"):
        digging.public._fetch_program()
    assert not digging.program.parent.exists()
    with pytest.raises(ShareError, match="no program for tunnels from a machine like this"):
        Digging(tmp_path, elsewhere, None).public._fetch_program()
    Elsewhere.lies = {}
    with pytest.raises(ShareError, match=r"127\.0\.0\.1 gave nothing that can be used \(status 404\)"):
        digging.public._fetch_program()


def test_offline_nobody_is_asked(tmp_path: Path, elsewhere: int) -> None:
    digging = Digging(tmp_path, elsewhere, None)
    digging.public._reach = Reach(offline=True)
    with pytest.raises(ShareError, match="offline"):
        digging.public._gradios_server()
