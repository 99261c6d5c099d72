"""The rules of the house as functions: source in, complaints out; knows no test and runs no code of the project.

Each rule takes a file's path relative to the root and its syntax tree and yields one sentence per breach.
`test_architecture.py` applies them to every file, and shows of each that it can fail.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APP = ("entry.py", "webui.py", "modules/", "ldm_patched/")  # what users run
PROJECT = (*APP, "training/", "benchmarks/", "tests/")

# Calls and imports go down this list. A module of modules/ that is not named here is pure: it belongs to the last
# line but three, and everything above may use it.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("entry.py",),
    ("webui.py", "modules/ui/", "modules/api/", "modules/cli.py", "modules/encode.py", "modules/download.py"),
    (
        "modules/async_worker.py", "modules/task_run.py", "modules/engines.py", "modules/store.py", "modules/line.py",
        "modules/outlook.py", "modules/history.py", "modules/plots.py", "modules/workplace.py",
    ),
    (
        "modules/pipeline.py", "modules/prepare.py", "modules/run.py", "modules/loaded.py", "modules/previews.py",
        "modules/engine_process.py",
    ),
    ("modules/",),
    ("ldm_patched/modules/",),
    ("ldm_patched/k_diffusion/",),
    ("ldm_patched/ldm/",),
)  # fmt: skip
_TORCH = (
    "ldm_patched/", "modules/pipeline.py", "modules/prepare.py", "modules/run.py", "modules/previews.py", "training/",
    "benchmarks/", "tests/",
)  # fmt: skip
_PAGE = ("webui.py", "modules/ui/", "modules/api/", "benchmarks/", "tests/")
_NETWORK = ("modules/https.py", "tests/")
_REFERENCES = ("benchmarks/", "tests/", "training/")
OWNERS: Mapping[str, tuple[str, ...]] = {
    "torch": _TORCH, "torchsde": _TORCH, "safetensors.torch": _TORCH,
    "gradio": ("webui.py", "modules/ui/", "modules/api/server.py", "modules/api/public.py", "benchmarks/", "tests/"),
    "fastapi": _PAGE, "starlette": _PAGE, "uvicorn": _PAGE,
    "diffusers": _REFERENCES, "transformers": _REFERENCES, "accelerate": _REFERENCES, "playwright": _REFERENCES,
    # Nothing but downloads goes to the network.
    "http.client": (*_NETWORK, "benchmarks/"), "urllib.request": (*_NETWORK, "benchmarks/"),
    "ssl": _NETWORK, "certifi": _NETWORK,
    "httpx": ("tests/",), "requests": (), "urllib3": (), "huggingface_hub": (), "aiohttp": (), "ftplib": (),
    "torchvision": (), "pickle": ("tests/",), "marshal": (), "shelve": (), "dill": (),
}  # fmt: skip

# The switches that libraries want to be set this way, and the files that may.
SWITCHES: Mapping[str, tuple[str, ...]] = {
    "os.environ": ("modules/api/server.py", "modules/engine_process.py", "benchmarks/"),
    "torch.backends": ("ldm_patched/modules/devices.py", "benchmarks/"),
    "sys.path": ("benchmarks/",),  # they are started as files
}
_MUTATORS = {"append", "extend", "insert", "update", "setdefault", "pop", "clear", "add", "remove", "discard"}

# What a module may call while it is imported: making a constant is not work.
CONSTANTS = {
    "tuple", "frozenset", "dict", "list", "set", "range", "zip", "sorted", "len", "sum", "min", "max", "float", "int",
    "str", "re.compile", "logging.getLogger", "field", "model_validator", "field_validator", "model_serializer",
    "dirname", "abspath", "with_name", "resolve", "joinpath", "fields", "items", "values", "keys", "join",
    "lru_cache", "cache",
}  # fmt: skip
_WORK = {"Thread", "Process", "Pool", "Popen", "ThreadPoolExecutor", "ProcessPoolExecutor", "Event", "Queue", "Timer"}

MAX_LINES = 400
Rule = Callable[[str, ast.Module], Iterator[str]]


@cache
def parsed(path: str) -> ast.Module:
    """The syntax tree of a file of the project."""
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), path)


def within(path: str, places: Iterable[str]) -> bool:
    """Whether `path` is one of `places`, or lies in one that ends with a slash."""
    return any(path == place or (place.endswith("/") and path.startswith(place)) for place in places)


def imports(tree: ast.AST, only_at_import: bool = False) -> Iterator[tuple[ast.stmt, str]]:
    """Every imported module as a dotted name; `from a import b` gives `a.b`, which may be a module or a name in one."""
    for node in _at_import(tree) if only_at_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node, f"{'.' * node.level}{node.module or ''}.{alias.name}") for alias in node.names)


def _at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run while a file is imported: not the bodies of functions, nor what only type checkers read."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            arguments = node.args
            for part in [
                *getattr(node, "decorator_list", ()),
                *arguments.defaults,
                *filter(None, arguments.kw_defaults),
            ]:
                yield part
                yield from _at_import(part)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith(("TYPE_CHECKING", "__name__ == '__main__'")):
            continue
        else:
            yield node
            yield from _at_import(node)


def own_file(name: str) -> str | None:
    """The project's file that a dotted name means, or lives in; None for a name from elsewhere."""
    while name:
        stem = name.replace(".", "/")
        for candidate in (f"{stem}.py", f"{stem}/__init__.py"):
            if within(candidate, PROJECT) and (ROOT / candidate).is_file():
                return candidate
        name = name.rpartition(".")[0]
    return None


def layer(path: str) -> int | None:
    """How far down the list a file is; None outside of it."""
    if path in ("modules/__init__.py", "ldm_patched/__init__.py") or path.startswith("ldm_patched/data/"):
        return len(LAYERS)
    return next((number for number, places in enumerate(LAYERS) if within(path, places)), None)


def imports_point_down(path: str, tree: ast.Module) -> Iterator[str]:
    """No file uses one above it; what users run does not use training, benchmarks or tests."""
    here = layer(path)
    for node, name in imports(tree):
        target = own_file(name)
        if name.startswith("."):
            yield f"{path}:{node.lineno} imports {name} relatively; write the whole name"
        if target is None or here is None:
            continue
        there = layer(target)
        if there is None and path != "entry.py":
            yield f"{path}:{node.lineno} is part of the app and imports {target}, which is not"
        elif there is not None and there < here:
            yield f"{path}:{node.lineno} imports {target}, which is above it"


def libraries_have_owners(path: str, tree: ast.Module) -> Iterator[str]:
    """gradio, fastapi, torch and the references are used where they belong; pickle and torchvision nowhere."""
    for node, name in imports(tree):
        for library, places in OWNERS.items():
            if f"{name}.".startswith(f"{library}.") and not within(path, places):
                yield f"{path}:{node.lineno} imports {name}; that belongs to {', '.join(places) or 'no file'}"


def nothing_is_patched(path: str, tree: ast.Module) -> Iterator[str]:
    """No `global`; nobody assigns into, deletes from or changes another module, a class, or what was imported."""
    foreign = {"cls"} | {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            foreign |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield f"{path}:{node.lineno} uses global {', '.join(node.names)}"
        for target in _changed(node):
            text = ast.unparse(target)
            allowed = [places for switch, places in SWITCHES.items() if text.startswith(switch)]
            if _is_foreign(target, foreign) and not (allowed and within(path, allowed[0])):
                yield f"{path}:{target.lineno} changes {text}, which it does not own"


def _changed(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions whose value a statement or call changes from outside."""
    targets: list[ast.expr] = []
    if isinstance(node, (ast.Assign, ast.Delete)):
        targets = node.targets
    elif isinstance(node, (ast.AugAssign, ast.AnnAssign, ast.For)):
        targets = [node.target]
    elif isinstance(node, ast.withitem) and node.optional_vars:
        targets = [node.optional_vars]
    elif (
        isinstance(node, ast.Call)
        and node.args
        and ast.unparse(node.func).endswith(("setattr", "delattr", "__setattr__"))
    ):
        yield ast.Attribute(node.args[0], "attribute", lineno=node.lineno)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _MUTATORS:
        owner = node.func.value
        if isinstance(owner, ast.Attribute) or (isinstance(owner, ast.Name) and owner.id.isupper()):
            yield ast.Subscript(owner, ast.Constant(...), lineno=node.lineno)
    for target in targets:
        inner = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
        yield from (each for each in inner if isinstance(each, (ast.Attribute, ast.Subscript)))


def _is_foreign(target: ast.expr, foreign: set[str]) -> bool:
    while isinstance(target, (ast.Attribute, ast.Subscript)):
        if isinstance(target, ast.Attribute) and target.attr in ("__class__", "__dict__", "__globals__"):
            return True
        target = target.value
    if isinstance(target, ast.Call):
        return ast.unparse(target.func) in ("type", "vars", "globals", "locals", "import_module")
    return isinstance(target, ast.Name) and target.id in foreign


def importing_does_nothing(path: str, tree: ast.Module) -> Iterator[str]:
    """While a file is imported it makes constants, functions and classes, and does no work."""
    for node in _at_import(tree):
        if isinstance(node, (ast.For, ast.While, ast.With)):
            yield f"{path}:{node.lineno} runs a {type(node).__name__.lower()} statement on import"
        if isinstance(node, ast.Call):
            text = ast.unparse(node.func)
            name = text.rpartition(".")[2]
            constant = text in CONSTANTS or name in CONSTANTS or (name[:1].isupper() and name not in _WORK)
            decorator = text in ("torch.inference_mode", "torch.no_grad", "dataclass")
            if not constant and not decorator:
                yield f"{path}:{node.lineno} calls {text} on import"


def nothing_is_evaluated(path: str, tree: ast.Module) -> Iterator[str]:
    """Nothing that a file or a user says is run as code."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        text = ast.unparse(node.func)
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        safe_torch = path.startswith(("training/", "tests/")) and keywords.get("weights_only") == "True"
        if text in ("eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load"):
            yield f"{path}:{node.lineno} calls {text}"
        elif text == "torch.load" and not safe_torch:
            yield f"{path}:{node.lineno} calls torch.load; read safetensors"
        elif keywords.get("shell") == "True" or keywords.get("allow_pickle") == "True":
            yield f"{path}:{node.lineno} calls {text} with shell or allow_pickle"


def nothing_is_printed(path: str, tree: ast.Module) -> Iterator[str]:
    """Modules log; only the command line talks to the terminal by print."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "pprint", "breakpoint"):
            yield f"{path}:{node.lineno} prints"


def says_what_it_is(path: str, tree: ast.Module) -> Iterator[str]:
    """The first line of every module is a sentence about it, for the reader and for the README."""
    first = (ast.get_docstring(tree) or "").partition("\n")[0]
    if tree.body and (len(first) < 10 or not first.endswith(".")):
        yield f"{path} does not begin with a line that says what it is: {first!r}"


def is_short(path: str, text: str) -> Iterator[str]:
    """A file holds one concern."""
    lines = text.count("\n")
    if lines > MAX_LINES:
        yield f"{path} has {lines} lines, more than {MAX_LINES}: it holds more than one concern"


# Spelt so that this file does not find itself.
_OUTSIDE = re.compile(
    r"(?<![\w.])/(?:work|root)/|/tmp/[a-z_]+/"
    r"|pypi\." + r"org|files\.python" + r"hosted|registry\.npm" + r"js|deb\.deb" + r"ian|download\.py" + r"torch"
)


def names_no_machine(path: str, text: str) -> Iterator[str]:
    """No path of the machine it was written on, and no registry: where packages come from is pip's to know."""
    for number, line in enumerate(text.splitlines(), 1):
        if found := _OUTSIDE.search(line):
            yield f"{path}:{number} names {found[0]}"


def cycle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """The files of one circle of imports, or nothing."""
    done: set[str] = set()

    def visit(node: str, trail: list[str]) -> list[str]:
        if node in trail:
            return [*trail[trail.index(node) :], node]
        if node in done:
            return []
        for target in graph.get(node, ()):
            if found := visit(target, [*trail, node]):
                return found
        done.add(node)
        return []

    return next((found for node in graph if (found := visit(node, []))), [])


def listed(readme: str) -> dict[str, str]:
    """Path -> description of the README's file tree: the fenced block under "What is where", two spaces a level."""
    block = re.search(r"^## What is where\n.*?^```\w*\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    entries: dict[str, str] = {}
    trail: list[str] = []
    for line in block[1].splitlines() if block else ():
        name, _, description = line.strip().partition(" ")
        del trail[(len(line) - len(line.lstrip())) // 2 :]
        entries["".join(trail) + name] = description.strip()
        trail.append(name)
    return entries


def tree_differs(entries: Mapping[str, str], files: Iterable[str]) -> Iterator[str]:
    """What the README's tree lacks or has too much. A folder without lines of its own stands for its files."""
    files = sorted(files)
    folders = {name for name in entries if name.endswith("/")}
    whole = {folder for folder in folders if not any(name != folder and name.startswith(folder) for name in entries)}
    for name, description in entries.items():
        if name not in files and not any(file.startswith(name) for file in files if name in folders):
            yield f"the README lists {name}, which does not exist"
        if not description:
            yield f"the README does not say what {name} is"
    for file in files:
        code = file.endswith(".py") and not file.startswith("tests/")
        if (
            file in entries
            or file.endswith("__init__.py")
            or (not code and any(file.startswith(each) for each in whole))
        ):
            continue
        yield f"the README does not list {file}"
