"""Everything that is read from outside, fed with what nobody would write: no crash, no hang, no file elsewhere.

`python -m benchmarks.fuzz --cases 20000` shares the cases among the readers: texts and bytes of pictures, config.txt,
presets, styles, word lists and the prompts that use them, language files, lists of prompts, headers of model files,
bodies and addresses of the application's routes. A reader may refuse what it is given, in its own error with a
sentence. Hypothesis makes the cases; a failure is shown in its smallest form, and the command ends with 1.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from hypothesis import HealthCheck, Phase, given, settings as hypothesis_settings, strategies as some
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from starlette.testclient import TestClient

from modules.api import (
    download_routes,
    history_routes,
    language_routes,
    metadata_routes,
    owner_routes,
    prompt_list_routes,
    queue_routes,
    routes,
    task_routes,
)
from modules.api.server import application_of
from modules.async_worker import AsyncWorker
from modules.downloads import Downloads
from modules.files import ModelFileError, ModelFiles, ModelLibrary
from modules.history import History, Keeper
from modules.localization import LanguageError, Languages, read_language
from modules.metadata import MetadataError, read_text
from modules.metadata_texts import read_told
from modules.model_cards import Catalogue
from modules.model_search import here_with
from modules.owner_settings import OwnerSettings
from modules.parameters import GenerationParameters, ParameterError, leaves
from modules.presets import PRESET_KEYS, PresetError, apply_preset
from modules.prompt_list import PromptListError, lines_of_table, read_list
from modules.prompt_sources import prompt_sources
from modules.prompts import Wish, texts_of
from modules.settings import FOLDER_KEYS, SWITCH_KEYS, TEXT_KEYS, Settings, SettingsError, load_settings
from modules.store import DATABASE, Store
from modules.styles import read_styles
from modules.workplace import create_worker

ROOT = Path(__file__).resolve().parents[1]
LONGEST_SECONDS = 5.0  # of one case, on a machine that does other things as well
OWNER = "fuzzfuzzfuzzfuzz"

TEXT = some.text(max_size=40) | some.sampled_from(
    ("", "../../x", "/etc/passwd", "__a__", "[[a,b]]", "<lora:a:1>", "a\0b", "C:\\x", "\ud800", "{prompt}",
     "-1", "1e999", "---\na --seed 1", "https://127.0.0.1/x.safetensors", "CON", "a" * 3000, "\u202e", "NaN")
)  # fmt: skip
NUMBER = some.integers() | some.floats() | some.sampled_from((2**63, -(2**63) - 1, 1e308, 10**400))
JSON: some.SearchStrategy[Any] = some.recursive(
    some.none() | some.booleans() | NUMBER | TEXT,
    lambda each: some.lists(each, max_size=4) | some.dictionaries(TEXT, each, max_size=4),
    max_leaves=8,
)

Readers = dict[str, tuple[some.SearchStrategy[Any], Callable[[Any], object]]]


def objects(keys: object) -> some.SearchStrategy[Any]:
    """JSON objects with these keys and others."""
    return some.dictionaries(some.sampled_from(sorted(keys)) | TEXT, JSON, max_size=6)  # type: ignore[call-overload]


def written(values: some.SearchStrategy[Any]) -> some.SearchStrategy[bytes]:
    """Files: JSON, whole or cut off, and texts and bytes that are none."""
    whole = values.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
    cut = some.tuples(whole, some.integers(0, 60)).map(lambda pair: pair[0][: pair[1]])
    text = some.text(max_size=60).map(lambda value: value.encode("utf-8", "surrogatepass"))
    return whole | cut | text | some.binary(max_size=60)


@dataclass
class Home:
    """An application in a folder of its own, never started, and what its process wrote outside of it."""

    settings: Settings
    worker: AsyncWorker
    client: TestClient
    outside: list[str] = field(default_factory=list)

    @classmethod
    def at(cls, root: Path) -> Home:
        """A home with everything an application has but models."""
        settings = load_settings(root, {}, {})
        for folder, kind in (
            (settings.presets, "presets"),
            (settings.styles[0], "sdxl_styles"),
            (settings.languages, "language"),
        ):
            folder.mkdir(parents=True, exist_ok=True)
            for path in (ROOT / kind).glob("*.json"):
                (folder / path.name).write_bytes(path.read_bytes())
        worker = create_worker(settings)
        library, history = ModelLibrary(settings.models), History(Store(settings.data / DATABASE))
        everything = APIRouter()
        downloads = Downloads(settings, library)
        for router in (
            routes.router(worker.picture, lambda: read_styles(settings.styles)),
            download_routes.router(downloads),
            history_routes.router(history, settings.thumbnails, True, Keeper(history, settings.outputs).look),
            queue_routes.router(worker),
            task_routes.router(worker, GenerationParameters, lambda parameters: parameters),
            language_routes.router(Languages(settings.languages), ""),
            owner_routes.router(OwnerSettings(settings), downloads.reach.log, offline=True, owner=lambda request: True),
            metadata_routes.router(),
            prompt_list_routes.router(),
        ):
            everything.include_router(router)
        client = TestClient(application_of(everything), cookies={"pinhole_owner": OWNER}, raise_server_exceptions=True)
        return cls(settings, worker, client)

    def watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook: notes what is written, moved or removed elsewhere."""
        if event == "open":
            path, mode, flags = arguments
            writes = (
                isinstance(mode, str)
                and set(mode) & set("wax+")
                or int(flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            )
            paths = [path] if writes else []
        elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate"):
            paths = [arguments[0]]
        elif event in ("os.rename", "os.link", "os.symlink"):
            paths = list(arguments[:2])
        else:
            return
        for each in paths:
            if isinstance(each, (str, bytes)) and not self.is_ours(Path(os.fsdecode(each))):
                self.outside.append(f"{event} {os.fsdecode(each)}")

    def is_ours(self, path: Path) -> bool:
        """Whether a path lies in this home, or is no file at all."""
        place = os.path.abspath(path)
        return place.startswith((str(self.settings.root) + os.sep, "/dev/")) or place == str(self.settings.root)


def pictures(home: Home) -> Readers:
    """Texts in pictures, and bytes that are nearly pictures."""
    here = here_with(home.settings, lambda kind: ["a.safetensors"])
    labels = some.sampled_from(("Steps", "Sampler", "CFG scale", "Seed", "Size", "Model", "Lora hashes", "Version"))
    line = some.lists(some.tuples(labels, TEXT), max_size=6).map(lambda pairs: ", ".join(f"{a}: {b}" for a, b in pairs))
    ours = objects(
        [leaf.path for leaf in leaves()] + ["parameters", "scheme", "prompt", "lora_combined_1", "resolution"]
    )
    text = written(ours).map(lambda data: data.decode("utf-8", "replace")) | some.tuples(TEXT, line).map("\n".join)

    def told(words: str) -> None:
        with suppress(MetadataError):
            GenerationParameters.from_mapping(read_told(words, here).values)

    def carried(parts: tuple[str, list[tuple[int, int]], bytes]) -> None:
        words, changes, more = parts
        info, buffer = PngInfo(), BytesIO()
        with suppress(UnicodeEncodeError):
            info.add_text("parameters", words)
        Image.new("RGB", (4, 4)).save(buffer, "PNG", pnginfo=info)
        data = bytearray(buffer.getvalue())
        for place, value in changes:
            data[place % len(data)] = value
        with suppress(MetadataError):
            read_text(BytesIO(bytes(data) + more))

    changes = some.lists(some.tuples(some.integers(0, 2000), some.integers(0, 255)), max_size=6)
    return {
        "texts of pictures": (text, told),
        "bytes of pictures": (some.tuples(TEXT, changes, some.binary(max_size=30)), carried),
    }


def files(home: Home) -> Readers:
    """Files that the user or others put there."""
    settings, root = home.settings, home.settings.root

    def config(data: bytes) -> None:
        (root / "config.txt").write_bytes(data)
        with suppress(SettingsError):
            load_settings(root, {}, {})
        (root / "config.txt").unlink()

    def preset(data: bytes) -> None:
        (settings.presets / "fuzzed.json").write_bytes(data)
        with suppress(PresetError):
            apply_preset("fuzzed", settings, ModelFiles(settings.models.checkpoints))

    def style(data: bytes) -> None:
        settings.styles[1].mkdir(parents=True, exist_ok=True)
        (settings.styles[1] / "fuzzed.json").write_bytes(data)
        shelf = read_styles(settings.styles)
        assert all(note for note in shelf.notes)

    def language(data: bytes) -> None:
        (settings.languages / "xx.json").write_bytes(data)
        with suppress(LanguageError):
            read_language(settings.languages / "xx.json").said("Generate")

    styles = some.lists(objects(["name", "prompt", "negative_prompt"]) | JSON, max_size=4)
    keys = [*FOLDER_KEYS, *SWITCH_KEYS, *TEXT_KEYS, "HF_MIRROR", *PRESET_KEYS]
    return {
        "config.txt": (written(objects(keys)), config),
        "presets": (written(objects([*PRESET_KEYS, "checkpoint_downloads", "default_loras"])), preset),
        "styles": (written(styles), style),
        "language files": (written(objects(["rtl", "Generate", "{n} pictures"])), language),
    }


def words_and_models(home: Home) -> Readers:
    """Word lists, lists of prompts, and headers of model files."""
    settings = home.settings

    def words(parts: tuple[bytes, str, str, int]) -> None:
        data, prompt, negative, seed = parts
        settings.wildcards.mkdir(parents=True, exist_ok=True)
        (settings.wildcards / "a.txt").write_bytes(data)
        wish = Wish(prompt, negative, ("Fooocus V2", "No such style"), bool(seed % 2), (), 5)
        texts_of(wish, (seed,), prompt_sources(settings), lambda note: None)

    def header(parts: tuple[bytes, int]) -> None:
        data, length = parts
        path = settings.models.checkpoints[0] / "fuzzed.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(struct.pack("<Q", length if length % 3 else len(data)) + data)
        library = ModelLibrary(settings.models)
        with suppress(ModelFileError):
            library.checkpoints.facts(path.name)
        Catalogue(library).card("checkpoints", path.name)

    def table(text: str) -> None:
        with suppress(PromptListError, ParameterError):
            lines_of_table(text)
        with suppress(PromptListError, ParameterError):
            read_list(f"a cat\n---\n{text}", GenerationParameters())

    tensors = some.dictionaries(TEXT, objects(["dtype", "shape", "data_offsets"]) | JSON, max_size=4)
    seeds = some.integers(0, 2**63 - 1)
    syntax = some.lists(TEXT | some.sampled_from(("__a__", "[[", "]]", ":1.2)", "(", "<lora:", "\n", ",")), max_size=8)
    prompts = syntax.map("".join)
    return {
        "word lists and prompts": (some.tuples(written(JSON), prompts, prompts, seeds), words),
        "headers of models": (some.tuples(written(tensors), some.integers(0, 2**64 - 1)), header),
        "lists of prompts": (prompts | some.lists(TEXT, max_size=6).map(",".join), table),
    }


def requests(home: Home) -> Readers:
    """Requests to the application's routes."""
    orders = objects(
        [*(leaf.path for leaf in leaves()), "tasks", "places", "values", "preset", "pictures", "file", "path"]
    )
    targets = some.sampled_from(
        ("/tasks", "/tasks/{}", "/tasks/{}/stop", "/queue", "/queue/move", "/queue/cancel", "/queue/{}", "/history",
         "/history?search={}", "/history?before={}&limit={}", "/history/delete", "/history/favourite", "/history/zip",
         "/history/zip/{}", "/history/{}", "/thumbnails/{}", "/pictures/{}", "/style-picture?name={}", "/languages/{}",
         "/downloads?preset={}", "/downloads/sizes", "/downloads/cancel", "/downloads/{}", "/metadata", "/prompt-list",
         "/prompt-list?table={}", "/owner/connections", "/parameters")
    )  # fmt: skip

    def ask(parts: tuple[str, str, bytes, str]) -> None:
        target, word, body, method = parts
        address = target.format(*[quote(word.encode("utf-8", "surrogatepass"))] * 2)
        if len(address) > 8000 or "/downloads/own" in address or "/downloads/start" in address:
            return
        answer = home.client.request(method, f"http://127.0.0.1{address}", content=body)
        assert answer.status_code < 500, (method, address, answer.status_code, answer.text[:200])

    return {"requests": (some.tuples(targets, TEXT, written(orders), some.sampled_from(("GET", "POST"))), ask)}


def fuzz(name: str, strategy: some.SearchStrategy[Any], read: Callable[[Any], object], cases: int, home: Home) -> float:
    """Runs the cases of a reader; returns the seconds of the longest. Raises what a reader may not raise."""
    longest = [0.0]

    @hypothesis_settings(
        max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink), derandomize=False,
    )  # fmt: skip
    @given(strategy)
    def one(case: Any) -> None:
        begin = time.perf_counter()
        read(case)
        took = time.perf_counter() - begin
        longest[0] = max(longest[0], took)
        assert took < LONGEST_SECONDS, f"{name}: {took:.1f} s for one case"
        assert not home.outside, f"{name}: {home.outside[:3]}"

    one()
    return longest[0]


def main(argv: list[str] | None = None) -> int:
    """Fuzz every reader; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=20_000, metavar="N", help="how many in all")
    cases = parser.parse_args(argv).cases
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(root / "hypothesis")
        home = Home.at(root)
        readers = {**pictures(home), **files(home), **words_and_models(home), **requests(home)}
        shares = {name: -(-cases // (len(readers) + 1)) * (2 if name == "requests" else 1) for name in readers}
        sys.addaudithook(home.watch)
        for name, (strategy, read) in readers.items():
            longest = fuzz(name, strategy, read, max(1, shares[name]), home)
            print(f"{name:24} {shares[name]:6} cases, the longest {1000 * longest:6.0f} ms", flush=True)
        home.worker.close()
        print(f"{sum(shares.values())} cases: no crash, no hang, nothing written outside")
    return 0


if __name__ == "__main__":
    sys.exit(main())
