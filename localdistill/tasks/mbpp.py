"""MBPP: small functions to write from one sentence and their tests, graded by these in the jail; one greedy answer, so
the score is pass@1. The file is the user's own copy (`sanitized-mbpp.json`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from localdistill.core.records import Message, Prompt, Request
from localdistill.core.samples import TaskSample
from localdistill.tasks.base import Given
from localdistill.tasks.items import FileTask

_ASK = "{asked}\n\nThese tests must pass:\n\n{tests}\n\nAnswer with one ```python block."


class MbppTask(FileTask):
    """The `mbpp` task."""

    name = "mbpp"
    grader = "code"
    is_guard = False

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """Rows of a file, and how their items are scored."""
        tests = ["assert twice(2) == 4", "assert twice(0) == 0"]
        row = {"task_id": 2, "prompt": "Write a function that doubles.", "code": "def twice(n):\n  return 2 * n",
               "test_imports": [], "test_list": tests}
        return (TaskSample([row], ["Write a function that doubles."],
                           "```python\ndef twice(n):\n    return n + n\n```", "def twice(n): return 4"),)

    def requests(self, prompt: Prompt, given: Given) -> Sequence[Request]:
        """The item in the task's words, once, greedily."""
        text = _ASK.format(asked=prompt.question.strip(), tests=_shown(prompt))
        return super().requests(replace(prompt, messages=(Message("user", text),)), given)


def _shown(item: Prompt) -> str:
    """The tests as they are written, one a line."""
    text = item.tests or ""
    try:
        tests = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return "\n".join(map(str, tests)) if isinstance(tests, list) else text
