"""What runs came to: the result of one in one sentence, one table and one next step, and several beside each other."""

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
    app.command("compare", help="Compare the models of several runs that answered the same items, in pairs, on one "
                                "score card per task.")(compare)


def result(run_id: RunArgument = "last", workspace: WorkspaceOption = None, as_json: JsonOption = False,
           markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False) -> None:
    """Print a result."""
    from localdistill import result_to_markdown, result_to_text, run_result

    found = run_result(workspace_of(workspace), run_id)
    if as_json:
        output.data_json(dataclasses.asdict(found))
    else:
        output.data((result_to_markdown if markdown else result_to_text)(found), end="")


def compare(
    runs: Annotated[list[str], typer.Argument(help="Two runs or more; `last` is the newest.")],
    task: Annotated[str, typer.Option(help="Only this task.")] = "",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Print the score cards of several runs together."""
    from localdistill import compare_runs, to_markdown, to_text

    found = compare_runs(workspace_of(workspace), runs, task)
    if as_json:
        output.data_json(dataclasses.asdict(found))
        return
    for card in found.cards:
        output.data((to_markdown if markdown else to_text)(card))
    for text in found.notes:
        output.talk(f"note: {text}")
