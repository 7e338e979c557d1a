"""GSM8K: school mathematics in words, graded by the number. The file is the user's own copy (`test.jsonl`)."""

from __future__ import annotations

from localdistill.tasks.items import FileTask


class Gsm8kTask(FileTask):
    """The `gsm8k` task."""

    name = "gsm8k"
    grader = "math"
    is_guard = False
    layout = "gsm8k"
