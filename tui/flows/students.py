"""Choosing a student: which kinds there are, and what works for one model on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from localdistill import StudentReport, examine_student, student_kinds
from tui.text import line
from tui.ui import Ui
from tui.widgets.dialogs import ReportDialog
from tui.widgets.text_dialog import Field, TextDialog


def pick_student(ui: Ui) -> None:
    """Ask for a model; without one say what works for every kind, with one what works for it."""

    def typed(values: Mapping[str, str]) -> Callable[[], None]:
        return lambda: _report(ui, values["student"].strip())

    ui.push_screen(TextDialog("Which student?", [
        Field("student", "model", "", "a folder, shipped:pantry/student or hf://organisation/name; empty shows all "
              "kinds")], typed))


def _report(ui: Ui, source: str) -> None:
    report = ReportDialog(f"The student {line(source)}" if source else "Students", waiting="looking at its files ...")
    ui.push_screen(report)
    ui.jobs.do(lambda: _of_model(examine_student(source, ui.workspace.root)) if source else _of_kinds(),
               report.fill, group="students", failed=report.fail)


def _of_kinds() -> list[tuple[str, str]]:
    return [(kind.name, f"{kind.models}: torch {kind.torch}, MLX {kind.mlx}, merge {kind.merge}, GGUF {kind.gguf}, "
             f"serve {kind.serve}") for kind in student_kinds()]


def _of_model(report: StudentReport) -> list[tuple[str, str]]:
    rows = [("kind", f"{report.kind} ({report.models})"),
            ("size", f"{report.parameter_count / 1e6:,.1f} million parameters in {report.dtype}, a vocabulary of "
             f"{report.vocabulary:,}, texts of up to {report.context_tokens:,} tokens")]
    for step in report.steps:
        rows.append((f"{'✓' if step.works else '✗'} {step.what}", step.text))
        if step.fix:
            rows.append(("  try", step.fix))
    return rows
