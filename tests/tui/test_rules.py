"""The rules of the UI: who may import what, where threads start, that text reaches widgets through one file, and that
everything that can be done has a twin on the command line."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from localdistill.cli.app import app as cli
from tests.helpers import REPO
from tui.app import _everywhere
from tui.commands import Command, by_id
from tui.menu import MENU
from tui.screens import load

FILES = sorted((REPO / "tui").rglob("*.py"))
SAFE = {"shown", "safe", "line", "joined", "display_safe"}
TEXT_SINKS = {"Static", "Label", "Option", "Button", "Checkbox", "Collapsible", "TabPane", "notify", "add_row",
              "add_column", "Input", "border_title", "border_subtitle"}
TERMINAL_ONLY = {
    "tui": "opens this",
    "recipe schema": "for other programs",
    "recipe list": "Recipe lists what ships",
}
"""Commands of the command line that the UI has no action for, and why."""


def trees() -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_text())) for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(REPO)))
def test_the_ui_imports_the_public_api_and_nothing_below(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in [module, *names]:
            assert not name.startswith("localdistill."), f"{path}: {name}"
            assert name.split(".")[0] not in ("duckdb", "torch", "llama_cpp", "transformers", "typer"), name


def test_threads_start_in_one_file() -> None:
    for path, tree in trees():
        for node in ast.walk(tree):
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            if name in ("run_worker", "Thread", "create_task", "set_interval") or name == "work":
                assert path.name == "jobs.py" or name == "work", f"{path} uses {name}"


def is_safe(node: ast.expr) -> bool:
    """A literal, a call of a safe maker, or a choice between such."""
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.IfExp):
        return is_safe(node.body) and is_safe(node.orelse)
    if isinstance(node, ast.BinOp):
        return is_safe(node.left) and is_safe(node.right)
    if isinstance(node, ast.JoinedStr):
        return all(is_safe(v.value) for v in node.values if isinstance(v, ast.FormattedValue))
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return name in SAFE or name in ("Content", "Text") or name.startswith("_")
    return False


def test_no_formatted_text_reaches_a_widget_unmade() -> None:
    bad = []
    for path, tree in trees():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in TEXT_SINKS and node.args and not is_safe(node.args[0]):
                bad.append(f"{path.relative_to(REPO)}:{node.lineno} {name}")
    assert bad == []


def test_the_lint_catches_a_breach() -> None:
    for source in ("Static(f'{trace.answer}')", "notify(str(error))", "Label('a' + x())"):
        call = ast.parse(source).body[0].value  # type: ignore[attr-defined]
        assert not is_safe(call.args[0]), source
    assert is_safe(ast.parse("shown(trace.answer)").body[0].value)  # type: ignore[attr-defined]


def all_commands() -> list[Command]:
    return [*_everywhere(), *(command for entry in MENU for command in load(entry.name).ACTIONS)]


def cli_commands() -> set[str]:
    """Every command path of the command line."""
    found: set[str] = set()

    def walk(group: typer.Typer, prefix: str) -> None:
        for command in group.registered_commands:
            found.add(f"{prefix}{command.name}".strip())
        for sub in group.registered_groups:
            name = sub.name or sub.typer_instance.info.name  # type: ignore[union-attr]
            if sub.typer_instance is not None and sub.typer_instance.registered_callback is not None:
                found.add(f"{prefix}{name}".strip())
            walk(sub.typer_instance, f"{prefix}{name} ")  # type: ignore[arg-type]

    walk(cli, "")
    return found


def test_every_action_has_a_twin_on_the_command_line() -> None:
    known = cli_commands()
    for command in by_id(all_commands()).values():
        if command.id.split(".")[0] in ("help", "theme", "app", "palette"):
            continue
        assert command.twin in known, f"{command.id}: there is no command '{command.twin}'"
        verb, colon, thing = command.title.partition(": ")
        assert verb and colon and thing, command.title


def test_every_command_of_the_command_line_is_in_the_palette() -> None:
    twins = {command.twin for command in all_commands()}
    missing = cli_commands() - twins - set(TERMINAL_ONLY)
    assert not missing, f"the UI cannot: {sorted(missing)}"


def test_keys_do_not_clash() -> None:
    everywhere = {c.key for c in _everywhere() if c.key}
    for entry in MENU:
        keys = [c.key for c in load(entry.name).ACTIONS if c.key]
        assert len(keys) == len(set(keys)), entry.name
        assert not everywhere & set(keys), f"{entry.name}: {everywhere & set(keys)}"


def test_opening_loads_nothing_heavy() -> None:
    script = ("import sys, json\nimport tui.app\nfrom tui.screens import load\nload('home')\n"
              "heavy = ('torch', 'transformers', 'llama_cpp', 'duckdb', 'pyarrow', 'numpy', 'typer')\n"
              "print(json.dumps([m for m in heavy"
              " if m in sys.modules]))")
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPO)
    assert json.loads(out.stdout) == []
