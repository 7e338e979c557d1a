"""The score cards of a run, as its stages left them: the contest of evaluation, and the forms (merged, exported files)
that export measured. Reads artifacts and measures nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from localdistill.api.runs.results import cards_of, result_of
from localdistill.core.errors import LocalDistillError, UsageError
from localdistill.scorecard import Comparison, Flip, ScoreCard, choose_arm
from localdistill.scorecard.result import Result
from localdistill.stages.context import build_tasks
from localdistill.stages.holdout import HeldOut
from localdistill.stages.outputs import (
    MEASURED_FILE,
    ExportOutput,
    MeasuredForms,
    is_due,
    read_output,
)
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store
from localdistill.workspace.run_folder import RunFolder


@dataclass(frozen=True)
class Scores:
    """All that a run knows about how good its models are."""

    run_id: str
    cards: tuple[ScoreCard, ...]
    """One per task of the evaluation; guard tasks say so."""
    forms: tuple[ScoreCard, ...] = ()
    """One per task: the exported model as trained, merged, and in each file. Empty before export."""
    not_measured: tuple[str, ...] = ()
    """Task, form and reason of every form that could not be run."""
    best: str = ""
    """The arm that `best` means: better than the base on the target, and what it costs elsewhere is known to be
    little. Empty when there is none."""
    why_best: str = ""
    """Why that arm, or why none."""
    problems: tuple[str, ...] = ()
    """What could not be shown because it is gone or damaged, in words."""
    questions: Mapping[str, str] = field(default_factory=dict)
    """Prompt id -> question, of the tasks whose files are there."""
    references: Mapping[str, str] = field(default_factory=dict)
    """Prompt id -> reference answer."""
    result: Result | None = None
    """What they amount to."""


@dataclass(frozen=True)
class FlippedItem:
    """An item that `first` and `second` of a comparison answered differently."""

    side: Literal["won", "lost"]
    """`won`: `first` is right and `second` is not."""
    prompt_id: str
    question: str
    reference: str
    flip: Flip


def score_card(workspace: Workspace, run: str = "last") -> Scores:
    """The score cards of the run `run`. UsageError when it has none yet, or when they are gone, LocalDistillError when
    they, or what they were made from, are damaged: what is not as it was written is never shown."""
    folder = RunFolder.open(workspace.runs, run)
    cards = cards_of(workspace, folder)
    forms, not_measured, problems = _forms(workspace, folder)
    questions, references = items_asked(folder)
    choice = choose_arm(cards)
    return Scores(folder.id, cards, forms, not_measured, choice.arm, choice.reason, problems, questions, references,
                  result_of(folder, cards))


def _forms(workspace: Workspace,
           folder: RunFolder) -> tuple[tuple[ScoreCard, ...], tuple[str, ...], tuple[str, ...]]:
    """The cards of the exported forms, what was not measured, and why there is nothing where there should be."""
    try:
        digest = read_output(folder, ExportOutput).export
    except UsageError as error:
        said = f"{error.message}; {error.hint} makes it again"
        return (), (), (said,) if is_due(folder, ExportOutput.stage) else ()
    except LocalDistillError as error:
        return (), (), (f"{error.message}; {error.hint}",)
    artifact = workspace.find_artifact("export", digest) if digest else None
    if artifact is None:
        gone = f"the export is gone with the scores of its files; localdistill resume {folder.id} makes it again"
        return (), (), (gone,) if digest else ()
    try:
        if MEASURED_FILE not in artifact.manifest["files"]:
            return (), (), ()
        measured = MeasuredForms.from_bytes(artifact.checked(MEASURED_FILE).read_bytes(), MEASURED_FILE)
        if why := next(workspace.damaged_sources(artifact, also=measured.answers), ""):
            raise LocalDistillError(f"they were measured on what is damaged: {why}")
        return measured.cards, measured.not_measured, ()
    except (LocalDistillError, OSError) as error:
        said = error.message if isinstance(error, LocalDistillError) else str(error)
        return (), (), (f"the scores of the exported files cannot be shown: {said}; localdistill resume {folder.id} "
                        "makes them again",)


def flipped(scores: Scores, comparison: Comparison) -> Iterator[FlippedItem]:
    """The stored flips of a comparison, won items first."""
    sides: tuple[tuple[Literal["won", "lost"], tuple[Flip, ...]], ...] = (
        ("won", comparison.flips_won), ("lost", comparison.flips_lost))
    for side, flips in sides:
        for flip in flips:
            yield FlippedItem(side, flip.prompt_id, scores.questions.get(flip.prompt_id, ""),
                              scores.references.get(flip.prompt_id, ""), flip)


def items_asked(folder: RunFolder) -> tuple[dict[str, str], dict[str, str]]:
    """Questions and references of the tasks; without them (their files may have moved) cards are readable all the
    same."""
    questions, references = {}, {}
    try:
        store = open_store(Workspace(folder.path.parent.parent))
        recipe, base = folder.recipe(), Path(folder.request()["base"])
        for task in build_tasks(recipe, base, HeldOut(recipe, base, folder, store)):
            for prompt in task.prompts():
                questions[prompt.id], references[prompt.id] = prompt.question, prompt.reference or ""
    except (LocalDistillError, OSError, ValueError, KeyError):
        pass
    return questions, references
