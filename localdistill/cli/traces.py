"""Commands on what is stored: import, traces, show."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from localdistill import MOST_UNFOLD, UsageError
from localdistill.cli import judging, output, reading, removed, rules
from localdistill.cli.arguments import JsonOption, RunArgument, WorkspaceOption, workspace_of

if TYPE_CHECKING:
    from localdistill import ImportReport, Workspace

    Take = Callable[[Path, str, dict[str, str], float, bool], ImportReport]
    """Stores the rows of a file: layout, columns, how far it may unfold, and whether a copy is kept."""

_THINKS = {True: "yes", False: "no", None: "as told"}


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(
        "import",
        help="Read prompts and traces from files of other tools into the store. The layout is detected; "
        "three rows are shown first.",
    )(import_)
    group = typer.Typer(invoke_without_command=True, help="List stored traces with their grades. The commands below "
                                                          "are about one of them.")
    group.callback()(traces)
    app.add_typer(group, name="traces")
    app.command("selections", help="List saved selections: how many traces, by which filters, what each removed.")(
        selections
    )
    app.command("datasets", help="Show how long the rows of a run's datasets are against the student's limit.")(
        datasets
    )
    removed.register(app)
    judging.register(app, group)
    reading.register(group)
    rules.register(group)
    app.command("show", help="Show one trace in full, or with --as FORMAT the training text with its weights.")(show)


def import_(
    files: Annotated[
        list[str],
        typer.Argument(help="JSON in any arrangement, CSV, TSV or Parquet, plain or packed (gzip, zstd); or a data set "
                            "of the hub: hf://datasets/ORGANISATION/NAME, with @REVISION, and /FILE or /FOLDER."),
    ],
    layout: Annotated[str, typer.Option(help="Layout; `auto` detects it.")] = "auto",
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="Which column holds what, in place of a layout, for example `--map question=q --map answer=reply`. "
            "Also reasoning, model, verdict, reference, original, tests, system, document, source, licence; a question "
            "of several columns has commas between them, and `extra.answer` is a column inside another.",
        ),
    ] = None,
    unfold: Annotated[
        float, typer.Option(min=1, help="How many times larger than a packed file its content may be.")
    ] = MOST_UNFOLD,
    preview: Annotated[bool, typer.Option("--preview", help="Show the first rows and store nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Take a guess of what columns hold without asking.")] = False,
    no_copy: Annotated[
        bool,
        typer.Option("--no-copy", help="Leave no compressed copy of the rows in the workspace: when the store is lost, "
                                       "the file has to be imported again."),
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import files."""
    from localdistill import preview_file

    place, columns = None if preview else workspace_of(workspace, may_be_new=True), _columns(map_ or [])
    reports, is_partial = [], False
    for path, take in _sources(files, place, as_json):
        shown = preview_file(path, layout, columns, unfold)
        if not as_json:
            output.talk(f"{path.name}: layout {shown.layout}" + (f" ({shown.columns})" if shown.columns else ""))
            for text in shown.rows:
                output.talk(text)
        if take is None:
            continue
        is_sure = not shown.is_guess or yes or (not as_json and output.somebody_is_here() and output.confirm(
            "is that what the columns hold?"))
        report = take(path, shown.layout if is_sure else "auto", columns, unfold, not no_copy)
        reports.append(dataclasses.asdict(report))
        is_partial |= bool(report.ended_early)
        if not as_json:
            _tell(report)
    if as_json:
        output.data_json(reports)
    if is_partial:
        raise typer.Exit(3)


def _sources(files: list[str], place: Workspace | None, as_json: bool) -> Iterator[tuple[Path, Take | None]]:
    """Each file with what stores it; of a data set of the hub, one after another as they are fetched. Nothing stores
    where there is no place, and of such a data set only the first is looked at."""
    from localdistill import import_file, is_hub_address, open_hub_import
    from localdistill.cli.following import Watcher

    watcher = Watcher(as_json)
    for text in files:
        if not is_hub_address(text):
            yield Path(text), None if place is None else partial(import_file, place)
            continue
        found = open_hub_import(place, text)
        if not as_json:
            output.talk(found.said)
        for file, path in found.fetched(watcher.event):
            watcher.clear()
            yield path, None if place is None else partial(found.take, file)
            if place is None:
                break


def _columns(stated: list[str]) -> dict[str, str]:
    """The parts of `--map`, several in one value too."""
    pairs = [pair for text in stated for pair in text.split()]
    if wrong := [pair for pair in pairs if not all(pair.partition("=")[::2])]:
        raise UsageError(f"'{wrong[0]}' says no column", "--map question=COLUMN --map answer=COLUMN")
    return dict(pair.split("=", 1) for pair in pairs)


def _tell(report: ImportReport) -> None:
    """What came, what was left out and why."""
    output.talk(f"{report.file}: {report.rows:,} rows, {report.new_prompts:,} new prompts, "
                f"{report.new_traces:,} new traces" + (f"; {report.note}" if report.note else ""))
    if report.verdicts:
        output.talk(f"  {report.verdicts:,} answers came with a verdict: column 'published'; what is wrong by it is "
                    "not trained on as if it were right")
    if report.left_out:
        output.talk(f"  {report.left_out:,} rows left out:")
        for reason, count in report.reasons.items():
            example = next(text for text in report.examples if text.endswith(reason))
            output.talk(f"    {count:,} x {example}")
    if report.unused:
        named = ", ".join(f"{column} ({count:,})" for column, count in report.unused.items())
        output.talk(f"  columns not used: {named}")
    if report.ended_early:
        output.talk(f"  the file was not read to its end: {report.ended_early}")


def traces(
    context: typer.Context,
    where: Annotated[
        str,
        typer.Option(
            help="SQL condition on one trace, over the columns of trace_view and what graders and labels say by their "
            "names, for example \"score = 0 and model like '%R1%'\" or \"tokens_answer > 500\". It is worked out in a "
            "process of its own that can read nothing else and is ended when it takes too long."
        ),
    ] = "",
    search: Annotated[str, typer.Option(help="Only traces that contain this text.")] = "",
    selection: Annotated[str, typer.Option(help="Only traces of this saved selection.")] = "",
    order: Annotated[
        str, typer.Option(help="stored, newest, score (lowest first), tokens or cost (highest first).")
    ] = "stored",
    limit: Annotated[int, typer.Option(min=0, help="How many to list.")] = 20,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """List traces."""
    if context.invoked_subcommand:
        return
    from localdistill import list_traces, missing_traces

    place = workspace_of(workspace)
    rows = list_traces(place, where, search, order, selection, limit)
    for missing in missing_traces(place):
        output.talk(f"{missing.text}\n  {missing.hint}")
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
                "(its prompt is not stored)" if r["question"] is None else r["question"][:60],
            )
            for r in rows
        ],
    )


def selections(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List saved selections."""
    from localdistill import saved_selections

    found = saved_selections(workspace_of(workspace))
    if as_json:
        output.data_json([dataclasses.asdict(one) for one in found])
        return
    output.table(
        ["selection", "traces", "run", "saved", "removed"],
        [
            (one.name, one.kept, one.definition.get("run", ""), f"{one.saved_at:%Y-%m-%d %H:%M}",
             output.counts(one.removed))
            for one in found
        ],
    )  # fmt: skip


def datasets(run: RunArgument = "last", workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Show the datasets of a run."""
    from localdistill import RunFolder, dataset_shapes

    place = workspace_of(workspace)
    shapes = dataset_shapes(place, RunFolder.open(place.runs, run))
    if as_json:
        output.data_json([{**dataclasses.asdict(one), "lengths": list(one.lengths)} for one in shapes])
        return
    output.table(
        ["arm", "format", "thinks", "rows", "prompts", "groups", "wrong", "median", "longest", "limit",
         "trained tokens", "left out"],
        [
            (one.arm, one.format, _THINKS[one.thinks], len(one.lengths), one.prompts or "", one.groups or "",
             one.wrong or "", one.median, one.longest, one.limit, one.trained_tokens,
             output.counts(one.left_out) or "nothing")
            for one in shapes
        ],
    )  # fmt: skip


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
    from localdistill import open_store, render_trace

    shown = render_trace(open_store(workspace_of(workspace)), trace, form, student)
    if as_json:
        output.data_json(shown.data)
    else:
        output.data(shown.text)
