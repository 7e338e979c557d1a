"""What rewrites share: building the new trace with its parent, and the checks that a shortened reasoning must pass.
Checks read text as data and never change it."""

from __future__ import annotations

import dataclasses
import re
from fractions import Fraction

from localdistill.core.records import Fact, Prompt, Reply, Trace, Usage
from localdistill.core.stated_numbers import numbers
from localdistill.rewrites.naming import Maker, child_of

_BOXED = re.compile(r"\\boxed\s*\{([^{}]*)\}")
_MONOLOGUE = re.compile(
    r"(?:^|[.!?:;…\n(]\s*|\b(?:but|so|and)\s+)(?:wait|hmm+|okay|ok|alright|oh|yeah|hold on)\b"
    r"|\blet me\b|\blet's (?:see|check|verify|think|confirm)\b"
    r"|\bI(?:'m| am) (?:not sure|thinking|confused)\b|\bI(?:'ll| will| should| need to| have to| must| want to| can)\b"
    r"|\bI (?:think|guess|wonder|suppose|believe|remember|recall|see|mean)\b|\bmaybe I\b|\bdid I\b",
    re.IGNORECASE)


def final_number(prompt: Prompt, trace: Trace) -> Fraction | None:
    """The number that the answer states: inside the last box, else the reference's where the answer states it, else
    the last one; None when the answer has no number."""
    boxed = _BOXED.findall(trace.answer)
    stated = numbers(boxed[-1]) if boxed else numbers(trace.answer)
    if not stated:
        return None
    reference = numbers(prompt.reference or "")
    return reference[-1] if reference and reference[-1] in stated else stated[-1]


def is_monologue(text: str) -> bool:
    """True when `text` talks to itself (wait, hmm, let me check, I think ...)."""
    return _MONOLOGUE.search(text) is not None


def why_rejected(prompt: Prompt, parent: Trace, summary: str) -> str:
    """Why `summary` cannot stand for the parent's reasoning; empty when it can."""
    if not summary.strip():
        return "the summary is empty"
    if len(summary) >= len(parent.reasoning):
        return "the summary is not shorter than the reasoning"
    if is_monologue(summary):
        return "the summary still talks to itself"
    wanted = final_number(prompt, parent)
    if wanted is not None and wanted not in numbers(summary):
        return "the answer's number is not in the summary"
    return ""


def rewritten(parent: Trace, by: Maker, reasoning: str, reply: Reply | None = None) -> Trace:
    """The child of `parent` with the new `reasoning` and the parent's answer."""
    return dataclasses.replace(
        child_of(parent, by), reasoning=reasoning, trace_kind="summary",
        status=parent.status if reply is None else reply.status, raw="" if reply is None else reply.raw,
        finish_reason="" if reply is None else reply.finish_reason, sampling={},
        usage=Usage() if reply is None else reply.usage, cost_usd=0.0 if reply is None else reply.cost_usd,
        elapsed_s=0.0 if reply is None else reply.elapsed_s, asked=None, thinks=None,
    )


def verdict(trace: Trace, by: Maker, reason: str) -> Fact:
    """What a rewrite says of its own output: kept without a `reason`, else rejected for it."""
    return Fact(trace.id, by.name, by.version, kind="rewrite", value=0.0 if reason else 1.0, passed=not reason,
                reason=reason or "kept")

