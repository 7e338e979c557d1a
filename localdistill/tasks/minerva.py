r"""Minerva Math: problems of physics, chemistry and mathematics courses with answers of every kind (arXiv 2206.14858),
graded by math-verify against what their solution puts into `\boxed{}`. The course is the category. The file is the
user's own copy."""

from __future__ import annotations

from collections.abc import Sequence

from localdistill.core.records import Prompt
from localdistill.core.samples import TaskSample
from localdistill.tasks.rows import ItemRow, RowTask
from localdistill.texts.boxed import boxed_in


class MinervaTask(RowTask):
    """The `minerva` task."""

    name = "minerva"
    grader = "math"
    is_guard = False
    ask = "Put the final answer into \\boxed{}, without its unit."

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """Rows of a file, and how their items are scored."""
        row = {"problem": "How far in 3 s?", "solution": "With $v=2$: \\boxed{6} m.", "type": "Motion (1.1)", "idx": 0}
        return (
            TaskSample([row], ["How far in 3 s?"], "It is \\boxed{6}.", "It is \\boxed{5}."),
            TaskSample([row | {"solution": "6"}], [], "", "", refused="boxes no answer"),
        )

    def item(self, row: ItemRow) -> Prompt:
        """The problem, and what its solution boxes last."""
        solution = row.text("solution")
        answer = boxed_in(solution)
        if answer is None:
            raise row.error("the solution boxes no answer")
        return row.prompt(row.text("problem", "question"), answer, solution, row.maybe("type"))
