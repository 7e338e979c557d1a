"""Commands that take data out: the file, and which layouts there are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, WorkspaceOption, workspace_of

if TYPE_CHECKING:
    from localdistill import DataExport


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    data = typer.Typer(no_args_is_help=True, help="Take data out for other tools.")
    data.command("export", help="Write traces to a file for TRL, axolotl, LLaMA-Factory, unsloth, mlx-lm and others: "
                                "JSON lines, gzip or Parquet by its ending, with a card beside it. What the layout "
                                "cannot hold is counted. `data layouts` says which tool reads what.")(export)
    data.command("layouts", help="List the layouts: which tools read them, and what they cannot hold.")(layouts)
    app.add_typer(data, name="data")


def export(
    file: Annotated[Path, typer.Argument(help="FILE.jsonl, FILE.jsonl.gz or FILE.parquet; a folder gets train.jsonl.")],
    layout: Annotated[str, typer.Option("--as", help="Layout; the usual one is messages.")] = "",
    selection: Annotated[str, typer.Option(help="A saved selection (`localdistill selections`).")] = "",
    where: Annotated[str, typer.Option(help="SQL condition on a trace, as `traces --where` takes it.")] = "",
    search: Annotated[str, typer.Option(help="Only traces that contain this text.")] = "",
    run: Annotated[str, typer.Option(help="A run, whose recipe has the set; `last` is the newest.")] = "",
    trace_set: Annotated[str, typer.Option("--set", help="Which set of the run's recipe, after its filters.")] = "",
    arm: Annotated[
        str, typer.Option(help="An arm of the run's recipe: its training rows, as its formats laid the traces out.")
    ] = "",
    reasoning: Annotated[
        str, typer.Option(help="Where reasoning stands: `field` (reasoning_content), `tags` (before the answer), or "
                               "`kept` (in tags exactly where the answer came so). The usual place is the layout's.")
    ] = "",
    tool: Annotated[
        str, typer.Option("--for", help="trl, axolotl, llama-factory, unsloth or mlx-lm: the layout that it reads; "
                                      "llama-factory also gets its entry in dataset_info.json.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take data out."""
    from localdistill import DataChoice, export_data

    passing = output.Passing()

    def tell(event: Any) -> None:
        if output.is_live() and not as_json:
            passing.show(f"{event.done:,} {event.unit}")

    choice = DataChoice(selection, where, search, run, trace_set, arm)
    done = export_data(workspace_of(workspace), file, choice, layout, reasoning, tool, force, tell)
    passing.clear()
    if as_json:
        output.data_json({**dataclasses.asdict(done), "file": str(done.file), "card": str(done.card)})
    else:
        _tell(done)


def _tell(done: DataExport) -> None:
    """What came out, and what did not."""
    of = f" of {done.traces:,} answers" if done.traces not in (0, done.rows) else ""
    output.talk(f"{done.file}: {done.rows:,} rows{of} as {done.layout}, {done.size_bytes:,} bytes")
    for title, counts in (("not in the file", done.left_out), ("the rows do not hold", done.lost)):
        if counts:
            output.talk(f"  {title}:")
            for what, count in counts.items():
                output.talk(f"    {count:,} x {what}")
    for note in done.notes:
        output.talk(f"  {note}")
    output.talk(f"  what it is and where it is from: {done.card}")


def layouts(as_json: JsonOption = False) -> None:
    """List the layouts."""
    from localdistill import data_layouts

    found = data_layouts()
    if as_json:
        output.data_json([{"name": one.name, "a_row": one.writing.a_row, "reasoning": list(one.writing.reasoning),
                           "columns": one.writing.columns, "loses": sorted(one.writing.loses),
                           "read_by": dict(one.read_by)} for one in found])
        return
    output.table(["layout", "a row is", "reasoning", "read by", "columns"],
                 [(one.name, one.writing.a_row, ", ".join(one.writing.reasoning), ", ".join(one.read_by),
                   ", ".join(one.writing.columns)) for one in found])
    for one in found:
        for tool, how in one.read_by.items():
            output.talk(f"{one.name} for {tool}: {how}")
