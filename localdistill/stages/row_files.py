"""What a recipe takes from files, and the prompts that it takes from the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from localdistill.core.records import Prompt
from localdistill.interchange.columns import column_map
from localdistill.interchange.files import read_file
from localdistill.interchange.imported import Answer, Imported
from localdistill.modelfiles.shipped import resolve_path
from localdistill.recipe.trace_sets import FilesSection, PromptsSection
from localdistill.store import Store
from localdistill.store.forgetting import Names


def answers_not_barred(rows: Iterable[Imported], barred: Names) -> list[Answer]:
    """The answers of rows, without those that were forgotten, or whose prompt was."""
    return [answer for row in rows if not barred.bars(row.prompt) for answer in row.answers
            if not barred.bars(answer.trace)]


def prompts_of(section: PromptsSection, base: Path, store: Store | None) -> Iterator[Prompt]:
    """The prompts of a recipe: those of its files, then those of `store` that it takes."""
    yield from (item.prompt for item in read_section(section, base))
    if section.stored and store is not None and store.path.exists():
        yield from store.prompts(store.prompt_ids(section.stored))


def read_section(section: FilesSection, base: Path) -> Iterator[Imported]:
    """The rows of a section's files; relative paths start from `base`."""
    layout = None if section.layout == "auto" else section.layout
    columns = column_map(section.columns) if section.columns else None
    for name in section.files:
        for count, (_, item) in enumerate(read_file(resolve_path(name, base), layout, columns), start=1):
            yield item
            if count == section.limit:
                break
