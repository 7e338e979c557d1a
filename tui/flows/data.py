"""Taking data out: which file, in which layout, and what the rows lost on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from localdistill import DataChoice, DataExport, data_layout, data_layouts, data_tools, export_data
from tui.text import line
from tui.ui import Ui
from tui.widgets.dialogs import ReportDialog
from tui.widgets.text_dialog import Field, TextDialog, Then

FIRST_FILE = "traces.jsonl"


def export_arm(ui: Ui, run: str, arms: Sequence[str], arm: str) -> None:
    """The same for the training rows of an arm of a run: `arm`, unless another of `arms` is named."""
    field = Field("arm", "arm", arm, f"one of {', '.join(map(line, arms))}", is_needed=True)
    _export(ui, DataChoice(run=run), "Export the training rows of an arm", [field], f"{arm}.jsonl")


def export_traces(ui: Ui, choice: DataChoice) -> None:
    """Ask for file and layout, write what `choice` names, show what came out."""
    _export(ui, choice, "Export these traces", [], FIRST_FILE)


def _export(ui: Ui, choice: DataChoice, title: str, fields: Sequence[Field], first_file: str) -> None:

    def typed(values: Mapping[str, str]) -> Then:
        data_layout(values["layout"], values["tool"]).way(values["reasoning"])
        chosen = replace(choice, arm=values.get("arm", ""))
        report = ReportDialog("Data out", waiting="writing ...")
        file = Path(values["file"]).expanduser()

        def write() -> DataExport:
            return export_data(ui.workspace, file if file.is_absolute() else ui.workspace.root / file, chosen,
                               values["layout"], values["reasoning"], values["tool"])

        def begin() -> None:
            ui.push_screen(report)
            ui.jobs.do(write, lambda done: report.fill(_told(done)), failed=report.fail)

        return begin

    known = ", ".join(one.name for one in data_layouts())
    ui.push_screen(TextDialog(title, [
        *fields,
        Field("file", "file", first_file, ".jsonl, .jsonl.gz or .parquet; a card lies beside it", is_needed=True),
        Field("tool", "for", "", f"empty, or one of {', '.join(data_tools())}"),
        Field("layout", "layout", "", f"empty: the usual one; or {known}"),
        Field("reasoning", "reasoning", "", "empty: the usual place; or field, tags, kept")], typed,
        "What a layout cannot hold is counted and shown when the file is written."))


def _told(done: DataExport) -> list[tuple[str, str]]:
    return [("file", f"{line(done.file.name)}: {done.rows:,} rows as {line(done.layout)}, {done.size_bytes:,} bytes"),
            ("card", line(done.card.name)),
            *(("left out", f"{count:,} x {line(why, 200)}") for why, count in done.left_out.items()),
            *(("not in rows", f"{count:,} x {line(what, 200)}") for what, count in done.lost.items()),
            *(("note", line(note, 400)) for note in done.notes)]
