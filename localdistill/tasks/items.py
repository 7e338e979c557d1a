"""What the tasks share: where items come from, how many of them, from which file, and how one is asked.

Tasks know neither layouts nor recipes: whoever builds one passes the source of its items.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import Field

from localdistill.core.errors import InputError, UsageError
from localdistill.core.options import FileName, Member, Options
from localdistill.core.records import Fact, Message, Prompt, Reply, Request, Sampling
from localdistill.hub.names import SCHEME
from localdistill.modelfiles.shipped import resolve_path
from localdistill.tasks.base import Given, Judge, Scored

ReadPrompts = Callable[[Path, str | None], Iterable[Prompt]]
"""Reads the prompts of a file in a layout (None: find it out), for example `interchange.files.read_prompts`."""
ReadRows = Callable[[Path], Iterable[tuple[int, Mapping[str, Any]]]]
"""Reads the rows of a file with their numbers, whatever they hold, for example `interchange.raw_rows.rows_of`."""


def _nothing_held_out(side: str) -> Sequence[Prompt]:
    return ()


def average(said: Sequence[Fact]) -> Scored:
    """The score of an item by what the grader says of its replies. What is undecided counts as wrong."""
    values = [float(fact.value) if isinstance(fact.value, int | float) else 0.0 for fact in said]
    names = dict.fromkeys(name for fact in said for name in fact.metrics)
    metrics = {name: fmean(fact.metrics[name] for fact in said if name in fact.metrics) for name in names}
    undecided = next((fact.reason or "no reason given" for fact in said if fact.value is None), "")
    return Scored(fmean(values), said[0].extracted, metrics, undecided)


@dataclass(frozen=True)
class ItemSource:
    """Where the items of tasks come from."""

    read: ReadPrompts
    rows: ReadRows
    held_out: Callable[[str], Sequence[Prompt]] = _nothing_held_out
    """The prompts that the recipe set aside for a side, `test` or `dev`."""


class ItemOptions(Options):
    """Which items of a task are used."""

    limit: int = Field(default=0, ge=0)
    """How many items to use; 0 uses all. The same limit and seed always choose the same items."""
    seed: int = 0
    """Which items are chosen when `limit` is below their number."""


def chosen(choice: str | Member) -> tuple[str, Mapping[str, object]]:
    """Name and options of a grader that a task's options choose."""
    return (choice, {}) if isinstance(choice, str) else (choice.use, choice.options)


class FileTask:
    """Items out of one file, in the order of the file, each asked once and judged by a grader. A member says `name`,
    `grader`, `is_guard` and `layout`, and has a `path` among its options."""

    version = 1
    grader: str
    grader_options: Mapping[str, object] = MappingProxyType({})
    rule = ""
    metrics: Mapping[str, str] = MappingProxyType({})
    is_guard: bool
    is_published: ClassVar[bool] = True
    layout = ""
    """Layout of the file; empty finds it out."""
    ask: ClassVar[str] = ""
    """What is said behind the question."""
    stop: ClassVar[tuple[str, ...]] = ()
    """Texts that end a reply."""

    class Options(ItemOptions):
        """Options of a benchmark whose file the user brings."""

        path: FileName
        """Path of the benchmark's own file (`test.jsonl`), absolute or relative to the recipe or current folder."""

    def __init__(self, options: ItemOptions, source: ItemSource | None = None) -> None:
        self.options = options
        self._source = source
        self._items: Sequence[Prompt] | None = None

    def category(self, prompt: Prompt) -> str:
        """What the file says under `category`, if anything."""
        return str(prompt.metadata.get("category", ""))

    def turns(self, prompt: Prompt) -> tuple[Message, ...]:
        """The conversation that asks an item: its own, with what the task says behind the question."""
        behind = self.behind(prompt)
        if not behind:
            return prompt.messages
        *before, last = prompt.messages
        return (*before, replace(last, content=f"{last.content.rstrip()}\n\n{behind}"))

    def behind(self, prompt: Prompt) -> str:
        """What is said behind the question of this item."""
        return self.ask

    def requests(self, prompt: Prompt, given: Given) -> Sequence[Request]:
        """The item, once, greedily."""
        sampling = Sampling(max_tokens=given.max_tokens, stop=self.stop)
        return [Request("", self.turns(prompt), sampling, 0, given.thinks)]

    def score(self, prompt: Prompt, replies: Sequence[Reply], judge: Judge) -> Scored:
        """What the grader says, on the average of the replies."""
        return average([judge(prompt, reply) for reply in replies])

    def prompts(self) -> Sequence[Prompt]:
        """The chosen items, read once. Raises InputError for a file that is missing, unreadable or empty."""
        if self._items is None:
            self._items = self._chosen()
        return self._items

    @property
    def source(self) -> ItemSource:
        """Where the items come from. UsageError where the task was not told."""
        if self._source is None:
            raise UsageError("this task was not told where its items come from",
                             "build it with source=ItemSource(interchange.files.read_prompts, "
                             "interchange.raw_rows.rows_of)")
        return self._source

    @property
    def path(self) -> Path:
        """The file of the items."""
        assert isinstance(self.options, FileTask.Options)
        return self.placed(self.options.path)

    def placed(self, name: str) -> Path:
        """Where a file is that an option names. InputError where it is in the hub alone."""
        if name.startswith(SCHEME):
            raise InputError(f"{name} is not on this machine", "localdistill prefetch RECIPE fetches it")
        return resolve_path(name, Path.cwd())

    def _chosen(self) -> Sequence[Prompt]:
        items = self._items_of(self.source)
        limit = self.options.limit
        if not 0 < limit < len(items):
            return items
        chosen = random.Random(self.options.seed).sample(range(len(items)), limit)
        return [items[index] for index in sorted(chosen)]

    def _items_of(self, source: ItemSource) -> Sequence[Prompt]:
        """All items there are."""
        return self.some(list(source.read(self.path, self.layout or None)))

    def some(self, items: Sequence[Prompt]) -> Sequence[Prompt]:
        """`items`; InputError where there are none."""
        if not items:
            raise InputError(f"{self.path.name} holds no items", "give a file with at least one row")
        return items
