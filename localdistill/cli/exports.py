"""The command that says what runs exported."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, WorkspaceOption, workspace_of


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("exports", help="Show what runs exported: files with checksums, the parity gate, scores of the files, "
                                "terms of use, and the commands that use them.")(exports)


def exports(
    run: Annotated[str, typer.Argument(help="A run's id; `last` is the newest. Without it: all runs.")] = "",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what runs exported."""
    from localdistill import exports_of

    found = exports_of(workspace_of(workspace), run)
    if as_json:
        output.data_json([dataclasses.asdict(made) | {"gate_passed": made.gate_passed} for made in found])
        return
    if not found:
        output.talk("no run has exported anything; `localdistill export RECIPE` does")
    for made in found:
        _show(made)


def _show(made: Any) -> None:
    arm = f", arm {made.arm}" if made.arm else ""
    output.data(output.safe(f"{made.run}: {made.state}{arm}"))
    for file in made.files:
        output.data(output.safe(f"  {file.quant:<7} {output.size(file.size_bytes):>9}  {file.path}"))
        output.data(f"          sha256 {output.safe(file.sha256)}")
    for item in made.gate:
        output.data(output.safe(f"  {'[x]' if item.passed else '[!]'} {item.name:<14} {item.detail}"))
    for score in made.scores:
        against = "" if score.difference is None else f"  {100 * score.difference:+.1f} points, {score.verdict}"
        output.data(output.safe(f"  {score.task:<14} {score.form:<8} {100 * score.score:5.1f} %{against}"))
    for text in (*made.not_measured, *made.unknown):
        output.data(output.safe(f"  ! {text}"))
    if made.files:
        output.data(output.safe(f"  terms: {made.terms or 'none known to apply'} {', '.join(made.terms_of)}".rstrip()))
        output.data(output.safe(f"  licences: {', '.join(made.licences) or 'none stated'}"))
    for what, command in made.commands:
        output.data(output.safe(f"  {what + ':':<8} {made.anywhere(command)}"))
