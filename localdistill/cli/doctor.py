"""The doctor command: what this machine is, what is missing, and the command that installs it."""

from __future__ import annotations

import dataclasses

import typer

from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, WorkspaceOption, workspace_of


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(
        "doctor",
        help="Examine this machine: hardware, versions, disk, student sizes that fit, what is missing and "
        "the command that installs it, and one token through llama.cpp.",
    )(doctor)


def doctor(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Exit code 1 when something that the pantry recipe needs is missing."""
    from localdistill import examine

    findings = examine(workspace_of(workspace))
    if as_json:
        output.data_json([dataclasses.asdict(f) for f in findings])
    else:
        marks = {"ok": " ", "note": "-", "wrong": "!", "missing": "!"}
        for finding in findings:
            output.data(f"{marks[finding.state]} {finding.what:<14} {finding.text}")
            if finding.fix:
                output.data(f"  {'':<14} fix: {finding.fix}")
    for finding in findings:
        if finding.state == "wrong":
            output.talk()
            output.talk(heading=f"WARNING: {finding.what} {finding.text}")
            output.talk(f"  fix: {finding.fix}")
    if any(f.state == "missing" for f in findings):
        raise typer.Exit(1)
