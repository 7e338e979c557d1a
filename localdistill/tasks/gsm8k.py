"""GSM8K: school mathematics in words, graded by the number. The file is the user's own copy (`test.jsonl`)."""

from __future__ import annotations

from collections.abc import Sequence

from localdistill.core.samples import TaskSample
from localdistill.tasks.items import FileTask


class Gsm8kTask(FileTask):
    """The `gsm8k` task."""

    name = "gsm8k"
    grader = "math"
    is_guard = False
    layout = "gsm8k"

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """Rows of a file, and how their items are scored."""
        rows = [{"question": f"{n} + 999?", "answer": f"#### {n + 999:,}"} for n in (1, 2)]
        return (TaskSample(rows, ["1 + 999?", "2 + 999?"], "So it is 1000.", "So it is 999."),)
