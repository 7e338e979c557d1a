"""The forms in which one trained model is handed out - merged weights, exported files - on the recipe's benchmarks,
beside the answers of the model as it was trained. Files are measured here, never refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from localdistill.core.errors import BudgetReached, Cancelled, LocalDistillError
from localdistill.core.events import Measured, Noted
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.recipe import Member
from localdistill.safety.files import sha256_file
from localdistill.scorecard import Contestant, ItemResult, ScoreCard, build_beside_card, build_forms_card, to_text
from localdistill.stages.context import StageContext
from localdistill.stages.evaluate import BASE, Entrant, answers_of, contestant
from localdistill.stages.measuring import Bench, Subject, benches, measure

TRAINED, MERGED = "trained", "merged"
_TEMPLATE_TOKENS = 64
"""Room for what a chat template writes around one message."""


class FormsMeasurer:
    """Measures what an exporter wrote; exporters are given it as `ExportJob.measure`."""

    def __init__(self, context: StageContext, entrant: Entrant, merged: Path, name: str) -> None:
        self._context = context
        self._entrant = entrant
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
                self._context.emit(Measured(f"{card.task}: {row.name}", row.score, arm=self._entrant.name))
        return self.cards

    def to_json(self) -> dict[str, Any]:
        """Everything that was measured, JSON-ready; it names no place on this machine."""
        cards, beside = ([card.to_json() for card in found] for found in (self.cards, self.beside))
        return {"cards": cards, "beside_base": beside, "answers": self.answers, "not_measured": self.failures}

    def _card(self, bench: Bench, files: Sequence[Path]) -> ScoreCard:
        digest, items = answers_of(self._context, bench, self._entrant)
        self.answers.append(digest)
        forms = [self._form(TRAINED, items)]
        for subject in (self._merged_subject(), *(self._file_subject(bench, file) for file in files)):
            try:
                digest, items = measure(self._context, bench, subject)
            except (Cancelled, BudgetReached):
                raise
            except LocalDistillError as error:
                self.failures.append(f"{bench.task.name}: {subject.name}: {type(error).__name__}")
                self._context.warn(f"{subject.name} was not measured on {bench.task.name}: {error.message}",
                                   error.hint)
                continue
            self.answers.append(digest)
            forms.append(self._form(subject.name, items))
        task, whole = bench.task, f"arm '{self._entrant.label}'" if self._entrant.adapter else "the base"
        if self._entrant.adapter:
            _, items = answers_of(self._context, bench, BASE)
            self.beside.append(build_beside_card(forms, contestant(BASE, items), task.name, task.grader,
                                                 task.is_guard, whole))
        return build_forms_card(forms, TRAINED, task.name, task.grader, task.is_guard, whole)

    def _form(self, name: str, items: tuple[ItemResult, ...]) -> Contestant:
        line = contestant(self._entrant, items)
        tokens = line.trained_tokens if name == TRAINED else 0
        return Contestant(name, line.seed, line.format, line.thinks, tokens, line.stopped_early, items)

    def _merged_subject(self) -> Subject:
        section = self._context.recipe.evaluate
        assert section is not None
        options = {**section.engine_options, "model": str(self._merged)}
        options.pop("quantization", None)
        told = {key: value for key, value in options.items() if key != "model"}
        return Subject(MERGED, Member(use="transformers", options=options), told,
                       [ModelFolder.open(self._merged).digest()], self._entrant.thinks, "export")

    def _file_subject(self, bench: Bench, file: Path) -> Subject:
        told: dict[str, Any] = {"use": "llama_cpp", "context_tokens": self._context_tokens(bench)}
        options = {"model": str(file), "context_tokens": told["context_tokens"]}
        name = file.stem.removeprefix(f"{self._name}-")
        return Subject(name, Member(use="llama_cpp", options=options), told, [sha256_file(file)],
                       self._entrant.thinks, "export")

    def _context_tokens(self, bench: Bench) -> int:
        """Tokens that the longest prompt and its reply may take, so that a reply ends at the same cap everywhere."""
        assert self._context.recipe.evaluate is not None
        count = StudentTokenizer(self._merged).count
        longest = max(sum(count(m.content) + _TEMPLATE_TOKENS for m in p.messages) for p in bench.prompts)
        wanted = longest + _TEMPLATE_TOKENS + self._context.recipe.evaluate.max_tokens
        return min(ModelFolder.open(self._merged).context_length, wanted)


def summary_of(card: ScoreCard, beside: ScoreCard | None = None) -> dict[str, Any]:
    """What a program wants of a card: one entry per form, without texts of models; `beside` holds the same forms
    against the untrained student."""
    against = {entry.first: entry for entry in card.comparisons}
    to_base = {entry.first: entry for entry in beside.comparisons} if beside else {}
    rows = []
    for row in card.rows:
        line: dict[str, Any] = {"form": row.name, "score": row.score, "interval": list(row.interval)}
        if entry := against.get(row.name):
            line |= {"difference": entry.difference, "difference_interval": list(entry.interval), "won": entry.won,
                     "lost": entry.lost, "same_text": entry.same_text, "p_value": entry.p_adjusted,
                     "verdict": entry.verdict}
        if entry := to_base.get(row.name):
            line |= {"base_difference": entry.difference, "base_interval": list(entry.interval),
                     "base_verdict": entry.verdict}
        rows.append(line)
    base = {"base": beside.row(beside.base).score} if beside else {}
    return {"task": card.task, "is_guard": card.is_guard, "items": card.items, "against": card.base, **base,
            "forms": rows}
