"""The items of an evaluation, one by one: what every contestant answered, why it was wrong where it was, how two
answers differ, and which training questions an item is most like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from typing import Literal

from localdistill.api.runs.scores import items_asked
from localdistill.core.errors import LocalDistillError, UsageError, nearest
from localdistill.filters.overlap import ngrams_of, words_of
from localdistill.scorecard import RIGHT, ItemResult
from localdistill.stages.answers import items_of
from localdistill.stages.outputs import AnswersMade, EvaluateOutput, read_output
from localdistill.texts.loops import is_looping
from localdistill.texts.refusals import is_refusal
from localdistill.texts.repeats import tokens_of
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store
from localdistill.workspace.run_folder import RunFolder

Cause = Literal["right", "wrong", "cut", "loop", "format", "refusal", "no reply", "not judged"]
_NEAR_NGRAM = 3


@dataclass(frozen=True)
class AnsweredItem:
    """One contestant's answer to one item."""

    task: str
    prompt_id: str
    contestant: str
    seed: int
    score: float
    """0..1."""
    cause: Cause
    """`right`; else what went wrong: the reply goes round in circles (`loop`), was cut at the limit (`cut`), declines
    (`refusal`), shows no answer that the grader could find (`format`), or is `wrong`; `no reply` and `not judged` count
    as wrong."""
    extracted: str
    answer_tokens: int
    output: str
    category: str
    question: str
    """Empty where the task's files are gone."""
    reference: str


@dataclass(frozen=True)
class NearRow:
    """A trained trace whose question is like that of an item."""

    trace_id: str
    question: str
    shared: float
    """Share of the item's runs of three words, numbers left out, that the question has, 0..1."""


def run_items(workspace: Workspace, run: str = "last", task: str = "", contestant: str = "",
              causes: Sequence[str] = (), item: str = "") -> list[AnsweredItem]:
    """What was answered in `run`, by task, contestant and seed in the order of its recipe; narrowed to one `task`, one
    `contestant`, some `causes`, items whose id begins with `item`. UsageError when the run has no such answers,
    LocalDistillError when they are damaged."""
    folder = RunFolder.open(workspace.runs, run)
    made = _made(folder)
    _require(task, [one.task for one in made], "task", folder)
    _require(contestant, [one.contestant for one in made], "contestant", folder)
    questions, references = items_asked(folder)
    wanted = [one for one in made if task in ("", one.task) and contestant in ("", one.contestant)]
    found = (_item(one, answer, questions, references) for one in wanted
             for answer in _answers(workspace, folder, one) if answer.prompt_id.startswith(item))
    return [one for one in found if not causes or one.cause in causes]


def answers_of_run(workspace: Workspace, folder: RunFolder) -> Iterator[tuple[AnswersMade, tuple[ItemResult, ...]]]:
    """Whose answers, and the answers, of everybody whom `folder` evaluated. Raises as `run_items`."""
    for made in _made(folder):
        yield made, _answers(workspace, folder, made)


def causes_of(items: Iterable[AnsweredItem]) -> dict[tuple[str, str], Counter[str]]:
    """(task, contestant) -> cause -> answers, over all seeds."""
    found: dict[tuple[str, str], Counter[str]] = {}
    for item in items:
        found.setdefault((item.task, item.contestant), Counter())[item.cause] += 1
    return found


def cause_of(item: ItemResult) -> Cause:
    """Why an answer is wrong, by rule; `right` where it is not."""
    if item.error:
        return "no reply"
    if item.undecided:
        return "not judged"
    if item.score >= RIGHT:
        return "right"
    if is_looping(tokens_of(item.output)):
        return "loop"
    if item.hit_limit:
        return "cut"
    if is_refusal(item.output):
        return "refusal"
    return "wrong" if item.extracted else "format"


def answers_differ(first: AnsweredItem, second: AnsweredItem) -> str:
    """A unified diff of two outputs, line by line; empty when they are the same."""
    return "\n".join(unified_diff(second.output.splitlines(), first.output.splitlines(), second.contestant,
                                  first.contestant, lineterm=""))


def nearest_rows(workspace: Workspace, run: str, question: str, count: int = 3) -> list[NearRow]:
    """The traces that `run` selected for training whose questions share most with `question`: most first, none without
    any share. An item that a model got right may only be remembered."""
    folder = RunFolder.open(workspace.runs, run)
    wanted = _grams(question)
    found: list[NearRow] = []
    if wanted:
        ids = folder.ids("select") if folder.has_ids("select") else folder.ids("collect")
        for batch in open_store(workspace).batches(["trace_id", "question"], ids=ids):
            for trace_id, text in zip(batch.column("trace_id").to_pylist(), batch.column("question").to_pylist(),
                                      strict=True):
                if shared := len(wanted & _grams(text or "")) / len(wanted):
                    found.append(NearRow(trace_id, text, shared))
            found = sorted(found, key=lambda row: -row.shared)[:count]
    return found


def _grams(question: str) -> set[int]:
    words = words_of(question, mask_numbers=True)
    return ngrams_of(words, min(_NEAR_NGRAM, max(1, len(words))))


def _made(folder: RunFolder) -> tuple[AnswersMade, ...]:
    made = read_output(folder, EvaluateOutput).answers
    if not made:
        raise UsageError(f"the run {folder.id} was evaluated by a version that did not say whose its answers are",
                         "evaluate its recipe again: the answers are kept, and are not asked for again")
    return made


def _answers(workspace: Workspace, folder: RunFolder, made: AnswersMade) -> tuple[ItemResult, ...]:
    artifact = workspace.find_artifact("answers", made.answers)
    again = f"localdistill resume {folder.id} makes them again"
    if artifact is None:
        raise UsageError(f"the answers of {made.contestant} to {made.task} are gone from this workspace", again)
    if why := artifact.damage():
        raise LocalDistillError(f"the answers of {made.contestant} to {made.task} are damaged: {why}", again)
    return items_of(artifact)


def _item(made: AnswersMade, item: ItemResult, questions: Mapping[str, str],
          references: Mapping[str, str]) -> AnsweredItem:
    return AnsweredItem(made.task, item.prompt_id, made.contestant, made.seed, item.score, cause_of(item),
                        item.extracted, item.answer_tokens, item.output, item.category,
                        questions.get(item.prompt_id, ""), references.get(item.prompt_id, ""))


def _require(name: str, known: Sequence[str], what: str, folder: RunFolder) -> None:
    if name and name not in known:
        raise UsageError(f"run {folder.id} evaluated no {what} '{name}'{nearest(name, list(dict.fromkeys(known)))}",
                         f"it has: {', '.join(dict.fromkeys(known))}")
