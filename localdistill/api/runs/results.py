"""The result of a run: what won, what it cost, how sure that is, and what would be sensible next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from localdistill.api.runs.budgets import budget_of
from localdistill.core.errors import LocalDistillError, UsageError
from localdistill.scorecard import ScoreCard, ScoreCards
from localdistill.scorecard.result import Result, result_of_cards
from localdistill.stages.outputs import (
    SCORECARD_FILE,
    ArmAdapter,
    EvaluateOutput,
    ExportOutput,
    TrainOutput,
    TuneOutput,
    read_output,
)
from localdistill.workspace.folder import Workspace
from localdistill.workspace.run_folder import RunFolder


def run_result(workspace: Workspace, run: str = "last") -> Result:
    """The result of the run `run`. UsageError when it has no score card yet, LocalDistillError when that is damaged."""
    folder = RunFolder.open(workspace.runs, run)
    return result_of(folder, cards_of(workspace, folder))


def cards_of(workspace: Workspace, folder: RunFolder) -> tuple[ScoreCard, ...]:
    """The cards of the contest of a run. Raises as `run_result`."""
    digest = read_output(folder, EvaluateOutput).scorecard
    artifact = workspace.find_artifact("scorecard", digest)
    if artifact is None:
        raise UsageError(f"the scorecard of run {folder.id} is gone from this workspace",
                         f"localdistill resume {folder.id} makes it again")
    if why := artifact.damage():
        raise LocalDistillError(f"the scorecard of run {folder.id} is damaged: {why}",
                                f"localdistill resume {folder.id} sets it aside and makes it again")
    if why := next(workspace.damaged_sources(artifact), ""):
        raise LocalDistillError(f"the scorecard of run {folder.id} cannot be shown: {why}, and it was made from that",
                                f"localdistill resume {folder.id} sets it aside and makes it again")
    where = f"{SCORECARD_FILE} of run {folder.id}"
    again = f"localdistill resume {folder.id} makes it again"
    return ScoreCards.from_bytes(artifact.file(SCORECARD_FILE).read_bytes(), where, again).cards


def result_of(folder: RunFolder, cards: Sequence[ScoreCard]) -> Result:
    """What the cards of a run amount to, beside what the run cost."""
    budget, made = budget_of(folder), _exported(folder)
    found = result_of_cards(cards, _training_s(folder), folder.id, _recipe(folder), len(made.files) if made else 0,
                            None if budget.problem else budget.spent_usd)
    choice = made.choice if made else None
    files = (choice.sentence, *choice.worse) if choice else ()
    return replace(found, tuned=_tuned(folder), learned=_learned(folder), files=files)


def _tuned(folder: RunFolder) -> str:
    """What tuning chose and the trainings used, in a line; empty where the recipe states it."""
    try:
        train = folder.recipe().train
        return read_output(folder, TuneOutput).result.line if train and train.is_tuned else ""
    except LocalDistillError:
        return ""


def _recipe(folder: RunFolder) -> str:
    """How a command line names the recipe of a run; RECIPE where the run cannot say it."""
    try:
        return str(folder.request().get("named") or folder.recipe().name)
    except LocalDistillError:
        return "RECIPE"


def _training_s(folder: RunFolder) -> dict[str, float]:
    """Arm -> seconds that training one seed took; empty where nothing was trained."""
    return {arm: fmean(one.result.elapsed_s for one in found) for arm, found in _adapters(folder).items() if found}


def _learned(folder: RunFolder) -> tuple[str, ...]:
    """What every training says of how far its rows are known by heart."""
    return tuple(f"{arm}{f', seed {one.seed}' if len(found) > 1 else ''}: {one.result.learned}"
                 for arm, found in _adapters(folder).items() for one in found if one.result.learned)


def _adapters(folder: RunFolder) -> Mapping[str, tuple[ArmAdapter, ...]]:
    """Those of every arm; empty where nothing was trained."""
    try:
        return read_output(folder, TrainOutput).adapters
    except LocalDistillError:
        return {}


def _exported(folder: RunFolder) -> ExportOutput | None:
    """What the run exported; None where it did not."""
    try:
        return read_output(folder, ExportOutput)
    except LocalDistillError:
        return None
