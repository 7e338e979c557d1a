"""What all layouts share: checked access to a row's values, splitting a reply, and identity of what is imported.

Every problem becomes an InputError that names the file and the row. Nothing here opens files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from localdistill.core.errors import InputError
from localdistill.core.messages import ToolCall
from localdistill.core.records import Message, Prompt, Status, Trace, TraceKind, imported_id
from localdistill.interchange.imported import Answer, Imported
from localdistill.interchange.row import having, peeked
from localdistill.interchange.usual import (
    DOCUMENT,
    LICENCE,
    ORIGINAL,
    REFERENCE,
    SOURCE,
    TESTS,
    first,
    reference_in,
)
from localdistill.templates import join_thinking, named_end, split_beside, split_thinking, status_of_end
from localdistill.templates.marks import begins_with_mark

ENGINE = "imported"
_REASONS = ("finish_reason", "stop_reason", "done_reason", "finish_reasons")

VERDICTS = ("label", "correct", "is_correct", "verified", "is_verified", "correctness", "desirable", "is_desirable",
            "accepted", "is_accepted", "passed")
"""Columns in which a row says whether its answer is right, or wanted."""
_VERDICT_WORDS = {
    **dict.fromkeys(("true", "yes", "correct", "right", "good", "accepted", "accept", "chosen", "desirable", "passed",
                     "pass"), True),
    **dict.fromkeys(("false", "no", "incorrect", "wrong", "bad", "rejected", "reject", "undesirable", "failed", "fail"),
                    False)}


_REASON_CHARS = 400
"""What is said of a row may quote it, and a row is long."""


@dataclass(slots=True)  # one is made for every row: a frozen one takes three times as long
class RowPlace:
    """Where a row stands, for error messages."""

    source: str
    number: int

    def error(self, what: str, hint: str = "correct this row or leave it out") -> InputError:
        """The error `what` about this row."""
        return InputError(f"{self.source}, row {self.number}: {what[:_REASON_CHARS]}", hint)


@dataclass(frozen=True)
class SplitReply:
    """One reply of a model, split into reasoning and answer. `raw` is the one text it came in, empty when it came in
    pieces."""

    reasoning: str
    text: str
    raw: str = ""
    is_cut: bool = False
    """The reasoning never ended."""
    calls: tuple[ToolCall, ...] = ()
    """Of tools."""


def text_at(row: Mapping[str, Any], key: str, place: RowPlace) -> str:
    """The string under `key`; an error when it is absent or of another type."""
    value = row.get(key)
    if not isinstance(value, str):
        raise place.error(f"'{key}' is {'missing' if value is None else 'not text'}")
    return value


def optional_text(row: Mapping[str, Any], key: str, place: RowPlace) -> str | None:
    """The string under `key` (numbers become text), or None when absent: NaN is what tables write for that."""
    value = row.get(key)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return json.dumps(value)
    return text_at(row, key, place)


def need_user(messages: tuple[Message, ...], place: RowPlace) -> tuple[Message, ...]:
    """`messages`, when one of them is a user turn that says something."""
    if not any([message.role == "user" and message.content.strip() for message in messages]):
        raise place.error("there is no user turn", "every row needs a turn of the user before the answer")
    return messages


def answer_of(text: str, reasoning: str | None = None, stored: tuple[str, str] | None = None,
              opened: bool = False) -> SplitReply:
    """A reply from its text. `reasoning` came under its own key, then only marks at the beginning of the text are
    looked at; `stored` is reasoning and answer as the file states them beside the text, and wins when they differ from
    what the text says."""
    if reasoning is not None and not begins_with_mark(text):
        again = text.lstrip().startswith(thought) if (thought := reasoning.strip()) else False
        if not again or split_thinking(text).reasoning != thought:
            return SplitReply(reasoning, text)
    if reasoning is not None:
        beside = split_beside(reasoning.strip(), text)
        return SplitReply(beside.reasoning, beside.answer, is_cut=not beside.closed)
    split = split_thinking(text, opened)
    if stored is not None and stored != (split.reasoning, split.answer):
        return SplitReply(*stored, raw=join_thinking(*stored) if stored[0] else stored[1])
    return SplitReply(split.reasoning, split.answer, text, is_cut=split.found and not split.closed)


def reason_in(*places: Mapping[str, Any]) -> str | None:
    """The finish reason that the first of `places` states, of the one reply that they are about."""
    values = [place.get(key) for place in places for key in having(place, _REASONS)]
    alone = [value[0] if isinstance(value, list) and len(value) == 1 else value for value in values]
    return next((reason for value in alone if (reason := named_end(value))), None)


def status_of(answer: SplitReply, reason: str | None = None) -> Status:
    """How an imported reply ended, as far as its text and its finish reason tell."""
    ended = status_of_end(reason) if reason else "complete"
    if ended != "complete":
        return ended or "error"
    if answer.is_cut:
        return "truncated"
    if answer.text.strip() or answer.calls:
        return "complete"
    return "reasoning_only" if answer.reasoning.strip() else "empty"


_OF_TRACES = ("trace_source", "status", "trace_kind", "terms")
_NOTHING: Mapping[str, Any] = {}
_STATUSES, _KINDS = get_args(Status), get_args(TraceKind)


def imported_trace(prompt: Prompt, answer: SplitReply, source: str, model: str, row: Mapping[str, Any],
                   place: RowPlace, reason: str | None = None) -> Trace:
    """The trace of an imported reply. `row` may state `status`, `trace_kind` (else finish reason and text decide),
    `terms`, and `trace_source`: the file that it came from first."""
    kind = "raw" if answer.reasoning else "none"
    row = row if having(row, _OF_TRACES) else _NOTHING
    source = optional_text(row, "trace_source", place) or source
    return Trace(
        id=imported_id(prompt.messages, answer.raw or (answer.reasoning, answer.text), source, answer.calls),
        prompt_id=prompt.id, engine=ENGINE, model=model, reasoning=answer.reasoning, answer=answer.text,
        status=_one_of(row, "status", status_of(answer, reason), _STATUSES, place),
        trace_kind=_one_of(row, "trace_kind", kind, _KINDS, place), raw=answer.raw,
        finish_reason=reason or "", source=source, terms=optional_text(row, "terms", place) or "",
        tool_calls=answer.calls,
    )


def imported(prompt: Prompt, answer: SplitReply | None, row: Mapping[str, Any], place: RowPlace,
             model: object = "", reason: str | None = None) -> Imported:
    """What a row of a conversation holds: its prompt, and an answer when it ends with one, with the row's verdict."""
    if answer is None:
        return Imported(prompt)
    name = model if isinstance(model, str) else ""
    trace = imported_trace(prompt, answer, place.source, name, row, place, reason)
    return Imported(prompt, (judged(trace, row),))


def judged(trace: Trace, row: Mapping[str, Any], columns: tuple[str, ...] = VERDICTS) -> Answer:
    """The answer `trace`, with the verdict that the first of `columns` states. One that holds something else is not
    used, and so it is named."""
    for column in having(row, columns):
        if (right := verdict_of(peeked(row, column))) is not None:
            row.get(column)
            return Answer(trace, right, column)
    return Answer(trace)


def verdict_of(value: object) -> bool | None:
    """A verdict as files write it; None for what is none, numbers other than 0 and 1 included."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _VERDICT_WORDS.get(value.strip().lower())
    return bool(value) if isinstance(value, (int, float)) and value in (0, 1) else None


def _one_of(row: Mapping[str, Any], key: str, default: str, known: tuple[str, ...], place: RowPlace) -> Any:
    value = row.get(key)
    if value is None:
        return default
    if value not in known:
        raise place.error(f"'{key}' is {value!r}", f"known: {', '.join(known)}")
    return value


def prompt_of(messages: tuple[Message, ...], row: Mapping[str, Any], source: str, place: RowPlace,
              reference: str | None = None, tests: str | None = None) -> Prompt:
    """The prompt of a row: what its own keys say, else what its turns said, else columns of the usual names."""
    if not having(row, _OF_PROMPTS):
        return Prompt(need_user(messages, place), reference, None, tests, source)
    own_reference, own_tests = optional_text(row, "reference", place), optional_text(row, "tests", place)
    original, licence = optional_text(row, "original", place), optional_text(row, "licence", place)
    metadata = _metadata(row)
    if "document" not in metadata and (document := first(row, DOCUMENT)):
        metadata["document"] = document
    return Prompt(
        messages=need_user(messages, place),
        reference=next((text for text in (own_reference, reference) if text is not None), reference_in(row)),
        original=original if original is not None else first(row, ORIGINAL),
        tests=own_tests if own_tests is not None else tests if tests is not None else first(row, TESTS),
        source=first(row, SOURCE) or source,
        licence=licence or first(row, LICENCE) or "",
        metadata=metadata,
    )


_OF_PROMPTS = ("reference", "tests", "original", "licence", "metadata", "reward_model", *DOCUMENT, *REFERENCE,
               *ORIGINAL, *TESTS, *SOURCE, *LICENCE)
"""Columns that say something of the prompt."""


def _metadata(row: Mapping[str, Any]) -> dict[str, Any]:
    """What else a row says of its prompt: an object, or the JSON of one, as tables hold it."""
    if (value := row.get("metadata")) is None:
        return {}
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return dict(value) if isinstance(value, Mapping) else {}
