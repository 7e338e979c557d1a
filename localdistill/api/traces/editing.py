"""A trace that a person wrote over: a new one, whose parent is the trace that was edited and stays as it is."""

from __future__ import annotations

import dataclasses

from localdistill.core.errors import UsageError, refuse_keys
from localdistill.core.records import Status, Trace, TraceKind, Usage, content_id
from localdistill.rewrites.naming import RewriteName
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store

EDIT = RewriteName("edit", 1, "person")
"""What `Trace.rewrite` says of an edited trace: a person wrote it."""


def edit_trace(workspace: Workspace, trace: str, reasoning: str | None = None, answer: str | None = None) -> Trace:
    """Store what a person makes of the trace whose id starts with `trace`; None leaves a part as it is. The new trace
    is complete where there is an answer, and nobody judged it yet: graders do when a recipe names it. The same edit is
    the same trace. UsageError for an unknown trace, and where nothing changed or nothing is left."""
    store = open_store(workspace)
    parent = store.require_trace(trace)
    for text, what in ((reasoning, "the reasoning"), (answer, "the answer")):
        refuse_keys(text or "", what)
    child = _edited(parent, parent.reasoning if reasoning is None else reasoning,
                   parent.answer if answer is None else answer)
    store.add_traces([child])
    return child


def _edited(parent: Trace, reasoning: str, answer: str) -> Trace:
    """The child of `parent` with these texts. UsageError where they are those of the parent, or both are empty."""
    if (reasoning, answer) == (parent.reasoning, parent.answer):
        raise UsageError(f"nothing of {parent.id} was changed", "a trace is stored once")
    if not (reasoning.strip() or answer.strip()):
        raise UsageError("nothing is left of the trace", "a trace that is not wanted is judged wrong, or forgotten")
    status: Status = "complete" if answer.strip() or parent.tool_calls else "reasoning_only"
    kept_raw = reasoning == parent.reasoning and parent.trace_kind != "encrypted"
    kind: TraceKind = "none" if not reasoning else parent.trace_kind if kept_raw else "summary"
    return dataclasses.replace(
        parent, id=content_id("rewritten", parent.id, str(EDIT), reasoning, answer), parent_id=parent.id,
        rewrite=str(EDIT), reasoning=reasoning, answer=answer, status=status, trace_kind=kind, raw="", finish_reason="",
        sampling={}, usage=Usage(), cost_usd=0.0, elapsed_s=0.0, asked=None, thinks=None)
