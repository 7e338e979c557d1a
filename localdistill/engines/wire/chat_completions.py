"""The chat-completions dialect, as many servers speak it. Reasoning arrives in at least five places, sometimes in two
at once; it is never counted twice and never lost."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from localdistill.core.records import Usage
from localdistill.engines.wire.collected import Collected, Malformed, count_of
from localdistill.engines.wire.dialect import RateLimitHeaders
from localdistill.engines.wire.token_deltas import (
    REASONING_FIELDS,
    TEXT_KEYS,
    Parts,
    error_of,
    merge,
    number_of,
    unfold,
)
from localdistill.templates import named_end

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class ChatCompletions:
    """Bodies of `/chat/completions`."""

    path: ClassVar[str] = "/chat/completions"

    def headers(self, key: str) -> dict[str, str]:
        """See `Dialect.headers`."""
        return {"Authorization": f"Bearer {key}"} if key else {}

    def collect(self, body: object) -> Collected:
        """The first choice of a whole body."""
        if not isinstance(body, Mapping):
            raise Malformed("the body has no choices[0].message")
        try:
            choice = body["choices"][0]
            message = choice["message"]
            finish, named = choice.get("finish_reason"), body.get("id")
        except (KeyError, IndexError, TypeError, AttributeError):
            raise Malformed("the body has no choices[0].message") from None
        if not isinstance(message, Mapping):
            raise Malformed("choices[0].message is no object")
        collected = Collected(id=named if isinstance(named, str) else "",
                              finish=named_end(finish),
                              usage=usage_of(body.get("usage")))
        for is_reasoning, name, text in _texts(message):
            if is_reasoning:
                collected.fields[name] = collected.fields.get(name, "") + text
            elif name == "refusal":
                collected.refusal += text
            else:
                collected.content += text
        _take_kinds(collected, message)
        return collected

    def fold(self) -> ChatFold:
        """See `Dialect.fold`."""
        return ChatFold()

    def error_of(self, body: object) -> tuple[str, int] | None:
        """See `Dialect.error_of`."""
        return error_of(body)

    def limits(self, headers: Mapping[str, str]) -> dict[str, RateLimitHeaders]:
        """From `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`."""
        found = {}
        for name in ("requests", "tokens"):
            limit, left, reset = (headers.get(f"x-ratelimit-{what}-{name}") for what in ("limit", "remaining", "reset"))
            found[name] = RateLimitHeaders(number_of(limit), number_of(left), _duration_s(reset))
        return {name: limits for name, limits in found.items() if limits != RateLimitHeaders()}


def _take_kinds(collected: Collected, message: Mapping[str, Any]) -> None:
    """What kind of text the reasoning is: the model's own, a summary, or unreadable."""
    listed = message.get("reasoning_details")
    details = [item for item in listed if isinstance(item, Mapping)] if isinstance(listed, list) else []
    kinds = {str(item.get("type")) for item in details}
    # Whoever hides the whole text in `encrypted_content` shows a summary of it beside; Claude's readable text is one.
    hides = isinstance(message.get("encrypted_content"), str)
    is_claude = any(str(item.get("format")).startswith("anthropic") for item in details)
    collected.has_encrypted = "reasoning.encrypted" in kinds or hides
    collected.has_summary = is_claude or (
        "reasoning.text" not in kinds and ("reasoning.summary" in kinds or hides))


class ChatFold:
    """Joins `delta` objects into a message."""

    def __init__(self) -> None:
        self.ended = self.over = False
        self.shows = True
        self._ends_early = False
        """Words came behind a finish reason: this server's reasons end nothing."""
        self._top: dict[str, Any] = {}
        self._choice: dict[str, Any] = {}
        self._message: dict[str, Any] = {}
        self._shown = ""

    def take(self, event: Mapping[str, Any]) -> list[tuple[bool, str]]:
        """See `Fold.take`."""
        pieces: list[tuple[bool, str]] = []
        for key, value in event.items():
            if key != "choices":
                if value is not None:
                    self._top[key] = value
                continue
            for choice in value[:1] if isinstance(value, list) else ():
                if isinstance(choice, dict):
                    pieces += self._take_choice(choice)
        return pieces

    def _take_choice(self, choice: Mapping[str, Any]) -> list[tuple[bool, str]]:
        for key, value in choice.items():
            if key not in ("delta", "message") and value is not None and (key != "finish_reason" or named_end(value)):
                self._choice[key] = value
        delta = choice.get("delta") or choice.get("message")
        if self.ended and isinstance(delta, dict) and any(True for _ in _texts(delta)):
            self._ends_early = True
        self.ended = (self.ended or named_end(choice.get("finish_reason")) is not None) and not self._ends_early
        if not isinstance(delta, dict):
            return []
        merge(self._message, delta)
        if not self.shows:
            return []
        pieces = []
        for is_reasoning, name, text in _texts(delta):
            if is_reasoning:
                self._shown = self._shown or name
                if name != self._shown:
                    continue  # the same words under a second name
            pieces.append((is_reasoning, text))
        return pieces

    def grown(self, event: Mapping[str, Any]) -> tuple[str, list[str]] | None:
        """See `Fold.grown`."""
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
        delta = choice.get("delta") if isinstance(choice, dict) and not choice.get("finish_reason") else None
        if not isinstance(delta, dict) or any(isinstance(value, (list, dict)) and value for value in delta.values()):
            return None
        texts = [(key, text) for key, text in delta.items() if key in TEXT_KEYS and isinstance(text, str) and text]
        parts = self._message.get(texts[0][0]) if len(texts) == 1 else None
        return (texts[0][1], parts) if isinstance(parts, Parts) else None

    def body(self) -> dict[str, Any]:
        """See `Fold.body`."""
        choice = {**self._choice, "message": unfold(self._message)}
        return {**self._top, "object": "chat.completion", "choices": [choice]}


def _texts(message: Mapping[str, Any]) -> Iterator[tuple[bool, str, str]]:
    """(is reasoning, name of the place, text) of a message or a delta."""
    for name in REASONING_FIELDS:
        if isinstance(text := message.get(name), str) and text:
            yield True, name, text
    details = message.get("reasoning_details")
    for item in details if isinstance(details, list) else ():
        kind = str(item.get("type", "")) if isinstance(item, Mapping) else ""
        text = item.get({"reasoning.text": "text", "reasoning.summary": "summary"}.get(kind, "")) if kind else None
        if isinstance(text, str) and text:
            yield True, "details", text
    yield from _content(message.get("content"))
    if isinstance(refusal := message.get("refusal"), str) and refusal:
        yield False, "refusal", refusal


def _content(content: object) -> Iterator[tuple[bool, str, str]]:
    """A content that is a string or a list of typed parts."""
    if isinstance(content, str):
        if content:
            yield False, "content", content
        return
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, Mapping):
            continue
        if part.get("type") in ("text", "output_text") and isinstance(part.get("text"), str):
            yield False, "content", part["text"]
        elif part.get("type") in ("thinking", "reasoning"):
            inner = part.get("thinking") or part.get("reasoning") or part.get("text")
            texts = [inner] if isinstance(inner, str) else [text for _, _, text in _content(inner)]
            yield from ((True, "parts", text) for text in texts)


def usage_of(usage: object) -> Usage | None:
    """Token counts as reported; None when there is no sane count of new tokens. Some servers leave reasoning out of the
    new tokens and count it in the total."""
    if not isinstance(usage, Mapping):
        return None
    new = usage.get("completion_tokens")
    if not isinstance(new, int) or isinstance(new, bool) or not 0 <= new < 1_000_000_000:
        return None
    prompt = count_of(usage, "prompt_tokens")
    cached = count_of(usage, "prompt_tokens_details.cached_tokens", "prompt_cache_hit_tokens", "cached_tokens")
    reasoning = count_of(usage, "completion_tokens_details.reasoning_tokens", "reasoning_tokens")
    new = max(new, count_of(usage, "total_tokens") - prompt, new + reasoning if reasoning > new else 0)
    return Usage(prompt, new, reasoning, min(cached, prompt))


def _duration_s(text: str | None) -> float | None:
    """Seconds of `6m0s`, `20ms`, `1h2m` or a plain number; None when unreadable."""
    if text is None:
        return None
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text.strip():
        return number_of(str(sum(float(number) * _SECONDS[unit] for number, unit in parts)))
    return number_of(text)
