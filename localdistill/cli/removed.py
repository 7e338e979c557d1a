"""The commands that show what graders and filters made of what a run collected: the table of verdicts, and what is
removed, row by row with the reason."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, RunArgument, WorkspaceOption, workspace_of


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("verdicts", help="Show what each grader of a run said of each set: right, wrong, undecided, and the "
                                 "means of its metrics.")(verdicts)
    app.command("removed", help="Show what the filters of a run remove from a set, each trace with the reason and "
                                "counted by cause.")(removed)


def verdicts(run: RunArgument = "last", workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Show the table of verdicts."""
    from localdistill import RunFolder, verdicts_of

    place = workspace_of(workspace)
    found = verdicts_of(place, RunFolder.open(place.runs, run))
    if as_json:
        output.data_json([{**dataclasses.asdict(one), "share": one.share} for one in found])
        return
    output.table(["set", "grader", "traces", "right", "wrong", "undecided", "share", "means"], [
        (one.trace_set, one.grader, one.traces, one.right, one.wrong, one.undecided,
         "-" if one.share is None else f"{one.share:.2%}",
         ", ".join(f"{name} {mean:.4g}" for name, mean in one.metrics.items())) for one in found])


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
