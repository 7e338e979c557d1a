"""Looking at stored prompts: those with a stored answer or without, by source and text, page by page as traces are."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from localdistill.api.traces.paging import PagedView
from localdistill.store.prompt_rows import PromptRow, prompt_places, prompt_rows
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store


class PromptBrowser(PagedView[PromptRow]):
    """The prompts of a workspace that have a stored answer, or have none (`answered` None: both), come from `source`,
    hold the text `search`, and were made by an augmentation, or were not (`made` None: both), in stored order.
    `resolve` waits for the store."""

    def __init__(self, workspace: Workspace, answered: bool | None = None, source: str = "", search: str = "",
                 made: bool | None = None) -> None:
        self.answered, self.source, self.search, self.made = answered, source, search, made
        super().__init__(open_store(workspace).path)

    def resolve(self, grew: Callable[[], None] = lambda: None) -> None:
        """Find the prompts. Those found first can be looked at meanwhile; `grew` is called now and then."""
        if self._path.exists():
            for piece in prompt_places(self._reading, self.answered, self.source, self.search, self.made):
                if self._stopped.is_set():
                    break
                self._places.extend(array("q", piece))
                grew()
        self.complete = not self._stopped.is_set()
        grew()

    def _fetched(self, places: Sequence[int]) -> list[PromptRow]:
        return prompt_rows(self._reading, places)


def browse_prompts(workspace: Workspace, answered: bool | None = None, source: str = "", search: str = "",
                   made: bool | None = None) -> PromptBrowser:
    """A view of the workspace's prompts; what lies in journals of runs is taken in first."""
    return PromptBrowser(workspace, answered, source, search, made)


def list_prompts(workspace: Workspace, answered: bool | None = None, source: str = "", search: str = "",
                 limit: int = 20, made: bool | None = None) -> tuple[int, list[dict[str, Any]]]:
    """How many there are in such a view, and the first `limit` of them, JSON-ready."""
    browser = browse_prompts(workspace, answered, source, search, made)
    browser.resolve()
    rows = [asdict(row) for row in browser.page(0, limit)]
    return browser.count, [{name: value for name, value in row.items() if name != "seq"} for row in rows]
