"""MathIF: mathematics with one to three instructions each (arXiv 2505.14810): whether a model that learned to reason
still obeys. The file is the user's own copy, one of fifteen.

The score is hard accuracy, every instruction kept by the answer behind the thinking; the grader's metrics give how many
are kept of how many. Whether the result is right is another question, for `math`.
"""

from __future__ import annotations

from collections.abc import Sequence

from localdistill.core.samples import TaskSample
from localdistill.tasks.items import FileTask


class MathIfTask(FileTask):
    """The `mathif` task."""

    name = "mathif"
    grader = "instructions"
    is_guard = True
    layout = "ifeval"

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """Rows of a file, and how their items are scored."""
        row = {"id": "gsm8k-single-1", "question": "1 + 1?", "answer": "2", "constraint_desc": ["Use no comma."],
               "constraint_name": ["punctuation:no_comma"], "constraint_args": [None]}
        asked = "1 + 1? Let's think step by step and output the final answer within \\boxed{}. Use no comma."
        return (TaskSample([row], [asked], "It is \\boxed{2}.", "So, it is \\boxed{2}."),)
