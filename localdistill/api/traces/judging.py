"""A person's judgement of a trace: a verdict, a note, tags and favourites, kept beside what graders say, and above it.
Each part is changed alone, and every change can be taken back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from localdistill.core.errors import UsageError, refuse_keys
from localdistill.core.judgements import Judgement, checked_tag
from localdistill.core.records import PERSON, Fact
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store

VERDICTS: Mapping[str, bool | None] = {"right": True, "wrong": False, "none": None}
"""What a person can say, by its word."""


@dataclass(frozen=True)
class Judged:
    """What a person said of a trace before, and says now."""

    trace_id: str
    before: Judgement
    after: Judgement


def judge(workspace: Workspace, trace: str, passed: bool | None, note: str | None = None) -> Judged:
    """Say that the trace whose id starts with `trace` is right or wrong. It counts above every grader, also in
    selections; None takes an earlier verdict back. note: why; None leaves the note as it is. UsageError for an unknown
    trace, as of all that follow."""
    why = None if note is None else _checked_note(note)
    return _change(workspace, trace, lambda said: replace(said, passed=passed, note=said.note if why is None else why))


def note_trace(workspace: Workspace, trace: str, note: str) -> Judged:
    """Keep a note with a trace, in place of an earlier one; an empty one takes it away."""
    text = _checked_note(note)
    return _change(workspace, trace, lambda said: replace(said, note=text))


def tag_trace(workspace: Workspace, trace: str, tags: Sequence[str], is_tagged: bool = True) -> Judged:
    """Give a trace these tags, or take them away. UsageError for one that is not one word."""
    named = _named(tags)

    def change(said: Judgement) -> Judgement:
        kept = named.union(said.tags) if is_tagged else set(said.tags) - named
        return replace(said, tags=tuple(sorted(kept)))

    return _change(workspace, trace, change)


def retag_trace(workspace: Workspace, trace: str, tags: Sequence[str]) -> Judged:
    """Let a trace have these tags and no others. UsageError for one that is not one word."""
    named = tuple(sorted(_named(tags)))
    return _change(workspace, trace, lambda said: replace(said, tags=named))


def favourite_trace(workspace: Workspace, trace: str, is_one: bool | None = True) -> Judged:
    """Make a trace a favourite, or none; None turns round what it is."""
    return _change(workspace, trace, lambda said: replace(
        said, favourite=not said.favourite if is_one is None else is_one))


def put_judgement(workspace: Workspace, trace: str, judgement: Judgement) -> Judged:
    """Put all that a person says of a trace in place of what was said: with `Judged.before`, a change is taken back."""
    return _change(workspace, trace, lambda said: judgement)


def undo_judgement(workspace: Workspace, trace: str) -> Judged:
    """Take back the last change of what a person says of a trace; a second time, that is taken back. UsageError where
    nothing was said, or where the journal does not tell what was said before."""
    store = open_store(workspace)
    trace_id = store.require_trace(trace).id
    told = list(map(Judgement.of, store.told(trace_id, PERSON)))
    now = Judgement.of(next(iter(store.facts([trace_id], [PERSON]).get(trace_id, ())), None))
    if not told and now == Judgement():
        raise UsageError(f"nothing was said of the trace {trace_id}", "there is nothing to take back")
    if not told or told[-1] != now:
        raise UsageError(f"the journal does not tell what was said of {trace_id} before", "say it anew")
    return _change(workspace, trace_id, lambda said: told[-2] if len(told) > 1 else Judgement())


def _change(workspace: Workspace, trace: str, change: Callable[[Judgement], Judgement]) -> Judged:
    store = open_store(workspace)
    trace_id = store.require_trace(trace).id

    def changed(fact: Fact | None) -> Fact:
        return change(Judgement.of(fact)).fact(trace_id)

    before, after = store.change_fact(trace_id, PERSON, changed)
    return Judged(trace_id, Judgement.of(before), Judgement.of(after))


def _named(tags: Sequence[str]) -> set[str]:
    for tag in tags:
        refuse_keys(tag, "a tag")
    return {checked_tag(tag) for tag in tags}


def _checked_note(note: str) -> str:
    refuse_keys(note, "the note")
    return note.strip()
