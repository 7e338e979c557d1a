"""What a reply holds before it is judged, and the judgement: one rule for every dialect. Pure functions."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from localdistill.core.records import Message, Reply, Status, TokenScores, ToolCall, TraceKind, Usage
from localdistill.templates import Split, split_beside, split_thinking, status_of_end
from localdistill.templates.tool_calls import calls_of
from localdistill.templates.turns import at_path, joined, pieces_of

_WIDE = re.compile("[\u2e80-\U0010ffff]")
_NAME_CHARS = 60
_TOKENS_PER_MESSAGE = 3
"""What a chat template adds at least."""
_LIE = 4
"""A server that counts so many times fewer tokens than its text has by our count does not count at all."""
_ENOUGH = 64
"""Tokens by our count from which that is said: of a few words the count may be anything."""


class Malformed(Exception):
    """The body is not what the dialect says; the text says why."""


UNREADABLE = (Malformed, ValueError, TypeError, LookupError, AttributeError, RecursionError, MemoryError)
"""What reading a hostile body may raise. It must not end the work on all others."""


@dataclass
class Collected:
    """The parts of one reply, as its dialect found them."""

    id: str = ""
    """The server's name for this reply."""
    content: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    """Reasoning by the name of the field that carried it."""
    has_summary: bool = False
    """The reasoning is a summary."""
    has_own_words: bool = False
    """Some of it is said to be none."""
    has_encrypted: bool = False
    refusal: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    unread: str = ""
    """What of the reply nobody could read; such a reply is an error, as part of it is missing."""
    finish: str | None = None
    usage: Usage | None = None
    """As the server counted; None when it did not say or said nonsense."""
    continuations: tuple[TokenScores, ...] = ()
    """What continuations are worth; such a reply has no text."""

    def reasoning(self) -> str:
        """The reasoning fields as one text."""
        return joined(self.fields)

    def take(self, turn: Mapping[str, Any], fields: Sequence[str], between: str = "") -> None:
        """Take in what a turn says. fields: where reasoning may stand beside the content; between: what joins the
        pieces of one place."""
        pieces = list(pieces_of(turn, fields))
        for kind, place, text, _ in pieces:
            if kind == "reasoning":
                before = self.fields.get(place)
                self.fields[place] = f"{before}{between}{text}" if before else text
            elif kind == "refusal":
                self.refusal += text
            elif kind == "text":
                self.content += text
            elif kind == "other":
                self.unread = self.unread or f"the reply holds a part that is no text ('{text[:_NAME_CHARS]}')"
        said = {piece.is_summary for piece in pieces if piece.kind == "reasoning"}
        self.has_summary = True in said and False not in said
        self.has_own_words = False in said
        if any(piece.kind == "call" for piece in pieces):
            calls = list(calls_of(turn))
            self.tool_calls += [call for call in calls if call is not None]
            if None in calls or not calls:
                self.unread = self.unread or "the reply calls a tool without a name"


def tokens_of(text: str) -> int:
    """Our own count of the tokens of a text whose tokenizer is not known: four letters each, or little more than one
    of a script without an alphabet."""
    wide = 0 if text.isascii() else len(_WIDE.findall(text))
    return math.ceil((len(text) - wide) / 4 + wide * 0.65)


def asked_tokens(messages: Iterable[Message]) -> int:
    """Our own count of what is asked."""
    return sum(tokens_of(message.counted) + _TOKENS_PER_MESSAGE for message in messages)


def counted(reasoning: str, answer: str, prompt_tokens: int) -> Usage:
    """Our own count of a reply, or of what came of one; prompt_tokens: that of what was asked."""
    thought = tokens_of(reasoning)
    return Usage(prompt_tokens, thought + tokens_of(answer), thought, estimated=True)


def reply_of(collected: Collected, request_id: str, raw: str, max_tokens: int, elapsed_s: float, *,
             prompt_tokens: int = 0, is_whole: bool = True, may_lack_finish: bool = False) -> Reply:
    """The reply. prompt_tokens: our count of what was asked. `is_whole` False: the connection ended before the server
    said that it was finished. `may_lack_finish`: this server is known to leave the reason out of complete replies."""
    if collected.continuations:
        read = Usage(sum(len(scores.ids) for scores in collected.continuations), estimated=True)
        return Reply(request_id, "complete", usage=collected.usage or read, elapsed_s=elapsed_s,
                     continuations=collected.continuations)
    split = _split(collected)
    called = "".join(json.dumps(call["function"], ensure_ascii=False) for call in collected.tool_calls)
    ours = counted(split.reasoning, (split.answer or collected.refusal) + called, prompt_tokens)
    usage = collected.usage if collected.usage is not None and _may_be(collected.usage, ours) else ours
    status = _status(collected, split, usage, max_tokens, is_whole, may_lack_finish)
    return Reply(
        request_id=request_id, status=status, reasoning=split.reasoning, answer=split.answer or collected.refusal,
        raw=raw, trace_kind=_trace_kind(collected, split), finish_reason=collected.finish or "", usage=usage,
        elapsed_s=elapsed_s, error=_why(collected) if status == "error" else "",
        tool_calls=tuple(collected.tool_calls),
    )


def _why(collected: Collected) -> str:
    """Why such a reply is an error."""
    return collected.unread or f"unknown finish reason {collected.finish!r}"


def _split(collected: Collected) -> Split:
    named = collected.reasoning()
    return split_beside(named, collected.content) if named else split_thinking(collected.content)


def _trace_kind(collected: Collected, split: Split) -> TraceKind:
    if split.reasoning:
        return "summary" if collected.has_summary else "raw"
    return "encrypted" if collected.has_encrypted else "none"


def _status(collected: Collected, split: Split, usage: Usage, max_tokens: int, is_whole: bool,
            may_lack_finish: bool) -> Status:
    if collected.refusal:
        return "refusal"
    if collected.unread:
        return "error"
    finish = collected.finish
    if finish is None:
        # Some servers leave the reason out of complete replies; a token count below the limit proves those.
        proven = not usage.estimated and 0 < usage.completion_tokens < max_tokens
        if not is_whole or not (proven or may_lack_finish):
            return "truncated"
        finish = "stop"
    status = status_of_end(finish) or "error"
    if status != "complete":
        return status
    if not is_whole:
        return "truncated"  # the reason came before the words that it is to end, and more of those may be missing
    if split.answer or collected.tool_calls:
        return "complete"
    return "reasoning_only" if split.reasoning else "empty"


def _may_be(usage: Usage, ours: Usage) -> bool:
    """False where a server counts nothing asked, nothing written where there is text, or next to nothing of much: such
    a count is none."""
    return usage.prompt_tokens > 0 and all(
        (said or not count) and (count < _ENOUGH or said * _LIE >= count)
        for said, count in ((usage.prompt_tokens, ours.prompt_tokens),
                            (usage.completion_tokens, ours.completion_tokens)))


def count_of(usage: Mapping[str, Any], *paths: str) -> int:
    """The first sane count above 0 at one of the dotted `paths`, else 0."""
    for path in paths:
        if count := sane_count(at_path(usage, path)):
            return count
    return 0


def sane_count(value: object) -> int | None:
    """A whole number from 0 to a billion, as a number or as text; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < 1_000_000_000 else None
