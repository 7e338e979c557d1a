"""The pantry stories that ship with localdistill: held-out arithmetic stories with integer answers."""

from __future__ import annotations

from localdistill.options import FileName
from localdistill.tasks.items import FileTask, ItemOptions, ReadPrompts


class PantryTask(FileTask):
    """The `pantry` task."""

    name = "pantry"
    grader = "exact"
    is_guard = False

    class Options(ItemOptions):
        """Options of `pantry`."""

        path: FileName = "shipped:pantry/eval.jsonl"
        """The file of stories; the default is the one that ships."""

    def __init__(self, options: Options | None = None, read: ReadPrompts | None = None) -> None:
        self.options = options or self.Options()
        super().__init__(self.options.path, "prompts", self.options, read)
