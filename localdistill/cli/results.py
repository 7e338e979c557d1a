"""The result command: what a finished run came to, in one sentence, one table and one next step."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, RunArgument, WorkspaceOption, workspace_of


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("result", help="Say what a run came to: what won, what it cost on the guards, in tokens, time and "
                               "money, how sure that is, and what would be sensible next.")(result)


def result(run_id: RunArgument = "last", workspace: WorkspaceOption = None, as_json: JsonOption = False,
           markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False) -> None:
    """Print a result."""
    from localdistill import result_to_markdown, result_to_text, run_result

    found = run_result(workspace_of(workspace), run_id)
    if as_json:
        output.data_json(dataclasses.asdict(found))
    else:
        output.data((result_to_markdown if markdown else result_to_text)(found), end="")
