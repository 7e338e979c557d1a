"""Spans: what all formats make their examples of. The context turns, the cleaning of an answer, and the reasons why a
trace cannot serve. Formats choose and order text and never reword it. How a file lays out its rows is a layout, and
stands in `interchange`."""

from __future__ import annotations

import json
import re
from collections.abc import Collection

from localdistill.core.messages import Message, call_name
from localdistill.core.options import Options
from localdistill.core.records import Example, ExampleTurn, Prompt, Skip, Span, Trace
from localdistill.templates.marks import WRAPPERS, marks_in
from localdistill.templates.unknown_marks import unknown_mark

_WRAPPERS = [re.escape(text) for wrapper in WRAPPERS if not wrapper.needs_reasoning
             for text in (wrapper.opening, wrapper.closing)]
_ANSWER_TAGS = re.compile(rf"(?:{'|'.join(_WRAPPERS)})\s*", re.IGNORECASE)


class TextOptions(Options):
    """What counts as text."""

    text_marks: tuple[str, ...] = ()
    """Marks that are part of the texts, for example `["<analysis>"]`: rows that hold them are trained on as they are.
    Rows with any other mark of reasoning, or with what looks like one and is none that we know, are left out with that
    reason."""


class TurnOptions(TextOptions):
    """Which turns are learned, and what counts as text."""

    every_turn: bool = False
    """Train on every turn of the assistant in the conversation, calls of tools among them, and not only on the answer.
    Each is a row of its own behind what was said before it, as a chat renders it at that point; together they count as
    the prompt does. What tools answer is never trained."""


def skip(prompt: Prompt, trace: Trace, reason: str) -> Skip:
    """Why this trace cannot serve."""
    return Skip(prompt.id, trace.id, reason)


def example(prompt: Prompt, trace: Trace, spans: tuple[Span, ...], thinks: bool) -> Example:
    """The prompt's messages as context of weight 0, then one assistant turn of `spans` (empty ones are dropped), which
    calls what the trace calls where a span says so."""
    context = [ExampleTurn(message.role, (Span(message.content, 0.0, "prompt"),), message if message.beside else None)
               for message in prompt.messages]
    calls = trace.tool_calls if any(span.part == "call" for span in spans) else ()
    last = ExampleTurn("assistant", tuple(s for s in spans if s.text),
                       Message("assistant", trace.answer, tool_calls=calls) if calls else None)
    return Example(prompt.id, trace.id, (*context, last), thinks)


def answer_spans(trace: Trace) -> tuple[Span, ...]:
    """The answer, and behind it the tools that it calls: as JSON here, and as the student's template writes them in the
    row."""
    calls = json.dumps([call.get("function") for call in trace.tool_calls], ensure_ascii=False, default=str)
    return (Span(clean_answer(trace.answer)), *((Span(calls, 1.0, "call"),) if trace.tool_calls else ()))


def clean_answer(text: str) -> str:
    """`text` without the tags around answers and outer blanks."""
    return _ANSWER_TAGS.sub("", text).strip()


def why_no_prompt(prompt: Prompt) -> str | None:
    """The reason when the prompt ends with a turn that nobody answers, else None."""
    if not prompt.messages or prompt.messages[-1].role not in ("user", "tool"):
        return "the prompt ends neither with a user turn nor with what a tool answered"
    return None


def why_marked(what: str, text: str, text_marks: Collection[str]) -> str | None:
    """The reason when `text`, which is called `what`, holds a mark of reasoning or what looks like one."""
    allowed = {mark.casefold() for mark in text_marks}
    if any(mark.casefold() not in allowed for mark in marks_in(text)):
        return f"{what} holds a think tag"
    mark = unknown_mark(text, text_marks)
    return f"{what} holds {mark}, which looks like a mark of reasoning and is none that we know" if mark else None


def why_no_answer(prompt: Prompt, trace: Trace, text_marks: Collection[str] = ()) -> str | None:
    """The reason when the trace's answer cannot be trained on, else None."""
    if trace.status != "complete":
        return f"the reply is {trace.status}"
    if any(not call_name(call) for call in trace.tool_calls):
        return "the answer calls a tool that has no name"
    if not clean_answer(trace.answer) and not trace.tool_calls:
        return "the answer is empty"
    return why_marked("the answer", trace.answer, text_marks) or why_no_prompt(prompt)


def why_no_reasoning(prompt: Prompt, trace: Trace, allow_summaries: bool,
                     text_marks: Collection[str] = ()) -> str | None:
    """The reason when reasoning or answer cannot be trained on, else None. A summary that our own rewrite made is
    meant to be trained on; one that a provider gave out in place of the reasoning is so only where it is allowed."""
    if trace.trace_kind == "encrypted":
        return "the reasoning is encrypted"
    if trace.trace_kind == "none" or not trace.reasoning.strip():
        return "there is no reasoning"
    if trace.trace_kind == "summary" and not trace.is_rewritten and not allow_summaries:
        return "the reasoning is a provider's summary, not the model's own words"
    marked = why_marked("the reasoning", trace.reasoning, text_marks)
    return marked or why_no_answer(prompt, trace, text_marks)
