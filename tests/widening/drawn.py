"""The share of four samples that are right: an example of a task with several samples of an item."""

from __future__ import annotations

from collections.abc import Sequence

from localdistill.core.records import Prompt, Request, Sampling
from localdistill.core.samples import TaskSample
from localdistill.tasks.base import Given
from localdistill.tasks.items import FileTask


class DrawnTask(FileTask):
    """The `drawn` task."""

    name = "drawn"
    grader = "exact"
    is_guard = False
    layout = "prompts"

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """One item."""
        row = {"messages": [{"role": "user", "content": "1 + 1?"}], "reference": "2"}
        return (TaskSample([row], ["1 + 1?"], "It is 2.", "It is 3."),)

    def requests(self, prompt: Prompt, given: Given) -> Sequence[Request]:
        """Four times, not greedily."""
        sampling = Sampling(max_tokens=given.max_tokens, temperature=1.0)
        return [Request(str(number), prompt.messages, sampling, number, given.thinks) for number in range(4)]
