"""The doctor command: what this machine is, what is missing, and the command that installs it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, WorkspaceOption, workspace_of

if TYPE_CHECKING:
    from localdistill import Event, Finding

TrainOption = Annotated[bool, typer.Option("--train", help=(
    "Prove a training here, in about a minute: eight rows are learned by heart, exported through the gate, and asked "
    "of the GGUF, so that masks, stop token, template, merge and quantization are tried; what breaks is named."))]
StudentOption = Annotated[str, typer.Option("--student", help=(
    "With --train: a model folder, shipped:NAME or hf://organisation/name; without, the small student that ships."))]
_MARKS = {"ok": " ", "note": "-", "wrong": "!", "missing": "!"}


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(
        "doctor",
        help="Examine this machine: hardware, versions, disk, student sizes that fit, what is missing and "
        "the command that installs it, and one token through llama.cpp. With --train: prove a training on it.",
    )(doctor)


def doctor(
    train: TrainOption = False,
    student: StudentOption = "",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Exit code 1 when something that the pantry recipe needs is missing, or a link of a training breaks."""
    from localdistill import UsageError, examine

    if train:
        _prove(workspace, student, as_json)
        return
    if student:
        raise UsageError("--student says whose training is proved", "add --train")
    findings = examine(workspace_of(workspace))
    if as_json:
        output.data_json([dataclasses.asdict(f) for f in findings])
    else:
        _say(findings)
    for finding in findings:
        if finding.state == "wrong":
            output.talk()
            output.talk(heading=f"WARNING: {finding.what} {finding.text}")
            output.talk(f"  fix: {finding.fix}")
    if any(f.state == "missing" for f in findings):
        raise typer.Exit(1)


def _prove(workspace: Path | None, student: str, as_json: bool) -> None:
    """Say every link as it is tried."""
    from localdistill import Cancel, prove_training

    found = []
    for finding in prove_training(workspace_of(workspace, may_be_new=True), student, _told(), Cancel()):
        found.append(finding)
        if not as_json:
            _say([finding])
    if as_json:
        output.data_json([dataclasses.asdict(f) for f in found])
    if any(f.state in ("wrong", "missing") for f in found):
        raise typer.Exit(1)
    output.talk("every link holds: a training of this student works here, up to the file")


def _told() -> Callable[[Event], None]:
    """Says once what is being done."""
    said = {""}

    def tell(event: Event) -> None:
        label = getattr(event, "label", "").partition(",")[0]
        if label not in said:
            said.add(label)
            output.talk(f"... {label}")

    return tell


def _say(findings: Sequence[Finding]) -> None:
    for finding in findings:
        output.data(f"{_MARKS[finding.state]} {finding.what:<14} {finding.text}")
        if finding.fix:
            output.data(f"  {'':<14} fix: {finding.fix}")
