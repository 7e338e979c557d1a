"""The queue of this machine's devices: who trains, who waits, and runs that begin when they are free."""

from __future__ import annotations

import dataclasses
import time
from typing import Annotated

import typer

from localdistill.cli import output
from localdistill.cli.arguments import (
    AcceptTermsOption,
    JsonOption,
    MaxUsdOption,
    NotifyOption,
    OnBatteryOption,
    RecipeArgument,
    SeedsOption,
    SetOption,
    WorkspaceOption,
    workspace_of,
)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    queue = typer.Typer(invoke_without_command=True, help=(
        "List who computes on this machine's CPU and GPUs, and who waits: two trainings never share a device, and on a "
        "GPU evaluations and local teachers take their turn too. `queue add` starts a run that waits."))
    queue.callback()(list_queue)
    queue.command("add", help="Start a run that begins once its device is free, and return at once.")(add)
    queue.command("remove", help="Cancel a run that waits; it can be resumed.")(leave)
    app.add_typer(queue, name="queue")


def list_queue(context: typer.Context, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Of all workspaces of this user."""
    if context.invoked_subcommand:
        return
    from localdistill import device_queue

    found = device_queue()
    if as_json:
        output.data_json([{**dataclasses.asdict(one.use), "waits": one.waits} for one in found])
        return
    if not found:
        output.talk("nobody computes here, and nobody waits")
        return
    output.table(["device", "state", "what", "who", "since", "workspace"],
                 [(one.use.device, "waits" if one.waits else "works", one.use.what, one.use.who,
                   time.strftime("%H:%M", time.localtime(one.use.since)), one.use.where) for one in found])


def add(
    recipe: RecipeArgument,
    settings: SetOption = None,
    seeds: SeedsOption = None,
    max_usd: MaxUsdOption = None,
    accept_terms: AcceptTermsOption = None,
    on_battery: OnBatteryOption = None,
    notify: NotifyOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a run that waits."""
    from localdistill.cli.running import start_and_watch

    start_and_watch(recipe, settings, seeds, max_usd, accept_terms, workspace, "", True, as_json, on_battery, None,
                    notify, queued=True)


def leave(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The id of a run that waits.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a run out of the queue."""
    from localdistill import leave_queue

    left = leave_queue(workspace_of(workspace, may_be_new=True), run_id)
    if as_json:
        output.data_json(dataclasses.asdict(left.use))
    else:
        output.talk(f"{left.use.who} waits no more for {left.use.device}; localdistill resume {left.use.who} starts it")
