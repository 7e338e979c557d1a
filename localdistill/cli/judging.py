"""Commands by which a person says something of a trace: a verdict, a note, tags, favourites, and taking it back."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from localdistill import UsageError
from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, WorkspaceOption, workspace_of

if TYPE_CHECKING:
    from localdistill import Judged

TraceArgument = Annotated[str, typer.Argument(help="Id of a trace, or its first characters.")]
TagsArgument = Annotated[list[str], typer.Argument(help="Words without spaces.")]


def register(app: typer.Typer, traces: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("judge", help="Say that a trace is right or wrong: it counts above every grader, also in selections. "
                              "--undo takes back the last thing that was said of it, a tag or note too.")(judge)
    traces.command("tag", help="Give a trace tags. A condition asks for them by: list_contains(tags, 'NAME').")(tag)
    traces.command("untag", help="Take tags from a trace.")(untag)
    traces.command("favourite", help="Make a trace a favourite; a condition asks for them by: favourite.")(favourite)
    traces.command("note", help="Keep a note with a trace, in place of an earlier one.")(note)


def judge(
    trace: TraceArgument,
    verdict: Annotated[
        str, typer.Argument(help="right, wrong, or none to take an earlier verdict back.", show_default=False)
    ] = "",
    note: Annotated[str | None, typer.Option(help="Why; in place of an earlier note.", show_default=False)] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Take back the last change: what was said before is said again. A second "
                                          "time, that is taken back.")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge one trace."""
    from localdistill import VERDICTS, nearest, undo_judgement
    from localdistill import judge as judge_trace

    if undo:
        if verdict or note is not None:
            raise UsageError("a verdict and --undo say different things", "give one of them")
        _tell(undo_judgement(workspace_of(workspace), trace), as_json)
        return
    if verdict not in VERDICTS:
        what = f"a judgement is not '{verdict}'{nearest(verdict, VERDICTS)}" if verdict else "there is no verdict"
        raise UsageError(what, f"say {', '.join(VERDICTS)}")
    _tell(judge_trace(workspace_of(workspace), trace, VERDICTS[verdict], note), as_json)


def tag(trace: TraceArgument, tags: TagsArgument, workspace: WorkspaceOption = None,
        as_json: JsonOption = False) -> None:
    """Give tags."""
    from localdistill import tag_trace

    _tell(tag_trace(workspace_of(workspace), trace, tags), as_json)


def untag(trace: TraceArgument, tags: TagsArgument, workspace: WorkspaceOption = None,
          as_json: JsonOption = False) -> None:
    """Take tags away."""
    from localdistill import tag_trace

    _tell(tag_trace(workspace_of(workspace), trace, tags, is_tagged=False), as_json)


def favourite(
    trace: TraceArgument,
    off: Annotated[bool, typer.Option("--off", help="Let it be none any more.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a favourite."""
    from localdistill import favourite_trace

    _tell(favourite_trace(workspace_of(workspace), trace, not off), as_json)


def note(
    trace: TraceArgument,
    text: Annotated[str, typer.Argument(help="The note; an empty one ('') takes it away.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep a note."""
    from localdistill import note_trace

    _tell(note_trace(workspace_of(workspace), trace, text), as_json)


def _tell(done: Judged, as_json: bool) -> None:
    """What is said of the trace now, and what was said before."""
    if as_json:
        output.data_json(dataclasses.asdict(done))
        return
    output.talk(f"{done.trace_id}: {done.after.text or 'nothing is said of it'}")
    if done.before == done.after:
        output.talk("  as before")
    elif done.before.text:
        output.talk(f"  before: {done.before.text}; localdistill judge {done.trace_id} --undo takes the change back")
