"""Commands on what is stored: import, traces, show."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, WorkspaceOption, workspace_of


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(
        "import",
        help="Read prompts and traces from files of other tools into the store. The layout is detected; "
        "three rows are shown first.",
    )(import_)
    app.command("traces", help="List stored traces with their grades.")(traces)
    app.command("show", help="Show one trace in full, or with --as FORMAT the training text with its weights.")(show)


def import_(
    files: Annotated[list[Path], typer.Argument(help="JSONL, JSON, JSONL.gz or Parquet files.")],
    layout: Annotated[str, typer.Option(help="Layout; `auto` detects it.")] = "auto",
    preview: Annotated[bool, typer.Option("--preview", help="Show the first rows and store nothing.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import files."""
    from localdistill import import_file, preview_file

    place = None if preview else workspace_of(workspace)
    reports = []
    for path in files:
        shown = preview_file(path, layout)
        if not as_json:
            output.talk(f"{path.name}: layout {shown.layout}")
            for text in shown.rows:
                output.talk(output.safe(text))
        if place is not None:
            report = import_file(place, path, shown.layout)
            reports.append(dataclasses.asdict(report))
            if not as_json:
                output.talk(
                    f"{path.name}: {report.rows} rows, {report.new_prompts} new prompts, "
                    f"{report.new_traces} new traces" + (f"; {report.note}" if report.note else "")
                )
    if as_json:
        output.data_json(reports)


def traces(
    where: Annotated[
        str,
        typer.Option(
            help="SQL condition over the columns of trace_view, for example \"score = 0 and model like '%R1%'\"."
        ),
    ] = "",
    search: Annotated[str, typer.Option(help="Only traces that contain this text.")] = "",
    limit: Annotated[int, typer.Option(help="How many to list.")] = 20,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """List traces."""
    from localdistill import Store

    place = workspace_of(workspace)
    store = Store(place.store_path)
    store.catch_up(place.journals())
    rows = store.listing(where or None, search, limit)
    if as_json:
        output.data_json(rows)
        return
    output.table(
        ["trace", "model", "status", "score", "tokens", "question"],
        [
            (
                r["trace_id"][3:13],
                r["model"][-24:],
                r["status"],
                "-" if r["score"] is None else f"{r['score']:g}",
                r["completion_tokens"],
                r["question"][:60],
            )
            for r in rows
        ],
    )


def show(
    trace: Annotated[str, typer.Argument(help="Id of a trace, or its first characters.")],
    form: Annotated[str, typer.Option("--as", help="Training format, for example full_trace.")] = "",
    student: Annotated[
        str, typer.Option(help="Student whose chat template and tokens are shown.")
    ] = "shipped:pantry/student",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one trace."""
    from localdistill import Store, render_trace

    shown = render_trace(Store(workspace_of(workspace).store_path), trace, form, student)
    if as_json:
        output.data_json(shown.data)
    else:
        output.data(output.safe(shown.text))
