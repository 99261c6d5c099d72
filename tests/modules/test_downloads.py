"""Downloads as the page and the command line use them, against a real server: shared, one at a time, never unasked."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from modules import download
from modules.api import download_routes
from modules.cli import BAD_INPUT, DONE, FAILED
from modules.downloads import Downloads, Meter
from modules.fetching import Pace
from modules.files import ModelLibrary
from modules.presets import PresetError
from modules.settings import Settings, SettingsError, load_settings
from tests.modules.conftest import settings
from tests.modules.model_server import REACH, ModelServer, Way, model_bytes, serving

__all__ = ["settings"]  # a fixture

BASE, LORA = model_bytes(900_000), model_bytes(300_000, seed=2)
BASE_ID, LORA_ID = "checkpoints/base.safetensors", "loras/lora.safetensors"


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with serving() as opened:
        opened.files |= {"/base": BASE, "/lora": LORA}
        yield opened


@pytest.fixture
def downloads(settings: Settings, server: ModelServer) -> Iterator[Downloads]:
    preset = {
        "default_model": "base.safetensors",
        "checkpoint_downloads": {"base.safetensors": server.url("/base")},
        "lora_downloads": {"lora.safetensors": server.url("/lora")},
        "embeddings_downloads": {"e.pt": server.url("/e")},
    }
    (settings.presets / "mine.json").write_text(json.dumps(preset))
    made = Downloads(settings, ModelLibrary(settings.models), REACH)
    made.pace = Pace(0.01)
    yield made
    made.close()


def files(downloads: Downloads, preset: str = "mine") -> dict[str, Any]:
    return {file["id"]: file for file in downloads.state(preset)["files"]}


def states(downloads: Downloads) -> list[str]:
    return [file["state"] for file in downloads.state("mine")["files"]]


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def fetch_all(downloads: Downloads) -> None:
    downloads.look_up("mine")
    downloads.wait()
    downloads.start("mine")
    downloads.wait()


def test_sizes_first_then_the_files_then_the_lists_know_them(downloads: Downloads, server: ModelServer) -> None:
    before = downloads.state("mine")
    assert states(downloads) == ["missing", "missing"] and before["free"] > 0
    assert "e.pt" in before["complaints"][0]
    assert before["files"][0]["folder"] == str(downloads.settings.models.checkpoints[0])
    downloads.start("mine")
    downloads.wait()
    assert server.seen == [], "nothing is fetched whose size nobody has seen"
    downloads.look_up("mine")
    downloads.wait()
    assert [file["size"] for file in downloads.state("mine")["files"]] == [len(BASE), len(LORA)]
    assert [headers["range"] for _, headers in server.seen] == ["bytes=0-0", "bytes=0-0"]
    downloads.start("mine")
    downloads.wait()
    assert states(downloads) == ["here", "here"]
    assert (downloads.settings.models.checkpoints[0] / "base.safetensors").read_bytes() == BASE
    assert "lora.safetensors" in downloads.library.names("loras"), "without a restart"
    server.seen.clear()
    fetch_all(downloads)
    assert server.seen == [], "what is here is not fetched again"


def test_a_size_in_the_preset_needs_no_question(downloads: Downloads, server: ModelServer) -> None:
    sha256 = hashlib.sha256(LORA).hexdigest()
    link = f"{server.url('/lora')}#sha256={sha256}&size={len(LORA)}"
    (downloads.settings.presets / "mine.json").write_text(json.dumps({"lora_downloads": {"lora.safetensors": link}}))
    assert files(downloads)[LORA_ID]["size"] == len(LORA) and files(downloads)[LORA_ID]["known"]
    downloads.start("mine")
    downloads.wait()
    assert files(downloads)[LORA_ID]["state"] == "here"
    assert [path for path, _ in server.seen] == ["/lora"]


def test_one_file_at_a_time_and_the_same_never_twice(downloads: Downloads, server: ModelServer) -> None:
    downloads.look_up("mine")
    downloads.wait()
    server.seen.clear()
    server.always = Way(slow=0.03)
    for _ in range(5):
        downloads.start("mine")
    until(lambda: "running" in states(downloads))
    downloads.look_up("mine")
    downloads.start("mine")
    seen = files(downloads)[BASE_ID]
    assert seen["state"] == "running" and "waiting" in states(downloads)
    until(lambda: files(downloads)[BASE_ID]["speed"] > 0 or "here" in states(downloads))
    downloads.wait()
    assert [path for path, _ in server.seen] == ["/base", "/lora"]
    assert states(downloads) == ["here", "here"]


def test_cancelled_is_kept_and_goes_on(downloads: Downloads, server: ModelServer) -> None:
    downloads.look_up("mine")
    downloads.wait()
    server.always = Way(slow=0.1)
    downloads.start("mine")
    until(lambda: files(downloads)[BASE_ID]["received"] > 0)
    assert [file["id"] for file in downloads.state("default")["files"] if file.get("other")] == [BASE_ID, LORA_ID]
    downloads.cancel()
    downloads.wait()
    kept = files(downloads)[BASE_ID]
    assert kept["state"] == "missing" and 0 < kept["received"] < len(BASE)
    assert "base.safetensors" not in downloads.library.names("checkpoints")
    again = Downloads(downloads.settings, downloads.library, REACH)  # the application was started anew
    assert files(again)[BASE_ID]["received"] == kept["received"]
    server.always = Way()
    server.seen.clear()
    fetch_all(again)
    ranges = [headers.get("range") for path, headers in server.seen if path == "/base"]
    assert ranges == ["bytes=0-0", f"bytes={kept['received']}-"]
    assert (downloads.settings.models.checkpoints[0] / "base.safetensors").read_bytes() == BASE


def test_what_fails_is_told_and_the_others_come(downloads: Downloads, server: ModelServer) -> None:
    downloads.look_up("mine")
    downloads.wait()
    server.ways = [Way(status=404)]
    downloads.start("mine")
    downloads.wait()
    found = files(downloads)
    assert found[BASE_ID]["state"] == "failed" and "any more (404)" in found[BASE_ID]["words"]
    assert found[LORA_ID]["state"] == "here"
    fetch_all(downloads)
    assert states(downloads) == ["here", "here"], "trying again is possible"


def test_off_means_off(downloads: Downloads, server: ModelServer, tmp_path: Path) -> None:
    off = Downloads(replace(downloads.settings, preset_downloads=False), downloads.library, REACH)
    for deed in (off.look_up, off.start):
        with pytest.raises(ValueError, match="switched off"):
            deed("mine")
    assert server.seen == [] and "switched off" in off.state("mine")["off"]
    (tmp_path / "mine.safetensors").write_bytes(BASE)
    off.use_own("mine", BASE_ID, str(tmp_path / "mine.safetensors"))
    off.wait()
    assert files(off)[BASE_ID]["state"] == "here", "one's own file needs no network"


def test_a_file_of_ones_own_is_linked(downloads: Downloads, tmp_path: Path) -> None:
    own = tmp_path / "elsewhere" / "other name.safetensors"
    own.parent.mkdir()
    own.write_bytes(BASE)
    downloads.use_own("mine", BASE_ID, f' "{own}" ')
    downloads.wait()
    target = downloads.settings.models.checkpoints[0] / "base.safetensors"
    assert target.samefile(own) and states(downloads)[0] == "here"


def test_a_namesake_in_another_folder_is_found(downloads: Downloads, monkeypatch: pytest.MonkeyPatch) -> None:
    astray = downloads.settings.models.loras[0] / "sub" / "base.safetensors"
    astray.parent.mkdir(parents=True)
    astray.write_bytes(BASE)

    def no_links(*_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_links)
    assert files(downloads)[BASE_ID]["found"] == str(astray)
    downloads.use_own("mine", BASE_ID, "")
    downloads.wait()
    folder = downloads.settings.models.checkpoints[0]
    assert (folder / "base.safetensors").read_bytes() == BASE and not list(folder.glob("*.part"))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("relative.safetensors", "not the whole path"),
        ("/gone/x.safetensors", "is not a .safetensors file on this machine"),
        ("/etc/passwd", "is not a .safetensors file on this machine"),
        ("", "not the whole path"),
        ("/\0", "not"),
        ("~nobody-of-this-name/x.safetensors", "not the whole path"),
    ],
)
def test_what_is_no_model_is_not_taken_over(downloads: Downloads, path: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        downloads.use_own("mine", BASE_ID, path)
    with pytest.raises(ValueError, match="does not name this file"):
        downloads.use_own("mine", "checkpoints/../../x", path)


def test_a_damaged_file_of_ones_own_is_not_taken_over(downloads: Downloads, tmp_path: Path) -> None:
    own = tmp_path / "half.safetensors"
    own.write_bytes(BASE[:-9])
    downloads.use_own("mine", BASE_ID, str(own))
    downloads.wait()
    found = files(downloads)[BASE_ID]
    assert found["state"] == "failed" and "half.safetensors is cut off" in found["words"]


def test_another_file_than_the_one_that_is_meant_is_not_taken_over(
    downloads: Downloads, server: ModelServer, tmp_path: Path
) -> None:
    server.always = Way(headers={"X-Linked-ETag": f'"{hashlib.sha256(BASE).hexdigest()}"'})
    downloads.look_up("mine")
    downloads.wait()
    own = tmp_path / "other.safetensors"
    own.write_bytes(LORA)
    downloads.use_own("mine", BASE_ID, str(own))
    downloads.wait()
    assert "not the file it should be" in files(downloads)[BASE_ID]["words"]


def test_nothing_goes_to_the_network_unless_asked(downloads: Downloads, monkeypatch: pytest.MonkeyPatch) -> None:
    def outside(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was used")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, outside)
    monkeypatch.setattr(socket.socket, "connect", outside)
    for preset in ("mine", "", "default", "mini"):
        downloads.state(preset)
    downloads.cancel()
    downloads.start("mine")  # pressed, but nobody has seen a size
    downloads.wait()
    with pytest.raises(PresetError):
        downloads.state("nobody")


@pytest.fixture
def client(downloads: Downloads) -> TestClient:
    app = FastAPI()
    app.include_router(download_routes.router(downloads))
    return TestClient(app, client=("127.0.0.1", 50000))


def test_the_buttons_of_the_panel(client: TestClient, downloads: Downloads, server: ModelServer) -> None:
    assert [file["state"] for file in client.get("/downloads?preset=mine").json()["files"]] == ["missing", "missing"]
    assert client.post("/downloads/sizes", json={"preset": "mine"}).status_code == 200
    downloads.wait()
    assert client.post("/downloads/start", json={"preset": "mine"}).json()["preset"] == "mine"
    downloads.wait()
    assert [file["state"] for file in client.get("/downloads?preset=mine").json()["files"]] == ["here", "here"]
    assert client.post("/downloads/cancel", json={}).status_code == 200


@pytest.mark.parametrize(
    ("deed", "wish", "status"),
    [
        ("sizes", {"preset": "nobody"}, 409),
        ("own", {"preset": "mine", "file": "x", "path": "/x"}, 409),
        ("delete", {"preset": "mine"}, 404),
        ("start", {"preset": ["mine"]}, 422),
        ("start", {"preset": "mine", "url": "https://example.com"}, 422),
        ("start", {"preset": "x" * 500}, 422),
        ("sizes", {"preset": "../../mine"}, 409),
    ],
)
def test_what_the_panel_would_not_send(
    client: TestClient, server: ModelServer, deed: str, wish: Any, status: int
) -> None:
    assert client.post(f"/downloads/{deed}", json=wish).status_code == status
    assert client.get("/downloads?preset=../mine").status_code == 409
    assert server.seen == []


def test_the_command_fetches_what_a_preset_names(
    downloads: Downloads, server: ModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    root = downloads.settings.root
    assert download.main(["mine", "--sizes"], root, REACH) == DONE
    told = capsys.readouterr().err
    assert "checkpoints/base.safetensors: 900 kB" in told and "To fetch: 1 MB, free on the disk: " in told
    assert states(downloads) == ["missing", "missing"]
    server.ways = [Way(), Way(), Way(status=404)]
    assert download.main(["mine"], root, REACH) == FAILED
    told = capsys.readouterr().err
    assert "does not have the file any more (404). By hand: put base.safetensors into " in told
    assert f"It can be had at {server.url('/base')}." in told
    assert download.main(["mine"], root, REACH) == DONE
    assert states(downloads) == ["here", "here"]
    assert download.main(["nobody"], root, REACH) == BAD_INPUT
    assert "There is no preset 'nobody'" in capsys.readouterr().err


def test_offline_the_sentence_says_what_to_do(
    downloads: Downloads, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lost(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", lost)
    assert download.main(["default"], downloads.settings.root) == FAILED
    told = capsys.readouterr().err
    folder = downloads.settings.models.checkpoints[0]
    assert "The server huggingface.co cannot be found: is this machine online?" in told
    assert f"put juggernautXL_v8Rundiffusion.safetensors into {folder}. It can be had at https://" in told


def test_speed_is_that_of_the_last_seconds() -> None:
    meter = Meter()
    assert meter.speed(0) == 0
    for second in range(20):
        meter.add(second * 100, second)
    assert meter.speed(19) == pytest.approx(100)
    for second in range(20, 40):
        meter.add(1900 + (second - 19) * 5, second)
    assert meter.speed(39) == pytest.approx(5)
    meter.add(0, 41)
    assert meter.speed(41) == 0, "begun anew"


def test_the_switch_and_the_mirror_come_from_file_environment_and_flags(tmp_path: Path) -> None:
    assert load_settings(tmp_path, {}, {}).preset_downloads
    (tmp_path / "config.txt").write_text('{"disable_preset_download": true, "hf_mirror": "https://a.example/"}')
    found = load_settings(tmp_path, {}, {})
    assert (found.preset_downloads, found.hf_mirror, found.private_addresses) == (False, "https://a.example", False)
    environ = {"disable_preset_download": "False", "HF_ENDPOINT": "https://b.example"}
    found = load_settings(tmp_path, {}, environ)
    assert (found.preset_downloads, found.hf_mirror) == (True, "https://b.example")
    assert load_settings(tmp_path, {}, environ | {"HF_MIRROR": "https://c.example/"}).hf_mirror == "https://c.example"
    found = load_settings(tmp_path, {"preset_downloads": False, "hf_mirror": "https://d.example"}, environ)
    assert (found.preset_downloads, found.hf_mirror) == (False, "https://d.example")
    found = load_settings(tmp_path, {}, {"HF_ENDPOINT": "hf-mirror.com"})
    assert found.hf_mirror == "https://a.example" and "HF_ENDPOINT" in found.notes[0], "it is no reason not to start"
    with pytest.raises(SettingsError, match="hf_mirror: 'x' is not an address"):
        load_settings(tmp_path, {"hf_mirror": "x"}, {})
    (tmp_path / "config.txt").write_text('{"disable_preset_download": "perhaps"}')
    with pytest.raises(SettingsError, match="'perhaps' is neither true nor false"):
        load_settings(tmp_path, {}, {})
