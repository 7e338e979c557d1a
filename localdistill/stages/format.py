"""format: each arm lays traces out in its own way; the rows are tokenized for the student, checked, and written as one
dataset artifact per arm. A race is fair only on prompts that every arm can serve: the others are left out everywhere,
and the loss per arm is shown. Each prompt counts once per epoch in every arm, however many rows it has there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localdistill.core.errors import LocalDistillError, UsageError
from localdistill.core.events import Counted, Noted, Progressed, Warned, stamped
from localdistill.core.records import Skip
from localdistill.formats import FORMATS
from localdistill.formats.base import Format
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.modelfiles.training_rows import TokenizedRow
from localdistill.recipe.sections import ArmSection
from localdistill.stages.context import StageContext
from localdistill.stages.learning import objective_of, trainable, why_unlearnable
from localdistill.stages.matching import Bundle, Match, Offer, match
from localdistill.stages.outputs import (
    FACTS_FILE,
    ArmDataset,
    DatasetFacts,
    FormatOutput,
    PartFacts,
    scope_of_run,
    write_output,
)
from localdistill.stages.sets import ArmPart, arm_parts
from localdistill.stages.tokenizing import TraceTokenizer, trained_tags, way_to_think

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1
VETOED = "the file that it came from says that it is wrong"
MOST_REASONS = 12
"""At most so many reasons are counted by name."""


@dataclass
class PartRows:
    """What one part of an arm can train on."""

    part: ArmPart
    format: Format
    bundles: dict[str, list[list[TokenizedRow]]] = field(default_factory=dict)
    """Prompt -> rows, each alone or with those of its group."""
    skips: list[Skip] = field(default_factory=list)

    @property
    def rows(self) -> Iterator[TokenizedRow]:
        """All of them."""
        return (row for bundles in self.bundles.values() for bundle in bundles for row in bundle)

    def offer(self) -> Offer:
        """What it brings to the race."""
        bundles = {prompt: [Bundle(bundle[0].row_weight, bundle[0].epoch) for bundle in own]
                 for prompt, own in self.bundles.items()}
        return Offer(self.part.name, bundles, self.part.share, self.part.weight)

    def take(self, weights: dict[str, Sequence[float]]) -> list[TokenizedRow]:
        """The rows of the prompts that it trains on, with what they count, in the order of the traces."""
        place = {trace_id: number for number, trace_id in enumerate(self.part.trace_ids)}
        taken = [(place[bundle[0].trace_id], [replace(row, row_weight=weight) for row in bundle])
                 for prompt, own in weights.items() for bundle, weight in zip(self.bundles[prompt], own, strict=True)]
        return [row for _, bundle in sorted(taken, key=lambda one: one[0]) for row in bundle]


@dataclass
class ArmRows:
    """What one arm can train on."""

    section: ArmSection
    parts: list[PartRows]

    @property
    def skips(self) -> list[Skip]:
        """Of all parts."""
        return [skip for part in self.parts for skip in part.skips]

    @property
    def thinks(self) -> bool | None:
        """Whether its rows teach the student to think; None where some do and some do not."""
        return way_to_think(part.format for part in self.parts)


def run(context: StageContext) -> None:
    """Leave the digest of one dataset per arm."""
    assert context.recipe.student is not None  # the recipe's own check
    folder = ModelFolder.open(context.student)
    tokens = TraceTokenizer(context.student, context.recipe.student.max_tokens)
    arms = {section.name: ArmRows(section, _parts(context, section)) for section in context.recipe.arms}
    for arm in arms.values():
        for part in arm.parts:
            _lay_out(context, arm, part, tokens)
    _refuse_barren(arms)
    served, matched = match({name: [part.offer() for part in arm.parts] for name, arm in arms.items()},
                            context.recipe.seed)
    if not served:
        raise LocalDistillError("no prompt can be served by every arm",
                                "\n".join(f"{name}: {_top(arm.skips)}" for name, arm in arms.items()))
    made = {name: _ArmDataset(arm, matched[name]) for name, arm in arms.items()}
    output = {}
    for name, dataset in made.items():
        dataset.say(context)
        output[name] = _write(context, dataset, folder, tokens.tokenizer)
    write_output(context.run, FormatOutput(output, len(served), folder.digest()))


def _parts(context: StageContext, section: ArmSection) -> list[PartRows]:
    """The parts of an arm, refused where its objective cannot learn from them."""
    parts = [PartRows(part, context.member(FORMATS, part.format)) for part in arm_parts(context, section)]
    objective = objective_of(context.recipe, section, context.base)
    for part in parts:
        if objective and (why := why_unlearnable(part.format, objective)):
            raise UsageError(f"arm '{section.name}': {why}", "give the arm another format, or another objective")
    return parts


def _lay_out(context: StageContext, arm: ArmRows, part: PartRows, tokens: TraceTokenizer) -> None:
    """Every trace of a part as tokenized rows or a skip."""
    ids, done, name = part.part.trace_ids, 0, arm.section.name
    context.require_prompts(ids)
    for prompt, traces, vetoed in trainable(context.store, ids, part.format, scope_of_run(context.run)):
        context.cancel.check()
        groups: dict[str, list[TokenizedRow]] = {}
        part.skips += [Skip(prompt.id, one.trace.id, VETOED) for one in vetoed]
        done += len(traces) + len(vetoed)
        for row in tokens.rows(part.format, prompt, traces):
            if isinstance(row, Skip):
                part.skips.append(row)
            else:
                groups.setdefault(row.group or f"/{len(groups)}", []).append(row)
        if groups:
            part.bundles[prompt.id] = list(groups.values())
        context.emit(Progressed(name, done, len(ids), "rows", arm=name))


def _refuse_barren(arms: dict[str, ArmRows]) -> None:
    barren = [f"{_name(arm, part)} has nothing to train on: {_top(part.skips)}"
              for arm in arms.values() for part in arm.parts if not part.bundles]
    if barren:
        raise LocalDistillError("; ".join(barren), "use another format or student, or select other traces")


def _name(arm: ArmRows, part: PartRows) -> str:
    of = f"part '{part.part.name}' of " if len(arm.parts) > 1 else ""
    return f"{of}arm '{arm.section.name}'"


class _ArmDataset:
    """The rows of one arm, once it is known which prompts the race has."""

    def __init__(self, arm: ArmRows, matched: Match) -> None:
        self.arm, self.match = arm, matched
        self.by_part = [part.take(dict(weights)) for part, weights in zip(arm.parts, matched.weights, strict=True)]
        self.rows = [row for rows in self.by_part for row in rows]
        empty = [_name(arm, part) for part, rows in zip(arm.parts, self.by_part, strict=True) if not rows]
        if empty:
            raise LocalDistillError(f"{', '.join(empty)} has no rows among the prompts that every arm can serve",
                                    "; ".join(matched.wanting) or "take such a part out, or give it other traces")

    @property
    def prompts(self) -> int:
        """That the rows belong to."""
        return len({row.prompt_id for row in self.rows})

    def say(self, context: StageContext) -> None:
        """What was taken and left, which prompts have several rows, and which share could not be filled."""
        parts, emit = self.arm.parts, stamped(context.emit, arm=self.arm.section.name)
        counts = {
            "selected": sum(len(part.part.trace_ids) for part in parts),
            **{f"- {reason}": count for reason, count in _left_out(self.arm.skips).items()},
            "- prompt not served by every arm": sum(1 for part in parts for _ in part.rows) - len(self.rows),
            "rows": len(self.rows),
            "prompts": self.prompts,
            "trained tokens": sum(row.trained_tokens for row in self.rows),
        }
        emit(Counted("dataset", counts))
        if self.match.several:
            emit(Noted(f"arm '{self.arm.section.name}': {self.match.several:,} of {self.prompts:,} prompts have "
                       "several rows; together they count as one"))
        if self.match.wanting:
            emit(Warned(f"arm '{self.arm.section.name}': {'; '.join(self.match.wanting)}",
                        "change the shares, or give the part more traces"))

    def facts(self, tokenizer: StudentTokenizer) -> DatasetFacts:
        """What later stages need to know."""
        lengths = sorted(len(row.input_ids) for row in self.rows)
        parts = self.arm.parts
        titles = dict.fromkeys(f"{part.format.name}@{part.format.version}" for part in parts)
        return DatasetFacts(
            arm=self.arm.section.name,
            format=" + ".join(titles),
            thinks=self.arm.thinks,
            rewrite=" + ".join(dict.fromkeys(part.part.rewrite for part in parts if part.part.rewrite)),
            rows=len(self.rows),
            trained_tokens=sum(row.trained_tokens for row in self.rows),
            tokens=sum(lengths),
            longest=lengths[-1],
            median_tokens=lengths[len(lengths) // 2],
            stop_token_id=self.rows[0].input_ids[-1],
            tag_token_ids=trained_tags(tokenizer, self.arm.thinks),
            left_out=_left_out(self.arm.skips),
            prompts=self.prompts,
            several=self.match.several,
            wrong=sum(row.sign < 0 for row in self.rows),
            groups=len({row.group for row in self.rows} - {""}),
            parts=tuple(map(_part_facts, parts, self.by_part)) if len(parts) > 1 else (),
        )

    def identity(self, context: StageContext) -> dict[str, Any]:
        """What of the arm makes its dataset: the rows say all, the rest is for people."""
        weights = [row.row_weight for row in self.rows]
        first = self.arm.parts[0].part.format
        formats = {"format": first.use, **first.options} if len(self.arm.parts) == 1 else {
            "parts": [part.part.format.model_dump(mode="json") for part in self.arm.parts]}
        return {
            **formats,
            "max_tokens": context.recipe.student.max_tokens if context.recipe.student else 0,
            "rows": [row.row_id for row in self.rows],
            **({} if set(weights) == {1.0} else {"row_weights": weights}),
        }


def _part_facts(part: PartRows, rows: Sequence[TokenizedRow]) -> PartFacts:
    return PartFacts(part.part.name, f"{part.format.name}@{part.format.version}", len({row.prompt_id for row in rows}),
                     len(rows), sum(row.trained_tokens for row in rows), part.part.share)


def _left_out(skips: Sequence[Skip]) -> dict[str, int]:
    """Rows that cannot serve, by reason. A template may give every row a reason of its own: the rarest are counted
    together, and `left_out.jsonl` lists each."""
    counts = Counter(skip.reason for skip in skips)
    kept = dict(counts.most_common(MOST_REASONS))
    others = counts.total() - sum(kept.values())
    return kept | ({"other reasons": others} if others else {})


def _top(skips: Sequence[Skip]) -> str:
    counts = Counter(skip.reason for skip in skips)
    return "; ".join(f"{n} x {reason}" for reason, n in counts.most_common(3)) or "serves all"


def _write(context: StageContext, dataset: _ArmDataset, folder: ModelFolder,
           tokenizer: StudentTokenizer) -> ArmDataset:
    """Write the dataset artifact of one arm and say what later stages need of it."""
    import pyarrow.parquet as parquet

    name, facts = dataset.arm.section.name, dataset.facts(tokenizer)
    digest = context.workspace.artifact_digest("dataset", VERSION, dataset.identity(context), [folder.digest()])

    def build(staging: Path) -> None:
        parquet.write_table(rows_table(dataset.rows), staging / "rows.parquet", compression="zstd")
        (staging / FACTS_FILE).write_bytes(facts.to_bytes())
        lines = (json.dumps(asdict(skip), ensure_ascii=True) + "\n" for skip in dataset.arm.skips)
        (staging / "left_out.jsonl").write_text("".join(lines))

    context.make(("dataset", digest, name), facts.to_json(), build, emit=stamped(context.emit, arm=name))
    context.store.add_lineage(digest, [(row.row_id, row.trace_id) for row in dataset.rows])
    return ArmDataset(digest, facts)


def rows_table(rows: Sequence[TokenizedRow]) -> pa.Table:
    """The dataset table that trainers read (columns in `trainers.job.TrainingJob`)."""
    import pyarrow as pa

    return pa.table(
        {
            "row_id": pa.array([r.row_id for r in rows], pa.string()),
            "prompt_id": pa.array([r.prompt_id for r in rows], pa.string()),
            "trace_id": pa.array([r.trace_id for r in rows], pa.string()),
            "input_ids": pa.array([r.input_ids for r in rows], pa.list_(pa.int32())),
            "weights": pa.array([r.weights for r in rows], pa.list_(pa.float32())),
            "sign": pa.array([r.sign for r in rows], pa.int8()),
            "group": pa.array([r.group for r in rows], pa.string()),
            "epoch": pa.array([r.epoch for r in rows], pa.int32()),
            "row_weight": pa.array([r.row_weight for r in rows], pa.float32()),
        }
    )
