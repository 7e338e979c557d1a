"""The pantry guard that ships with localdistill: short instructions, outside what the arms train for."""

from __future__ import annotations

from collections.abc import Sequence

from localdistill.core.options import FileName
from localdistill.core.samples import TaskSample
from localdistill.tasks.items import FileTask, ItemSource


class PantryGuardTask(FileTask):
    """The `pantry_guard` task."""

    name = "pantry_guard"
    is_published = False
    grader = "instructions"
    is_guard = True
    layout = "prompts"

    class Options(FileTask.Options):
        """Options of `pantry_guard`."""

        path: FileName = "shipped:pantry/guard.jsonl"
        """The file of instructions; the default is the one that ships."""

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """Rows of a file, and how their items are scored."""
        row = {"messages": [{"role": "user", "content": "Say jar."}],
               "metadata": {"constraints": [{"kind": "exact", "value": "jar"}]}}
        return (TaskSample([row], ["Say jar."], "jar", "Jar!"),)

    def __init__(self, options: FileTask.Options | None = None, source: ItemSource | None = None) -> None:
        super().__init__(options or self.Options(), source)
