"""The pantry stories that ship with localdistill: held-out arithmetic stories with integer answers."""

from __future__ import annotations

from localdistill.core.options import FileName
from localdistill.core.records import Prompt
from localdistill.tasks.items import FileTask, ReadPrompts


class PantryTask(FileTask):
    """The `pantry` task."""

    name = "pantry"
    grader = "exact"
    is_guard = False
    layout = "prompts"

    class Options(FileTask.Options):
        """Options of `pantry`."""

        path: FileName = "shipped:pantry/eval.jsonl"
        """The file of stories; the default is the one that ships."""

    def __init__(self, options: FileTask.Options | None = None, read: ReadPrompts | None = None) -> None:
        super().__init__(options or self.Options(), read)

    def category(self, prompt: Prompt) -> str:
        """How many steps the story has."""
        return str(prompt.metadata.get("steps", ""))
