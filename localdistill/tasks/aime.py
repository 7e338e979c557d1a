"""AIME, and lists like it (AMC): competition problems whose answer is one number, graded by math-verify. A list has a
few dozen items, so that one sample of each says little. The file is the user's own copy of one year."""

from __future__ import annotations

from collections.abc import Sequence

from localdistill.core.records import Prompt
from localdistill.core.samples import TaskSample
from localdistill.tasks.rows import ItemRow, RowTask


class AimeTask(RowTask):
    """The `aime` task."""

    name = "aime"
    grader = "math"
    is_guard = False
    ask = "Put the final answer into \\boxed{}."

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """Rows of a file, and how their items are scored: two lists name their columns in two ways."""
        return (
            TaskSample([{"id": "1", "problem": "What is 9 squared?", "expected_answer": "081"}], ["What is 9 squared?"],
                       "It is \\boxed{81}.", "It is \\boxed{18}."),
            TaskSample([{"Question": "What is 9 squared?", "Answer": 81}], ["What is 9 squared?"], "\\boxed{081}",
                       "I do not know."),
        )

    def item(self, row: ItemRow) -> Prompt:
        """The problem and its number."""
        return row.prompt(row.text("problem", "question"), row.text("expected_answer", "answer").strip(),
                          row.maybe("reference_solution", "solution") or None)
