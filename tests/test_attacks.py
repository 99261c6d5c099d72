"""Attacks on a served page, each by the means that an attacker has: raw requests, files, other sites. None works."""

from __future__ import annotations

import json
import os
import pickle
import socket
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.ui.conftest import Served, serve

pytestmark = pytest.mark.slow

MARK = "not-for-strangers-4f1c"
EVIL = "https://evil.example"


@dataclass
class Answer:
    """What a server sent back; status 0 if it hung up."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Attacker:
    """Somebody who writes requests by hand: nothing is tidied up on the way."""

    port: int
    cookies: str = ""

    def send(self, method: str, target: str, body: bytes | str | None = None, **headers: str) -> Answer:
        """A request exactly as it is told; ``headers`` with _ for -."""
        content = body.encode() if isinstance(body, str) else body or b""
        named = {"Host": f"127.0.0.1:{self.port}", "Connection": "close", "Content-Length": str(len(content))}
        if self.cookies:
            named["Cookie"] = self.cookies
        if isinstance(body, str):
            named["Content-Type"] = "application/json"
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as door:
            received = b""
            with suppress(ConnectionResetError, BrokenPipeError):  # a server may hang up on what is too much
                door.sendall(f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("utf-8", "surrogateescape") + content)
                while part := door.recv(65536):
                    received += part
        head, _, rest = received.partition(b"\r\n\r\n")
        first, *others = head.decode("latin-1").split("\r\n")
        told = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in others)}
        return Answer(int(first.split()[1]) if first else 0, told, rest)


@dataclass
class Trap:
    """A server in the house that nobody may be sent to."""

    visits: list[bytes] = field(default_factory=list)
    port: int = 0

    def listen(self, door: socket.socket) -> None:
        """Notes who comes, until the door is closed."""
        while True:
            try:
                visitor, _ = door.accept()
            except OSError:
                return
            with closing(visitor):
                self.visits.append(visitor.recv(200))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A page of which nobody knows."""
    root = tmp_path_factory.mktemp("house")
    (root / "secret.txt").write_text(MARK)
    found = serve(root)
    yield found
    found.stop()


@pytest.fixture
def attacker(house: Served) -> Attacker:
    return Attacker(port_of(house), "pinhole_owner=attackattackattack")


@pytest.fixture
def trap() -> Iterator[Trap]:
    made = Trap()
    with socket.create_server(("127.0.0.1", 0)) as door:
        made.port = door.getsockname()[1]
        threading.Thread(target=made.listen, args=(door,), daemon=True).start()
        yield made
        door.shutdown(socket.SHUT_RDWR)


def port_of(served: Served) -> int:
    return int(served.address.rstrip("/").rpartition(":")[2])


def files(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file() and "data" not in path.relative_to(root).parts}


def memory_of(served: Served) -> int:
    """Bytes that the application's process has in memory; 0 where the system does not say."""
    status = Path(f"/proc/{served.process.pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def submit(attacker: Attacker, **order: object) -> Answer:
    return attacker.send("POST", "/tasks", json.dumps(order))


def ended(attacker: Attacker, answer: Answer) -> dict[str, object]:
    """The task, once it has ended."""
    task = json.loads(answer.body)["id"]
    while True:
        found = dict(json.loads(attacker.send("GET", f"/tasks/{task}").body))
        if found["state"] not in ("waiting", "running"):
            return found
        time.sleep(0.1)


@pytest.mark.parametrize(
    "place",
    [
        "/pictures/{}", "/thumbnails/{}", "/history/zip/{}", "/pinhole/x/{}", "/tasks/{}", "/languages/{}", "/{}",
        "/static/{}", "/assets/{}", "/gradio_api/file={}", "/file={}", "/gradio_api/file/{}", "/theme.css/{}",
        "/gradio_api/proxy={}", "/style-picture?name={}", "/downloads?preset={}", "/svelte/{}",
    ],
)  # fmt: skip
def test_no_path_leads_out(house: Served, attacker: Attacker, place: str) -> None:
    up = "../" * 8
    absolute = str(house.root / "secret.txt")
    for path in (
        absolute, f"/{absolute}", f"..{absolute}", f"{up}{absolute}", f"{up}etc/passwd", "/etc/passwd",
        f"{up}{absolute}".replace("/", "%2f"), f"{up}{absolute}".replace("..", "%2e%2e"), "..%252f..%252fsecret.txt",
        "..\\..\\secret.txt", "....//....//secret.txt", f"file://{absolute}", f"{absolute}%00.png", "..;/secret.txt",
        f"http:/127.0.0.1{absolute}",
    ):  # fmt: skip
        answer = attacker.send("GET", place.format(path))
        assert MARK.encode() not in answer.body and b"root:" not in answer.body, (place, path)
        assert answer.status < 500, (place, path, answer.body)


def test_no_address_in_a_file_is_asked(house: Served, attacker: Attacker, trap: Trap) -> None:
    inside = [
        f"http://127.0.0.1:{trap.port}/a.safetensors", f"https://127.0.0.1:{trap.port}/a.safetensors",
        f"http://localhost:{trap.port}/a.safetensors", f"http://[::1]:{trap.port}/a.safetensors",
        f"http://[::ffff:127.0.0.1]:{trap.port}/a.safetensors", f"http://2130706433:{trap.port}/a.safetensors",
        f"http://0x7f.1:{trap.port}/a.safetensors", f"https://evil.example@127.0.0.1:{trap.port}/a.safetensors",
        "http://169.254.169.254/latest/a.safetensors", "https://10.0.0.1/a.safetensors",
        f"file://{house.root}/secret.txt", f"ftp://127.0.0.1:{trap.port}/a.safetensors",
    ]  # fmt: skip
    folder = house.root / "data" / "presets"
    folder.mkdir(parents=True, exist_ok=True)
    for number, address in enumerate(inside):
        preset = {"checkpoint_downloads": {f"m{number}.safetensors": address}}
        (folder / f"evil{number}.json").write_text(json.dumps(preset))
        for deed in ("sizes", "start"):
            attacker.send("POST", f"/downloads/{deed}", json.dumps({"preset": f"evil{number}"}))
        submit(attacker, prompt=address, base_model=address)
    text = json.dumps({"prompt": "x", "base_model": inside[0], "loras": [[inside[0], 1]], "url": inside[0]})
    attacker.send("POST", "/metadata", picture_with(text), Content_Type="image/png")
    time.sleep(1)
    assert trap.visits == []
    assert not [path for path in files(house.root) if path.name.startswith("m") and "safetensors" in path.name]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": EVIL}, {"Origin": "null"}, {"Origin": "http://127.0.0.1.evil.example"}, {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"}, {"Origin": EVIL, "Content_Type": "text/plain"},
    ],
)  # fmt: skip
def test_another_site_changes_nothing(house: Served, attacker: Attacker, headers: dict[str, str]) -> None:
    before = attacker.send("GET", "/queue").body
    orders = {
        "/tasks": {"prompt": "theirs"},
        "/queue/cancel": {"tasks": ["20261122-181907-3f9c2a1b77aa"]},
        "/history/delete": {"pictures": ["x"]},
        "/history/zip": {"pictures": ["x"]},
        "/downloads/start": {"preset": "mini"},
        "/owner/settings": {"values": {"offline": True}},
        "/gradio_api/queue/join": {"fn_index": 0, "data": [], "session_hash": "x"},
        "/gradio_api/run/predict": {"data": []},
        "/metadata": {},
        "/prompt-list": {},
    }
    for target, order in orders.items():
        answer = attacker.send("POST", target, json.dumps(order), **headers)
        assert answer.status == 403, (target, headers, answer.status)
        assert "access-control-allow-origin" not in answer.headers
    assert attacker.send("OPTIONS", "/tasks", Access_Control_Request_Method="POST", **headers).status in (403, 405)
    assert attacker.send("GET", "/queue").body == before
    assert not (house.root / "config.txt").exists()


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "192.168.1.7", "", "127.0.0.1:80@evil.example"]
)
def test_another_name_for_this_machine_is_not_answered(attacker: Attacker, host: str) -> None:
    for target in ("/", "/queue", "/history", "/parameters", "/alive", "/gradio_api/startup-events"):
        answer = attacker.send("GET", target, Host=host)
        assert answer.status in (400, 403) and b"gradio" not in answer.body, (host, target)


def test_a_socket_from_another_site_is_not_opened(attacker: Attacker) -> None:
    headers = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    for origin in (EVIL, "null"):
        for target in ("/", "/gradio_api/queue/join", "/queue/join", "/stream"):
            assert attacker.send("GET", target, Origin=origin, **headers).status in (400, 403, 404)


def test_words_stay_words_in_every_file_and_answer(house: Served, attacker: Attacker) -> None:
    bad = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    (house.root / "models" / "loras").mkdir(parents=True, exist_ok=True)
    task = ended(attacker, submit(attacker, prompt=f"pace=0 {bad}", negative_prompt=bad, image_number=1))
    assert task["state"] == "done"
    for log in house.root.glob("outputs/*/log.html"):
        text = log.read_text("utf-8")
        assert bad not in text and "<script" not in text.lower() and "<img src=x" not in text
    for target in ("/queue", "/history", "/history/choices", f"/tasks/{task['id']}", "/parameters"):
        answer = attacker.send("GET", target)
        assert answer.headers["content-type"].startswith("application/json"), target
        assert answer.headers["x-content-type-options"] == "nosniff"
    document = attacker.send("GET", "/")
    assert b"<script>alert(1)" not in document.body
    policy = document.headers["content-security-policy"]
    scripts = next(each for each in policy.split("; ") if each.startswith("script-src"))
    assert "'unsafe-inline'" not in scripts and "'nonce-" in scripts and "frame-ancestors 'none'" in policy


def picture_with(text: str) -> bytes:
    """A small PNG with parameters."""
    info = PngInfo()
    info.add_text("parameters", text)
    buffer = BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_bombs_of_all_kinds_cost_next_to_nothing(house: Served, attacker: Attacker) -> None:
    begin, header = b"\x89PNG\r\n\x1a\n", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    zeros = zlib.compress(bytes(300_000_000), 9)
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("0", bytes(300_000_000))
    bombs = {
        "pixels": begin + chunk(b"IHDR", header) + chunk(b"IDAT", zeros) + chunk(b"IEND", b""),
        "text": begin + chunk(b"IHDR", header) + chunk(b"zTXt", b"parameters\0\0" + zeros) + chunk(b"IEND", b""),
        "international": begin
        + chunk(b"IHDR", header) + chunk(b"iTXt", b"parameters\0\1\0\0\0" + zeros) + chunk(b"IEND", b""),
        "many": begin + chunk(b"IHDR", header) + chunk(b"tEXt", b"parameters\0x") * 20_000 + chunk(b"IEND", b""),
        "archive": archive.getvalue(),
        "nested": b"[" * 1_000_000,
        "long": b"x" * 30_000_000,
    }  # fmt: skip
    before, start = memory_of(house), time.monotonic()
    for name, bomb in bombs.items():
        for target in ("/metadata", "/prompt-list", "/tasks", "/queue/cancel", "/owner/settings"):
            answer = attacker.send("POST", target, bomb, Content_Type="application/json")
            read = (target, answer.status) == ("/prompt-list", 200)
            assert read or answer.status == 0 or 400 <= answer.status < 500, (name, target, answer)
    assert memory_of(house) - before < 200e6
    assert time.monotonic() - start < 60
    assert attacker.send("GET", "/alive").status == 200


class Payload:
    """What a pickle can do when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_under_another_name_is_not_opened(house: Served, attacker: Attacker) -> None:
    hit = house.root / "pickle-was-opened"
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("archive/data.pkl", pickle.dumps(Payload(hit)))
    for kind, content in (("checkpoints", pickle.dumps(Payload(hit))), ("loras", archive.getvalue())):
        folder = house.root / "models" / kind
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "evil.safetensors").write_bytes(content)
    (house.root / "models" / "embeddings").mkdir(exist_ok=True)
    (house.root / "models" / "embeddings" / "evil.safetensors").write_bytes(archive.getvalue())
    refused = submit(attacker, prompt="x", base_model="evil.safetensors")
    assert refused.status == 422 and "evil.safetensors" in json.loads(refused.body)["error"]
    answer = submit(attacker, prompt="pace=0 x <lora:evil:1> (embedding:evil:1.1)", image_number=1)
    assert answer.status != 200 or ended(attacker, answer)
    assert not hit.exists()


def test_a_password_cannot_be_guessed_in_a_hurry(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("locked")
    (root / "auth.json").write_text(json.dumps([{"user": "ann", "pass": "correct horse"}]))
    served = serve(root)
    try:
        guesser = Attacker(port_of(served))
        begin, statuses = time.monotonic(), list[int]()
        while time.monotonic() - begin < 6:
            word = f"user=ann&password=guess{len(statuses)}"
            form = {"Content_Type": "application/x-www-form-urlencoded"}
            statuses.append(guesser.send("POST", "/login", word.encode(), **form).status)
        assert statuses.count(401) <= 9 and statuses.count(429) >= len(statuses) - 9 > 0
        for target in ("/", "/queue", "/history", "/parameters", "/pictures/x", "/gradio_api/startup-events"):
            answer = guesser.send("GET", target)
            assert answer.status in (303, 401) and b"gradio" not in answer.body
    finally:
        served.stop()


def test_nothing_can_be_put_on_the_disk_from_outside(house: Served, attacker: Attacker) -> None:
    before = files(house.root)
    body = (
        b"--x\r\nContent-Disposition: form-data; name=\"files\"; filename=\"../../evil.sh\"\r\n\r\nevil\r\n--x--\r\n"
    )  # fmt: skip
    for target in ("/gradio_api/upload", "/upload", "/gradio_api/upload?upload_id=1", "/gradio_api/run/upload"):
        answer = attacker.send("POST", target, body, Content_Type="multipart/form-data; boundary=x")
        assert answer.status in (403, 404, 405, 422), target
    for key in ("advanced.output_path", "path_outputs", "folder", "__class__", "advanced.__init__"):
        assert submit(attacker, prompt="x", **{key: "/tmp/evil"}).status == 422
    assert files(house.root) == before
