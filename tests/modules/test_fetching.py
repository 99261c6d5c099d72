"""A file from a server that misbehaves in every way: the right file or a sentence, never a half one under its name."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from modules import fetching
from modules.disk import in_words
from modules.fetching import Fetch, Offer, Pace, look_up
from modules.files import ModelFileError
from modules.https import FetchError, Stop, Stopped
from modules.locks import Alive
from tests.modules.model_server import REACH, ModelServer, Way, model_bytes, serving

MODEL = model_bytes()
OTHER = model_bytes(seed=2)
SHA256 = hashlib.sha256(MODEL).hexdigest()


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with serving() as opened:
        opened.files["/model.safetensors"] = MODEL
        yield opened


@pytest.fixture
def fetch(server: ModelServer, tmp_path: Path) -> Fetch:
    target = tmp_path / "checkpoints" / "model.safetensors"
    return Fetch(server.url(), target, Offer(len(MODEL)), REACH, Pace(0.01))


def run(fetch: Fetch, stop: Stop | None = None) -> Offer:
    return fetch.run(stop or Stop(), lambda received, words: None)


def only_the_file(fetch: Fetch) -> bool:
    return [path.name for path in fetch.target.parent.iterdir()] == [fetch.target.name]


def begins(server: ModelServer) -> list[str]:
    """Where each request began to read."""
    return [headers.get("range", "") for _, headers in server.seen]


def test_a_file_comes_whole_and_leaves_nothing_beside_it(fetch: Fetch) -> None:
    told: list[tuple[int, str]] = []
    run_stop = Stop()
    offer = fetch.run(run_stop, lambda received, words: told.append((received, words)))
    assert fetch.target.read_bytes() == MODEL and only_the_file(fetch)
    assert offer.size == len(MODEL) and told[-1] == (len(MODEL), "Checking …")
    with pytest.raises(FetchError, match="is there already"):
        run(fetch)


HUB = {"X-Linked-ETag": f'"{SHA256}"', "X-Linked-Size": str(len(MODEL))}
# name -> (the ways of the first requests, and where each request began to read)
MENDED: dict[str, tuple[list[Way], list[str]]] = {
    "cut twice": ([Way(cut=500_000), Way(cut=400_000)], ["", "bytes=500000-", "bytes=900000-"]),
    "cut at once": ([Way(cut=0)] * 3, ["", "", "", ""]),
    "stalls": ([Way(stall=300_000)], ["", "bytes=300000-"]),
    "broken for a while": ([Way(status=500), Way(status=503), Way(status=502)], [""] * 4),
    "asks to wait": ([Way(status=429, headers={"Retry-After": "0"})], ["", ""]),
    "ignores ranges": ([Way(cut=500_000), Way(ranges=False)], ["", "bytes=500000-"]),
    "another part than asked": ([Way(cut=500_000), Way(shift=7)], ["", "bytes=500000-", ""]),
    "another file, honestly": ([Way(cut=500_000, body=OTHER)], ["", "bytes=500000-"]),
    "another file, by its mark only": (
        [Way(cut=500_000, body=OTHER, headers={"ETag": '"x"'}), Way(headers={"ETag": '"y"'}), Way()],
        ["", "bytes=500000-"],
    ),
    "another file under one mark": (
        [Way(cut=500_000, body=OTHER, headers={"ETag": '"x"', **HUB}), Way(headers={"ETag": '"x"', **HUB})],
        ["", "bytes=500000-", ""],
    ),
    "weak marks": ([Way(cut=500_000, headers={"ETag": 'W/"x"'})], ["", ""]),
    "no marks": ([Way(cut=500_000, headers={"ETag": None})], ["", ""]),
    "no marks, but a checksum": (
        [Way(cut=500_000, headers={"ETag": None, **HUB}), Way(headers={"ETag": None, **HUB})], ["", "bytes=500000-"]
    ),
    "a range that is not there": ([Way(cut=500_000), Way(status=416)], ["", "bytes=500000-", ""]),
}  # fmt: skip


@pytest.mark.parametrize("name", MENDED)
def test_what_breaks_on_the_way_is_mended(name: str, server: ModelServer, fetch: Fetch) -> None:
    server.ways, expected = list(MENDED[name][0]), MENDED[name][1]
    run(fetch)
    assert fetch.target.read_bytes() == MODEL and only_the_file(fetch)
    assert begins(server) == expected


# name -> (how all requests are answered, what the sentence holds, whether what arrived is kept)
REFUSED: dict[str, tuple[Way, str, bool]] = {
    "not there": (Way(status=404), r"does not have the file any more \(404\)", False),
    "only for members": (Way(status=401), r"signed in there \(401\)", False),
    "forbidden": (Way(status=403), r"signed in there \(403\)", False),
    "always broken": (Way(status=500), r"trouble of its own \(500\)", False),
    "asked too often": (Way(status=429, headers={"Retry-After": "3600"}), "asks to wait 3600 seconds", False),
    "too often, by date": (
        Way(status=429, headers={"Retry-After": format_datetime(datetime.now(UTC) + timedelta(hours=9))}),
        "asks to wait 3", False,
    ),
    "always cut": (Way(cut=100), "ended after 500 bytes of 2 MB. What has arrived is kept", True),
    "always stalls": (Way(stall=100), "sent nothing for 0 seconds", True),
    "wrong bytes": (Way(body=OTHER, headers=dict(HUB)), "not the file it should be: its sha256 begins", False),
    "a web page": (Way(body=b"<!doctype html>" + bytes(len(MODEL) - 15)), "model.safetensors is a web page", False),
    "a pickle": (Way(body=b"PK\x03\x04" + bytes(len(MODEL) - 4)), "model.safetensors is a pickle", False),
    "nothing": (Way(body=b"", headers={"Content-Length": str(len(MODEL))}), "ended after 0 bytes", False),
    "half the model as the whole": (Way(body=MODEL[:800_000]), "800000 bytes, and 15000", False),
    "more than was shown": (Way(body=MODEL + bytes(9)), "expected: it is another file", False),
    "lies about the size": (Way(headers={"X-Linked-Size": "99"}), "is said to have 99", False),
    "says no size": (Way(headers={"Content-Length": None}), "does not say how large", False),
    "a nonsense size": (Way(headers={"Content-Length": "-5"}), "does not say how large|broke", False),
    "packed": (Way(headers={"Content-Encoding": "gzip"}), "sends a packed file", False),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_right_is_told_and_gets_no_name(name: str, server: ModelServer, fetch: Fetch) -> None:
    server.always, words, kept = REFUSED[name]
    with pytest.raises((FetchError, ModelFileError), match=words):
        run(replace(fetch, reach=replace(REACH, stall=0.1)))
    assert not fetch.target.exists()
    left = sorted(path.name for path in fetch.target.parent.iterdir())
    assert left == (["model.safetensors.part", "model.safetensors.part.json"] if kept else [])
    assert kept or fetch.received() == 0


def test_a_size_that_nobody_knew_is_limited(server: ModelServer, fetch: Fetch) -> None:
    server.always = Way(headers={"Content-Length": str(10**15)})
    with pytest.raises(FetchError, match="no model is larger"):
        run(replace(fetch, wanted=Offer()))


def test_the_checksum_of_a_preset_goes_over_the_server(server: ModelServer, fetch: Fetch) -> None:
    pinned = replace(fetch, wanted=Offer(len(MODEL), hashlib.sha256(OTHER).hexdigest()))
    with pytest.raises(ModelFileError, match="not the file it should be"):
        run(pinned)
    assert fetch.received() == 0, "bytes that are wrong are not kept"
    server.always = Way(headers=dict(HUB))
    with pytest.raises(FetchError, match="it is another file now"):
        run(pinned)
    with pytest.raises(FetchError, match="it is another file now"):
        look_up(server.url(), pinned.wanted, REACH, Stop())
    assert run(replace(fetch, wanted=Offer(len(MODEL), SHA256))).sha256 == SHA256


def test_sizes_and_checksums_are_known_before_anything_is_fetched(server: ModelServer) -> None:
    assert look_up(server.url(), Offer(), REACH, Stop()).size == len(MODEL)
    server.ways = [Way(status=302, headers={"Location": "/model.safetensors", **HUB})]
    found = look_up(server.url("/resolve"), Offer(), REACH, Stop())
    assert (found.size, found.sha256) == (len(MODEL), SHA256), "the redirect describes the file"
    server.ways = [Way(headers={"ETag": f'"{SHA256}"', "X-Repo-Commit": "abc"})]
    assert look_up(server.url(), Offer(), REACH, Stop()).sha256 == SHA256
    server.ways = [Way(headers={"ETag": f'"{SHA256}"'})]
    assert look_up(server.url(), Offer(), REACH, Stop()).sha256 is None, "a mark of that length need not be a checksum"
    server.ways = [Way(ranges=False)]
    assert look_up(server.url(), Offer(), REACH, Stop()).size == len(MODEL)
    server.ways = [Way(status=503)]
    with pytest.raises(FetchError, match="trouble of its own"):
        look_up(server.url(), Offer(), REACH, Stop())


def test_stopping_is_prompt_and_the_next_time_goes_on(server: ModelServer, fetch: Fetch) -> None:
    server.always = Way(slow=0.05)
    stop = Stop()
    fetch = replace(fetch, reach=replace(REACH, stall=30.0))
    threading.Timer(0.4, stop.ask).start()
    start = time.monotonic()
    with pytest.raises(Stopped):
        run(fetch, stop)
    assert time.monotonic() - start < 3 and not fetch.target.exists()
    here = fetch.received()
    assert 0 < here < len(MODEL)
    server.always = Way(stall=1000)
    stop = Stop()
    threading.Timer(0.3, stop.ask).start()
    start = time.monotonic()
    with pytest.raises(Stopped):
        run(fetch, stop)
    assert time.monotonic() - start < 3, "a silent connection is no reason to wait"
    server.always = Way()
    server.seen.clear()
    run(fetch)
    assert fetch.target.read_bytes() == MODEL
    assert begins(server) == [f"bytes={here + 1000}-"]


def test_a_part_that_is_whole_needs_no_server(server: ModelServer, fetch: Fetch) -> None:
    server.ways = [Way(cut=len(MODEL) - 1)]
    with pytest.raises(FetchError):
        server.always = Way(status=404)
        run(fetch)
    with fetch.part.open("ab") as part:
        part.write(MODEL[-1:])
    server.seen.clear()
    run(fetch)
    assert fetch.target.read_bytes() == MODEL and server.seen == []


@pytest.mark.parametrize("record", ["", "[]", "{}", "nonsense", '{"size": "x", "sha256": null, "mark": "y"}'])
def test_a_part_of_nobody_knows_what_begins_anew(record: str, server: ModelServer, fetch: Fetch) -> None:
    fetch.part.parent.mkdir(parents=True)
    fetch.part.write_bytes(OTHER[:999_999])
    fetch.record.write_text(record)
    run(fetch)
    assert fetch.target.read_bytes() == MODEL and begins(server) == [""]


def test_a_part_that_is_too_long_begins_anew(server: ModelServer, fetch: Fetch) -> None:
    fetch.part.parent.mkdir(parents=True)
    fetch.part.write_bytes(MODEL + MODEL)
    fetch.record.write_text(json.dumps({"size": len(MODEL), "sha256": None, "mark": '"x"'}))
    run(fetch)
    assert fetch.target.read_bytes() == MODEL


def test_what_has_no_room_is_not_begun(server: ModelServer, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "RESERVE_BYTES", shutil.disk_usage("/").free * 100)
    with pytest.raises(FetchError, match="needs 2 MB more on the disk"):
        run(fetch)
    assert not fetch.part.exists()


def test_a_disk_that_takes_all_but_the_last_bytes_is_told_at_once(server: ModelServer, fetch: Fetch) -> None:
    """A quota, say: there seemed to be room, and asking the server again would not help."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(MODEL) - 100, hard))
    try:
        with pytest.raises(FetchError, match=r"model\.safetensors cannot be written: File too large"):
            run(fetch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert begins(server) == [""] and not fetch.target.exists()
    run(fetch)
    assert fetch.target.read_bytes() == MODEL, "what was there of it counts"


def test_one_pinhole_at_a_time(fetch: Fetch) -> None:
    other = Alive(fetch.target.parent, "model.safetensors.part")
    with pytest.raises(FetchError, match="by another Pinhole"):
        run(fetch)
    other.close()
    run(fetch)


def test_a_folder_that_cannot_be_written_is_told(fetch: Fetch) -> None:
    fetch.target.parent.parent.mkdir(exist_ok=True)
    fetch.target.parent.write_text("a file where the folder should be")
    with pytest.raises(FetchError, match="cannot be written"):
        run(fetch)


def test_sizes_in_words() -> None:
    assert [in_words(each) for each in (0, 999, 1000, 999_499, 999_600, 6_938_078_334)] == [
        "0 bytes", "999 bytes", "1 kB", "999 kB", "1 MB", "6.9 GB",
    ]  # fmt: skip
