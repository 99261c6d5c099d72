"""Imports every module of the app in a process of its own and reports, as JSON, what that did to the process.

Libraries from elsewhere are imported first: what they do is theirs. Run as `python -m tests.import_everything`; with
names of modules behind it, it watches those instead.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from tests.architecture import ROOT, imports, layer, own_file, parsed

# Audit events (docs.python.org/3/library/audit_events.html) of doing something to the world.
DEEDS = ("os.", "shutil.", "socket.", "subprocess.", "sqlite3.", "urllib.", "webbrowser.", "_thread.start", "tempfile.")
HARMLESS = ("os.listdir", "os.scandir", "os.fspath")


def main(others: Sequence[str]) -> None:
    """Import the page first and see whether torch came along, then the rest."""
    parts = () if others else ("modules", "ldm_patched")
    files = sorted(str(path.relative_to(ROOT)) for part in parts for path in (ROOT / part).rglob("*.py"))
    names = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in files]
    watched = list(others) or ["webui", *names]
    start = time.perf_counter()
    importlib.import_module(watched[0])
    seconds = time.perf_counter() - start
    torch_with_page = sorted(name for name in sys.modules if name.partition(".")[0] in ("torch", "torchsde"))
    for file in files:
        for _, name in imports(parsed(file), only_at_import=True):
            if own_file(name) is None and layer(file) is not None:
                _import_library(name)
    for name in [name for name in sys.modules if (own_file(name) or name in others) and not name.startswith("tests")]:
        del sys.modules[name]

    before = _state()
    deeds: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[1], str) and set("wax+") & set(arguments[1])
        if watching and (writes or (event.startswith(DEEDS) and event not in HARMLESS)):
            deeds.append(f"{event} {arguments!r:.200}")

    sys.addaudithook(watch)
    for name in watched:
        count = len(deeds)
        importlib.import_module(name)
        deeds[count:] = [f"{name}: {deed}" for deed in deeds[count:]]
    watching = False
    after = _state()
    changed = {key: (before[key], after[key]) for key in before if before[key] != after[key]}
    json.dump({"torch": torch_with_page, "seconds": seconds, "deeds": deeds, "changed": changed}, sys.stdout)


def _import_library(name: str) -> None:
    while name:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:  # `from a import b`, where b is not a module
            name = name.rpartition(".")[0]
        else:
            return


def _state() -> dict[str, Any]:
    import random

    import numpy as np
    import torch

    numpy_state = np.random.get_state(legacy=False)
    return {
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": list(sys.path),
        "dtype": str(torch.get_default_dtype()),
        "torch threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "random": hash(
            (random.getstate(), numpy_state["state"]["key"].tobytes(), bytes(torch.get_rng_state().tolist()))
        ),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
