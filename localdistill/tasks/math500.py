"""MATH-500: competition mathematics, graded by math-verify. The file is the user's own copy (`test.jsonl`)."""

from __future__ import annotations

from localdistill.tasks.items import FileTask


class Math500Task(FileTask):
    """The `math500` task."""

    name = "math500"
    grader = "math"
    is_guard = False
    layout = "math500"
