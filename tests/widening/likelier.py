"""Whether the right answer is likelier than another one: an example of a task by likelihood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from localdistill.core.records import Continuation, Prompt, Reply, Request
from localdistill.core.samples import TaskSample
from localdistill.tasks.base import Given, Judge, Scored
from localdistill.tasks.items import FileTask


class LikelierTask(FileTask):
    """The `likelier` task."""

    name = "likelier"
    grader = ""
    is_guard = False
    layout = "prompts"
    metrics: ClassVar[Mapping[str, str]] = {"margin": "Nats by which the right answer is the likelier one."}

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """One item."""
        row = {"messages": [{"role": "user", "content": "1 + 1?"}], "reference": "2"}
        return (TaskSample([row], ["1 + 1?"], (-1.0, -2.0), (-2.0, -1.0)),)

    def requests(self, prompt: Prompt, given: Given) -> Sequence[Request]:
        """The right answer and a wrong one."""
        ends = Continuation(str(prompt.reference)), Continuation("many of them")
        return [Request("", prompt.messages, thinks=given.thinks, continuations=ends)]

    def score(self, prompt: Prompt, replies: Sequence[Reply], judge: Judge) -> Scored:
        """1 where the right one is the likelier."""
        if not replies[0].continuations:
            return Scored(0.0, undecided=replies[0].error or "nothing was scored")
        right, other = (scores.total for scores in replies[0].continuations)
        return Scored(float(right > other), metrics={"margin": right - other})
