"""The pantry stories that ship with localdistill: held-out arithmetic stories with integer answers."""

from __future__ import annotations

from collections.abc import Sequence

from localdistill.core.options import FileName
from localdistill.core.records import Prompt
from localdistill.core.samples import TaskSample
from localdistill.tasks.items import FileTask, ItemSource


class PantryTask(FileTask):
    """The `pantry` task."""

    name = "pantry"
    is_published = False
    grader = "exact"
    is_guard = False
    layout = "prompts"

    class Options(FileTask.Options):
        """Options of `pantry`."""

        path: FileName = "shipped:pantry/eval.jsonl"
        """The file of stories; the default is the one that ships."""

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """Rows of a file, and how their items are scored."""
        rows = [{"messages": [{"role": "user", "content": f"{n} + 1 jars?"}], "reference": str(n + 1)} for n in (1, 2)]
        return (TaskSample(rows, ["1 + 1 jars?", "2 + 1 jars?"], "There are 2 jars.", "There are 3 jars."),)

    def __init__(self, options: FileTask.Options | None = None, source: ItemSource | None = None) -> None:
        super().__init__(options or self.Options(), source)

    def category(self, prompt: Prompt) -> str:
        """How many steps the story has."""
        return str(prompt.metadata.get("steps", ""))
