"""The command that says what runs exported."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from localdistill import UsageError, size_text
from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, WorkspaceOption, workspace_of


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("exports", help="Show what runs exported: files with checksums, the parity gate, scores of the files, "
                                "terms of use, and the commands that use them.")(exports)


def exports(
    run: Annotated[str, typer.Argument(help="A run's id; `last` is the newest. Without it: all runs.")] = "",
    lm_studio: Annotated[bool, typer.Option("--lm-studio", help="Copy the recommended file to where LM Studio finds "
                                            "it.")] = False,
    quant: Annotated[str, typer.Option(help="With --lm-studio: another file, for example Q8_0.")] = "",
    into: Annotated[Path | None, typer.Option(help="With --lm-studio: its folder of models, where it is not the "
                                                 "usual one.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what runs exported, or copy it to LM Studio."""
    from localdistill import copy_to_lm_studio, exports_of

    if lm_studio:
        output.data(str(copy_to_lm_studio(workspace_of(workspace), run or "last", quant, into)))
        output.talk("LM Studio lists it under My Models, as localdistill")
        return
    if quant or into:
        raise UsageError("--quant and --into belong to --lm-studio", "localdistill exports RUN --lm-studio")
    found = exports_of(workspace_of(workspace), run)
    if as_json:
        output.data_json([dataclasses.asdict(made) | {"gate_passed": made.gate_passed} for made in found])
        return
    if not found:
        output.talk("no run has exported anything; `localdistill export RECIPE` does")
    for made in found:
        _show(made)


_HINTS = {
    "damaged": "it is no use as it is; localdistill resume {run} sets it aside and makes it again",
    "gone": "its folder was removed; localdistill resume {run} makes it again",
    "nothing": "",
}


def _show(made: Any) -> None:
    arm = f", arm {made.arm}" if made.arm else ""
    output.data(f"{made.run}: {'nothing exported' if made.state == 'nothing' else made.state}{arm}")
    for text in made.why:
        output.data(f"  {text}")
    if hint := _HINTS.get(made.state):
        output.data(f"  {hint.format(run=made.run)}")
    for file in made.files:
        output.data(f"  {file.quant:<7} {size_text(file.size_bytes):>9}{file.precision(5)}  {file.path}")
        output.data(f"          sha256 {file.sha256}")
    for item in made.gate:
        output.data(f"  {'[x]' if item.passed else '[!]'} {item.name:<14} {item.detail}")
    _show_scores(made)
    if made.choice:
        output.data(f"  {made.choice.sentence}")
    doubts = (*made.choice.worse, *made.choice.unclear) if made.choice else ()
    for text in (*made.cautions, *doubts, *made.not_measured, *made.unknown):
        output.data(f"  ! {text}")
    if made.folder:
        output.data(f"  terms: {made.terms or 'none known to apply'} {', '.join(made.terms_of)}".rstrip())
        output.data(f"  licences: {made.licences_told}")
    for what, command in made.commands:
        output.data(f"  {what + ':':<8} {made.anywhere(command) if made.folder else command}")


def _show_scores(made: Any) -> None:
    """How the arm stands against the base, and every form of it against the model as trained and against the base."""
    for standing in made.standings:
        task = standing.task + (" (guard)" if standing.is_guard else "")
        output.data(f"  {task:<22} base     {_percent(standing.base)}")
        against = "" if standing.difference is None else f" {100 * standing.difference:+.1f} points against the base,"
        verdict = f"not compared {standing.why}".rstrip() if standing.difference is None else standing.verdict
        output.data(f"  {'':<22} the arm  {_percent(standing.score)} {against} {verdict}")
    for score in made.scores:
        to_base = "" if score.base_difference is None else (
            f"  {100 * score.base_difference:+.1f} against the base, {score.base_verdict}")
        to_trained = "" if score.difference is None else (
            f"  {100 * score.difference:+.1f} against the trained model, {score.verdict}")
        replies = "" if score.answer_tokens is None else f"  {score.answer_tokens:.0f} tokens"
        replies += f", {score.loops} in circles" if score.loops else ""
        output.data(f"  {score.task:<22} {score.form:<8} {_percent(score.score)}{to_base}{to_trained}{replies}")


def _percent(share: float | None) -> str:
    return "      -" if share is None else f"{100 * share:5.1f} %"
