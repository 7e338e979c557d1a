"""The scores command: the score cards of a run that ended, and the items that turned, without running anything."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, RunArgument, WorkspaceOption, workspace_of

if TYPE_CHECKING:
    from localdistill import Comparison, Scores

FlipsOption = Annotated[
    str,
    typer.Option("--flips", help="Also list the items that this arm or exported form won and lost, with outputs."),
]


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("scores", help="Print the score cards of a run: the contest, and the forms that were exported.")(scores)


def scores(run_id: RunArgument = "last", flips: FlipsOption = "", workspace: WorkspaceOption = None,
           as_json: JsonOption = False) -> None:
    """Print score cards."""
    from localdistill import score_card, to_text

    found = score_card(workspace_of(workspace), run_id)
    turned = _comparisons(found, flips) if flips else []
    if as_json:
        output.data_json({
            "run": found.run_id, "best": found.best, "why_best": found.why_best, "problems": list(found.problems),
            "cards": [card.to_json() for card in found.cards],
            "forms": [card.to_json() for card in found.forms], "not_measured": list(found.not_measured),
        } if not flips else {"run": found.run_id, "flips": [
            {"task": task, "first": entry.first, "second": entry.second, **_plain(item)}
            for task, entry in turned for item in _items(found, entry)]})
        return
    for card in (*found.cards, *found.forms):
        output.data(to_text(card))
    if found.why_best:
        output.data(f"best: {'' if found.best else 'none, '}{found.why_best}")
    for text in found.not_measured:
        output.talk(f"not measured: {text}")
    for text in found.problems:
        output.talk(f"warning: {text}")
    for task, entry in turned:
        _print_flips(found, task, entry)


def _comparisons(found: Scores, name: str) -> list[tuple[str, Comparison]]:
    """(task, comparison) of everything that `name` is the first of; UsageError with the known names."""
    from localdistill import UsageError, nearest

    entries = [(card.task, entry) for card in (*found.cards, *found.forms) for entry in card.comparisons]
    known = list(dict.fromkeys(entry.first for _, entry in entries))
    if name not in known:
        raise UsageError(f"run {found.run_id} compares no '{name}'{nearest(name, known)}",
                         f"it compares: {', '.join(known) or 'nothing'}")
    return [(task, entry) for task, entry in entries if entry.first == name]


def _items(found: Scores, entry: Comparison) -> list[object]:
    from localdistill import flipped

    return list(flipped(found, entry))


def _plain(item: object) -> dict[str, object]:
    data = dataclasses.asdict(item)  # type: ignore[call-overload]
    return {**{key: value for key, value in data.items() if key != "flip"}, **data["flip"]}


def _print_flips(found: Scores, task: str, entry: Comparison) -> None:
    from localdistill import flipped

    output.data(f"\n{task}: {entry.first} against {entry.second}, won {entry.won}, lost {entry.lost}")
    for item in flipped(found, entry):
        output.data(f"\n[{item.side}] {item.question or item.prompt_id}")
        if item.reference:
            output.data(f"  reference: {item.reference}")
        output.data(f"  {entry.first}: {_indented(item.flip.first_output)}")
        output.data(f"  {entry.second}: {_indented(item.flip.second_output)}")


def _indented(text: str) -> str:
    return "\n    ".join(text.strip().splitlines())
