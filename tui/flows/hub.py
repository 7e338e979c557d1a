"""Bringing in a data set of the hub: its address, then what came of each of its files."""

from __future__ import annotations

from collections.abc import Mapping

from localdistill import Cancel, Event, ImportReport, Progressed, open_hub_import, size_text
from tui.text import line
from tui.ui import Ui
from tui.widgets.dialogs import ReportDialog
from tui.widgets.text_dialog import Field, TextDialog, Then


def import_from_hub(ui: Ui) -> None:
    """Ask for the address, import all files of rows, and show what came."""

    def typed(values: Mapping[str, str]) -> Then:
        report = ReportDialog("From the hub", waiting="fetching and reading ...")

        def work() -> tuple[str, list[ImportReport]]:
            cancel = Cancel(ui.jobs.asked_to_stop)
            found = open_hub_import(ui.workspace, values["address"].strip(), cancel)
            said = found.said
            return said, [found.take(file, path)
                          for file, path in found.fetched(lambda event: show_fetching(ui, report, event), cancel)]

        def begin() -> None:
            ui.push_screen(report)
            ui.jobs.do(work, lambda done: report.fill(_told(*done)), failed=report.fail)

        return begin

    ui.push_screen(TextDialog("Import a data set of the hub", [
        Field("address", "address", "hf://datasets/", "hf://datasets/ORGANISATION/NAME, with @REVISION, and /FILE or "
                                                      "/FOLDER for less than all", is_needed=True)], typed,
        "The files of rows are fetched one after another; what came in is kept when the network ends."))


def show_fetching(ui: Ui, report: ReportDialog, event: Event) -> None:
    """How much of a file has come, where the report will stand. Called inside the work."""
    if isinstance(event, Progressed) and event.unit == "bytes":
        of = f" of {size_text(event.total)}" if event.total else ""
        ui.jobs.say(report.wait, f"{line(event.label, 80)}: {size_text(event.done)}{of}")


def _told(said: str, reports: list[ImportReport]) -> list[tuple[str, str]]:
    rows = [("data set", line(said, 300))]
    for one in reports:
        left = f"; {one.left_out:,} left out: {'; '.join(line(why, 120) for why in one.examples[:2])}"
        early = f"; not read to its end: {line(one.ended_early, 200)}"
        rows.append((line(one.file.rpartition("/")[2], 40),
                     f"{one.rows:,} rows, {one.new_prompts:,} new prompts, {one.new_traces:,} new traces"
                     + (left if one.left_out else "") + (early if one.ended_early else "")))
    return rows
