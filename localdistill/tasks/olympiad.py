"""OlympiadBench: problems of olympiads in mathematics and physics (arXiv 2402.14008), graded by math-verify. Where a
row allows an error, a number within it is right too. The field is the category. The file is the user's own copy of a
part with text alone and final answers (`OE_TO_maths_en_COMP`)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from localdistill.core.records import Prompt, Reply
from localdistill.core.samples import TaskSample
from localdistill.tasks.base import Judge, Scored
from localdistill.tasks.rows import ItemRow, RowTask

_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


class OlympiadTask(RowTask):
    """The `olympiad` task."""

    name = "olympiad"
    grader = "math"
    is_guard = False
    metrics: Mapping[str, str] = {"within": "1 where only the error that the item allows made it right."}

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """Rows of a file, and how their items are scored."""
        row = {"id": 1, "subfield": "Algebra", "context": None, "question": "Solve $x^2=4$.", "error": None,
               "final_answer": ["2", "-2"], "is_multiple_answer": True, "unit": None}
        one = row | {"final_answer": ["$4.2$"], "is_multiple_answer": False, "unit": "%", "error": "1e-1",
                     "context": "A jar."}
        asked = "A jar.\n\nSolve $x^2=4$."
        return (
            TaskSample([row], ["Solve $x^2=4$."], "It is \\boxed{-2, 2}.", "It is \\boxed{2}."),
            TaskSample([one], [asked], "About \\boxed{4.25}.", "About \\boxed{4.4}."),
        )

    def item(self, row: ItemRow) -> Prompt:
        """The problem behind its context, with all its answers."""
        answers = row.get("final_answer")
        listed = [str(one) for one in (answers if isinstance(answers, list) else [answers]) if one is not None]
        if not listed:
            raise row.error("there is no 'final_answer'")
        question = "\n\n".join(filter(None, (row.maybe("context"), row.text("question"))))
        several = len(listed) > 1 or row.get("is_multiple_answer") is True
        return row.prompt(question, ", ".join(listed), category=row.maybe("subfield"), unit=row.maybe("unit"),
                          several=several, error=row.maybe("error"))

    def behind(self, prompt: Prompt) -> str:
        """Where the answer goes, in which unit, and whether there are several."""
        several, unit = prompt.metadata.get("several"), prompt.metadata.get("unit")
        what = "all answers, with commas between," if several else "the final answer"
        return f"Put {what} into \\boxed{{}}{f', in {unit} but without the unit' if unit else ''}."

    def score(self, prompt: Prompt, replies: Sequence[Reply], judge: Judge) -> Scored:
        """What the grader says; a number that is off by no more than the item allows is right."""
        scored, allowed = super().score(prompt, replies, judge), prompt.metadata.get("error")
        if scored.score or not allowed:
            return scored
        said, right = (_NUMBER.findall(text) for text in (scored.extracted, str(prompt.reference)))
        if len(said) == len(right) == 1 and abs(float(said[0]) - float(right[0])) <= float(str(allowed)) * (1 + 1e-9):
            return replace(scored, score=1.0, metrics={**scored.metrics, "within": 1.0}, undecided="")
        return scored
