"""The commands that read everything a workspace holds and say what is whole, damaged and missing."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from typing import Any

import typer

from localdistill import size_text
from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, RunArgument, WorkspaceOption, workspace_of

HELP = ("Read every byte of {what}, whatever was read before, and compare it with its checksum: says what is whole, "
        "damaged and missing; exit code 1 when something is.")


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    what = "the runs, artifacts, journals, batches and reports of probes of this workspace"
    app.command("verify", help=HELP.format(what=what))(verify)


def verify(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Verify a workspace."""
    from localdistill import verify_workspace

    _tell(verify_workspace(workspace_of(workspace)), as_json)


def verify_one(run_id: RunArgument = "last", workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Verify a run."""
    from localdistill import verify_run

    _tell(verify_run(workspace_of(workspace), run_id), as_json)


def _tell(found: list[Any], as_json: bool) -> None:
    odd = [one for one in found if one.state != "whole"]
    if as_json:
        output.data_json([dataclasses.asdict(one) for one in found])
        sys.exit(1 if odd else 0)
    output.table(["what", "name", "state", "read"],
                 [(one.kind, f"{one.name} {one.label}".rstrip(), one.state, size_text(one.size_bytes))
                  for one in found])
    for one in odd:
        output.data(output.one_line(f"! {one.kind} {one.name} is {one.state}: {'; '.join(one.problems)}"))
        output.data(output.one_line(f"    {one.hint}"))
    counts = Counter(one.state for one in found)
    output.talk(", ".join(f"{counts[state]} {state}" for state in ("whole", "damaged", "missing")))
    sys.exit(1 if odd else 0)
