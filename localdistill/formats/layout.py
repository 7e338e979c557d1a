"""What all formats share: the context turns, the cleaning of an answer, and the reasons why a trace cannot serve.
Formats choose and order text; they never reword it."""

from __future__ import annotations

import re

from localdistill.records import Example, Prompt, Skip, Span, Trace, Turn

_ANSWER_TAGS = re.compile(r"</?answer>\s*")
_THINK_TAGS = re.compile(r"</?think(?:ing)?>")


def skip(prompt: Prompt, trace: Trace, reason: str) -> Skip:
    """Why this trace cannot serve."""
    return Skip(prompt.id, trace.id, reason)


def example(prompt: Prompt, trace: Trace, spans: tuple[Span, ...], thinks: bool) -> Example:
    """The prompt's messages as context of weight 0, then one assistant turn of `spans` (empty ones are dropped)."""
    context = tuple(Turn(message.role, (Span(message.content, 0.0, "prompt"),)) for message in prompt.messages)
    return Example(prompt.id, trace.id, (*context, Turn("assistant", tuple(s for s in spans if s.text))), thinks)


def clean_answer(text: str) -> str:
    """`text` without `<answer>` tags and outer blanks."""
    return _ANSWER_TAGS.sub("", text).strip()


def why_no_prompt(prompt: Prompt) -> str | None:
    """The reason when the prompt does not end with a user turn, else None."""
    if not prompt.messages or prompt.messages[-1].role != "user":
        return "the prompt does not end with a user turn"
    return None


def why_no_answer(prompt: Prompt, trace: Trace) -> str | None:
    """The reason when the trace's answer cannot be trained on, else None."""
    if trace.status != "complete":
        return f"the reply is {trace.status}"
    if not clean_answer(trace.answer):
        return "the answer is empty"
    if _THINK_TAGS.search(trace.answer):
        return "the answer holds a think tag"
    return why_no_prompt(prompt)


def why_no_reasoning(prompt: Prompt, trace: Trace, allow_summaries: bool) -> str | None:
    """The reason when reasoning or answer cannot be trained on, else None. A summary that our own rewrite made is
    meant to be trained on; one that a provider gave out in place of the reasoning is so only where it is allowed."""
    if trace.trace_kind == "encrypted":
        return "the reasoning is encrypted"
    if trace.trace_kind == "none" or not trace.reasoning.strip():
        return "there is no reasoning"
    is_own = bool(trace.rewrite or trace.parent_id)
    if trace.trace_kind == "summary" and not is_own and not allow_summaries:
        return "the reasoning is a provider's summary, not the model's own words"
    if _THINK_TAGS.search(trace.reasoning):
        return "the reasoning holds a think tag"
    return why_no_answer(prompt, trace)
