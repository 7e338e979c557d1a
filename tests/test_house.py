"""The rules of the house, as tests that fail when one is broken: who may import whom, what importing a member loads,
what the public API holds, and how fast `--help` is."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import localdistill
from localdistill.engines import ENGINES
from localdistill.exporters import EXPORTERS
from localdistill.filters import FILTERS
from localdistill.formats import FORMATS
from localdistill.graders import GRADERS
from localdistill.interchange import LAYOUTS
from localdistill.objectives import OBJECTIVES
from localdistill.registry import Family
from localdistill.rewrites import REWRITES
from localdistill.tasks import TASKS
from localdistill.trainers import TRAINERS

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = (ENGINES, EXPORTERS, FILTERS, FORMATS, GRADERS, LAYOUTS, OBJECTIVES, REWRITES, TASKS, TRAINERS)
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
    "textual",
)

# A module may import modules of its own rank or below; families are of one rank and may not import each other.
RANKS = {
    "errors": 0,
    "installing": 0,
    "events": 0,
    "options": 0,
    "registry": 0,
    "records": 0,
    "safety": 1,
    "templates": 1,
    "modelfiles": 1,
    "statistics": 1,
    "journal": 1,
    "callbook": 1,
    "quarantine": 1,
    "providers": 1,
    "key_store": 1,
    "keys": 1,
    "logprobs": 1,
    "scorecard": 1,
    "devices": 1,
    "hardware": 1,
    **{family.package.split(".")[1]: 2 for family in FAMILIES},
    "store": 3,
    "recipe": 3,
    "workspace": 3,
    "run_folder": 4,
    "recovery": 4,
    "consent": 4,
    "stages": 5,
    "runs": 6,
    "browsing": 7,
    "budgets": 7,
    "chatting": 7,
    "datasets": 7,
    "laying_out": 7,
    "selecting": 7,
    "doctor": 7,
    "drafts": 7,
    "exports": 7,
    "importing": 7,
    "kept_keys": 7,
    "surveying": 7,
    "planning": 7,
    "quoting": 7,
    "probing": 7,
    "pruning": 7,
    "scores": 7,
    "showing": 7,
    "__init__": 8,
    "cli": 9,
    "__main__": 9,
}
# A trainer is given an objective: its contract names the other contract, nothing else.
ALLOWED_BETWEEN_FAMILIES = {("trainers", "objectives.base")}


def modules() -> list[Path]:
    return sorted((ROOT / "localdistill").rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    """Every module of localdistill that `path` imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "localdistill":
            found |= {f"localdistill.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def part(module: str) -> str:
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else "__init__"


def violations(path: Path) -> list[str]:
    own = part(".".join(path.relative_to(ROOT).with_suffix("").parts))
    family_parts = {family.package.split(".")[1] for family in FAMILIES}
    bad = []
    for module in imports_of(path):
        if not module.startswith("localdistill"):
            continue
        other = part(module)
        if other == "__version__":
            continue
        if other not in RANKS:
            other = "__init__"  # a name of the public API
        between = own in family_parts and other in family_parts and own != other
        allowed = (own, module.removeprefix("localdistill.")) in ALLOWED_BETWEEN_FAMILIES
        if RANKS[other] > RANKS[own] or (between and not allowed):
            bad.append(f"{path.relative_to(ROOT)} ({own}) imports {module}")
    return bad


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    assert part(".".join(path.relative_to(ROOT).with_suffix("").parts)) in RANKS, "give the new part a rank"
    assert violations(path) == []


def test_the_rule_catches_a_breach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    folder = tmp_path / "localdistill" / "graders"
    folder.mkdir(parents=True)
    for line in (
        "from localdistill.store import Store",
        "from localdistill.filters.length import LengthFilter",
        "import localdistill.cli.app",
    ):
        (folder / "bad.py").write_text(line + "\n")
        assert violations(folder / "bad.py"), line


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_only_the_store_says_duckdb_and_only_the_cli_draws(path: Path) -> None:
    own = part(".".join(path.relative_to(ROOT).with_suffix("").parts))
    tops = {module.split(".")[0] for module in imports_of(path)}
    assert "duckdb" not in tops or own == "store"
    assert not tops & {"typer", "rich"} or own == "cli"
    assert "textual" not in tops and "tui" not in tops


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_store_is_opened_with_all_that_the_journals_hold(path: Path) -> None:
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    made = any(isinstance(call, ast.Name) and call.id == "Store" for call in calls)
    assert not made or path.relative_to(ROOT).as_posix() in ("localdistill/recovery.py",
                                                            "localdistill/stages/__main__.py")


DOOR = "localdistill/safety/children.py"
STARTERS = {"subprocess", "multiprocessing"}
STARTING = re.compile(r"(os\.(fork|forkpty|system|popen|startfile|exec\w+|spawn\w+|posix_spawn\w*)"
                      r"|pty\.(fork|spawn)|.*\.?create_subprocess_\w+|.*\.subprocess_(exec|shell)|.*\.?ProcessPoolExecutor)")
MAY_START = {"localdistill/runs/supervisor.py": {"os.fork"}}
"""The supervisor leaves its parent by forking itself: its environment is the one that it was started with."""


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


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.noun)
def test_every_file_of_a_family_is_listed_or_a_helper(family: Family) -> None:
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
