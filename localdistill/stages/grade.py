"""grade: every grader of the recipe judges every trace that it has not judged yet."""

from __future__ import annotations

import time
from collections import Counter

from localdistill.core.events import Counted
from localdistill.core.records import Grade
from localdistill.graders import GRADERS
from localdistill.graders.base import Grader
from localdistill.graders.batch import grade_many
from localdistill.recipe import Member
from localdistill.stages.context import StageContext
from localdistill.stages.outputs import GradeOutput, write_output

WRITE_EVERY_S = 1.0


def run(context: StageContext) -> None:
    """Store the missing grades of the collected traces."""
    ids = context.run.ids("collect")
    for member in context.recipe.graders:
        _grade_all(context, member, ids)
    write_output(context.run, GradeOutput(tuple(m.use for m in context.recipe.graders)))


def _grade_all(context: StageContext, member: Member, ids: list[str]) -> None:
    grader: Grader = context.member(GRADERS, member)
    label = f"{grader.name}@{grader.version}"
    done = context.store.graded(ids, label)
    missing = [i for i in ids if i not in done]
    judged = (pair for pair in context.pairs(missing) if grader.applies(pair[0]))
    verdicts, batch, written_at = Counter[str](), list[Grade](), time.monotonic()
    try:
        for grade in grade_many(grader, judged, context.emit, context.cancel, len(missing)):
            batch.append(grade)
            verdicts["right" if grade.score >= 1 else "wrong"] += 1
            if time.monotonic() - written_at > WRITE_EVERY_S:
                context.store.add_grades(batch)
                batch, written_at = [], time.monotonic()
    finally:
        context.store.add_grades(batch)
        grader.close()
    if verdicts:
        context.worked()
        context.emit(Counted(label, dict(verdicts)))
