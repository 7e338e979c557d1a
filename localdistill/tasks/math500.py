"""MATH-500: competition mathematics, graded by math-verify. The file is the user's own copy (`test.jsonl`)."""

from __future__ import annotations

from localdistill.options import FileName
from localdistill.tasks.items import FileTask, ItemOptions, ReadPrompts


class Math500Task(FileTask):
    """The `math500` task."""

    name = "math500"
    grader = "math"
    is_guard = False

    class Options(ItemOptions):
        """Options of `math500`."""

        path: FileName
        """Path of MATH-500's `test.jsonl`, absolute or relative to the current folder."""

    def __init__(self, options: Options, read: ReadPrompts | None = None) -> None:
        self.options = options
        super().__init__(self.options.path, "math500", self.options, read)
