"""Commands that start, watch, end and remove runs."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import typer

from localdistill import STAGES, size_text
from localdistill.cli import output, verifying
from localdistill.cli.arguments import (
    AcceptTermsOption,
    JsonOption,
    LivingRunArgument,
    MaxUsdOption,
    NotifyOption,
    OnBatteryOption,
    RecipeArgument,
    RunArgument,
    SeedsOption,
    SetOption,
    UnfinishedRunArgument,
    UntilOption,
    WorkspaceOption,
    accept_terms,
    read_recipe,
    workspace_of,
)

DetachOption = Annotated[bool, typer.Option("--detach", "-d", help="Start it and return at once.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(
        "run",
        help="Run a whole recipe in a process that outlives this terminal, and watch it. Ctrl-C asks it "
        "to stop at the next safe point, a second Ctrl-C stops it at once; both leave a run that resumes.",
    )(_stage_command(""))
    for stage in STAGES:
        app.command(stage.name, help=f"{stage.does} Runs the recipe up to this stage; what is done is skipped.")(
            _stage_command(stage.name)
        )
    app.command(
        "plan",
        help="Say what a recipe will do, before anything is spent: calls, tokens, money, memory, disk, "
        "and the smallest difference its evaluation can detect.",
    )(plan)
    app.command("attach", help="Watch a run. Ctrl-C leaves it running.")(attach)
    app.command("cancel", help="Ask a run to stop at its next safe point; asked again, it stops at once.")(cancel)
    app.command("resume", help="Continue a run that failed, was cancelled, paused at its cap, or died.")(resume)
    app.command("quarantine", help="Show the replies of a run that could not be read, with their first bytes.")(
        show_quarantine
    )
    runs = typer.Typer(invoke_without_command=True, help="List the runs of this workspace; `runs prune` frees disk.")
    runs.callback()(list_all)
    runs.command("prune", help="Remove artifacts and runs that nothing depends on.")(prune)
    runs.command("verify", help=verifying.HELP.format(what="a run and of the artifacts that it refers to"))(
        verifying.verify_one)
    app.add_typer(runs, name="runs")


def start_and_watch(
    name: str,
    settings: list[str] | None,
    seeds: int | None,
    max_usd: float | None,
    accepted: list[str] | None,
    workspace: Any,
    until: str,
    detach: bool,
    as_json: bool,
    on_battery: Literal["go", "pause"] | None,
    end_by: str | None,
    notify: str | None = None,
    queued: bool = False,
) -> None:
    """Start a run of a recipe up to a stage, and watch it unless it is detached."""
    from localdistill import start, typed_again

    settings = [*(settings or []), *([] if max_usd is None else [f"max_usd={max_usd}"])]
    recipe, text, base = read_recipe(name, settings, seeds)
    place = workspace_of(workspace, may_be_new=True)
    accept_terms(recipe, place, accepted or [])
    changes = [*settings, *([f"train.seeds={seeds}"] if seeds else [])]
    folder = start(place, recipe, text, base, until, named=typed_again(name, changes),
                   on_battery=on_battery or "go", end_by=_end_of(end_by, recipe, recipe.stages(until)),
                   queued=queued, notify=notify or "")
    if detach:
        _say_started(folder, as_json)
        return
    _watch(folder, place, as_json)


def _end_of(text: str | None, recipe: Any, stages: Sequence[str]) -> float | None:
    """When a race is to end. UsageError where a run of these stages is none."""
    from localdistill import UsageError, clock_time, is_race

    if text is None:
        return None
    if recipe.train is None or not is_race(stages, recipe.train.seeds):
        raise UsageError("only a race of several seeds can be told when to end: here each arm is trained once",
                         "--seeds 5 --until 07:00")
    return clock_time(text)


def _say_started(folder: Any, as_json: bool) -> None:
    if as_json:
        output.data_json({"run": folder.id, "folder": str(folder.path)})
    else:
        output.data(folder.id)
        output.talk(f"running in the background; watch it with: localdistill attach {folder.id}")


def _watch(folder: Any, place: Any, as_json: bool) -> None:
    from localdistill.cli.following import watch

    def stop() -> bool:
        from localdistill import cancel as ask

        again = ask(place, folder.id) if folder.is_alive() else True
        output.talk("stopping at once" if again else "stopping at the next safe point; Ctrl-C again stops at once")
        return True

    code = watch(folder, as_json, stop)
    output.bell()
    if code == 0:
        (_finished_json if as_json else _say_finished)(folder, place)
    sys.exit(code)


def _finished_json(folder: Any, place: Any) -> None:
    """The table of a run that ends with its tuning, as the last line."""
    import dataclasses

    from localdistill import tuning_of

    if folder.request()["stages"][-1] == "tune":
        output.data_json_line({"tuning": dataclasses.asdict(tuning_of(place, folder.id))})


def _say_finished(folder: Any, place: Any) -> None:
    """What the run came to, and the command that opens a chat with what it exported."""
    from localdistill import (
        LocalDistillError,
        Workspace,
        exports_of,
        result_to_text,
        run_result,
        tuning_of,
        tuning_to_text,
    )

    if folder.request()["stages"][-1] == "tune":
        output.data("\n" + tuning_to_text(tuning_of(place, folder.id)), end="")
    if "evaluate" in folder.request()["stages"]:
        try:
            output.data("\n" + result_to_text(run_result(place, folder.id)), end="")
        except LocalDistillError as error:  # what it made is there all the same
            output.talk(f"its result cannot be shown: {error.message}")
    if "export" in folder.request()["stages"] and any(made.for_chat for made in exports_of(place, folder.id)):
        is_here = Workspace.find(None).root == place.root
        output.talk("chat with it:")
        output.data(f"localdistill chat {folder.id}" + ("" if is_here else f" -w {shlex.quote(str(place.root))}"))


def _stage_command(stage: str) -> Any:
    """The command that runs a recipe up to `stage`; all of it when empty."""

    def command(
        recipe: RecipeArgument,
        settings: SetOption = None,
        seeds: SeedsOption = None,
        max_usd: MaxUsdOption = None,
        accept_terms: AcceptTermsOption = None,
        on_battery: OnBatteryOption = None,
        end_by: UntilOption = None,
        notify: NotifyOption = None,
        workspace: WorkspaceOption = None,
        detach: DetachOption = False,
        as_json: JsonOption = False,
    ) -> None:
        start_and_watch(recipe, settings, seeds, max_usd, accept_terms, workspace, stage, detach, as_json, on_battery,
                        end_by, notify)

    return command


def plan(
    recipe: RecipeArgument,
    settings: SetOption = None,
    seeds: SeedsOption = None,
    ask: Annotated[
        int, typer.Option("--ask", min=0, help="First ask so many prompts, which costs what it costs; they are kept.")
    ] = 0,
    accepted: AcceptTermsOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a recipe will do."""
    import dataclasses

    from localdistill import make_plan, start

    loaded, text, base = read_recipe(recipe, settings, seeds)
    place = workspace_of(workspace, may_be_new=True)
    if ask:
        accept_terms(loaded, place, accepted or [])
        code = _watch_quietly(start(place, loaded, text, base, "collect", sample=ask))
        if code:
            sys.exit(code)
    made = make_plan(place, loaded, base)
    if as_json:
        output.data_json(dataclasses.asdict(made))
        return
    for line in made.lines:
        output.data(f"{line.label:<12} {line.text}")
    for warning in made.warnings:
        output.talk(f"warning: {warning}")


def _watch_quietly(folder: Any) -> int:
    """Wait for a run whose facts nobody needs to see; its exit code. What went wrong is said."""
    from localdistill import wait

    status = wait(folder)
    if status.state != "finished":
        output.talk(f"error: {status.data.get('message', status.state)!s}")
        output.talk(f"  try: {status.data.get('hint', '')!s}")
        return int(status.data.get("exit_code") or 1)
    return 0


def attach(run_id: LivingRunArgument = "", workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Watch a run."""
    from localdistill import run_to
    from localdistill.cli.following import watch

    folder = run_to("attach", workspace_of(workspace), run_id)

    def leave() -> bool:
        output.talk(f"run {folder.id} goes on; localdistill cancel {folder.id} stops it")
        return False

    sys.exit(watch(folder, as_json, leave, is_attached=True))


def cancel(
    run_id: LivingRunArgument = "",
    batches: Annotated[
        bool, typer.Option("--batches", help="Cancel at the provider the batches that the run waits for, and no more.")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a run to stop."""
    from localdistill import cancel as ask
    from localdistill import cancel_batches, run_to

    place = workspace_of(workspace)
    folder = run_to("attach" if batches else "cancel", place, run_id)
    if batches:
        count = cancel_batches(place, folder.id)
        if as_json:
            output.data_json({"run": folder.id, "batches_cancelled": count})
        else:
            next_step = f"localdistill resume {folder.id} takes in what they answered"
            output.talk(f"{count} batches were told to stop; {next_step}")
        return
    again = ask(place, folder.id)
    if as_json:
        output.data_json({"run": folder.id, "at_once": again})
    else:
        output.talk(f"{folder.id} was told to stop" + (" at once" if again else " at its next safe point"))


def resume(
    run_id: UnfinishedRunArgument = "",
    max_usd: Annotated[
        float | None, typer.Option("--max-usd", min=0, help="New cap on what the run may spend in all.")
    ] = None,
    spent: Annotated[
        float | None,
        typer.Option(min=0, help="US dollars that the run has spent, when its ledger of calls is damaged or gone."),
    ] = None,
    arm: Annotated[
        str, typer.Option("--arm", help="Export this arm (or base, or best), whatever the recipe says.")
    ] = "",
    on_battery: OnBatteryOption = None,
    end_by: UntilOption = None,
    notify: NotifyOption = None,
    workspace: WorkspaceOption = None,
    detach: DetachOption = False,
    as_json: JsonOption = False,
) -> None:
    """Continue a run."""
    from localdistill import resume as go_on
    from localdistill import run_to

    place = workspace_of(workspace)
    run = run_to("resume", place, run_id)
    end = _end_of(end_by, run.recipe(), run.request()["stages"]) if end_by else None
    folder = go_on(place, run_id, max_usd, spent, arm, on_battery, end, notify)
    if detach:
        _say_started(folder, as_json)
    else:
        _watch(folder, place, as_json)


def show_quarantine(
    run_id: RunArgument = "last", workspace: WorkspaceOption = None, as_json: JsonOption = False
) -> None:
    """Show unreadable replies."""
    from localdistill import RunFolder, quarantined

    rows, lost = quarantined(RunFolder.open(workspace_of(workspace).runs, run_id))
    if lost:
        output.talk(f"! {lost}: some of what stood there is lost")
    if as_json:
        output.data_json([
            {"request": r.request_id, "prompt": r.prompt_id, "teacher": r.teacher, "error": r.error, "at": r.at,
             "size_bytes": len(r.body), "body": r.body.decode("utf-8", "backslashreplace")} for r in rows
        ])
        return
    if not rows:
        if not lost:
            output.talk("nothing is in quarantine: every reply could be read")
        return
    output.table(
        ["when", "teacher", "error", "bytes", "starts with"],
        [(time.strftime("%H:%M:%S", time.localtime(r.at)), r.teacher, r.error[:60], f"{len(r.body):,}",
          r.body[:40].decode("utf-8", "backslashreplace")) for r in rows],
    )


def list_all(context: typer.Context, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List the runs of this workspace."""
    if context.invoked_subcommand:
        return
    from localdistill import RunListing

    statuses = RunListing(workspace_of(workspace).runs).look()
    if as_json:
        output.data_json(
            [
                {"run": s.run_id, "recipe": s.recipe, "state": s.state, "stage": s.stage, "started_at": s.started_at,
                 "problem": s.problem}
                for s in statuses
            ]
        )
        return
    if not statuses:
        output.talk("no runs yet; try: localdistill run pantry")
        return
    output.table(
        ["run", "state", "stage", "started"],
        [(s.run_id, s.state, s.stage, _minute(s.started_at)) for s in statuses],
    )
    for status in (status for status in statuses if status.problem):
        output.data(output.one_line(f"! {status.run_id} is damaged: {status.problem}; localdistill runs verify "
                                    f"{status.run_id} says what else is"))


def _minute(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if at else ""


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go and what stays.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    keep_days: Annotated[float, typer.Option(help="Keep runs that are younger than this many days.")] = 7.0,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Free disk."""
    from localdistill import plan_pruning, remove

    place = workspace_of(workspace)
    items = plan_pruning(place, keep_days)
    going = [item for item in items if not item.kept_by]
    if as_json:
        output.data_json(
            [{"kind": i.kind, "name": i.name, "size_bytes": i.size_bytes, "kept_by": i.kept_by} for i in items]
        )
    else:
        output.table(
            ["what", "name", "size", "kept because"],
            [(i.kind, f"{i.name} {i.label}", size_text(i.size_bytes), i.kept_by or "- (goes)") for i in items],
        )
        total = size_text(sum(i.size_bytes for i in going))
        output.talk(f"{len(going)} of {len(items)} would go, {total}" if dry_run else f"{len(going)} go, {total}")
    if dry_run or not going:
        return
    if not yes and not output.confirm("remove them?"):
        return
    for item in remove(place, going):
        output.talk(f"{item.kind} {item.name} stays: {item.kept_by}")
