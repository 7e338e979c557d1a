"""What the tasks share: which file, how many of its items, and how a reader of files reaches them.

Tasks do not know layouts: whoever builds one passes the function that reads prompts out of a file.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pydantic import Field

from localdistill.core.errors import InputError, UsageError
from localdistill.core.options import FileName, Options
from localdistill.core.records import Prompt
from localdistill.modelfiles.shipped import resolve_path

ReadPrompts = Callable[[Path, str | None], Iterable[Prompt]]
"""Reads the prompts of a file in a layout (None: find it out), for example `interchange.files.read_prompts`."""


class ItemOptions(Options):
    """Which items of a task are used."""

    limit: int = Field(default=0, ge=0)
    """How many items to use; 0 uses all. The same limit and seed always choose the same items."""
    seed: int = 0
    """Which items are chosen when `limit` is below their number."""


class FileTask:
    """Items out of one file, in the order of the file. A member says `name`, `grader`, `is_guard` and `layout`, and
    has a `path` among its options."""

    layout = ""
    """Layout of the file; empty finds it out."""

    class Options(ItemOptions):
        """Options of a benchmark whose file the user brings."""

        path: FileName
        """Path of the benchmark's own file (`test.jsonl`), absolute or relative to the recipe or current folder."""

    def __init__(self, options: Options, read: ReadPrompts | None = None) -> None:
        self.options = options
        self.read = read
        """May be set later, but before `prompts` is called."""
        self._items: Sequence[Prompt] | None = None

    def category(self, prompt: Prompt) -> str:
        """What the file says under `category`, if anything."""
        return str(prompt.metadata.get("category", ""))

    def prompts(self) -> Sequence[Prompt]:
        """The chosen items, read once. Raises InputError for a file that is missing, unreadable or empty."""
        if self._items is None:
            self._items = self._chosen()
        return self._items

    def _chosen(self) -> Sequence[Prompt]:
        if self.read is None:
            raise UsageError("this task was not told how to read files",
                             "build it with read=interchange.files.read_prompts")
        path = resolve_path(self.options.path, Path.cwd())
        items = list(self.read(path, self.layout or None))
        if not items:
            raise InputError(f"{path.name} holds no items", "give a file with at least one row")
        limit = self.options.limit
        if not 0 < limit < len(items):
            return items
        chosen = random.Random(self.options.seed).sample(range(len(items)), limit)
        return [items[index] for index in sorted(chosen)]
