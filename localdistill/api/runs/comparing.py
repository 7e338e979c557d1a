"""Contestants of several runs on one score card: whoever answered the same items of the same task is compared in pairs,
as if one evaluation had asked them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from localdistill.api.runs.items import answers_of_run
from localdistill.api.runs.results import cards_of
from localdistill.core.errors import UsageError
from localdistill.scorecard import ContestantResult, ItemResult, ScoreCard, build_score_card
from localdistill.stages.outputs import AnswersMade
from localdistill.workspace.folder import Workspace
from localdistill.workspace.run_folder import RunFolder


@dataclass(frozen=True)
class ComparedRuns:
    """What several runs amount to beside each other."""

    runs: tuple[str, ...]
    cards: tuple[ScoreCard, ...]
    """One per task that all of them have."""
    notes: tuple[str, ...]
    """What was left out, and what makes the comparison less than one evaluation."""


@dataclass(frozen=True)
class _Entered:
    """The contestants of one run on one task."""

    run: str
    card: ScoreCard
    results: tuple[tuple[AnswersMade, ContestantResult], ...]


def compare_runs(workspace: Workspace, runs: Sequence[str], task: str = "") -> ComparedRuns:
    """The score cards of `runs` together, narrowed to one `task`. Contestants are called `RUN/NAME`; a base that gave
    the very same answers everywhere is one contestant, `base`. UsageError when a run is named twice, or when they have
    no task, or no item of one, in common."""
    folders = [RunFolder.open(workspace.runs, run) for run in runs]
    names = [folder.id for folder in folders]
    if len(set(names)) < max(2, len(names)):
        raise UsageError("two different runs are needed to compare", "localdistill runs lists them")
    cards, notes = [], list[str]()
    entered = [_entered(workspace, folder) for folder in folders]
    shared = [name for name in entered[0] if all(name in other for other in entered) and task in ("", name)]
    if not shared:
        known = "; ".join(f"{folder.id}: {', '.join(found) or 'none'}" for folder, found in zip(folders, entered,
                                                                                            strict=True))
        called = f"called {task!r} " if task else ""
        raise UsageError(f"these runs have no task {called}in common", f"they have {known}")
    for name in shared:
        cards.append(_card([found[name] for found in entered], notes))
    for folder, found in zip(folders, entered, strict=True):
        if left := [name for name in found if name not in shared and not task]:
            notes.append(f"only {folder.id} has {', '.join(left)}")
    return ComparedRuns(tuple(names), tuple(cards), tuple(notes))


def _entered(workspace: Workspace, folder: RunFolder) -> dict[str, _Entered]:
    """Task -> who answered."""
    cards = {card.task: card for card in cards_of(workspace, folder)}
    found: dict[str, list[tuple[AnswersMade, ContestantResult]]] = {}
    for made, items in answers_of_run(workspace, folder):
        row = cards[made.task].row(made.contestant)
        result = ContestantResult(f"{folder.id}/{made.contestant}", made.seed, row.format, row.thinks,
                                  row.trained_tokens, row.stopped_early, items,
                                  kept=dict(zip(row.seeds, row.kept)).get(made.seed, ""))
        found.setdefault(made.task, []).append((made, result))
    return {task: _Entered(folder.id, cards[task], tuple(results)) for task, results in found.items()}


def _card(entered: Sequence[_Entered], notes: list[str]) -> ScoreCard:
    """One card of all contestants on the items that all of them answered."""
    first = entered[0]
    asked = [[item.prompt_id for item in one.results[0][1].items] for one in entered]
    common = set(asked[0]).intersection(*asked[1:])
    if not common:
        raise UsageError(f"the runs answered different items of {first.card.task}",
                         "evaluate both with the same options of the task")
    if any(len(ids) > len(common) for ids in asked):
        told = ", ".join(f"{one.run} {len(ids):,}" for one, ids in zip(entered, asked, strict=True))
        notes.append(f"{first.card.task}: compared on the {len(common):,} items that all answered ({told})")
    if len(graders := dict.fromkeys(one.card.grader for one in entered)) > 1:
        notes.append(f"{first.card.task}: graded differently ({', '.join(graders)}): no verdict here is fair")
    order = [prompt_id for prompt_id in asked[0] if prompt_id in common]
    bases = {made.answers for one in entered for made, _ in one.results if made.contestant == one.card.base}
    base = first.card.base if len(bases) == 1 else f"{first.run}/{first.card.base}"
    if len(bases) > 1:
        notes.append(f"{first.card.task}: the bases answered differently (another student, engine or cap): arms are "
                     f"compared with that of {first.run}")
    contestants = []
    for one in entered:
        for made, result in one.results:
            is_base = made.contestant == one.card.base
            if is_base and len(bases) == 1:
                if one is not first:
                    continue
                result = replace(result, name=base)
            contestants.append(replace(result, items=_in_order(result.items, order)))
    margin = min(one.card.margin for one in entered)
    return build_score_card(contestants, base, first.card.task, first.card.grader, first.card.is_guard,
                            first.card.metrics, margin)


def _in_order(items: Sequence[ItemResult], order: Sequence[str]) -> tuple[ItemResult, ...]:
    known = {item.prompt_id: item for item in items}
    return tuple(known[prompt_id] for prompt_id in order)
