"""What this machine is, and the proof that a training works on it, from rows to GGUF."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

from textual.binding import Binding, BindingType

from localdistill import Cancel, Event, Finding, Progressed
from tui.text import line
from tui.ui import Ui
from tui.widgets.dialogs import ReportDialog
from tui.widgets.text_dialog import Field, TextDialog


class MachineReport(ReportDialog):
    """What the machine is; from here a training can be proved."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("t", "prove", "prove a training")]

    def __init__(self, ui: Ui) -> None:
        super().__init__("This machine", waiting="looking at hardware and packages, and asking llama.cpp for one token "
                         "...", keys="t: prove a training")
        self._ui = ui

    def action_prove(self) -> None:
        """Ask which student, then try the chain."""
        ask_for_proof(self._ui)


def examine_machine(ui: Ui) -> None:
    """Say what this machine is and what is missing."""
    from localdistill import examine

    report = MachineReport(ui)
    ui.push_screen(report)
    ui.jobs.do(lambda: examine(ui.workspace), lambda found: report.fill(findings_rows(found)), group="doctor",
               failed=report.fail)


def ask_for_proof(ui: Ui) -> None:
    """Ask for a student, and prove a training of it here."""

    def typed(values: Mapping[str, str]) -> Callable[[], None]:
        return lambda: _prove(ui, values["student"].strip())

    ui.push_screen(TextDialog("Prove a training of which student?", [
        Field("student", "model", "", "a folder, shipped:NAME or hf://organisation/name; empty takes the small one "
              "that ships")], typed))


def _prove(ui: Ui, student: str) -> None:
    from localdistill import prove_training

    report = ReportDialog("A training here", waiting="eight rows are learned by heart, exported, and asked of the GGUF "
                          "...")
    ui.push_screen(report)

    def work() -> list[Finding]:
        found: list[Finding] = []

        def emit(event: Event) -> None:
            if isinstance(event, Progressed):
                ui.jobs.say(report.wait, event.label)

        for finding in prove_training(ui.workspace, student, emit, Cancel(lambda: not report.is_running)):
            found.append(finding)
            ui.jobs.say(report.fill, findings_rows(found, in_order=True))
        return found

    ui.jobs.do(work, lambda found: report.fill(findings_rows(found, in_order=True)), group="proof", failed=report.fail)


def findings_rows(found: Iterable[Finding], in_order: bool = False) -> list[tuple[str, str]]:
    """Rows of the report: what must be mended first, or in the order in which it was found."""
    marks = {"ok": "✓", "note": "·", "wrong": "!", "missing": "✗"}
    order = {"missing": 0, "wrong": 1, "note": 2, "ok": 3}
    rows = []
    for finding in found if in_order else sorted(found, key=lambda f: order[f.state]):
        state = "" if finding.state in ("ok", "note") else f"{finding.state}: "
        rows.append((f"{marks[finding.state]} {line(finding.what)}", f"{state}{finding.text}"))
        if finding.fix:
            rows.append(("  fix", finding.fix))
    return rows
