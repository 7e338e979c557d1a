"""A person's judgement of a trace: kept beside what graders say, and above it."""

from __future__ import annotations

from collections.abc import Mapping

from localdistill.core.errors import UsageError, refuse_keys
from localdistill.core.records import PERSON, Fact
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store

VERDICTS: Mapping[str, bool | None] = {"right": True, "wrong": False, "none": None}
"""What a person can say, by its word."""


def judge(workspace: Workspace, trace: str, passed: bool | None, note: str = "") -> Fact:
    """Say that the trace whose id starts with `trace` is right or wrong, and why. It counts above every grader, also in
    selections; a second judgement replaces the first, and None takes it back. UsageError for an unknown trace."""
    refuse_keys(note, "the note")
    store = open_store(workspace)
    found = store.find_trace(trace)
    if found is None:
        raise UsageError(f"there is no trace '{trace}' here", "`localdistill traces` lists them")
    by, version, variant = PERSON
    value = None if passed is None else float(passed)
    fact = Fact(found.id, by, version, variant, "judgement", value, passed, reason=note.strip())
    store.add_facts([fact])
    return fact
