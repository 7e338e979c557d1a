"""The chat-completions dialect, as many servers speak it. Reasoning arrives in many places, sometimes in two at once;
it is never counted twice and never lost."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from localdistill.engines.wire.collected import Collected, Malformed
from localdistill.engines.wire.dialect import RateLimitHeaders
from localdistill.engines.wire.token_counts import usage_in
from localdistill.engines.wire.token_deltas import (
    TEXT_KEYS,
    Parts,
    error_of,
    grown_counts,
    merge,
    number_of,
    unfold,
)
from localdistill.templates import named_end
from localdistill.templates.turns import DETAILS, REASONING_FIELDS, pieces_of

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class ChatCompletions:
    """Bodies of `/chat/completions`."""

    path: ClassVar[str] = "/chat/completions"

    def __init__(self, reasoning_fields: Sequence[str] = ()) -> None:
        """reasoning_fields: where a message may hold reasoning, beside the usual places."""
        self._fields = tuple(dict.fromkeys((*reasoning_fields, *REASONING_FIELDS)))

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
                              usage=usage_in(body, choice))
        collected.take(message, self._fields)
        _take_kinds(collected, message)
        return collected

    def fold(self) -> ChatFold:
        """See `Dialect.fold`."""
        return ChatFold(self._fields)

    def error_of(self, body: object) -> tuple[str, int] | None:
        """See `Dialect.error_of`. Some servers put the error into the choice that it ended."""
        found = error_of(body)
        if found is None and isinstance(body, Mapping) and isinstance(body.get("choices"), list) and body["choices"]:
            return error_of(body["choices"][0])
        return found

    def limits(self, headers: Mapping[str, str]) -> dict[str, RateLimitHeaders]:
        """From `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`."""
        found = {}
        for name in ("requests", "tokens"):
            limit, left, reset = (headers.get(f"x-ratelimit-{what}-{name}") for what in ("limit", "remaining", "reset"))
            found[name] = RateLimitHeaders(number_of(limit), number_of(left), _duration_s(reset))
        return {name: limits for name, limits in found.items() if limits != RateLimitHeaders()}


def _take_kinds(collected: Collected, message: Mapping[str, Any]) -> None:
    """What kind of text the reasoning is, where the places that it came from do not say: Claude's readable text is a
    summary, and whoever hides the whole text in `encrypted_content` shows one beside."""
    listed = message.get(DETAILS)
    details = [item for item in listed if isinstance(item, Mapping)] if isinstance(listed, list) else []
    hides = isinstance(message.get("encrypted_content"), str)
    collected.has_encrypted = hides or any(str(item.get("type")) == "reasoning.encrypted" for item in details)
    is_claude = any(str(item.get("format")).startswith("anthropic") for item in details)
    collected.has_summary |= is_claude or (hides and not collected.has_own_words)


class ChatFold:
    """Joins `delta` objects into a message."""

    def __init__(self, fields: Sequence[str] = REASONING_FIELDS) -> None:
        self._fields = fields
        self._texts = TEXT_KEYS | {name.rpartition(".")[2] for name in fields}
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
                    self._top[key] = grown_counts(self._top.get(key), value)
                continue
            for choice in value[:1] if isinstance(value, list) else ():
                if isinstance(choice, dict):
                    pieces += self._take_choice(choice)
        return pieces

    def _take_choice(self, choice: Mapping[str, Any]) -> list[tuple[bool, str]]:
        for key, value in choice.items():
            if key not in ("delta", "message") and value is not None and (key != "finish_reason" or named_end(value)):
                self._choice[key] = grown_counts(self._choice.get(key), value)
        delta = choice.get("delta") or choice.get("message")
        if self.ended and isinstance(delta, dict) and any(True for _ in pieces_of(delta, self._fields)):
            self._ends_early = True
        self.ended = (self.ended or named_end(choice.get("finish_reason")) is not None) and not self._ends_early
        if not isinstance(delta, dict):
            return []
        merge(self._message, delta, self._texts)
        if not self.shows:
            return []
        pieces = []
        for kind, name, text, _ in pieces_of(delta, self._fields):
            if kind == "reasoning":
                self._shown = self._shown or name
                if name != self._shown:
                    continue  # the same words under a second name
            if kind in ("reasoning", "text", "refusal"):
                pieces.append((kind == "reasoning", text))
        return pieces

    def grown(self, event: Mapping[str, Any]) -> tuple[str, list[str]] | None:
        """See `Fold.grown`."""
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
        delta = choice.get("delta") if isinstance(choice, dict) and not choice.get("finish_reason") else None
        if not isinstance(delta, dict) or any(isinstance(value, (list, dict)) and value for value in delta.values()):
            return None
        texts = [(key, text) for key, text in delta.items() if key in self._texts and isinstance(text, str) and text]
        parts = self._message.get(texts[0][0]) if len(texts) == 1 else None
        return (texts[0][1], parts) if isinstance(parts, Parts) else None

    def body(self) -> dict[str, Any]:
        """See `Fold.body`."""
        choice = {**self._choice, "message": unfold(self._message)}
        return {**self._top, "object": "chat.completion", "choices": [choice]}


def _duration_s(text: str | None) -> float | None:
    """Seconds of `6m0s`, `20ms`, `1h2m` or a plain number; None when unreadable."""
    if text is None:
        return None
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text.strip():
        return number_of(str(sum(float(number) * _SECONDS[unit] for number, unit in parts)))
    return number_of(text)
