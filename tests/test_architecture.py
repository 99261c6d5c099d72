"""The rules of `architecture.py` hold for every file, and each of them is shown to fail where it should."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from modules.environment import normalised, read_pins
from tests import architecture as rules
from tests.architecture import APP, PROJECT, ROOT, Rule, parsed, within


def tracked() -> list[str]:
    """Every file that is in the repository, or would be with the next commit."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("this copy of Pinhole is not a git repository")
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def python_files(*places: str) -> list[str]:
    return [name for name in tracked() if name.endswith(".py") and within(name, places)]


def complaints(rule: Rule, files: list[str]) -> list[str]:
    assert files
    return [complaint for name in files for complaint in rule(name, parsed(name))]


SCOPES: list[tuple[Rule, tuple[str, ...]]] = [
    (rules.imports_point_down, APP),
    (rules.libraries_have_owners, PROJECT),
    (rules.nothing_is_patched, (*APP, "training/", "benchmarks/")),
    (rules.importing_does_nothing, ("webui.py", "modules/", "ldm_patched/", "training/")),
    (rules.nothing_is_evaluated, PROJECT),
    (rules.says_what_it_is, PROJECT),
]


@pytest.mark.parametrize(("rule", "places"), SCOPES, ids=[rule.__name__ for rule, _ in SCOPES])
def test_every_file_keeps(rule: Rule, places: tuple[str, ...]) -> None:
    assert complaints(rule, python_files(*places)) == []


def test_only_the_command_line_prints() -> None:
    files = [name for name in python_files(*APP) if name != "modules/cli.py"]
    assert complaints(rules.nothing_is_printed, files) == []


def test_files_are_short() -> None:
    files = [name for name in python_files(*APP, "benchmarks/") if not name.endswith("/sampling.py")]
    assert [each for name in files for each in rules.is_short(name, (ROOT / name).read_text(encoding="utf-8"))] == []


def test_imports_make_no_circle() -> None:
    graph: dict[str, list[str]] = {}
    for name in python_files(*APP, "training/"):
        targets = (rules.own_file(target) for _, target in rules.imports(parsed(name), only_at_import=True))
        graph[name] = [target for target in targets if target and not target.endswith("__init__.py")]
    assert rules.cycle(graph) == []


def test_no_file_names_this_machine_or_a_registry() -> None:
    found: list[str] = []
    for name in tracked():
        content = (ROOT / name).read_bytes()
        if b"\0" not in content and len(content) < 2_000_000:
            found += rules.names_no_machine(name, content.decode("utf-8"))
    assert found == []


def test_the_readme_lists_the_files_that_exist() -> None:
    entries = rules.listed((ROOT / "README.md").read_text(encoding="utf-8"))
    assert entries, "README.md has no file tree under the heading What is where"
    assert list(rules.tree_differs(entries, tracked())) == []


def test_what_is_imported_is_pinned_and_what_is_pinned_is_imported() -> None:
    distributions = packages_distributions()
    used: dict[str, set[str]] = {}
    for requirements, places in (("requirements.txt", APP), ("requirements-dev.txt", PROJECT)):
        names = {name.partition(".")[0] for file in python_files(*places) for _, name in rules.imports(parsed(file))}
        foreign = names - sys.stdlib_module_names - {""}
        used[requirements] = {normalised(each) for name in foreign for each in distributions.get(name, [])}
    app, everything = (set(read_pins(str(ROOT / name))) for name in ("requirements.txt", "requirements-dev.txt"))
    assert used["requirements.txt"] - app == {"pydantic-core"}, "which pydantic itself pins"
    assert used["requirements-dev.txt"] - everything == {"pydantic-core"}
    assert app - used["requirements.txt"] == {"huggingface-hub"}, "which gradio imports"
    assert everything - app - used["requirements-dev.txt"] == {"ruff", "mypy", "pytest-xdist"}, "which are commands"


def report_of_importing(*others: str, **environ: str) -> dict[str, Any]:
    """What importing everything, or the modules `others`, did to a process."""
    command = [sys.executable, "-B", "-W", "ignore", "-m", "tests.import_everything", *others]
    environment = {**os.environ, **environ}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("{"), "something was printed on import"
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.fixture(scope="module")
def imported() -> dict[str, Any]:
    return report_of_importing()


def test_the_page_comes_without_torch(imported: dict[str, Any]) -> None:
    assert imported["torch"] == []


def test_importing_changes_nothing_in_the_process(imported: dict[str, Any]) -> None:
    assert imported["changed"] == {}


def test_importing_touches_no_file_thread_or_network(imported: dict[str, Any]) -> None:
    assert imported["deeds"] == []


def test_deeds_on_import_are_found(tmp_path: Path) -> None:
    source = f"""
import os, threading, time, torch
open({str(tmp_path / "a")!r}, "w").close()
threading.Thread(target=time.sleep, args=(5,), daemon=True, name="busy").start()
os.environ["B"] = str(time.monotonic_ns())
torch.manual_seed(time.monotonic_ns())
"""
    (tmp_path / "naughty.py").write_text(source)
    report = report_of_importing("naughty", PYTHONPATH=str(tmp_path))
    assert "torch" in report["torch"]
    assert {deed.split()[1] for deed in report["deeds"]} >= {"open", "os.putenv"}
    assert set(report["changed"]) >= {"threads", "environment", "random"}
    (tmp_path / "chatty.py").write_text("print('hello')")
    with pytest.raises(AssertionError, match="printed"):
        report_of_importing("chatty", PYTHONPATH=str(tmp_path))


def test_what_runs_before_the_environment_is_ready_needs_only_python() -> None:
    names = "entry, modules.environment, modules.installer, modules.flags, tests.checks"
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {names}"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


PURE = "modules/plan.py"
BREACHES: list[tuple[Callable[..., Iterator[str]], str, str]] = [
    (rules.imports_point_down, PURE, "from modules import store"),
    (rules.imports_point_down, PURE, "def f():\n    import webui"),
    (rules.imports_point_down, PURE, "from . import prompts"),
    (rules.imports_point_down, "modules/store.py", "from modules.ui.panel import Panel"),
    (rules.imports_point_down, "modules/async_worker.py", "import training.draw"),
    (rules.imports_point_down, "ldm_patched/ldm/unet.py", "from ldm_patched.modules.devices import x"),
    (rules.imports_point_down, "ldm_patched/modules/sd.py", "from modules.plan import ImageJob"),
    (rules.libraries_have_owners, PURE, "import torch.nn as nn"),
    (rules.libraries_have_owners, PURE, "from torch import Tensor"),
    (rules.libraries_have_owners, PURE, "from safetensors.torch import load_file"),
    (rules.libraries_have_owners, "modules/store.py", "def f():\n    import gradio"),
    (rules.libraries_have_owners, "modules/store.py", "from fastapi import FastAPI"),
    (rules.libraries_have_owners, "training/loop.py", "import pickle"),
    (rules.libraries_have_owners, "ldm_patched/modules/sd.py", "import torchvision"),
    (rules.nothing_is_patched, PURE, "def f():\n    global x\n    x = 1"),
    (rules.nothing_is_patched, PURE, "import math\nmath.pi = 3"),
    (rules.nothing_is_patched, PURE, "import a.b\ndef f():\n    a.b.c = 3"),
    (rules.nothing_is_patched, PURE, "from a import B\nB.c += 3"),
    (rules.nothing_is_patched, PURE, "from a import B\nB.x, y = 3, 4"),
    (rules.nothing_is_patched, PURE, "from a import B\nsetattr(B, 'c', 3)"),
    (rules.nothing_is_patched, PURE, "from a import B\ndel B.c"),
    (rules.nothing_is_patched, PURE, "from a import B\nfor B.c in range(3):\n    pass"),
    (rules.nothing_is_patched, PURE, "from a import B\nwith open('f') as B.c:\n    pass"),
    (rules.nothing_is_patched, PURE, "from a import TABLE\nTABLE['c'] = 3"),
    (rules.nothing_is_patched, PURE, "from a import TABLE\nTABLE.update(c=3)"),
    (rules.nothing_is_patched, PURE, "import sys\nsys.modules['a'] = None"),
    (rules.nothing_is_patched, PURE, "import sys\nsys.path.insert(0, 'a')"),
    (rules.nothing_is_patched, PURE, "import os\nos.environ['A'] = 'b'"),
    (rules.nothing_is_patched, PURE, "import torch\ntorch.backends.cudnn.benchmark = True"),
    (rules.nothing_is_patched, PURE, "class A:\n    b = 1\ndef f():\n    A.b = 2"),
    (rules.nothing_is_patched, PURE, "class A:\n    @classmethod\n    def f(cls):\n        cls.b = 2"),
    (rules.nothing_is_patched, PURE, "class A:\n    def f(self):\n        type(self).b = 2"),
    (rules.nothing_is_patched, PURE, "class A:\n    def f(self):\n        self.__class__.b = 2"),
    (rules.nothing_is_patched, PURE, "class A:\n    def f(self):\n        self.__class__ = B"),
    (rules.nothing_is_patched, PURE, "globals()['a'] = 1"),
    (rules.importing_does_nothing, PURE, "print('hello')"),
    (rules.importing_does_nothing, PURE, "x = load()"),
    (rules.importing_does_nothing, PURE, "x = [load() for _ in range(3)]"),
    (rules.importing_does_nothing, PURE, "import os\nos.makedirs('a')"),
    (rules.importing_does_nothing, PURE, "for x in range(3):\n    pass"),
    (rules.importing_does_nothing, PURE, "with A() as a:\n    pass"),
    (rules.importing_does_nothing, PURE, "if True:\n    start()"),
    (rules.importing_does_nothing, PURE, "try:\n    start()\nexcept E:\n    pass"),
    (rules.importing_does_nothing, PURE, "class A:\n    x = load()"),
    (rules.importing_does_nothing, PURE, "def f(x=load()):\n    pass"),
    (rules.importing_does_nothing, PURE, "@register('a')\ndef f():\n    pass"),
    (rules.importing_does_nothing, PURE, "x = Thread(target=f)"),
    (rules.nothing_is_evaluated, PURE, "eval('1')"),
    (rules.nothing_is_evaluated, PURE, "def f():\n    exec('1')"),
    (rules.nothing_is_evaluated, PURE, "torch.load('a')"),
    (rules.nothing_is_evaluated, PURE, "torch.load('a', weights_only=True)"),
    (rules.nothing_is_evaluated, "training/loop.py", "torch.load('a')"),
    (rules.nothing_is_evaluated, PURE, "subprocess.run('a', shell=True)"),
    (rules.nothing_is_evaluated, PURE, "np.load('a', allow_pickle=True)"),
    (rules.nothing_is_evaluated, PURE, "__import__('a')"),
    (rules.nothing_is_printed, PURE, "def f():\n    print(1)"),
    (rules.says_what_it_is, PURE, "x = 1"),
    (rules.says_what_it_is, PURE, "'''Plan.'''"),
    (rules.says_what_it_is, PURE, "'''A plan that does not end its sentence'''"),
]


@pytest.mark.parametrize(("rule", "path", "source"), BREACHES)
def test_a_breach_is_found(rule: Rule, path: str, source: str) -> None:
    assert len(list(rule(path, ast.parse(source)))) == 1


GOOD: list[tuple[Rule, str, str]] = [
    (rules.imports_point_down, "entry.py", "from tests import checks\nimport webui"),
    (rules.imports_point_down, "webui.py", "from modules.async_worker import AsyncWorker"),
    (rules.imports_point_down, "tests/test_a.py", "import webui"),
    (rules.libraries_have_owners, "ldm_patched/ldm/unet.py", "import torch, numpy"),
    (rules.libraries_have_owners, PURE, "import torch_like"),
    (rules.nothing_is_patched, PURE, "import os\nos.remove('a')\nx = os.environ['A']"),
    (rules.nothing_is_patched, PURE, "from a import B\nb = B()\nb.c = 3\nb.d.append(1)\nx: dict = {}\nx['a'] = B"),
    (rules.nothing_is_patched, PURE, "class A:\n    def f(self):\n        self.b = 2\n        self.c.d[0] = 1"),
    (rules.nothing_is_patched, "ldm_patched/modules/devices.py", "import torch\ntorch.backends.a.b = True"),
    (rules.importing_does_nothing, PURE, "import re\nA = re.compile('a')\nB = tuple(x for x in A)\nC = Spec(1, (2,))"),
    (rules.importing_does_nothing, PURE, "if __name__ == '__main__':\n    main()"),
    (rules.importing_does_nothing, PURE, "def f():\n    work()\nasync def g():\n    work()\nh = lambda: work()"),
    (
        rules.importing_does_nothing,
        PURE,
        "@dataclass(frozen=True)\nclass A:\n    x: int = 1\n    def f(self):\n        g()",
    ),
    (rules.nothing_is_evaluated, "training/loop.py", "torch.load('a', weights_only=True)\nmodel.eval()"),
    (rules.says_what_it_is, PURE, "'''What a plan is, in one line; knows no torch.\n\nAnd more.'''"),
    (rules.says_what_it_is, "modules/ui/__init__.py", ""),
]


@pytest.mark.parametrize(("rule", "path", "source"), GOOD)
def test_what_is_allowed_is_not_found(rule: Rule, path: str, source: str) -> None:
    assert list(rule(path, ast.parse(source))) == []


def test_the_rules_about_text_find_breaches() -> None:
    assert list(rules.is_short("a.py", "\n" * 401))
    assert not list(rules.is_short("a.py", "\n" * 400))
    for text in ("cd /wo" + "rk/main", "https://pypi." + "org/simple", "see /tmp/" + "xyz/a"):
        assert list(rules.names_no_machine("a.md", text)), text
    assert not list(rules.names_no_machine("a.md", "net/wo" + "rk/ and homework/, tmp/a"))


def test_circles_are_found() -> None:
    assert rules.cycle({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]
    assert rules.cycle({"a": ["b", "c"], "b": ["c"], "c": []}) == []


README = """
# A

```
not/this
```

## What is where

```text
entry.py         where it begins
modules/         the app
  plan.py        plans
  ui/            the page
    panel.py     a panel
tests/           mirrors the rest
```
"""
FILES = [
    "entry.py",
    "modules/__init__.py",
    "modules/plan.py",
    "modules/ui/panel.py",
    "tests/a/test_b.py",
    "tests/c.json",
]


@pytest.mark.parametrize(
    ("readme", "files", "told"),
    [
        (README, FILES, []),
        (README, [*FILES, "modules/new.py"], ["the README does not list modules/new.py"]),
        (README, [*FILES, "LICENSE"], ["the README does not list LICENSE"]),
        (README, [*FILES, "modules/ui/page.css"], ["the README does not list modules/ui/page.css"]),
        (README, FILES[:2] + FILES[3:], ["the README lists modules/plan.py, which does not exist"]),
        (README, FILES[:4], ["the README lists tests/, which does not exist"]),
        (README.replace("plans", ""), FILES, ["the README does not say what modules/plan.py is"]),
        (README.replace("    panel.py     a panel\n", ""), FILES, ["the README does not list modules/ui/panel.py"]),
    ],
)
def test_a_readme_that_differs_is_found(readme: str, files: list[str], told: list[str]) -> None:
    assert list(rules.tree_differs(rules.listed(readme), files)) == told
