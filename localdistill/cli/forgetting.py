"""The command that forgets on purpose: a prompt, or all of one source, with all that the workspace keeps of it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, WorkspaceOption, workspace_of
from localdistill.cli.stores import progress

if TYPE_CHECKING:
    from localdistill import Forgetting

_COMMAND = "forget"


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(_COMMAND, help="Remove a prompt, or all of a source, with its answers, from the store, the journals "
                               "and every copy in this workspace; names what was trained or measured on it.")(forget_it)


def forget_it(
    what: Annotated[str, typer.Argument(help="A prompt or an answer to it, by the beginning of its id; or a source, as "
                                             "imports name it. Without one: what was begun goes on.",
                                        show_default=False)] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go and what stays.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget on purpose."""
    from localdistill import UsageError, forget, plan_forgetting, unfinished_forgetting

    place = workspace_of(workspace)
    begun = unfinished_forgetting(place)
    if begun is not None and what:
        raise UsageError("something else is being forgotten, and was not finished",
                         "localdistill forget goes on with it")
    plan = begun or plan_forgetting(place, what)
    if not as_json:
        _tell(plan)
    if dry_run:
        if as_json:
            output.data_json(_as_json(plan))
        return
    if not yes and not output.confirm("forget it for good?"):
        return
    done = forget(place, plan, progress(as_json))
    if as_json:
        output.data_json(dataclasses.asdict(done))
        return
    output.talk(f"forgot {done.prompts:,} prompts and {done.traces:,} answers: {done.lines:,} lines of journals, "
                f"{done.datasets:,} datasets; the store was made again without them")
    for name in done.still_in:
        output.talk(f"words of it still stand in {name}: something else may say the same, or remove that file")


def _tell(plan: Forgetting) -> None:
    names = plan.names
    output.table(["what", "how many", "becomes"], [
        ("prompts", f"{len(names.prompts):,}", "removed"),
        ("answers, and what was made of them", f"{len(names.traces):,}", "removed"),
        ("replies of judges and others", f"{plan.replies:,}", "removed"),
        ("datasets made of it", f"{len(plan.datasets):,}", "removed"),
        ("older copies of the store", f"{len(plan.files):,}", "removed"),
        ("trained, exported or measured on it", f"{len(plan.made):,}", "stays, without its texts"),
    ])
    for text in plan.made:
        output.talk(f"stays: {text}")
    output.talk("lines of journals that cannot be read may hold some of it, and are removed too")
    for text in plan.stays:
        output.talk(f"cannot be removed: {text}")


def _as_json(plan: Forgetting) -> dict[str, object]:
    return {"prompts": plan.names.prompts, "traces": plan.names.traces, "replies": plan.replies,
            "datasets": plan.datasets, "made": plan.made, "files": [str(path) for path in plan.files],
            "stays": plan.stays}
