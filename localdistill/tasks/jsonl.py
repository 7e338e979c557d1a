"""Any importable file as a benchmark, with a grader of the user's choice."""

from __future__ import annotations

from collections.abc import Sequence

from localdistill.core.options import FileName, GraderChoice
from localdistill.core.samples import TaskSample
from localdistill.tasks.items import FileTask, ItemSource, chosen


class JsonlTask(FileTask):
    """The `jsonl` task."""

    name = "jsonl"
    is_published = False

    class Options(FileTask.Options):
        """Options of `jsonl`."""

        path: FileName
        """Path of the file of items, absolute or relative to the current folder, or `shipped:NAME`."""
        layout: str = ""
        """Name of the file's layout; empty finds it out from its first rows."""
        grader: GraderChoice = "exact"
        """The grader that judges the items: its name, or a table with `use` and its options."""
        is_guard: bool = False
        """Whether this task is outside the target, and must only not get worse."""

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """Rows of a file, and how their items are scored."""
        turn = {"role": "user", "content": "Who?"}
        constraints = {"constraints": [{"kind": "contains", "value": "eve"}]}
        return (
            TaskSample([{"messages": [turn], "reference": "Eve"}], ["Who?"], "Eve", "Adam"),
            TaskSample([{"messages": [turn], "metadata": constraints}], ["Who?"], "It was Eve.", "It was Adam.",
                       options={"grader": "instructions", "layout": "prompts", "is_guard": True}),
        )

    def __init__(self, options: Options, source: ItemSource | None = None) -> None:
        self.grader, self.grader_options = chosen(options.grader)
        self.is_guard = options.is_guard
        self.layout = options.layout
        super().__init__(options, source)
