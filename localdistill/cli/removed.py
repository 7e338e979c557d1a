"""The command that shows what filters remove, row by row with the reason."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, RunArgument, WorkspaceOption, workspace_of


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("removed", help="Show what the filters of a run remove from a set, each trace with the reason and "
                                "counted by cause.")(removed)


def removed(
    run: RunArgument = "last",
    trace_set: Annotated[str, typer.Option("--set", help="A set of the run; its first without one.")] = "",
    by: Annotated[str, typer.Option(help="Only what this filter removes.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="How many traces to list of each filter.")] = 10,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at what is removed."""
    from localdistill import RunFolder, removed_traces

    place = workspace_of(workspace)
    found = removed_traces(place, RunFolder.open(place.runs, run), trace_set, by=by, limit=limit)
    if as_json:
        output.data_json(dataclasses.asdict(found))
        return
    output.table(["trace", "removed by", "reason", "question"], [
        (row.trace_id[3:13], row.by, row.reason, " ".join(row.question.split())[:60]) for row in found.rows])
    output.talk(f"{found.asked:,} traces, {found.kept:,} kept; removed: {output.counts(found.by_filter) or 'none'}")
