"""The training rows of an arm on their way out: as the student's tokens with their masks, or as the texts that the
arm's formats laid out. Only rows that the dataset holds go out, so that others train on what we train on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from localdistill.api.traces.datasets import dataset_of
from localdistill.api.traces.taken import RowUnit, Taken
from localdistill.core.borders import BORDERS
from localdistill.core.errors import UsageError, nearest
from localdistill.core.records import Candidate, Example, Prompt, Skip, Trace
from localdistill.interchange.imported import Answer, Imported
from localdistill.interchange.written import VERDICT_COLUMN
from localdistill.modelfiles.folder import resolve_model
from localdistill.modelfiles.training_rows import TokenizedRow
from localdistill.recipe.sections import ArmSection
from localdistill.stages.learning import trainable
from localdistill.stages.outputs import DatasetFacts, scope_of_run
from localdistill.stages.sets import part_traces
from localdistill.stages.tokenizing import TraceTokenizer, format_of
from localdistill.workspace.folder import Artifact, Workspace
from localdistill.workspace.recovery import open_store
from localdistill.workspace.run_folder import RunFolder

IGNORED = -100
"""The label of a token that is not trained, as PyTorch's cross entropy and every trainer take it."""
TOKEN_COLUMNS: Mapping[str, Any] = {
    "input_ids": ["whole"], "attention_mask": ["whole"], "labels": ["whole"], "weights": ["number"], "sign": "whole",
    "group": "text", "epoch": "whole", "row_weight": "number", "prompt_id": "text", "trace_id": "text"}
"""A row of tokens: `labels` is the token where it is trained and IGNORED elsewhere, `weights` how much it counts."""
Shown = tuple[Example, Candidate]
"""A training example, and the trace that it shows with what is known of it."""
NOT_TO_DO = "it shows what not to do, and a row of this layout shows what to do"
NO_PARTNER = "it belongs to no pair of a right and a wrong answer"


@dataclass(frozen=True)
class ArmSource:
    """The rows of one arm of a run."""

    workspace: Workspace
    run: RunFolder
    arm: str

    @cached_property
    def section(self) -> ArmSection:
        """The arm as the recipe says it; UsageError when there is none of that name."""
        arms = {arm.name: arm for arm in self.run.recipe().arms}
        if self.arm not in arms:
            raise UsageError(f"the recipe of run {self.run.id} has no arm '{self.arm}'{nearest(self.arm, arms)}",
                             f"arms: {', '.join(arms)}")
        return arms[self.arm]

    @cached_property
    def dataset(self) -> tuple[Artifact, DatasetFacts]:
        """What the format stage wrote."""
        return dataset_of(self.workspace, self.run, self.section.name)

    @property
    def said(self) -> Mapping[str, str]:
        """See `Source`."""
        artifact, facts = self.dataset
        recipe = self.run.recipe()
        filters = self.section.filters if self.section.filters is not None else recipe.filters
        return {"run": self.run.id, "recipe": recipe.name, "arm": self.arm, "format": facts.title,
                "filters": ", ".join(one.use for one in filters), "dataset": artifact.digest,
                "student": recipe.student.model if recipe.student else ""}

    def token_rows(self) -> Iterator[dict[str, Any]]:
        """Every row as `TOKEN_COLUMNS`."""
        import pyarrow.parquet as parquet

        artifact, _ = self.dataset
        with parquet.ParquetFile(artifact.checked("rows.parquet")) as file:
            for batch in file.iter_batches(BORDERS.arm_rows):
                for row in batch.to_pylist():
                    labels = [token if weight > 0 else IGNORED
                              for token, weight in zip(row["input_ids"], row["weights"], strict=True)]
                    known = {"attention_mask": [1] * len(labels), "labels": labels, **row}
                    yield {name: known.get(name) for name in TOKEN_COLUMNS}

    def items(self, unit: RowUnit) -> Iterator[Taken | str]:
        """See `Source`. A row that several epochs see in different ways goes out once for each."""
        for prompt, examples in self._examples():
            if unit == "prompt":
                yield Taken(Imported(prompt))
                continue
            if unit == "pair":
                yield from _pairs(prompt, examples)
                continue
            for one in examples:
                yield Taken(*_item(prompt, [one])) if one[0].sign > 0 else NOT_TO_DO

    def _examples(self) -> Iterator[tuple[Prompt, list[Shown]]]:
        """What the rows of each prompt were made of."""
        recipe, base = self.run.recipe(), Path(self.run.request()["base"])
        assert recipe.student is not None  # there is a dataset
        wanted = self._row_ids()
        tokens = TraceTokenizer(resolve_model(recipe.student.model, base), recipe.student.max_tokens)
        store, scope = open_store(self.workspace), scope_of_run(self.run)
        for part in self.section.parts:
            form, ids = format_of(part.member, base), part_traces(self.run, recipe, self.section, part)
            for prompt, candidates, _ in trainable(store, ids, form, scope):
                known = {one.trace.id: one for one in candidates}
                found = [(example, known[example.trace_id])
                         for example, row in tokens.laid_out(form, prompt, candidates)
                         if not isinstance(example, Skip) and isinstance(row, TokenizedRow) and row.row_id in wanted]
                if found:
                    yield prompt, found

    def _row_ids(self) -> set[str]:
        import pyarrow.parquet as parquet

        artifact, _ = self.dataset
        return set(parquet.read_table(artifact.checked("rows.parquet"), columns=["row_id"]).column(0).to_pylist())


def _pairs(prompt: Prompt, examples: list[Shown]) -> Iterator[Taken | str]:
    groups: dict[str, list[Shown]] = {}
    for one in examples:
        groups.setdefault(one[0].group or f"/{len(groups)}", []).append(one)
    for group in groups.values():
        right = [one for one in group if one[0].sign > 0]
        wrong = [one for one in group if one[0].sign < 0]
        for pair in zip(right, wrong, strict=False):
            yield Taken(*_item(prompt, pair))
        yield from (NO_PARTNER for _ in range(abs(len(right) - len(wrong))))


def _item(prompt: Prompt, shown: Sequence[Shown]) -> tuple[Imported, int]:
    """The turns as the format shows them and the answers as it teaches them; and how much else is known of these."""
    context = tuple(turn.message for turn in shown[0][0].turns[:-1])
    asked = replace(prompt, messages=context) if context != prompt.messages else prompt
    answers = []
    for example, candidate in shown:
        right = example.sign > 0 if len(shown) > 1 else candidate.passed
        answers.append(Answer(_taught(example, candidate.trace), right, "" if right is None else VERDICT_COLUMN))
    return Imported(asked, tuple(answers)), sum(len(candidate.facts) for _, candidate in shown)


def _taught(example: Example, trace: Trace) -> Trace:
    """The trace with what the student is to write: reasoning apart where it stands in tags."""
    spans = example.turns[-1].spans
    tagged = any(span.part == "tag" for span in spans)
    reasoning = "".join(span.text for span in spans if span.part == "reasoning") if tagged else ""
    answer = "".join(span.text for span in spans if span.part not in ("tag", "call")
                     and not (tagged and span.part == "reasoning"))
    return replace(trace, reasoning=reasoning, answer=answer, raw="", trace_kind="raw" if reasoning else "none",
                   tool_calls=example.turns[-1].message.tool_calls)
