"""Commands to read traces by, and to write over one: a sample, and the editor."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, WorkspaceOption, workspace_of


def register(traces: typer.Typer) -> None:
    """Add the commands of this file."""
    traces.command("sample", help="Traces to read, drawn at random: the whole question, the reasoning, the answer and "
                                  "what is said of it. The same ones for the same seed.")(sample)
    traces.command("edit", help="Write over a trace in $EDITOR: what comes of it is a new trace with a parent, for "
                                "graders to judge anew; the trace itself stays.")(edit)


def sample(
    count: Annotated[int, typer.Argument(min=1, help="How many.")] = 20,
    where: Annotated[str, typer.Option(help="SQL condition on a trace, as `traces --where` takes it.")] = "",
    search: Annotated[str, typer.Option(help="Only traces that contain this text.")] = "",
    selection: Annotated[str, typer.Option(help="Only traces of this saved selection.")] = "",
    seed: Annotated[int, typer.Option(help="Another number draws others.")] = 0,
    fold: Annotated[bool, typer.Option("--fold", help="Only the length of the reasoning.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a sample."""
    from localdistill import sample_traces

    found = sample_traces(workspace_of(workspace), count, where, search, selection, seed, fold)
    if as_json:
        output.data_json([one.data for one in found])
        return
    for number, one in enumerate(found, start=1):
        output.data(f"{'' if number == 1 else chr(10)}=== {number} of {len(found)} ===\n{one.text}")
    if not found:
        output.talk("no stored trace meets this")


def edit(
    trace: Annotated[str, typer.Argument(help="Id of a trace, or its first characters.")],
    reasoning: Annotated[
        str | None, typer.Option(help="The new reasoning, in place of an editor.", show_default=False)
    ] = None,
    answer: Annotated[
        str | None, typer.Option(help="The new answer, in place of an editor.", show_default=False)
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write over a trace."""
    from localdistill import edit_trace, open_store, texts_from_editor

    place = workspace_of(workspace)
    if reasoning is None and answer is None:
        reasoning, answer = texts_from_editor(open_store(place).require_trace(trace))
    made = edit_trace(place, trace, reasoning, answer)
    if as_json:
        output.data_json(dataclasses.asdict(made))
    else:
        output.talk(f"{made.id}: made from {made.parent_id}, which stays\n"
                    f"  a set takes what was edited: stored = \"rewrite = '{made.rewrite}'\"")
