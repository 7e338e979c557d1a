"""The items command: what every contestant answered, item by item, and why it was wrong where it was."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, RunArgument, WorkspaceOption, workspace_of

if TYPE_CHECKING:
    from localdistill import AnsweredItem, Workspace

_QUESTION = 60


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("items", help="Show what every model answered to the items of an evaluation, and why it was wrong "
                              "where it was: wrong, cut, loop, format, refusal. With --item: both texts, how they "
                              "differ, and the training questions it is most like.")(items)


def items(
    run_id: RunArgument = "last",
    task: Annotated[str, typer.Option(help="Only this task.")] = "",
    arm: Annotated[str, typer.Option(help="Only this arm, or `base`; without it: how often what went wrong.")] = "",
    cause: Annotated[list[str] | None, typer.Option(help="Only these causes; may be repeated.")] = None,
    item: Annotated[str, typer.Option(help="One item, by its id or the beginning of it.")] = "",
    against: Annotated[str, typer.Option(help="With --item: compare with this model.")] = "base",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show items."""
    from localdistill import causes_of, run_items

    place = workspace_of(workspace)
    if item:
        _show_one(place, run_id, run_items(place, run_id, task, item=item), item, arm, against, as_json)
        return
    found = run_items(place, run_id, task, arm, cause or ())
    if as_json:
        output.data_json([dataclasses.asdict(one) for one in found])
    elif arm or cause:
        output.table(["task", "item", "model", "cause", "taken", "reference", "question"], [
            (one.task, one.prompt_id[:14], one.contestant, one.cause, _short(one.extracted, 16),
             _short(one.reference, 16), _short(one.question, _QUESTION)) for one in found])
    else:
        counted = causes_of(found)
        names = list(dict.fromkeys(name for counts in counted.values() for name in counts))
        output.table(["task", "model", *names], [
            (name, model, *(counts.get(cause, 0) for cause in names)) for (name, model), counts in counted.items()])


def _show_one(place: Workspace, run_id: str, found: list[AnsweredItem], item: str, arm: str, against: str,
              as_json: bool) -> None:
    from localdistill import UsageError, answers_differ, nearest_rows

    if not found:
        raise UsageError(f"no item of this evaluation begins with '{item}'",
                         "`localdistill items --arm base` lists them")
    if len({one.prompt_id for one in found}) > 1:
        raise UsageError(f"'{item}' begins several items", "give more of its id")
    near = nearest_rows(place, run_id, found[0].question)
    shown = [one for one in found if not arm or one.contestant in (arm, against)]
    if as_json:
        output.data_json({"answers": [dataclasses.asdict(one) for one in shown],
                          "near": [dataclasses.asdict(one) for one in near]})
        return
    output.data(found[0].question or found[0].prompt_id)
    output.data(f"reference: {found[0].reference or '-'}")
    for one in shown:
        taken = f", taken: {one.extracted}" if one.extracted else ""
        output.data(f"\n{one.contestant}, seed {one.seed}: {one.cause}{taken}, {one.answer_tokens} tokens")
        output.data("  " + "\n  ".join(one.output.strip().splitlines()))
    base = next((one for one in shown if one.contestant == against), None)
    for one in shown:
        if base is not None and one.contestant != against and arm and (text := answers_differ(one, base)):
            output.data(f"\n{text}")
    for row in near:
        output.data(f"\nlike {100 * row.shared:.0f} % of it: {row.trace_id[3:13]}  {_short(row.question, 100)}")


def _short(text: str, width: int) -> str:
    one = " ".join(text.split())
    return one if len(one) <= width else one[:width - 1] + "…"
