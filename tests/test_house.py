"""The rules of the house, as tests that fail when one is broken: who may import whom, what importing a member loads,
what the public API holds, and how fast `--help` is."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

import localdistill
from localdistill.augmentations import AUGMENTATIONS
from localdistill.core.registry import Family
from localdistill.engines import ENGINES
from localdistill.exporters import EXPORTERS
from localdistill.filters import FILTERS
from localdistill.formats import FORMATS
from localdistill.graders import GRADERS
from localdistill.interchange import LAYOUTS
from localdistill.labels import LABELS
from localdistill.objectives import OBJECTIVES
from localdistill.rewrites import REWRITES
from localdistill.tasks import TASKS
from localdistill.trainers import TRAINERS

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = (AUGMENTATIONS, ENGINES, EXPORTERS, FILTERS, FORMATS, GRADERS, LABELS, LAYOUTS, OBJECTIVES, REWRITES, TASKS,
            TRAINERS)
HEAVY = (
    "torch",
    "transformers",
    "llama_cpp",
    "duckdb",
    "peft",
    "bitsandbytes",
    "pyarrow",
    "aiohttp",
    "numpy",
    "math_verify",
    "tokenizers",
    "gguf",
    "mlx",
    "mlx_lm",
    "textual",
)

FLOOR = ("safety", "texts", "templates", "hub", "modelfiles", "keys", "providers", "spending", "scorecard")
FLOORS = (
    ("core",),
    FLOOR,
    tuple(family.package.split(".")[1] for family in FAMILIES),
    ("store", "recipe", "workspace"),
    ("stages",),
    ("runs",),
    ("api",),
    ("",),
    ("cli",),
    ("__main__", "tui"),
)
"""The rooms, lowest first; "" is the public API itself. A room may import what lies lower, and of its own floor what
does not import it back; families import no other family."""
RANKS = {room: rank for rank, rooms in enumerate(FLOORS) for room in rooms}
ALLOWED_BETWEEN_FAMILIES = {("trainers", "objectives.base")}
"""A trainer is given an objective: its contract names the other contract, nothing else."""
OWN = ("localdistill", "tui")
STILL_SHARED = {"Line", "Material", "Place", "Price", "Question", "Turn"}
"""Names of classes that mean two things so far. Nothing is ever added here."""


def modules() -> list[Path]:
    return sorted(path for own in OWN for path in (ROOT / own).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, late: bool = True) -> set[str]:
    """Every module that `path` imports: anywhere in it, or (not `late`) while it is being imported itself."""
    found = set()
    for node in _nodes(ast.parse(path.read_text()), late):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            of_names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if (ROOT / (name.replace(".", "/") + ".py")).exists() else node.module for name in of_names}
    return found


def _nodes(tree: ast.AST, late: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not late and (for_types or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            continue
        yield node
        yield from _nodes(node, late)


def room(module: str) -> str:
    top, _, rest = module.partition(".")
    return "tui" if top == "tui" else rest.split(".")[0] if rest.split(".")[0] in RANKS else ""


def violations(path: Path) -> list[str]:
    own, families = room(name_of(path)), FLOORS[2]
    bad = []
    for module in imports_of(path):
        if module.split(".")[0] not in OWN:
            continue
        other = room(module)
        outside = own in ("cli", "tui") and other not in (own, "")
        between = own in families and other in families and own != other
        allowed = (own, module.removeprefix("localdistill.")) in ALLOWED_BETWEEN_FAMILIES
        if RANKS[other] > RANKS[own] or outside or (between and not allowed):
            bad.append(f"{path.relative_to(ROOT)} ({own}) imports {module}")
    return bad


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of names that reach each other."""
    reached: dict[str, set[str]] = {}
    for start in arrows:
        seen, todo = set[str](), [start]
        while todo:
            for other in arrows.get(todo.pop(), set()) - seen:
                seen.add(other)
                todo.append(other)
        reached[start] = seen
    groups = {frozenset(b for b in reached[a] if a in reached.get(b, set())) for a in reached if a in reached[a]}
    return sorted(sorted(group) for group in groups)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    assert violations(path) == []


def test_every_module_has_a_room() -> None:
    loose = {path.name for path in (ROOT / "localdistill").iterdir() if path.suffix == ".py"}
    assert loose == {"__init__.py", "__main__.py"}
    folders = {path.parent.name for path in (ROOT / "localdistill").glob("*/__init__.py")}
    assert folders == set(RANKS) - {"", "tui", "__main__"}


def test_no_room_imports_one_that_imports_it() -> None:
    arrows: dict[str, set[str]] = {}
    for path in modules():
        own = room(name_of(path))
        arrows.setdefault(own, set()).update({room(m) for m in imports_of(path) if m.split(".")[0] in OWN} - {own})
    assert circles(arrows) == []


def test_no_module_imports_one_that_imports_it() -> None:
    """Anywhere in a file, for types only or late: who needs each other is one thing, or lacks a contract between."""
    names = {name_of(path) for path in modules()}
    arrows = {name_of(path): {m for m in imports_of(path) if m in names and m != "localdistill"} - {name_of(path)}
              for path in modules()}
    assert circles(arrows) == []


def shared_names(paths: Iterable[Path]) -> dict[str, list[str]]:
    """Classes at the top of modules that have a name in common, with those modules."""
    homes: dict[str, list[str]] = {}
    for path in paths:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name != "Options":
                homes.setdefault(node.name, []).append(name_of(path))
    return {name: where for name, where in homes.items() if len(where) > 1}


def test_no_two_classes_share_a_name() -> None:
    """One name, one meaning: whoever reads a name need not ask which of two things it is."""
    assert {name: where for name, where in shared_names(modules()).items() if name not in STILL_SHARED} == {}


def test_the_rules_catch_a_breach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    for line, folder in (
        ("from localdistill.store import Store", "localdistill/graders"),
        ("from localdistill.filters.length import LengthFilter", "localdistill/graders"),
        ("import localdistill.cli.app", "localdistill/graders"),
        ("from localdistill.core.errors import UsageError", "localdistill/cli"),
        ("from localdistill.api.runs import scores", "tui/screens"),
        ("from localdistill import Store", "localdistill/stages"),
    ):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "bad.py").write_text(line + "\n")
        assert violations(tmp_path / folder / "bad.py"), line
    (tmp_path / "localdistill" / "one.py").write_text("class Twice: ...\n")
    (tmp_path / "localdistill" / "two.py").write_text("class Twice: ...\nclass Once: ...\nclass Options: ...\n")
    assert list(shared_names((tmp_path / "localdistill").glob("*.py"))) == ["Twice"]
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_only_the_store_says_duckdb_and_only_the_cli_draws(path: Path) -> None:
    own = room(name_of(path))
    tops = {module.split(".")[0] for module in imports_of(path)}
    assert "duckdb" not in tops or own == "store"
    assert "typer" not in tops or own == "cli"
    assert "rich" not in tops or own in ("cli", "tui")
    assert own == "tui" or ("textual" not in tops and "tui" not in tops)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_store_is_opened_with_all_that_the_journals_hold(path: Path) -> None:
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    made = any(isinstance(call, ast.Name) and call.id == "Store" for call in calls)
    assert not made or path.relative_to(ROOT).as_posix() in (
        "localdistill/workspace/recovery.py", "localdistill/workspace/rebuilding.py", "localdistill/stages/__main__.py")


DOOR = "localdistill/safety/children.py"
STARTERS = {"subprocess", "multiprocessing"}
STARTING = re.compile(r"(os\.(fork|forkpty|system|popen|startfile|exec\w+|spawn\w+|posix_spawn\w*)"
                      r"|pty\.(fork|spawn)|.*\.?create_subprocess_\w+|.*\.subprocess_(exec|shell)|.*\.?ProcessPoolExecutor)")
MAY_START = {"localdistill/runs/supervisor.py": {"os.fork"}, "localdistill/safety/jail/keeper.py": {"os.fork"},
             "localdistill/safety/address_limit.py": {"os.fork"}}
"""The supervisor leaves its parent by forking itself, and the keeper of a jail makes its inmate so: their environments
are the ones that they were started with."""


def starts(path: Path, root: Path = ROOT) -> set[str]:
    """Everything in `path` that starts a process, without what its place may use."""
    place, found = path.relative_to(root).as_posix(), set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] in STARTERS}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in names if name.split(".")[0] in STARTERS or STARTING.fullmatch(name)}
        elif isinstance(node, ast.Attribute) and STARTING.fullmatch(ast.unparse(node)):
            found.add(ast.unparse(node))
    return set() if place == DOOR else found - MAY_START.get(place, set())


@pytest.mark.parametrize("folder", ["localdistill", "tui", "benchmarks"])
def test_every_process_is_started_through_one_door(folder: str) -> None:
    """The door holds secrets back: whoever starts a process past it hands it every key of the user."""
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files and {str(path): found for path in files if (found := starts(path))} == {}


@pytest.mark.parametrize("line", [
    "import subprocess", "from subprocess import run", "import multiprocessing.pool", "import os\nos.system('ls')",
    "from os import execvp", "import os\nos.posix_spawn('a', [], {})",
    "import asyncio\nasyncio.create_subprocess_exec('a')",
    "from concurrent.futures import ProcessPoolExecutor", "import pty\npty.spawn('a')",
])
def test_the_rule_of_the_door_catches_a_breach(line: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(line + "\n")
    assert starts(tmp_path / "bad.py", tmp_path)


def test_importing_any_member_loads_nothing_heavy() -> None:
    members = [(family.package, name, cls) for family in FAMILIES for name, cls in family.members.items()]
    script = (
        "import sys, json, importlib\n"
        f"for package, name, cls in {members!r}:\n"
        "    getattr(importlib.import_module(f'{package}.{name}'), cls)\n"
        f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))\n"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == []


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.noun)
def test_listing_members_imports_none_of_them(family: Family) -> None:
    script = (
        f"import sys; from {family.package} import *; import {family.package} as p\n"
        f"print([m for m in sys.modules if m.startswith({family.package!r} + '.')])"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def strays(folder: Path, members: Collection[str], users: Iterable[Path]) -> set[str]:
    """What lies in the folder of a family and is nothing of it: neither the contract, nor listed, nor used by what is.
    A helper is imported, late or not, by a listed member, another helper or a module elsewhere in the package, or is a
    child process that one of them starts by its name."""
    package = name_of(folder / "__init__.py")
    parts = {path.stem: [path] for path in folder.glob("*.py")}
    parts |= {path.name: sorted(path.rglob("*.py")) for path in folder.iterdir() if (path / "__init__.py").exists()}
    known, todo = {"__init__", "base"}, [*users, *(path for name in members for path in parts.get(name, []))]
    known |= set(members)
    while todo:
        path = todo.pop()
        named = imports_of(path) | set(re.findall(rf"\"({re.escape(package)}\.[\w.]+)\"", path.read_text()))
        for module in named:
            part = module.removeprefix(f"{package}.").split(".")[0] if module.startswith(f"{package}.") else ""
            if part in parts and part not in known:
                known.add(part)
                todo += parts[part]
    return set(parts) - known


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.noun)
def test_every_file_of_a_family_is_listed_or_a_helper(family: Family) -> None:
    folder = ROOT / family.package.replace(".", "/")
    outside = [path for path in modules() if folder not in path.parents and family.package in path.read_text()]
    assert strays(folder, family.members, outside) == set()


def test_a_file_that_nobody_lists_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    folder = tmp_path / "localdistill/graders"
    folder.mkdir(parents=True)
    for name, text in {
        "__init__": "", "base": "", "exact": "from localdistill.graders.numbers import f", "numbers": "",
        "math": "start('localdistill.graders.math_child')".replace("'", '"'), "math_child": "", "batch": "",
        "choice": "from localdistill.graders.letters import f", "letters": "",
    }.items():
        (folder / f"{name}.py").write_text(text + "\n")
    (tmp_path / "user.py").write_text("from localdistill.graders.batch import f\n")
    assert strays(folder, ["exact", "math"], [tmp_path / "user.py"]) == {"choice", "letters"}
    assert strays(folder, ["exact", "math", "choice"], [tmp_path / "user.py"]) == set()
    assert strays(folder, ["exact", "math", "choice"], []) == {"batch"}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.noun)
def test_a_member_is_the_class_that_is_listed_and_says_what_it_is(family: Family) -> None:
    for name, cls in family.members.items():
        member = family.load(name)
        assert member.__name__ == cls
        assert member.__doc__, f"{cls} says nothing about itself"


def test_the_public_api_is_what_it_says() -> None:
    for name in localdistill.__all__:
        assert getattr(localdistill, name).__name__ if hasattr(getattr(localdistill, name), "__name__") else True
    with pytest.raises(AttributeError):
        _ = localdistill.no_such_name


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys, json\nfrom localdistill.cli import app\n"
        f"print(json.dumps([m for m in {HEAVY!r} + ('pydantic', 'rich') if m in sys.modules]))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == []


def test_speed_is_no_test() -> None:
    """A test that times itself fails on a busy machine. Speed is a ratio, measured in benchmarks/."""
    others = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    assert others and [path for path in others if "perf_counter" in path.read_text(encoding="utf-8")] == []
