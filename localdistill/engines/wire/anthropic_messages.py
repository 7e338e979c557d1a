"""The messages dialect of Anthropic: typed content blocks, named stream events, its own limits and overload status."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from localdistill.core.records import Usage
from localdistill.engines.wire.collected import Collected, Malformed, count_of
from localdistill.engines.wire.dialect import RateLimitHeaders
from localdistill.engines.wire.token_deltas import Parts, error_of, grown_counts, merge, number_of, unfold
from localdistill.templates import named_end
from localdistill.templates.turns import REASONING_FIELDS

VERSION = "2023-06-01"
_ERROR_STATUS = {
    "overloaded_error": 529, "rate_limit_error": 429, "api_error": 500, "timeout_error": 408,
    "authentication_error": 401, "permission_error": 403, "not_found_error": 404, "invalid_request_error": 400,
    "request_too_large": 413, "billing_error": 402,
}
_DELTA_FIELD = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature",
                "input_json_delta": "partial_json"}
_BLOCK_OF = {"text": "text", "partial_json": "tool_use"}
"""Type of the block that a delta belongs to whose start did not come; of all others it is thinking."""


class Messages:
    """Bodies of `/v1/messages`."""

    path: ClassVar[str] = "/messages"

    def __init__(self, summarizes: bool | None = None) -> None:
        """summarizes: whether this server's thinking text is a summary of the model's own; None where that is not
        known: then it is where it is signed, as a server of one's own signs nothing."""
        self._summarizes = summarizes

    def headers(self, key: str) -> dict[str, str]:
        """See `Dialect.headers`."""
        return {"anthropic-version": VERSION, **({"x-api-key": key} if key else {})}

    def collect(self, body: object) -> Collected:
        """The blocks of a whole message."""
        if not isinstance(body, Mapping) or not isinstance(blocks := body.get("content"), list | str):
            raise Malformed("the body has no list 'content'")
        reason, named = body.get("stop_reason"), body.get("id")
        collected = Collected(id=named if isinstance(named, str) else "",
                              finish=named_end(reason),
                              usage=_usage(body.get("usage")))
        collected.take(body, REASONING_FIELDS, between="\n\n")
        thoughts = [block for block in blocks if isinstance(block, Mapping) and
                    block.get("type") in ("thinking", "redacted_thinking")]
        # Shown empty, signed all the same: the text was left out on request.
        collected.has_encrypted = any(not block.get("thinking") for block in thoughts)
        is_signed = any(block.get("signature") for block in thoughts)
        collected.has_summary = bool(collected.fields) and (is_signed if self._summarizes is None else self._summarizes)
        return collected

    def fold(self) -> MessagesFold:
        """See `Dialect.fold`."""
        return MessagesFold()

    def error_of(self, body: object) -> tuple[str, int] | None:
        """See `Dialect.error_of`."""
        found = error_of(body)
        error = body.get("error") if isinstance(body, Mapping) else None
        kind = error.get("type") if isinstance(error, Mapping) else None
        return (found[0], found[1] or _ERROR_STATUS.get(str(kind), 0)) if found else None

    def limits(self, headers: Mapping[str, str]) -> dict[str, RateLimitHeaders]:
        """From `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}`."""
        found = {}
        for name, stem in (("requests", "requests"), ("tokens", "tokens"), ("input_tokens", "input-tokens"),
                           ("output_tokens", "output-tokens")):
            prefix = f"anthropic-ratelimit-{stem}"
            limit, left, reset = (headers.get(f"{prefix}-{what}") for what in ("limit", "remaining", "reset"))
            found[name] = RateLimitHeaders(number_of(limit), number_of(left), _until_s(reset))
        return {name: limits for name, limits in found.items() if limits != RateLimitHeaders()}


class MessagesFold:
    """Joins the events of a stream into one message."""

    def __init__(self) -> None:
        self.ended = self.over = False
        self.shows = True
        self._ends_early = False
        """Words came behind a stop reason: only the end of the message ends it."""
        self._message: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}

    def take(self, event: Mapping[str, Any]) -> list[tuple[bool, str]]:
        """See `Fold.take`."""
        kind, index = event.get("type"), event.get("index")
        index = index if isinstance(index, int) else 0
        self._count(event)
        if kind == "message_start" and isinstance(event.get("message"), Mapping):
            self._message.update({key: value for key, value in event["message"].items() if key != "usage"})
            self._count(event["message"])
        elif kind == "content_block_start" and isinstance(event.get("content_block"), Mapping):
            block = self._blocks.setdefault(index, {})
            merge(block, event["content_block"])
            return [piece for name in ("thinking", "text") if (piece := (name == "thinking",
                    str(event["content_block"].get(name) or "")))[1]]
        elif kind == "content_block_delta" and isinstance(event.get("delta"), Mapping):
            name = _DELTA_FIELD.get(str(event["delta"].get("type")))
            text = event["delta"].get(name) if name else None
            if name and isinstance(text, str):
                self._ends_early |= self.ended and bool(text)
                self.ended &= not self._ends_early
                merge(self._blocks.setdefault(index, {"type": _BLOCK_OF.get(name, "thinking")}), {name: text})
                return [(name == "thinking", text)] if text and name in ("thinking", "text") else []
        elif kind == "message_delta":
            self._take_end(event)
        elif kind == "message_stop":
            self.ended = self.over = True
        return []

    def _take_end(self, event: Mapping[str, Any]) -> None:
        delta = event.get("delta")
        if isinstance(delta, Mapping):
            self._message.update({key: value for key, value in delta.items()
                                  if value is not None and value != "" and key != "usage"})
            self._count(delta)
            self.ended = not self._ends_early and (self.ended or named_end(delta.get("stop_reason")) is not None)

    def _count(self, said: Mapping[str, Any]) -> None:
        if isinstance(said.get("usage"), Mapping):
            self._message["usage"] = grown_counts(self._message.get("usage"), said["usage"])

    def grown(self, event: Mapping[str, Any]) -> tuple[str, list[str]] | None:
        """See `Fold.grown`."""
        delta, index = event.get("delta"), event.get("index")
        if event.get("type") != "content_block_delta" or not isinstance(delta, Mapping) or not isinstance(index, int):
            return None
        name = _DELTA_FIELD.get(str(delta.get("type")), "")
        text, parts = delta.get(name), self._blocks.get(index, {}).get(name)
        return (text, parts) if isinstance(text, str) and text and isinstance(parts, Parts) else None

    def body(self) -> dict[str, Any]:
        """See `Fold.body`."""
        return {**self._message, "content": [unfold(self._blocks[index]) for index in sorted(self._blocks)]}


def _usage(usage: object) -> Usage | None:
    if not isinstance(usage, Mapping) or not isinstance(usage.get("output_tokens"), int):
        return None
    new = usage["output_tokens"]
    if isinstance(new, bool) or not 0 <= new < 1_000_000_000:
        return None
    cached, written = count_of(usage, "cache_read_input_tokens"), count_of(usage, "cache_creation_input_tokens")
    return Usage(count_of(usage, "input_tokens") + cached + written, new,
                 count_of(usage, "output_tokens_details.thinking_tokens", "thinking_tokens"), cached,
                 cache_write_tokens=written)


def _until_s(text: str | None) -> float | None:
    """Seconds from now to an RFC 3339 time."""
    try:
        then = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    if then is None:
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())
