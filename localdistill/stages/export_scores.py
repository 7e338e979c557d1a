"""The forms in which one trained model is handed out - merged weights, exported files - on the recipe's benchmarks,
beside the answers of the model as it was trained. Files are measured here, never refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from localdistill.core.errors import BudgetReached, Cancelled, LocalDistillError, PartialResult
from localdistill.core.events import Measured, Noted, Warned
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.recipe import Member
from localdistill.safety.files import sha256_file
from localdistill.scorecard import (
    ContestantResult,
    FileChoice,
    ScoreCard,
    build_beside_card,
    build_files_card,
    build_forms_card,
    choose_file,
    to_text,
)
from localdistill.stages.benchmarking import BASE, Bench, Contestant, Serving, benches, measure
from localdistill.stages.context import StageContext
from localdistill.stages.evaluate import answers_of, serving_of
from localdistill.stages.outputs import FormSummary, MeasuredForms, TaskSummary

TRAINED, MERGED = "trained", "merged"
_WHOLE = ("F16", "BF16")
"""Files that others are quantized from."""
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
        self.beside_source: list[ScoreCard] = []
        """The files' answers beside those of the 16-bit one."""
        self.choice: FileChoice | None = None
        """Which file to take; None before anything was measured."""
        self.failures: list[str] = []
        """Task, form and reason of everything that could not be run."""

    def __call__(self, files: Sequence[Path]) -> list[ScoreCard]:
        """One card per benchmark: the trained model, the merged weights, and each of `files`. A form that cannot be
        run is warned of and left out."""
        self.cards, self.beside, self.answers, self.failures = [], [], [], []
        self.beside_source = []
        for bench in self._benches:
            card = self._card(bench, files)
            self.cards.append(card)
            self._context.emit(Noted(to_text(card)))
            for row in card.rows:
                emit = self._as(row.name).tells(self._context.emit)
                emit(Measured(f"score of {card.task}", row.score, contestant=row.name))
        self._choose(files)
        return self.cards

    def _choose(self, files: Sequence[Path]) -> None:
        """Which file to take, said with what speaks against the others."""
        assert self._context.recipe.export is not None
        sizes = {self._form(file): file.stat().st_size for file in files}
        self.choice = choose_file(self.beside_source, sizes, self._context.recipe.export.tolerance)
        if self.choice is None:
            return
        for text in (self.choice.sentence, *self.choice.unclear):
            self._context.emit(Noted(text))
        for text in self.choice.worse:
            self._context.emit(Warned(text))

    def _form(self, file: Path) -> str:
        return file.stem.removeprefix(f"{self._name}-")

    def measured(self) -> MeasuredForms:
        """Everything that was measured."""
        return MeasuredForms(tuple(self.cards), tuple(self.beside), tuple(self.answers), tuple(self.failures),
                             tuple(self.beside_source), self.choice)

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
        compared = _files_with_source(forms)
        if len(compared) > 1:
            self.beside_source.append(build_files_card(compared, compared[0].name, task.name, bench.judged_by,
                                                       task.is_guard, whole, bench.metrics))
        return build_forms_card(forms, TRAINED, task.name, bench.judged_by, task.is_guard, whole, bench.metrics)

    def _as(self, form: str) -> Contestant:
        return replace(self._contestant, form=form)

    def _merged_form(self) -> tuple[Contestant, Serving]:
        served, digest = self._context.trainer.served(self._merged, None), ModelFolder.open(self._merged).digest()
        return self._as(MERGED), serving_of(self._context, served, [digest], final=True)

    def _file_form(self, bench: Bench, file: Path) -> tuple[Contestant, Serving]:
        told: dict[str, Any] = {"use": "llama_cpp", "context_tokens": self._context_tokens(bench)}
        options = {"model": str(file), "context_tokens": told["context_tokens"]}
        return self._as(self._form(file)), Serving(
            Member(use="llama_cpp", options=options), told, [sha256_file(file)])

    @cached_property
    def _benches(self) -> list[Bench]:
        return benches(self._context, warns=False)

    @property
    def longest_text(self) -> int:
        """Tokens that the longest prompt of any benchmark and its reply may take."""
        return max(map(self._context_tokens, self._benches), default=0)

    def _context_tokens(self, bench: Bench) -> int:
        """Tokens that the longest prompt and its reply may take, so that a reply ends at the same cap everywhere."""
        assert self._context.recipe.evaluate is not None
        count = StudentTokenizer(self._context.student).count
        longest = max(sum(count(m.counted) + _TEMPLATE_TOKENS for m in p.messages) for p in bench.prompts)
        wanted = longest + _TEMPLATE_TOKENS + self._context.recipe.evaluate.max_tokens
        return min(ModelFolder.open(self._context.student).context_length, wanted)


def _files_with_source(forms: Sequence[ContestantResult]) -> list[ContestantResult]:
    """What the files were made from, and they: the 16-bit file, else the merged model, else the model as it was
    trained."""
    by_name = {form.name: form for form in forms}
    source = next(by_name[name] for name in (*_WHOLE, MERGED, TRAINED) if name in by_name)
    return [source, *(form for form in forms if form is not source and form.name not in (TRAINED, MERGED))]


def summary_of(card: ScoreCard, beside: ScoreCard | None = None) -> TaskSummary:
    """What a program wants of a card: one entry per form, without texts of models; `beside` holds the same forms
    against the untrained student."""
    against = {entry.first: entry for entry in card.comparisons}
    to_base = {entry.first: entry for entry in beside.comparisons} if beside else {}
    forms = []
    for row in card.rows:
        form = FormSummary(row.name, row.score, row.interval, answer_tokens=row.mean_answer_tokens,
                           loops=row.loops)
        if entry := against.get(row.name):
            form = replace(form, difference=entry.difference, difference_interval=entry.interval, won=entry.won,
                           lost=entry.lost, same_text=entry.same_text, p_value=entry.p_adjusted, verdict=entry.verdict)
        if entry := to_base.get(row.name):
            form = replace(form, base_difference=entry.difference, base_interval=entry.interval,
                           base_verdict=entry.verdict)
        forms.append(form)
    return TaskSummary(card.task, card.is_guard, card.items, card.base, tuple(forms),
                       beside.row(beside.base).score if beside else None)
