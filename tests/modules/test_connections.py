"""What this process opens beyond the machine is noted, whoever opens it, and nothing gets out when it is offline."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from modules.connections import MOST, Connections
from tests.modules.conftest import ROOT

# In a process of its own: what listens to the interpreter cannot be taken away again.
ATTEMPTS = """
import http.client, json, socket, sys, threading, urllib.request
from modules.connections import Connections, watch_connections
connections, failures = Connections(), []
watch_connections(connections, offline=sys.argv[1] == "offline")

def attempt(deed):
    try:
        deed()
        failures.append("")
    except Exception as error:
        failures.append(str(error))

def datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.sendto(b"x", ("203.0.113.7", 9))

def connect(address, family=socket.AF_INET):
    with socket.socket(family) as door:
        door.settimeout(0.01)
        door.connect(address)

def listening():
    with socket.create_server(("127.0.0.1", 0)) as door, socket.socket() as other:
        other.connect(door.getsockname())

attempt(lambda: connect(("203.0.113.7", 80)))
attempt(lambda: connect(("2001:db8::7", 80), socket.AF_INET6))
attempt(datagram)
attempt(lambda: http.client.HTTPConnection("203.0.113.7", timeout=0.01).request("GET", "/"))
attempt(lambda: urllib.request.urlopen("http://203.0.113.7/", timeout=0.01))
thread = threading.Thread(target=attempt, args=(lambda: connect(("203.0.113.8", 80)),))
thread.start()
thread.join()
attempt(listening)
if sys.argv[1] == "offline":
    attempt(lambda: socket.getaddrinfo("example.com", 80))
attempt(lambda: socket.getaddrinfo("localhost", 80))
with connections.request("models.example.com", "a model"):
    attempt(lambda: connect(("203.0.113.9", 80)))
print(json.dumps({"failures": failures, "told": connections.told(), "count": connections.count}))
"""
OUTSIDE = ["203.0.113.7", "2001:db8::7", "203.0.113.7", "203.0.113.7", "203.0.113.7", "203.0.113.8"]


def attempts(way: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", ATTEMPTS, way], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return dict(json.loads(done.stdout))


def test_offline_nothing_gets_out_whoever_tries_and_every_attempt_is_on_the_list() -> None:
    found = attempts("offline")
    *refused, listening, name, localhost, asked = found["failures"]
    assert all("Pinhole is offline" in words for words in (*refused, name, asked)) and len(refused) == len(OUTSIDE)
    assert listening == localhost == ""
    told = [each["host"] for each in reversed(found["told"])]
    assert told == [*OUTSIDE, "example.com", "models.example.com"]
    assert {each["purpose"] for each in found["told"]} == {"asked for by __main__", "a model"}


def test_online_everything_is_noted_once_and_nothing_is_refused() -> None:
    found = attempts("online")
    assert not any("offline" in words for words in found["failures"])
    assert [each["host"] for each in reversed(found["told"])] == [*OUTSIDE, "models.example.com"]


def test_a_request_tells_what_came_and_the_list_has_an_end() -> None:
    connections = Connections(clock=lambda: 7.0)
    for number in range(MOST + 5):
        with connections.request(f"{number}.example.com", "size of a.safetensors") as noted:
            noted.received += number
    first = connections.told()[0]
    assert first == {"began": 7.0, "host": "1004.example.com", "purpose": "size of a.safetensors", "received": 1004}
    assert connections.count == MOST + 5 and len(connections.told()) == MOST


def test_an_engine_can_reach_nobody() -> None:
    code = (
        "import socket, multiprocessing as m\n"
        "from modules.engine_process import main\n"
        "from modules.engine_messages import EngineConfig\n"
        "from modules.model_folders import ModelFolders\n"
        "from pathlib import Path\n"
        "def build(config):\n"
        "    try:\n"
        "        socket.create_connection(('203.0.113.7', 80), timeout=0.1)\n"
        "    except PermissionError as error:\n"
        "        print(error, flush=True)\n"
        "    raise SystemExit\n"
        "ours, theirs = m.Pipe()\n"
        "main(theirs, EngineConfig(ModelFolders.under(Path('models'))), build)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "Pinhole is offline" in done.stdout, done.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.9.1", "0.0.0.0", b"localhost"])
def test_this_machine_is_not_elsewhere(host: str | bytes) -> None:
    code = (
        "import socket, sys\n"
        "from modules.connections import Connections, watch_connections\n"
        "found = Connections()\n"
        "watch_connections(found, offline=True)\n"
        f"socket.getaddrinfo({host!r}, 80)\n"
        "sys.exit(found.count)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60).returncode == 0
