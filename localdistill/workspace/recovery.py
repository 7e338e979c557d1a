"""Journal recovery: the store is opened with all that the journals of all runs hold, and what is missing all the same
is said, with the command that brings it back."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from localdistill.core.errors import StoreReadOnly
from localdistill.core.events import Emit, Noted, Warned
from localdistill.safety import journal
from localdistill.spending.entries import Reserved
from localdistill.spending.reading import read_ledger
from localdistill.store import CatchUp, Lack, Store
from localdistill.store.session import WAIT_S
from localdistill.workspace.folder import FORGETTING, KEPT, Workspace
from localdistill.workspace.imports import Unfinished, unfinished
from localdistill.workspace.run_folder import RUN_JOURNAL, RunFolder, list_runs

MOST_NAMED = 3
"""Runs that a hint names."""


@dataclass(frozen=True)
class Missing:
    """Something that the store should hold and does not."""

    text: str
    hint: str
    """What brings it back."""


def take_in(workspace: Workspace, store: Store, emit: Emit) -> None:
    """Take in what all journals hold and `store` does not, and say what was mended and what cannot be. Where nobody may
    write, nothing is taken in: `missing_in` says so."""
    try:
        caught = store.catch_up(workspace.journals())
    except StoreReadOnly:
        if not store.path.exists():
            raise
        return
    for event in _told(caught):
        emit(event)
    if caught.set_aside or caught.healed or caught.healed_others:
        for one in _uncopied(store):
            emit(Warned(one.text, one.hint))


def _told(caught: CatchUp) -> Iterator[Noted | Warned]:
    """What a catch-up did, for people."""
    for path in caught.set_aside:
        yield Warned(f"the store's newest changes could not be read; they were set aside as {path.name}",
                     "what the journals hold of them is back; `localdistill store check` compares everything")
    if caught.healed or caught.healed_others:
        others = f" and {caught.healed_others:,} other entries" if caught.healed_others else ""
        yield Warned(f"the store had lost {caught.healed} replies{others}; they are back from the journals")
    if caught.rows > caught.healed:
        yield Noted(f"{caught.rows - caught.healed} replies that interrupted runs had left in their journals were "
                    "taken in")
    if caught.damaged:
        yield Warned(f"{caught.damaged} lines of the journals are damaged or gone, and were passed over")
    for problem in caught.unread:
        yield Warned(f"a journal cannot be read, and what it holds may be asked again: {problem}",
                     "let it be read, and resume")


def open_store(workspace: Workspace, wait_s: float = WAIT_S) -> Store:
    """The store of `workspace`, which is not made when there is nothing to hold. The errors of `Store`."""
    store = Store(workspace.store_path, wait_s)
    take_in(workspace, store, workspace.emit)
    return store


def missing_in(workspace: Workspace, store: Store) -> list[Missing]:
    """What `store` should hold and does not; looked for in what it knows by itself and in the sizes of journals."""
    found = [_unfinished(one) for one in unfinished(workspace)]
    if (workspace.root / FORGETTING).exists():
        found.append(Missing("something was being forgotten when that was ended: copies of it are still here",
                             "localdistill forget goes on with it"))
    if not store.path.exists():
        return found
    found += [_lost(lack) for lack in store.lacking(workspace.journals())]
    found += _uncopied(store)
    if orphans := store.without_prompt():
        found.append(missing_prompts(workspace, orphans, store.counts().traces))
    return found


def lost_in_journals(workspace: Workspace) -> dict[Path, str]:
    """The journals of the workspace that do not hold what the store has read in them, each with what is wrong. Changes
    nothing: a store of an older version misses nothing. StoreError when it cannot be read."""
    try:
        lost = Store(workspace.store_path).lost_in_journals()
    except StoreReadOnly:
        return {}
    return {workspace.root / key: why for key, why in lost.items()}


def lost_batches(workspace: Workspace, run: RunFolder) -> list[Reserved]:
    """The batches that a run handed in and whose file is gone although its ledger does not have their end: nothing
    fetches what comes of them. Of a run that lives none: it knows them by itself."""
    if run.is_alive():
        return []
    under_way = read_ledger(run.calls).entries.batches.values()
    return [one for one in under_way if not os.path.lexists(workspace.batches / f"{one.batch}.json")]


def _unfinished(one: Unfinished) -> Missing:
    return Missing(f"the import of {one.file} was ended after {one.rows:,} rows, which are stored",
                   f"localdistill import {one.file} takes in the rest and stores nothing twice; to leave it at that, "
                   f"delete {one.note}")


def _uncopied(store: Store) -> list[Missing]:
    """What was imported without a copy and is gone."""
    return [Missing(f"{count:,} prompts and traces are gone that were imported from {file} without a copy",
                    f"localdistill import {file} brings them back") for file, count in store.lost_uncopied().items()]


def _lost(lack: Lack) -> Missing:
    if lack.path.name != RUN_JOURNAL or lack.path.parents[2].name == KEPT:
        return Missing(f"{'/'.join(lack.path.parts[-2:])}: {lack}",
                       "`localdistill store check` says what is in the store all the same")
    run = lack.path.parent.name
    if lack.gone:
        return Missing(f"{run}: {lack}", f"localdistill resume {run} asks for what it held and the store does not")
    if lack.error or lack.untaken:
        return Missing(f"{run}: {lack}", "let the store and the journal be read and written, then look again")
    return Missing(f"{run}: {lack}", f"what they held is lost; localdistill resume {run} asks for what has no answer")


def missing_prompts(workspace: Workspace, orphans: Mapping[str, str], total: int) -> Missing:
    """What to say of traces without a prompt (see `Store.without_prompt`) among `total`."""
    text = f"{len(orphans):,} of {total:,} traces are here without their prompt"
    imported = "localdistill import FILE with the file of their questions brings them back"
    runs = runs_of(workspace, orphans)
    if not runs:
        return Missing(text, imported)
    named = "; ".join(f"localdistill resume {run}" for run in runs[:MOST_NAMED])
    more = f" (and {len(runs) - MOST_NAMED} more runs)" if len(runs) > MOST_NAMED else ""
    return Missing(text, f"{named}{more}: collecting stores the prompts again and asks nothing that is answered; for "
                         f"prompts that are in no recipe's files any more, {imported}")


def runs_of(workspace: Workspace, orphans: Mapping[str, str]) -> list[str]:
    """The runs whose prompts are those of `orphans`: as few as there need be, the newest first."""
    left, found = set(orphans.values()), list[str]()
    for run in reversed(list_runs(workspace.runs)):
        if not left:
            break
        if own := left.intersection(_prompts_of(run, orphans)):
            found.append(run.id)
            left -= own
    return found


def _prompts_of(run: RunFolder, orphans: Mapping[str, str]) -> Iterator[str]:
    """Ids of the prompts of those `orphans` that the run collected, or asked for before it was interrupted."""
    collected: Collection[str] = run.ids("collect")
    yield from (orphans[i] for i in collected if i in orphans)
    if collected:
        return
    for record, _ in journal.read(run.journal):
        trace = record.get("trace")
        if isinstance(trace, dict) and isinstance(trace.get("id"), str) and trace["id"] in orphans:
            yield orphans[trace["id"]]
