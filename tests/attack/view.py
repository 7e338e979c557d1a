"""What a person sees of a workspace: every listing, page, score card, lineage and export list, through the commands and
the public API. Two views of one workspace are equal, or what differs was said: that is what an attack is judged by."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import typer

from localdistill import (
    LocalDistillError,
    RunFolder,
    Store,
    Workspace,
    browse,
    budget_of,
    chat_files,
    dataset_shapes,
    explain,
    lay_out_everywhere,
    layouter_of,
    list_runs,
    missing_traces,
    trace_detail,
    waterfalls_of,
)
from localdistill.stages.outputs import FormatOutput, read_output

DAMAGE = re.compile(r"damage|cannot be read|is gone|was set aside|missing|not what was written|not written by|lost|"
                    r"is no longer|incomplete|unreadable|not known|unknown|(is|are) not in|without their prompt|"
                    r"is full|no result of|belongs to another|nobody can read|does not match", re.IGNORECASE)
"""What names damage."""
FAULT = "fault of localdistill"
"""What is said where nobody had thought of it: a traceback in a sentence."""
_OF_THE_MACHINE = re.compile(r"^(machine|disk|workspace) .*$|(?<=^run        )(.*?)[\d.,]+ [kMG]?B(?=   |$)",
                             re.MULTILINE)
"""What another machine shows otherwise, and how much room a run takes: the one that was damaged takes less."""


@dataclass(frozen=True)
class Seen:
    """What one look showed."""

    shown: str
    """The data."""
    said: tuple[str, ...] = ()
    """What was told beside it."""
    error: str = ""
    """The error of ours that ended it; empty when none did."""
    hint: str = ""
    """The next step that came with the error."""
    crash: str = ""
    """What no person should ever see: a traceback."""


@dataclass(frozen=True)
class Look:
    """One way to look at a workspace."""

    name: str
    at: Callable[[Workspace], Seen]


def command(*arguments: str) -> Look:
    """A look through the command line."""
    return Look("localdistill " + " ".join(arguments),
                lambda workspace: run_command([*arguments, "-w", str(workspace.root)]))


def run_command(arguments: Iterable[str]) -> Seen:
    """A command, in this process, as its entry point runs it."""
    from localdistill.cli import ending

    out, err = io.StringIO(), io.StringIO()
    hooks = warnings.showwarning, threading.excepthook, sys.unraisablehook
    try:
        with (contextlib.redirect_stdout(out), contextlib.redirect_stderr(err),
              patch.object(typer.main, "get_command", _command_tree)):
            code = ending.run(list(arguments))
    except Exception as error:  # whatever passes the entry point is what this is about
        return Seen(out.getvalue(), _lines(err.getvalue()), crash=crash_of(error))
    finally:
        warnings.showwarning, threading.excepthook, sys.unraisablehook = hooks
    said = _lines(err.getvalue())
    error = " ".join(line for line in said if line.startswith("error:")) if code else ""
    hint = " ".join(line.strip() for line in said if line.lstrip().startswith("try:"))
    if code and not error and not DAMAGE.search(out.getvalue()):  # what `verify` finds is no error of its own
        return Seen(out.getvalue(), said, crash=f"exit code {code} without a word")
    if FAULT in err.getvalue():
        return Seen(out.getvalue(), said, crash=error or "a fault that was told as a warning")
    return Seen(_OF_THE_MACHINE.sub(r"\2", out.getvalue()), said, error, hint)


@cache
def _command_tree(app: typer.Typer) -> Any:
    """Made once: that takes longer than most commands."""
    return _get_command(app)


_get_command = typer.main.get_command


def call(name: str, ask: Callable[[Workspace], tuple[Any, Iterable[str]]]) -> Look:
    """A look through the public API: what it gives, and what it says of it."""
    def at(workspace: Workspace) -> Seen:
        try:
            value, said = ask(workspace)
            return Seen(json.dumps(value, default=_plain, sort_keys=True, indent=1), tuple(said))
        except Exception as error:
            told = explain(error)  # as every screen does
            return Seen("", (), crash=crash_of(error)) if FAULT in told.hint else Seen(
                "", (), f"error: {told.message}", told.hint)

    return Look(name, at)


def crash_of(error: BaseException) -> str:
    """An exception that is none of ours, in one line: what it says and where it came from."""
    import traceback

    last = traceback.extract_tb(error.__traceback__)[-4:]
    where = " < ".join(f"{Path(step.filename).name}:{step.lineno}" for step in reversed(last))
    return f"{type(error).__name__}: {str(error)[:200]} ({where})"


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line for line in text.splitlines() if line.strip())


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Path):
        return value.name
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else str(value)


def _rows(workspace: Workspace, order: str = "stored", search: str = "") -> tuple[Any, Iterable[str]]:
    view = browse(workspace, search=search, order=order)
    view.resolve()
    return view.page(0, view.count), [one.text for one in view.missing]


def _details(workspace: Workspace) -> tuple[Any, Iterable[str]]:
    view = browse(workspace)
    view.resolve()
    return [view.detail(index) for index in range(0, view.count, 13)], [one.text for one in view.missing]


def _history(workspace: Workspace) -> tuple[Any, Iterable[str]]:
    runs = list_runs(workspace.runs)
    return {run.id: [event for event, _ in run.events()] for run in runs}, [
        f"{run.id}: {count} lines are damaged" for run in runs if (count := run.damaged_lines())]


def _money(workspace: Workspace) -> tuple[Any, Iterable[str]]:
    budgets = {run.id: budget_of(run) for run in list_runs(workspace.runs)}
    return budgets, [f"{run}: {budget.problem}" for run, budget in budgets.items() if budget.problem]


def _lineage(workspace: Workspace) -> tuple[Any, Iterable[str]]:
    store, found = Store(workspace.store_path), {}
    for run in list_runs(workspace.runs):
        if "format" in run.request()["stages"]:
            for arm in read_output(run, FormatOutput).arms.values():
                found[arm.dataset] = store.lineage(arm.dataset)
    return found, [one.text for one in missing_traces(workspace)]


def _per_run(ask: Callable[[Workspace, RunFolder], Any]) -> Callable[[Workspace], tuple[Any, Iterable[str]]]:
    def of_all(workspace: Workspace) -> tuple[Any, Iterable[str]]:
        found, said = {}, []
        for run in list_runs(workspace.runs):
            try:
                found[run.id] = ask(workspace, run)
            except LocalDistillError as error:
                said.append(f"{run.id}: {error.message}")
        return found, said

    return of_all


def _previews(trace: str) -> Callable[[Workspace], tuple[Any, Iterable[str]]]:
    def of(workspace: Workspace) -> tuple[Any, Iterable[str]]:
        run = RunFolder.open(workspace.runs, "whole-1")
        return lay_out_everywhere(workspace, trace, run, layouter_of(run)), []

    return of


def looks_of(workspace: Workspace) -> list[Look]:
    """Every way to look at a workspace like this one, which is whole."""
    view = browse(workspace)
    view.resolve()
    rows = view.page(0, view.count)
    original = next(row for row in rows if not row.rewrite and row.score == 1)
    rewritten = next(row for row in rows if row.rewrite)
    imported = rows[-1]
    runs = [run.id for run in list_runs(workspace.runs)]
    return [
        command("status"), command("runs"), command("runs", "--json"),
        command("traces", "--limit", "1000"), command("traces", "--limit", "1000", "--json"),
        command("traces", "--search", "double 1"), command("traces", "--order", "cost", "--limit", "5"),
        *(command("show", row.id) for row in (original, rewritten, imported)),
        command("show", original.id, "--json"), command("show", original.id, "--as", "full_trace"),
        command("selections"), command("exports"), command("exports", "--json"), command("runs", "prune", "--dry-run"),
        command("verify"), command("teacher", "list", "--json"),
        *(command(what, run) for run in runs for what in ("scores", "datasets", "quarantine")),
        *(command("runs", "verify", run) for run in ("partial-1", "killed-1")),
        call("rows", _rows), call("rows by score", lambda w: _rows(w, "score")),
        call("rows that hold 1", lambda w: _rows(w, search="1")), call("details", _details), call("history", _history),
        call("money", _money), call("lineage", _lineage), call("detail", lambda w: (trace_detail(w, original.id), ())),
        call("waterfalls", _per_run(lambda w, run: waterfalls_of(run))), call("shapes", _per_run(dataset_shapes)),
        call("files to chat with", lambda w: (chat_files(w), ())), call("previews", _previews(original.id)),
    ]


def view_of(workspace: Workspace, looks: Iterable[Look]) -> Iterator[tuple[Look, Seen]]:
    """What every look shows."""
    for look in looks:
        yield look, look.at(workspace)
