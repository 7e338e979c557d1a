"""What all layouts share that write: the turn of an answer with its reasoning where it is wanted, and the columns
beside the turns that say the rest. Nothing here opens files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from localdistill.core.errors import InputError
from localdistill.core.messages import Message, tools_of
from localdistill.core.records import Prompt, Trace
from localdistill.interchange.base import Reasoning, Shape
from localdistill.interchange.imported import Imported
from localdistill.interchange.rows import VERDICTS, answer_of
from localdistill.templates import join_thinking
from localdistill.templates.marks import begins_with_mark

VERDICT_COLUMN = "correct"
"""The column of a verdict whose own name is none that people use."""
PROMPT_COLUMNS: Mapping[str, Shape] = dict.fromkeys(
    ("reference", "original", "tests", "source", "licence", "metadata"), "text")
"""What is known of a prompt beside its messages; metadata as JSON text, so that every row has the same columns."""
TRACE_COLUMNS: Mapping[str, Shape] = {
    **dict.fromkeys(("model", "status", "finish_reason", "trace_kind", "terms", "trace_source"), "text"),
    VERDICT_COLUMN: "flag"}
"""What is known of an answer beside its text."""
STATED: Mapping[str, Shape] = {"think_content": "text", "answer_content": "text"}
"""Beside a turn whose text alone would be split elsewhere."""
TURN: Mapping[str, Shape] = {"role": "text", "content": "text", "reasoning_content": "text", "info": STATED}
ANSWERING: Mapping[str, Shape] = {"tool_call_id": "text", "name": "text"}
"""Of a turn of a tool."""
TOOL_TURN: Mapping[str, Shape] = {
    **TURN, **ANSWERING,
    "tool_calls": [{"id": "text", "type": "text", "function": {"name": "text", "arguments": "text"}}]}
"""A turn where tools are used."""


def turn_of(message: Message) -> dict[str, Any]:
    """A turn of a prompt."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    beside = {"reasoning_content": message.reasoning, "tool_calls": [*map(dict, message.tool_calls)],
              **answering(message)}
    return turn | {key: value for key, value in beside.items() if value}


def answering(message: Message) -> dict[str, str]:
    """Which call a turn of a tool answers, and who, as far as that is known."""
    known = {"tool_call_id": message.call_id, "name": message.name}
    return {key: value for key, value in known.items() if value}


def answer_turn(trace: Trace, reasoning: Reasoning) -> dict[str, Any]:
    """The turn of an answer; reasoning that was kept in no tags has its own field."""
    calls = {"tool_calls": [*map(dict, trace.tool_calls)]} if trace.tool_calls else {}
    return {"role": "assistant", **said(trace, reasoning), **calls}


def said(trace: Trace, reasoning: Reasoning) -> dict[str, Any]:
    """The text of an answer and what must stand beside it, so that it is split at the same place again; without the
    tools that it calls."""
    if reasoning == "kept" and is_faithful(trace):
        return {"content": trace.raw}
    stated = {"think_content": trace.reasoning, "answer_content": trace.answer}
    if reasoning == "tags":
        text = join_thinking(trace.reasoning, trace.answer) if trace.reasoning else trace.answer
        return {"content": text} if _gives(text, trace) else {"content": text, "info": stated}
    if not trace.reasoning and trace.raw and _gives(trace.answer, trace):
        return {"content": trace.answer}
    beside = {"content": trace.answer, "reasoning_content": trace.reasoning}
    # A mark at the beginning is text here, and would be taken for reasoning without a word about it.
    return {**beside, "info": stated} if begins_with_mark(trace.answer) else beside


def is_faithful(trace: Trace) -> bool:
    """True when the raw text of `trace`, split again, gives its reasoning and answer."""
    return bool(trace.raw) and _gives(trace.raw, trace)


def _gives(text: str, trace: Trace) -> bool:
    answer = answer_of(text)
    return (answer.reasoning, answer.text) == (trace.reasoning, trace.answer)


def only_trace(item: Imported) -> Trace | None:
    """The answer of a row that can hold one; InputError where there are several."""
    if len(item.answers) > 1:
        raise InputError("a row of this layout holds one answer", "write each answer as a row of its own")
    return item.trace


def beside_turns(item: Imported) -> dict[str, Any]:
    """What the turns of a row do not say, absent values left out."""
    keys = prompt_keys(item.prompt)
    if item.trace is not None:
        keys |= trace_keys(item.trace)
    verdict = next(((one.said_by, one.right) for one in item.answers if one.right is not None), None)
    return keys if verdict is None else {**keys, verdict[0] if verdict[0] in VERDICTS else VERDICT_COLUMN: verdict[1]}


def trace_keys(trace: Trace) -> dict[str, str]:
    """The keys that say what the text of `trace` alone does not."""
    texts = {"model": trace.model, "status": trace.status, "finish_reason": trace.finish_reason, "terms": trace.terms,
             "trace_source": trace.source}
    keys: dict[str, str] = {key: text for key, text in texts.items() if text}
    if trace.trace_kind != ("raw" if trace.reasoning.strip() else "none"):
        keys["trace_kind"] = trace.trace_kind
    return keys


def prompt_keys(prompt: Prompt) -> dict[str, Any]:
    """Everything a prompt holds beside its messages, absent values left out."""
    texts = {"reference": prompt.reference, "original": prompt.original, "tests": prompt.tests}
    keys: dict[str, Any] = {key: value for key, value in texts.items() if value is not None}
    keys |= {key: value for key, value in (("source", prompt.source), ("licence", prompt.licence)) if value}
    if tools := tools_of(prompt.messages):
        keys["tools"] = [*map(dict, tools)]
    if prompt.metadata:
        keys["metadata"] = json.dumps(dict(prompt.metadata), ensure_ascii=False, default=str)
    return keys
