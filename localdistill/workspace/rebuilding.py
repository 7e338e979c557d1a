"""A store made again of all that the journals hold, in a new file beside the old one: to compare the two, or to put it
in the old one's place. The old one is kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from localdistill.core.errors import StoreError, UsageError
from localdistill.core.events import Cancel, Emit, Progressed, silent
from localdistill.safety.files import sync_folder
from localdistill.store import CatchUp, Store
from localdistill.store.comparing import KindCheck, compare
from localdistill.workspace.folder import Workspace
from localdistill.workspace.retiring import close_journals
from localdistill.workspace.run_folder import list_runs

_ENDINGS = ("", ".wal", ".offsets.json")


@dataclass(frozen=True)
class StoreCheck:
    """What a store holds beside what the journals hold."""

    kinds: tuple[KindCheck, ...]
    """Empty where the store could not be read."""
    damaged_lines: int
    """Lines of journals that cannot be read."""
    problems: tuple[str, ...] = ()
    """What could not be read, in words."""
    lost: Mapping[str, int] = field(default_factory=dict)
    """Prompts and traces that were imported without a copy and are gone, by file."""

    @property
    def is_whole(self) -> bool:
        """Nothing is missing, different or damaged, and all of it is in journals."""
        return not (self.problems or self.damaged_lines or self.lost) and not any(
            one.missing or one.different or one.only_stored for one in self.kinds)


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuilding did."""

    prompts: int
    traces: int
    aside: Path | None
    """Where the old store lies now; None when there was none."""
    caught: CatchUp
    carried: int
    """Prompts and traces that are in no journal and were taken over from the old store."""


def check_store(workspace: Workspace, emit: Emit = silent, cancel: Cancel | None = None) -> StoreCheck:
    """Read the whole store and all journals, and compare them. Changes nothing but takes in what is new. OutOfMemory
    where memory, and not the store, was the matter."""
    store = Store(workspace.store_path)
    if not store.path.exists() and not workspace.journals():
        return StoreCheck((), 0)
    with _made_again(workspace, emit, cancel) as (made, caught):
        problems = list(caught.unread)
        kinds, lost = tuple[KindCheck, ...](), made.lost_uncopied()
        try:
            store.catch_up(workspace.journals())
            kinds, lost = tuple(compare(made.sessions, store.sessions)), store.lost_uncopied()
        except StoreError as error:
            problems.append(error.message)
        return StoreCheck(kinds, caught.damaged, tuple(problems), lost)


def rebuild_store(workspace: Workspace, emit: Emit = silent, cancel: Cancel | None = None,
                  is_kept: bool = True) -> Rebuilt:
    """Make the store again and put it in place; the old one stays beside it unless it is not to be kept. UsageError
    while a run lives. What the old one holds and no journal does is taken over, where it can be read."""
    if living := [run.id for run in list_runs(workspace.runs) if run.is_alive()]:
        raise UsageError(f"run {living[0]} is running", f"let it end, or: localdistill cancel {living[0]}")
    close_journals(workspace)
    old = Store(workspace.store_path)
    if old.path.exists():
        with suppress(StoreError):
            old.cover()
    with _made_again(workspace, emit, cancel) as (made, caught):
        carried = _carry_over(old, made) if old.path.exists() else 0
        counts = made.counts()
        aside = _put_in_place(made.path, old.path, is_kept)
    return Rebuilt(counts.prompts, counts.traces, aside, caught, carried)


@contextmanager
def _made_again(workspace: Workspace, emit: Emit, cancel: Cancel | None) -> Iterator[tuple[Store, CatchUp]]:
    """A store of all that the journals hold, in a file of its own that is gone when the block ends."""
    path = workspace.store_path.with_name(f"{workspace.store_path.name}.rebuilding")
    _remove(path)
    made = Store(path, journal=Store(workspace.store_path).journal)
    try:
        yield made, made.catch_up(workspace.journals(), _ticking(emit, cancel or Cancel()))
    finally:
        _remove(path)


def _ticking(emit: Emit, cancel: Cancel) -> Callable[[int], None]:
    def tick(lines: int) -> None:
        cancel.check()
        emit(Progressed("reading the journals", lines, 0, "lines"))

    return tick


def _carry_over(old: Store, made: Store) -> int:
    """Take what was imported without a copy from the old store, as far as that can be read."""
    count = 0
    with suppress(StoreError):
        for file, ids in old.uncopied().items():
            mine = set(ids)
            with made.importing(file, is_copied=False) as into:
                count += into.add_prompts(prompt for prompt in old.prompts() if prompt.id in mine)
                count += into.add_traces(trace for trace in old.traces() if trace.id in mine)
    return count


def _put_in_place(new: Path, old: Path, is_kept: bool) -> Path | None:
    """Exchange the files. Whoever has the old one open has what it writes in a journal as well."""
    aside = None
    if old.exists():
        number = 1
        while (aside := old.with_name(f"{old.name}.before-{number}")).exists():
            number += 1
        for ending in _ENDINGS:
            with suppress(FileNotFoundError):
                os.replace(f"{old}{ending}", f"{aside}{ending}")
    for ending in _ENDINGS:
        with suppress(FileNotFoundError):
            os.replace(f"{new}{ending}", f"{old}{ending}")
    sync_folder(old.parent)
    if aside is not None and not is_kept:
        _remove(aside)
        return None
    return aside


def _remove(path: Path) -> None:
    for ending in _ENDINGS:
        path.with_name(path.name + ending).unlink(missing_ok=True)
