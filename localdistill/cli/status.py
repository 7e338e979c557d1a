"""The status command: where this workspace stands, and what would be a sensible next step."""

from __future__ import annotations

import dataclasses

import typer

from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, WorkspaceOption, workspace_of

MARKS = {"done": "[x]", "running": "[>]", "waiting": "[ ]", "absent": " - "}


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("status", help="Say where this workspace stands, and what would be a sensible next step.")(status)


def status(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Say where this workspace stands."""
    from localdistill import survey

    seen = survey(workspace_of(workspace))
    if as_json:
        output.data_json(dataclasses.asdict(seen) | {"root": str(seen.root)})
        return
    output.data(f"{'workspace':<10} {seen.root}")
    for label, text in seen.facts:
        output.data(f"{label:<10} {text}")
    chain = "  ".join(f"{MARKS[step.state]} {step.stage}" for step in seen.chain)
    output.data(f"{'chain':<10} {chain}" + (f"   ({seen.run})" if seen.run else ""))
    if seen.result is not None:
        output.data(f"{'result':<10} {seen.result_run}: {seen.result.sentence}")
    for step in seen.next_steps:
        output.data(f"{'next':<10} {step.text}: localdistill {step.command}")
