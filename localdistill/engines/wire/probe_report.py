"""What a teacher turned out to be: the report of a probe, and the readings that lead to it. Pure functions over what
came; sends nothing and keeps nothing. Every word of a server that enters a report is made safe to show first."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from localdistill.core.records import Reply
from localdistill.engines.wire.collected import UNREADABLE, Collected, tokens_of
from localdistill.engines.wire.dialect import RateLimitHeaders
from localdistill.safety.text import display_safe
from localdistill.templates.marks import HARMONY_STARTS, bare, closing_alone, hit_at, opened_by

FORMAT = 1
ABSURD_LIMIT = 99_999_999
"""A limit on new tokens that no server grants; its refusal states the true one."""
MAX_CHARS = 300
THIS_MACHINE = "this machine"

_SUMMARY_BELOW, _RAW_FROM = 0.4, 0.55
"""Shown over billed reasoning tokens. The count of shown ones is a guess from the text, so there is room between."""
_JUDGED_FROM = 64
"""Billed reasoning tokens below which a ratio says nothing."""
_HIDDEN_FROM = 16
_TIMED_FROM_S = 1.0
"""A reply that took less says little about speed."""

ReasoningKind = Literal["raw", "summary", "encrypted", "hidden", "unclear", "none"]
"""`raw`: the model's own words. `summary`: far less is shown than is billed, or the server says so. `encrypted`: it
comes unreadable. `hidden`: it is billed and does not come. `unclear`: it comes, and nothing tells whether it is whole.
"""
SwitchVerdict = Literal["none", "works", "stays_on", "stays_off", "on_refused", "off_refused"]
"""What the thinking switch does. `none`: none is known for this server."""


@dataclass(frozen=True)
class RateLimit:
    """One allowance as the headers of a reply stated it."""

    name: str
    limit: float | None = None
    remaining: float | None = None
    reset_s: float | None = None


@dataclass(frozen=True)
class Probe:
    """What one teacher turned out to be. None stands for: not found out."""

    identity: str
    """The engine's identity: host, model and what changes the question, the thinking switch among it."""
    host: str
    """Or THIS_MACHINE for a model that no server answers for."""
    model: str
    probed_at: str
    """ISO 8601, UTC."""
    provider: str = ""
    answered_as: str = ""
    """The model that the server says it used."""
    reasoning: ReasoningKind = "none"
    evidence: str = ""
    """Why `reasoning` says so, in one sentence."""
    carriers: tuple[str, ...] = ()
    """Fields or tags that carried the reasoning."""
    reasoning_tokens: int | None = None
    """As billed for the question that makes a model think."""
    switch: str = ""
    """The key of the request that switches thinking."""
    switch_verdict: SwitchVerdict = "none"
    solved: bool | None = None
    """The arithmetic was right."""
    max_output_tokens: int | None = None
    context_tokens: int | None = None
    limit_words: str = ""
    """What the server said to an absurd limit."""
    finish_at_limit: str = ""
    """The finish reason of a reply that ran into a small limit."""
    finish_reasons: tuple[str, ...] = ()
    """Every finish reason that came."""
    lacks_finish: bool = False
    """A reply came without a finish reason."""
    usage_whole: bool | None = None
    """Token counts come with whole replies."""
    usage_streamed: bool | None = None
    """Token counts come with streams."""
    accepts_seed: bool | None = None
    accepts_temperature: bool | None = None
    rate_limits: tuple[RateLimit, ...] = ()
    first_token_s: float | None = None
    """Seconds to the first words of a stream, the connection included."""
    elapsed_s: float | None = None
    """Of the whole reply that thinks."""
    tokens_per_s: float | None = None
    """Of one reply that nothing ran beside; of a server over the whole time, the wait for the first words included."""
    cost_usd: float | None = None
    """Of the one reply that thinks."""
    spent_usd: float | None = None
    """By the whole probe; None when no price is known."""
    device: str = ""
    """Where a local model ran."""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"format": FORMAT, **dataclasses.asdict(self)}

    @staticmethod
    def from_json(data: object) -> Probe | None:
        """What `to_json` gave; None when it is of another version or damaged."""
        if not isinstance(data, Mapping):
            return None
        try:
            fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value
                                      for name, value in data.items() if name != "format"}
            fields["rate_limits"] = tuple(RateLimit(**row) for row in data["rate_limits"])
            return Probe(**fields) if data["format"] == FORMAT else None
        except (TypeError, KeyError, AttributeError):
            return None


@dataclass(frozen=True)
class Exchange:
    """One question and what came."""

    collected: Collected
    reply: Reply
    body: Mapping[str, Any]
    limits: Mapping[str, RateLimitHeaders]
    first_piece_s: float | None
    cost_nano: int | None
    """None: unknown."""


def shown(text: object) -> str:
    """Words of a server, safe to show and of bounded length."""
    return " ".join(display_safe(str(text)[:MAX_CHARS]).split())


def thinks(exchange: Exchange) -> bool:
    """Whether the model thought, shown or not."""
    return reasoning_of(exchange)[0] != "none"


def reasoning_of(exchange: Exchange) -> tuple[ReasoningKind, str]:
    """What the reasoning of a reply is, and the evidence in one sentence."""
    reply, collected = exchange.reply, exchange.collected
    text, usage = reply.reasoning, reply.usage
    answer = tokens_of(reply.answer)
    billed = 0.0 if usage.estimated else float(usage.reasoning_tokens) or max(0.0, usage.completion_tokens - answer)
    counted = "billed as reasoning" if usage.reasoning_tokens and not usage.estimated else "billed beside the answer"
    if not text:
        if collected.has_encrypted:
            return "encrypted", "reasoning comes in blocks that cannot be read"
        if usage.reasoning_tokens >= _HIDDEN_FROM and not usage.estimated:
            return "hidden", f"{usage.reasoning_tokens:,} tokens are billed as reasoning and none is shown"
        if billed >= _JUDGED_FROM and billed > 2 * answer:
            return "hidden", f"{billed:,.0f} tokens are billed beside an answer of about {answer:,.0f}"
        return "none", "no reasoning came, and none was billed"
    # An API of messages marks nothing; what is believed of it is not evidence.
    if collected.has_summary and "choices" in exchange.body:
        return "summary", "the server marks what it shows as a summary"
    visible = tokens_of(text)
    if billed < _JUDGED_FROM:
        why = "no token counts came" if usage.estimated else f"only {billed:,.0f} tokens were {counted}"
        return "unclear", f"reasoning is shown, and nothing tells whether it is whole: {why}"
    said = f"about {visible:,.0f} tokens of reasoning are shown, {billed:,.0f} were {counted}"
    ratio = visible / billed
    return ("summary" if ratio < _SUMMARY_BELOW else "raw" if ratio >= _RAW_FROM else "unclear"), said


def carriers(collected: Collected) -> tuple[str, ...]:
    """Every place that carried reasoning: names of fields, and tags inside the text."""
    names = {"details": "reasoning_details", "parts": "parts of content"}
    found = [names.get(name, name) for name, text in collected.fields.items() if text.strip()]
    content = bare(collected.content)
    if content.startswith(HARMONY_STARTS):
        found.append("<|channel|> in the text")
    first = hit_at(content)
    if first is not None and opened_by(first.text):
        found.append(f"{first.text} in the text")
    elif closing := closing_alone(content):
        found.append(f"{closing} in the text, without its opening tag")
    return tuple(shown(name) for name in found)


_NO_TEXT = frozenset({"role", "usage", "id", "model", "type"})


def text_fields(raw: str) -> tuple[str, ...]:
    """The fields of a reply's message that hold something, by name; of a body that is no reply of a server, none."""
    try:
        body: Any = json.loads(raw)
        message = body["choices"][0]["message"] if "choices" in body else body
        parts = message.get("content")
        types = [f"content.{part.get('type')}" for part in parts] if isinstance(parts, list) else []
        own = [name for name, value in message.items() if value and name not in _NO_TEXT]
    except UNREADABLE:
        return ()
    return tuple(map(shown, dict.fromkeys((*own, *types))))


_NUMBER = r"(\d[\d,_]{0,14})"
_CONTEXT = tuple(re.compile(pattern, re.IGNORECASE) for pattern in (
    rf"context[ _](?:length|window|size)[^.\d]{{0,40}}?{_NUMBER}",
    rf"inputs?`? tokens \+ `?max_new_tokens`? must be <= {_NUMBER}",
))
_OUTPUT = tuple(re.compile(pattern, re.IGNORECASE) for pattern in (
    rf"range[^\[(]{{0,60}}[\[(]\s*\d+\s*,\s*{_NUMBER}\s*[\])]",
    rf"from \d+ \(inclusive\) to {_NUMBER}",
    rf"{ABSURD_LIMIT}\s*>\s*{_NUMBER}(?![\d,_]|\s*-)",
    rf"(?:at most|up to|less than or equal to|lower than or equal to|<=|no more than|cannot exceed|must not exceed)"
    rf"\s*`?{_NUMBER}",
    rf"maximum (?:allowed |output |completion |number of |new |value )*(?:tokens?)?[^.\d]{{0,40}}?{_NUMBER}",
    rf"between \d+ and {_NUMBER}",
))


def limits_in(text: str) -> tuple[int | None, int | None]:
    """(most new tokens, longest context) as a refusal of ABSURD_LIMIT states them; None where it is silent."""
    context = next((number for pattern in _CONTEXT for number in _sane(pattern.findall(text))), None)
    output = next((number for pattern in _OUTPUT for number in _sane(pattern.findall(text)) if number != context), None)
    return output, context


def _sane(found: Sequence[str]) -> Iterator[int]:
    """Numbers that may be limits: the absurd one, alone or with the prompt's tokens added, is not."""
    for text in found:
        number = int(text.replace(",", "").replace("_", "") or 0)
        if 16 <= number < ABSURD_LIMIT:
            yield number


def rate_limits(exchanges: Sequence[Exchange]) -> tuple[RateLimit, ...]:
    """The last word of the headers on every allowance."""
    last: dict[str, RateLimitHeaders] = {}
    for exchange in exchanges:
        last.update(exchange.limits)
    return tuple(RateLimit(name, found.limit, found.remaining, found.reset_s) for name, found in last.items())


def compare(old: Probe, new: Probe) -> list[str]:
    """What changed from `old` to `new`, one sentence each. What one of the two did not find out is no change."""
    changes = [
        f"{label}: {before if before != '' else 'none'} before, {after if after != '' else 'none'} now"
        for label, before, after in _pairs(old, new) if before is not None and after is not None and before != after
    ]
    # Single replies scatter, the shortest most; only what more than doubled or halved is worth a word.
    figures = [("price of an answer in US dollars", old.cost_usd, new.cost_usd)]
    if min(old.elapsed_s or 0.0, new.elapsed_s or 0.0) >= _TIMED_FROM_S:
        figures += [("tokens per second", old.tokens_per_s, new.tokens_per_s),
                    ("seconds to the first words", old.first_token_s, new.first_token_s)]
    changes += [f"{label}: {before:.3g} before, {after:.3g} now" for label, before, after in figures
                if before and after and not 0.5 <= after / before <= 2]
    return changes


def _pairs(old: Probe, new: Probe) -> Iterator[tuple[str, object, object]]:
    for label, name in (
        ("the model that answers", "answered_as"), ("its reasoning", "reasoning"),
        ("the thinking switch", "switch_verdict"),
        ("most new tokens", "max_output_tokens"), ("longest context", "context_tokens"),
        ("finish reason at the limit", "finish_at_limit"), ("replies without a finish reason", "lacks_finish"),
        ("token counts with whole replies", "usage_whole"), ("token counts with streams", "usage_streamed"),
        ("a seed is accepted", "accepts_seed"), ("a temperature is accepted", "accepts_temperature"),
        ("the arithmetic was right", "solved"), ("device", "device"),
    ):
        yield label, _word(getattr(old, name)), _word(getattr(new, name))
    yield "where reasoning stands", ", ".join(old.carriers), ", ".join(new.carriers)
    before = {limit.name: limit.limit for limit in old.rate_limits}
    for limit in new.rate_limits:
        yield f"limit of {limit.name.replace('_', ' ')}", before.get(limit.name), limit.limit


def _word(value: object) -> object:
    return ("yes" if value else "no") if isinstance(value, bool) else value
