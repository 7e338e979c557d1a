"""Commands on the store itself: compare it with the journals, make it again."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any

import typer

from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, WorkspaceOption, workspace_of

SHOW_EVERY_S = 2.0


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    store = typer.Typer(no_args_is_help=True, help="Compare the store with the journals, or make it again of them.")
    store.command("check", help="Read the whole store and every journal and compare them; exit code 1 when something "
                                "is missing or damaged.")(check)
    store.command("rebuild", help="Make the store again of what the journals hold, in a new file that then takes the "
                                  "old one's place; the old one is kept beside it.")(rebuild)
    app.add_typer(store, name="store")


def check(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Compare the store with the journals."""
    from localdistill import check_store

    found = check_store(workspace_of(workspace), progress(as_json))
    if as_json:
        output.data_json({**dataclasses.asdict(found), "is_whole": found.is_whole})
    else:
        output.table(
            ["what", "in journals", "in the store", "missing", "different", "in no journal"],
            [(one.kind, f"{one.journalled:,}", f"{one.stored:,}", f"{one.missing:,}", f"{one.different:,}",
              f"{one.only_stored:,}") for one in found.kinds],
        )  # fmt: skip
        for problem in found.problems:
            output.talk(problem)
        if found.damaged_lines:
            output.talk(f"{found.damaged_lines:,} lines of the journals are damaged")
        for file, count in found.lost.items():
            output.talk(f"{count:,} prompts and traces are gone that were imported from {file} without a copy\n"
                        f"  localdistill import {file} brings them back")
        output.talk("the store holds what the journals hold" if found.is_whole else
                    "the store and the journals differ\n  try: localdistill store rebuild")
    sys.exit(0 if found.is_whole else 1)


def rebuild(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Make the store again."""
    from localdistill import rebuild_store

    made = rebuild_store(workspace_of(workspace), progress(as_json))
    if as_json:
        output.data_json({**dataclasses.asdict(made), "aside": made.aside and str(made.aside)})
        return
    output.talk(f"the store was made again: {made.prompts:,} prompts, {made.traces:,} traces")
    if made.carried:
        output.talk(f"{made.carried:,} of them are in no journal and were taken over from the old store")
    if made.caught.damaged:
        output.talk(f"{made.caught.damaged:,} lines of the journals are damaged; what they held is not in it")
    for problem in made.caught.unread:
        output.talk(problem)
    if made.aside is not None:
        output.talk(f"the old one is {made.aside.name}; remove it when you do not need it any more")


def progress(as_json: bool) -> Callable[[Any], None]:
    """Says now and then how far it is."""
    shown_at = time.monotonic()

    def show(event: Any) -> None:
        nonlocal shown_at
        if not as_json and time.monotonic() - shown_at > SHOW_EVERY_S:
            shown_at = time.monotonic()
            output.talk(f"{event.label}: {event.done:,} {event.unit}")

    return show
