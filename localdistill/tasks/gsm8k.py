"""GSM8K: school mathematics in words, graded by the number. The file is the user's own copy (`test.jsonl`)."""

from __future__ import annotations

from localdistill.options import FileName
from localdistill.tasks.items import FileTask, ItemOptions, ReadPrompts


class Gsm8kTask(FileTask):
    """The `gsm8k` task."""

    name = "gsm8k"
    grader = "math"
    is_guard = False

    class Options(ItemOptions):
        """Options of `gsm8k`."""

        path: FileName
        """Path of GSM8K's `test.jsonl`, absolute or relative to the current folder."""

    def __init__(self, options: Options, read: ReadPrompts | None = None) -> None:
        self.options = options
        super().__init__(self.options.path, "gsm8k", self.options, read)
