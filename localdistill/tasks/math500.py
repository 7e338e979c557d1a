"""MATH-500: competition mathematics, graded by math-verify. The file is the user's own copy (`test.jsonl`)."""

from __future__ import annotations

from collections.abc import Sequence

from localdistill.core.samples import TaskSample
from localdistill.tasks.items import FileTask


class Math500Task(FileTask):
    """The `math500` task."""

    name = "math500"
    grader = "math"
    is_guard = False
    layout = "math500"

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """Rows of a file, and how their items are scored."""
        rows = [{"problem": f"Half of {n}?", "solution": "", "answer": f"\\frac{{{n}}}{{2}}"} for n in (1, 3)]
        return (TaskSample(rows, ["Half of 1?", "Half of 3?"], "It is \\boxed{0.5}.", "It is \\boxed{2}."),)
