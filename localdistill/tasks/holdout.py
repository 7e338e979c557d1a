"""The user's own prompts as a benchmark: those that the recipe set aside before anything was asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from localdistill.core.errors import InputError
from localdistill.core.options import GraderChoice
from localdistill.core.records import Prompt
from localdistill.core.samples import TaskSample
from localdistill.tasks.items import FileTask, ItemOptions, ItemSource, chosen


class HoldoutTask(FileTask):
    """The `holdout` task."""

    name = "holdout"
    is_published = False

    class Options(ItemOptions):
        """Options of `holdout`."""

        split: Literal["test", "dev"] = "test"
        """Which of the two sides that `prompts.holdout` sets aside: `test` for the final measurement, `dev` for
        decisions on the way."""
        grader: GraderChoice = "exact"
        """The grader that judges the items: its name, or a table with `use` and its options."""
        is_guard: bool = False
        """Whether this task is outside the target, and must only not get worse."""

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """Prompts that are set aside, and how they are scored."""
        rows = [{"messages": [{"role": "user", "content": f"{n} + 1?"}], "reference": str(n + 1)} for n in (1, 2)]
        return (TaskSample(rows, ["1 + 1?", "2 + 1?"], "It is 2.", "It is 3."),)

    def __init__(self, options: Options, source: ItemSource | None = None) -> None:
        self.grader, self.grader_options = chosen(options.grader)
        self.is_guard = options.is_guard
        super().__init__(options, source)

    def _items_of(self, source: ItemSource) -> Sequence[Prompt]:
        assert isinstance(self.options, self.Options)
        items = source.held_out(self.options.split)
        if not items:
            raise InputError(f"no prompts are set aside for '{self.options.split}'",
                             f"say how many: [prompts] holdout = {{ {self.options.split} = 0.1 }}")
        return items
