"""Reads chat-completion bodies of many servers into replies. Pure functions over parsed JSON.

Reasoning arrives in at least five places, sometimes in two at once; it is never counted twice and never lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from localdistill.records import Reply, Status, TraceKind, Usage
from localdistill.templates import Split, split_thinking
from localdistill.templates.thinking import TAG_PAIRS

_CHARS_PER_TOKEN = 4
_FINISH: dict[str, Status] = {
    "stop": "complete", "eos": "complete", "end_turn": "complete", "stop_sequence": "complete",
    "length": "length", "max_tokens": "length", "model_context_window_exceeded": "length",
    "content_filter": "filtered", "refusal": "refusal",
}


class Malformed(Exception):
    """The body is not a chat completion; the text says why."""


@dataclass
class Collected:
    """What a reply holds before it is judged; filled by a whole body or piece by piece by a stream."""

    content: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    """Reasoning by the name of the field that carried it."""
    has_summary: bool = False
    has_encrypted: bool = False
    refusal: str = ""
    finish: str | None = None
    usage: Mapping[str, Any] | None = None

    def take(self, message: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
        """Add a message or a delta. Yields (is reasoning, text) of what was added."""
        for name in ("reasoning_content", "reasoning", "thinking"):
            if isinstance(text := message.get(name), str) and text:
                self.fields[name] = self.fields.get(name, "") + text
                if name == next(iter(self.fields)):
                    yield True, text
        if details := self._details(message.get("reasoning_details")):
            self.fields["details"] = self.fields.get("details", "") + details
            if next(iter(self.fields)) == "details":
                yield True, details
        if isinstance(message.get("encrypted_content"), str):
            self.has_encrypted = True
        for is_reasoning, text in _parts(message.get("content")):
            if is_reasoning:
                self.fields["parts"] = self.fields.get("parts", "") + text
            else:
                self.content += text
            yield is_reasoning, text
        if isinstance(refusal := message.get("refusal"), str):
            self.refusal += refusal

    def _details(self, details: Any) -> str:
        texts = []
        for item in details if isinstance(details, list) else ():
            kind = str(item.get("type", "")) if isinstance(item, dict) else ""
            if kind == "reasoning.text":
                texts.append(str(item.get("text") or ""))
            elif kind == "reasoning.summary":
                self.has_summary = True
                texts.append(str(item.get("summary") or ""))
            elif kind == "reasoning.encrypted":
                self.has_encrypted = True
        return "".join(texts)

    def reasoning(self) -> str:
        """The reasoning fields as one text: a field that another one contains says nothing new."""
        kept: list[str] = []
        for text in sorted((t.strip() for t in self.fields.values()), key=len, reverse=True):
            if text and not any(text in longer for longer in kept):
                kept.append(text)
        return "\n\n".join(kept)


def _parts(content: Any) -> Iterator[tuple[bool, str]]:
    """(is reasoning, text) of a content that is a string or a list of typed parts."""
    if isinstance(content, str):
        if content:
            yield False, content
        return
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            continue
        if part.get("type") in ("text", "output_text") and isinstance(part.get("text"), str):
            yield False, part["text"]
        elif part.get("type") in ("thinking", "reasoning"):
            inner = part.get("thinking") or part.get("reasoning") or part.get("text")
            texts = [inner] if isinstance(inner, str) else [text for _, text in _parts(inner)]
            yield from ((True, text) for text in texts)


def collect(body: Any) -> Collected:
    """The first choice of a whole body. Raises Malformed."""
    try:
        choice = body["choices"][0]
        message = choice["message"]
        collected = Collected(finish=choice.get("finish_reason"), usage=body.get("usage"))
        for _ in collected.take(message):
            pass
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Malformed("the body has no choices[0].message") from None
    return collected


def reply_of(collected: Collected, request_id: str, raw: str, max_tokens: int, elapsed_s: float,
             is_whole: bool = True) -> Reply:
    """The reply. `is_whole` False: the connection ended before the server said that it was finished."""
    split = _split(collected)
    usage = usage_of(collected, split)
    status = _status(collected, split, usage, max_tokens, is_whole)
    return Reply(
        request_id=request_id, status=status, reasoning=split.reasoning, answer=split.answer or collected.refusal,
        raw=raw, trace_kind=_trace_kind(collected, split), finish_reason=collected.finish or "", usage=usage,
        elapsed_s=elapsed_s,
    )


def _split(collected: Collected) -> Split:
    named, content = collected.reasoning(), collected.content
    if not named:
        return split_thinking(content)
    if not content.lstrip().startswith(tuple(pair[0] for pair in TAG_PAIRS)):
        return Split(named, content.strip(), found=True, closed=True)
    inline = split_thinking(content)
    same = inline.reasoning in named or named in inline.reasoning
    both = max(named, inline.reasoning, key=len) if same else f"{named}\n\n{inline.reasoning}"
    return Split(both, inline.answer, found=True, closed=inline.closed)


def _trace_kind(collected: Collected, split: Split) -> TraceKind:
    if split.reasoning:
        return "summary" if collected.has_summary else "raw"
    return "encrypted" if collected.has_encrypted else "none"


def _status(collected: Collected, split: Split, usage: Usage, max_tokens: int, is_whole: bool) -> Status:
    if collected.refusal:
        return "refusal"
    finish = collected.finish
    if finish is None:
        # Some servers leave the reason out of complete replies; a token count below the limit proves those.
        proven = is_whole and not usage.estimated and 0 < usage.completion_tokens < max_tokens
        if not proven:
            return "truncated"
        finish = "stop"
    status = _FINISH.get(finish, "error")
    if status != "complete":
        return status
    if split.answer:
        return "complete"
    return "reasoning_only" if split.reasoning else "empty"


def usage_of(collected: Collected, split: Split) -> Usage:
    """Token counts as reported, else estimated from the length of the texts."""
    usage = collected.usage
    if not isinstance(usage, Mapping) or not isinstance(usage.get("completion_tokens"), int):
        reasoning = -(-len(split.reasoning) // _CHARS_PER_TOKEN)
        return Usage(0, reasoning + -(-len(split.answer) // _CHARS_PER_TOKEN), reasoning, estimated=True)

    def number(*path: str) -> int:
        value: Any = usage
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0

    return Usage(
        prompt_tokens=number("prompt_tokens"), completion_tokens=number("completion_tokens"),
        reasoning_tokens=number("completion_tokens_details", "reasoning_tokens") or number("reasoning_tokens"),
        cached_tokens=number("prompt_tokens_details", "cached_tokens") or number("prompt_cache_hit_tokens"),
    )


def error_of(body: Any) -> tuple[str, int] | None:
    """(message, code) of an error object, which some servers send with status 200; None when there is none."""
    error = body.get("error") if isinstance(body, Mapping) else None
    if not error:
        return None
    if not isinstance(error, Mapping):
        return str(error), 0
    code = str(error.get("code") or error.get("status"))
    return str(error.get("message") or json.dumps(error)), int(code) if code.isdecimal() else 0
