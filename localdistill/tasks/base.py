"""The contract of tasks: items, how they are asked, and how the replies to one are scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from localdistill.core.options import Options
from localdistill.core.records import Fact, Prompt, Reply, Request
from localdistill.core.samples import TaskSample

Judge = Callable[[Prompt, Reply], Fact]


@dataclass(frozen=True)
class Given:
    """What every contestant is given alike: most new tokens of a reply; whether it thinks (None: by its template)."""
    max_tokens: int
    thinks: bool | None


@dataclass(frozen=True)
class Scored:
    """How the replies to one item were scored: 0..1, and 1 is right; `extracted` is what was taken for the answer."""
    score: float
    extracted: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    undecided: str = ""
    """Why nobody could decide; the item counts as wrong, and that is said."""


class Task(Protocol):
    """A benchmark. Built as `Member(options, source)` with the `items.ItemSource` that its items come from."""

    Options: ClassVar[type[Options]]
    name: str
    version: ClassVar[int]
    """Raised when a score could change: kept answers then no longer count."""
    grader: str
    grader_options: Mapping[str, object]
    """Who judges its replies, empty for a `rule` alone. An engine that the task's options name is handed on."""
    rule: str
    """What the score goes by, in a few words, where that is not what the grader says."""
    metrics: Mapping[str, str]
    """Name of each metric and what it means, with its unit, beside those of its grader."""
    is_guard: ClassVar[bool]
    """True for a task outside the target that must not get worse."""
    is_published: ClassVar[bool]
    """Its items stand in the open: a teacher, or the student's base, may have been trained on them."""

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """Rows of a file, and how their items are scored."""

    def prompts(self) -> Sequence[Prompt]:
        """The items in a fixed order."""

    def category(self, prompt: Prompt) -> str:
        """The kind of item that `prompt` is; empty where it has no kinds. Scores are told by it."""

    def requests(self, prompt: Prompt, given: Given) -> Sequence[Request]:
        """What is asked about one item, at least one request; ids are unique within the item."""

    def score(self, prompt: Prompt, replies: Sequence[Reply], judge: Judge) -> Scored:
        """Of an item by the replies to its requests, in their order, errors too; `judge`: what the grader says."""
