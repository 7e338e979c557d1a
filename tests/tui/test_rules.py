"""The rules of the UI: who may import what, where threads start, that text reaches widgets through one file, and that
everything that can be done has a twin on the command line."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import typer

from localdistill.cli.app import app as cli
from tests.helpers import REPO
from tests.tui import safe_text
from tests.tui.safe_text import Lint
from tui.app import _everywhere
from tui.commands import Command, by_id
from tui.menu import MENU
from tui.screens import load

FILES = sorted((REPO / "tui").rglob("*.py"))
TERMINAL_ONLY = {
    "tui": "opens this",
    "recipe schema": "for other programs",
    "recipe list": "Recipe lists what ships",
    "logprobs": "figures of one model, for scripts",
    "data layouts": "the window of data export names them",
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


def test_a_screen_that_shows_nothing_in_particular_refuses_to_be_asked() -> None:
    for entry in MENU:
        page = load(entry.name)()
        page.came({})
        if entry.name not in ("chat", "traces", "recipe"):
            with pytest.raises(ValueError, match=f"{entry.title} cannot be asked to show file, selection"):
                page.came({"file": Path("x.gguf"), "selection": "mine"})


def test_threads_start_in_one_file() -> None:
    for path, tree in trees():
        for node in ast.walk(tree):
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            if name in ("run_worker", "Thread", "create_task", "set_interval") or name == "work":
                assert path.name == "jobs.py" or name == "work", f"{path} uses {name}"


def linted(name: str = "", source: str = "") -> list[str]:
    """Breaches in the UI, with `source` in place of the file of the module `name`."""
    modules = {".".join(path.relative_to(REPO).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}
    read = {module: safe_text.read(path, source if module == name else "") for module, path in modules.items()}
    if name not in read and source:
        read[name] = safe_text.read(REPO / "tui/bad.py", source)
    return Lint(read).breaches()


def test_no_text_of_a_stranger_reaches_the_screen_unmade() -> None:
    assert linted() == []


BREACHES = {
    "a widget": "Static(trace.answer)",
    "a formatted text": "Static(f'{trace.answer}')",
    "an error": "ui.notify(str(error))",
    "a sum": "Label('a' + trace.answer)",
    "a choice": "Static('-' if trace is None else trace.answer)",
    "a text that a format lets through": "Static(f'{trace.answer:<20}')",
    "an update": "page.query_one('#answer', Static).update(trace.answer)",
    "an option of a list": "listing.add_options([Option(name) for name in names])",
    "a bare option of a list": "listing.add_options([name for name in names])",
    "an option that is replaced": "listing.replace_option_prompt_at_index(0, trace.answer)",
    "a cell": "table.add_row('a', trace.answer)",
    "a title": "pane.border_title = trace.model",
    "a title among others": "pane.border_title, pane.other = trace.model, 1",
    "the title of the window": "app.title = trace.model",
    "a title below": "pane.border_subtitle = f'{trace.model}'",
    "a tip": "pane.tooltip = trace.model",
    "an argument by its name": "ui.notify('done', title=error.message)",
    "a placeholder": "Input(placeholder=trace.model)",
    "a placeholder of a widget of one's own": "Line('x', placeholder=trace.model)",
    "a name": "text = trace.answer\nStatic(text)",
    "a name in a loop": "for text in trace.parts:\n    Static(text)",
    "a name that is safe only at first": "text = 'a'\ntext += trace.answer\nStatic(text)",
    "parts that are joined": "parts = ['a']\nparts.append(trace.answer)\nStatic('\\n'.join(parts))",
    "a content made past the door": "Content(trace.answer)",
    "markup": "Content.from_markup(trace.answer)",
    "a strip of the table": "Segment(trace.answer)",
    "a helper that returns it": "Static(_told(trace))",
    "a helper behind a helper": "Static(_told_again(trace))",
    "a helper that hands it on": "Static(_same(trace.answer))",
    "a helper that yields it": "Static(joined_up(_parts(trace)))",
    "a helper of another file": "Static(text_of(trace.answer))",
    "a helper that shows it": "def _say(page, text: str):\n    page.query_one('#a').update(text)",
    "a widget that is one itself": "class Mine(Static):\n    def __init__(self, a: str):\n        super().__init__(a)",
}
HELPERS = """
from tui.recipe_fields import text_of
from tui.text import line, safe, shown
MARKS = {"ok": ("✓", "$success")}
def _told(trace): return trace.answer
def _told_again(trace): return _told(trace)
def _same(text): return text
def _parts(trace):
    yield "a"
    yield trace.answer
def joined_up(parts): return "".join(parts)
def _content(trace) -> Content: return shown(trace.answer)
def _made(trace): return line(trace.answer) or "nothing"
"""
FINE = """
mark, style = MARKS[trace.state]
rows = [f"{mark} {line(trace.model)}: {trace.tokens:,}"]
rows.append(_made(trace))
Static("\\n".join(rows))
Static(_content(trace), id=trace.id)
Static(_same("words of this program"))
pane.border_title = safe(trace.model)
ui.notify(safe(f"{trace.answer}"), title=line(trace.model), markup=False)
table.add_row("a", shown(trace.answer))
"""


def inside(source: str) -> str:
    """Statements in a function of a file that has some helpers."""
    return HELPERS + "def compose(trace, error, names):\n" + textwrap.indent(source, "    ")


@pytest.mark.parametrize("source", BREACHES.values(), ids=BREACHES.keys())
def test_the_lint_catches_a_breach(source: str) -> None:
    assert [found for found in linted("tui.bad", inside(source)) if "tui/bad.py" in found]


def test_the_lint_leaves_alone_what_is_made() -> None:
    assert linted("tui.bad", inside(FINE)) == []


@pytest.mark.parametrize(("module", "made", "raw"), [
    ("tui.widgets.trace_text", 'self._text(trace.reasoning, "italic $text 90%")', "trace.reasoning"),
    ("tui.widgets.recipe_picker", "update(toml(text))", "update(text)"),
    ("tui.screens.runs", "shown(line(run.run_id, 40))", "Content(run.run_id)"),
    ("tui.widgets.paged_table", "fitted(line(text, max(8, 4 * room)), room, column.right)", "text"),
    ("tui.screens.collect", '.border_title = "answer"', ".border_title = self.run_id"),
])
def test_the_lint_catches_a_breach_where_text_is_shown_today(module: str, made: str, raw: str) -> None:
    source = (REPO / f"{module.replace('.', '/')}.py").read_text()
    assert made in source and linted(module, source.replace(made, raw))


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
              "heavy = ('torch', 'transformers', 'llama_cpp', 'duckdb', 'pyarrow', 'numpy', 'typer', 'pydantic',"
              " 'jinja2')\n"
              "print(json.dumps([m for m in heavy"
              " if m in sys.modules]))")
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPO)
    assert json.loads(out.stdout) == []
