"""The contract of tasks: prompts and a grader that make a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from localdistill.core.options import Options
from localdistill.core.records import Prompt
from localdistill.core.samples import TaskSample


class Task(Protocol):
    """A benchmark. Built as `Member(options, source)` with the `items.ItemSource` that its items come from."""

    Options: ClassVar[type[Options]]
    name: ClassVar[str]
    grader: ClassVar[str]
    """Name of the grader that judges its items."""
    is_guard: ClassVar[bool]
    """True for a task outside the target that must not get worse."""

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """Rows of a file, and how their items are scored."""

    def prompts(self) -> Sequence[Prompt]:
        """The items in a fixed order."""

    def category(self, prompt: Prompt) -> str:
        """The kind of item that `prompt` is, within this task; empty where it has no kinds. Scores are told by it."""
