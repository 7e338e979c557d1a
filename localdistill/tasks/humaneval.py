"""HumanEval: functions to complete, graded by their tests in the jail; one greedy answer, so the score is pass@1. The
file is the user's own copy (`HumanEval.jsonl.gz`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from localdistill.core.records import Message, Prompt, Request
from localdistill.core.samples import TaskSample
from localdistill.tasks.base import Given
from localdistill.tasks.items import FileTask

_ASK = "Complete this Python function. Answer with the whole function in one ```python block.\n\n```python\n{head}\n```"


class HumanEvalTask(FileTask):
    """The `humaneval` task."""

    name = "humaneval"
    grader = "code"
    is_guard = False

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """Rows of a file, and how their items are scored."""
        head = 'def twice(n):\n    """ Two times n. """\n'
        row = {"task_id": "T/0", "prompt": head, "canonical_solution": "    return 2 * n\n", "entry_point": "twice",
               "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(0) == 0\n"}
        return (TaskSample([row], [head], "    return n + n\n",
                           "```python\ndef twice(n):\n    return 4\n```"),)

    def requests(self, prompt: Prompt, given: Given) -> Sequence[Request]:
        """The item in the task's words, once, greedily."""
        asked = replace(prompt, messages=(Message("user", _ASK.format(head=prompt.question.rstrip())),))
        return super().requests(asked, given)
