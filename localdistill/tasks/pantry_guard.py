"""The pantry guard that ships with localdistill: short instructions, outside what the arms train for."""

from __future__ import annotations

from localdistill.options import FileName
from localdistill.tasks.items import FileTask, ItemOptions, ReadPrompts


class PantryGuardTask(FileTask):
    """The `pantry_guard` task."""

    name = "pantry_guard"
    grader = "instructions"
    is_guard = True

    class Options(ItemOptions):
        """Options of `pantry_guard`."""

        path: FileName = "shipped:pantry/guard.jsonl"
        """The file of instructions; the default is the one that ships."""

    def __init__(self, options: Options | None = None, read: ReadPrompts | None = None) -> None:
        self.options = options or self.Options()
        super().__init__(self.options.path, "prompts", self.options, read)
