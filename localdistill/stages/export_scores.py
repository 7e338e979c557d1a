"""The forms in which one trained model is handed out - merged weights, exported files - on the recipe's benchmarks,
beside the answers of the model as it was trained. Files are measured here, never refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from localdistill.core.errors import BudgetReached, Cancelled, LocalDistillError, PartialResult
from localdistill.core.events import Measured, Noted, Warned
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.recipe import Member
from localdistill.safety.files import sha256_file
from localdistill.scorecard import ScoreCard, build_beside_card, build_forms_card, to_text
from localdistill.stages.benchmarking import BASE, Bench, Contestant, Serving, benches, measure
from localdistill.stages.context import StageContext
from localdistill.stages.evaluate import answers_of, serving_of
from localdistill.stages.outputs import FormSummary, MeasuredForms, TaskSummary

TRAINED, MERGED = "trained", "merged"
_TEMPLATE_TOKENS = 64
"""Room for what a chat template writes around one message."""


class FormsMeasurer:
    """Measures what an exporter wrote; exporters are given it as `ExportJob.measure`."""

    def __init__(self, context: StageContext, contestant: Contestant, merged: Path, name: str) -> None:
        self._context = context
        self._contestant = contestant
        self._merged = merged
        self._name = name
        self.cards: list[ScoreCard] = []
        """What was measured last, one card per benchmark."""
        self.beside: list[ScoreCard] = []
        """The same answers beside those of the untrained student; empty where that is what is exported."""
        self.answers: list[str] = []
        """Digests of the answers behind the cards."""
        self.failures: list[str] = []
        """Task, form and reason of everything that could not be run."""

    def __call__(self, files: Sequence[Path]) -> list[ScoreCard]:
        """One card per benchmark: the trained model, the merged weights, and each of `files`. A form that cannot be
        run is warned of and left out."""
        self.cards, self.beside, self.answers, self.failures = [], [], [], []
        for bench in benches(self._context, warns=False):
            card = self._card(bench, files)
            self.cards.append(card)
            self._context.emit(Noted(to_text(card)))
            for row in card.rows:
                emit = self._as(row.name).tells(self._context.emit)
                emit(Measured(f"score of {card.task}", row.score, contestant=row.name))
        return self.cards

    def measured(self) -> MeasuredForms:
        """Everything that was measured."""
        return MeasuredForms(tuple(self.cards), tuple(self.beside), tuple(self.answers), tuple(self.failures))

    def _card(self, bench: Bench, files: Sequence[Path]) -> ScoreCard:
        measured = answers_of(self._context, bench, self._contestant)
        self.answers.append(measured.answers)
        forms = [self._contestant.result(measured, TRAINED)]
        for form, serving in (self._merged_form(), *(self._file_form(bench, file) for file in files)):
            try:
                measured = measure(self._context, bench, form, serving)
            except (Cancelled, BudgetReached, PartialResult):
                raise
            except LocalDistillError as error:
                self.failures.append(f"{bench.task.name}: {form.label}: {type(error).__name__}")
                form.tells(self._context.emit)(Warned(
                    f"{form.label} was not measured on {bench.task.name}: {error.message}", error.hint))
                continue
            self.answers.append(measured.answers)
            forms.append(form.result(measured))
        task, of = bench.task, self._contestant
        whole = f"arm '{of.label}'" if of.adapter else "the base"
        if of.adapter:
            base = BASE.result(answers_of(self._context, bench, BASE))
            self.beside.append(build_beside_card(forms, base, task.name, bench.judged_by, task.is_guard, whole,
                                                 bench.metrics))
        return build_forms_card(forms, TRAINED, task.name, bench.judged_by, task.is_guard, whole, bench.metrics)

    def _as(self, form: str) -> Contestant:
        return replace(self._contestant, form=form)

    def _merged_form(self) -> tuple[Contestant, Serving]:
        served, digest = self._context.trainer.served(self._merged, None), ModelFolder.open(self._merged).digest()
        return self._as(MERGED), serving_of(self._context, served, [digest], final=True)

    def _file_form(self, bench: Bench, file: Path) -> tuple[Contestant, Serving]:
        told: dict[str, Any] = {"use": "llama_cpp", "context_tokens": self._context_tokens(bench)}
        options = {"model": str(file), "context_tokens": told["context_tokens"]}
        return self._as(file.stem.removeprefix(f"{self._name}-")), Serving(
            Member(use="llama_cpp", options=options), told, [sha256_file(file)])

    def _context_tokens(self, bench: Bench) -> int:
        """Tokens that the longest prompt and its reply may take, so that a reply ends at the same cap everywhere."""
        assert self._context.recipe.evaluate is not None
        count = StudentTokenizer(self._merged).count
        longest = max(sum(count(m.counted) + _TEMPLATE_TOKENS for m in p.messages) for p in bench.prompts)
        wanted = longest + _TEMPLATE_TOKENS + self._context.recipe.evaluate.max_tokens
        return min(ModelFolder.open(self._merged).context_length, wanted)


def summary_of(card: ScoreCard, beside: ScoreCard | None = None) -> TaskSummary:
    """What a program wants of a card: one entry per form, without texts of models; `beside` holds the same forms
    against the untrained student."""
    against = {entry.first: entry for entry in card.comparisons}
    to_base = {entry.first: entry for entry in beside.comparisons} if beside else {}
    forms = []
    for row in card.rows:
        form = FormSummary(row.name, row.score, row.interval)
        if entry := against.get(row.name):
            form = replace(form, difference=entry.difference, difference_interval=entry.interval, won=entry.won,
                           lost=entry.lost, same_text=entry.same_text, p_value=entry.p_adjusted, verdict=entry.verdict)
        if entry := to_base.get(row.name):
            form = replace(form, base_difference=entry.difference, base_interval=entry.interval,
                           base_verdict=entry.verdict)
        forms.append(form)
    return TaskSummary(card.task, card.is_guard, card.items, card.base, tuple(forms),
                       beside.row(beside.base).score if beside else None)
