"""format: each arm lays the same traces out in its own way; the rows are tokenized for the student, checked, and
written as one dataset artifact per arm. A race is fair only on prompts that every arm can serve: the others are
left out everywhere, and the loss per arm is shown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from localdistill.core.errors import LocalDistillError
from localdistill.core.events import Counted, Progressed, stamped
from localdistill.core.records import Skip
from localdistill.formats.base import Format
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.modelfiles.training_rows import TokenizedRow
from localdistill.recipe.sections import ArmSection
from localdistill.stages.context import StageContext
from localdistill.stages.outputs import FACTS_FILE, ArmDataset, DatasetFacts, FormatOutput, write_output
from localdistill.stages.sets import arm_parts, arm_rewrite, origins
from localdistill.stages.tokenizing import TraceTokenizer, format_of
from localdistill.templates.marks import OURS

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1
AGAIN = "its prompt's one example is there already"
"""Why a further trace of a prompt makes no row in a format with one example per prompt."""
MOST_REASONS = 12
"""At most so many reasons are counted by name."""


@dataclass
class ArmRows:
    """What one arm can train on."""

    section: ArmSection
    format: Format
    rows: list[tuple[list[str], TokenizedRow]]
    """What arms are matched by, and the row; a row of a prompt stands for several traces."""
    skips: list[Skip]

    @property
    def keys(self) -> set[str]:
        """What this arm can serve."""
        return {key for keys, _ in self.rows for key in keys}


def run(context: StageContext) -> None:
    """Leave the digest of one dataset per arm."""
    assert context.recipe.student is not None  # the recipe's own check
    folder = ModelFolder.open(context.student)
    tokens = TraceTokenizer(context.student, context.recipe.student.max_tokens)
    # Arms on one set are matched trace by trace, so that all train equally many rows; an arm with another set (another
    # teacher) shares only prompts with the others.
    by_trace = len(origins(context.recipe, [name for arm in context.recipe.arms for name in arm.sets])) == 1
    arms = [_lay_out(context, section, tokens, by_trace) for section in context.recipe.arms]
    served = set.intersection(*(arm.keys for arm in arms))
    unit = "trace" if by_trace else "prompt"
    barren = [arm for arm in arms if not arm.rows]
    if barren:
        raise LocalDistillError(
            "; ".join(f"arm '{arm.section.name}' has nothing to train on: {_top(arm.skips)}" for arm in barren),
            "use another format or student, or select other traces",
        )
    if not served:
        raise LocalDistillError(
            f"no {unit} can be served by every arm", "\n".join(f"{a.section.name}: {_top(a.skips)}" for a in arms)
        )
    output = {}
    for arm in arms:
        rows = [row for keys, row in arm.rows if not served.isdisjoint(keys)]
        counts = {
            "selected": len(arm.rows) + len(arm.skips),
            **{f"- {reason}": count for reason, count in _left_out(arm.skips).items()},
            f"- {unit} not served by every arm": len(arm.rows) - len(rows),
            "rows": len(rows),
            "trained tokens": sum(r.trained_tokens for r in rows),
        }
        context.emit(Counted("dataset", counts, arm=arm.section.name))
        output[arm.section.name] = _write(context, arm, rows, folder, tokens.tokenizer)
    write_output(context.run, FormatOutput(output, len(served), folder.digest()))


def _lay_out(context: StageContext, section: ArmSection, tokens: TraceTokenizer, by_trace: bool) -> ArmRows:
    """Every trace of an arm as a tokenized row or a skip."""
    part = arm_parts(context, section)[0]
    arm = ArmRows(section, format_of(part.format, context.base), [], [])
    ids = part.trace_ids
    stands_for: dict[str, list[str]] = {}
    for done, (prompt, trace) in enumerate(context.pairs(ids), start=1):
        context.cancel.check()
        key = (trace.parent_id or trace.id) if by_trace else prompt.id
        row: TokenizedRow | Skip
        if prompt.id in stands_for:
            stands_for[prompt.id].append(key)
            row = Skip(prompt.id, trace.id, AGAIN)
        else:
            row = tokens.row(arm.format, prompt, trace)
        if isinstance(row, Skip):
            arm.skips.append(row)
        else:
            arm.rows.append(([key], row))
            if arm.format.one_per_prompt:
                stands_for[prompt.id] = arm.rows[-1][0]
        context.emit(Progressed(section.name, done, len(ids), "rows", arm=section.name))
    return arm


def _tag_ids(arm: ArmRows, tokenizer: StudentTokenizer) -> tuple[int, ...]:
    """The think tags that are single tokens of the student: a base that never thought has never trained them."""
    if not arm.format.thinks:
        return ()
    ids = (tokenizer.token_id(tag) for tag in (OURS.opening, OURS.closing))
    return tuple(i for i in ids if i is not None)


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


def _write(
    context: StageContext, arm: ArmRows, rows: list[TokenizedRow], folder: ModelFolder, tokenizer: StudentTokenizer
) -> ArmDataset:
    """Write the dataset artifact of one arm and say what later stages need of it."""
    import pyarrow.parquet as parquet

    lengths = sorted(len(row.input_ids) for row in rows)
    facts = DatasetFacts(
        arm=arm.section.name,
        format=f"{arm.format.name}@{arm.format.version}",
        thinks=arm.format.thinks,
        rewrite=arm_rewrite(context.recipe, arm.section),
        rows=len(rows),
        trained_tokens=sum(r.trained_tokens for r in rows),
        tokens=sum(lengths),
        longest=lengths[-1],
        median_tokens=lengths[len(lengths) // 2],
        stop_token_id=rows[0].input_ids[-1],
        tag_token_ids=_tag_ids(arm, tokenizer),
        left_out=_left_out(arm.skips),
    )
    options = {
        "format": arm.section.parts[0].format,
        **arm.section.parts[0].options,
        "max_tokens": context.recipe.student.max_tokens if context.recipe.student else 0,
        "rows": [row.row_id for row in rows],
    }
    digest = context.workspace.artifact_digest("dataset", VERSION, options, [folder.digest()])

    def build(staging: Path) -> None:
        parquet.write_table(rows_table(rows), staging / "rows.parquet", compression="zstd")
        (staging / FACTS_FILE).write_bytes(facts.to_bytes())
        lines = (json.dumps(asdict(skip), ensure_ascii=True) + "\n" for skip in arm.skips)
        (staging / "left_out.jsonl").write_text("".join(lines))

    emit = stamped(context.emit, arm=arm.section.name)
    context.make(("dataset", digest, arm.section.name), facts.to_json(), build, emit=emit)
    context.store.add_lineage(digest, [(row.row_id, row.trace_id) for row in rows])
    return ArmDataset(digest, facts)


def rows_table(rows: Sequence[TokenizedRow]) -> pa.Table:
    """The dataset table that trainers read (columns in `trainers.base.TrainingJob`)."""
    import pyarrow as pa

    return pa.table(
        {
            "row_id": pa.array([r.row_id for r in rows], pa.string()),
            "prompt_id": pa.array([r.prompt_id for r in rows], pa.string()),
            "trace_id": pa.array([r.trace_id for r in rows], pa.string()),
            "input_ids": pa.array([r.input_ids for r in rows], pa.list_(pa.int32())),
            "weights": pa.array([r.weights for r in rows], pa.list_(pa.float32())),
            "role": pa.array([1] * len(rows), pa.int8()),
        }
    )
