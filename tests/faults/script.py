"""What the fault server plays: steps (one answer each), rules that pick a step for a request, and the weather of the
whole server (capacity, limits, outages, batches). Plain values that JSON can hold, so that a server in a process of its
own plays the same script."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.faults.batches import BatchPlan

AUTO = "auto"
"""The value of a field that the server fills in by itself."""

Ending = Literal["clean", "abrupt", "reset", "stall"]


@dataclass(frozen=True)
class Step:
    """One answer to one request: what is said, and what goes wrong with it."""

    reasoning: str | None = None
    """None: about the question."""
    answer: str | None = None
    """None: about the question; `Double 7` is answered by `The answer is 14.`"""
    finish: str | None = AUTO
    """Finish or stop reason, in the words of the asked form."""
    usage: Any = AUTO
    """Sent as it is; `auto` counts the texts. None leaves it out."""
    reasoning_field: str = "reasoning_content"
    """Field of the OpenAI form that carries the reasoning; empty: the answer begins with it, in think tags."""
    id: str = AUTO
    body: str | None = None
    """Exact bytes (as latin-1 text) instead of a reply built from the fields above."""
    wire: str | None = None
    """Exact bytes (as latin-1 text) of everything that is sent, the head of the HTTP response included; then the
    connection is closed."""
    error_after: int | None = None
    """An error event comes after so many events of the stream (or instead of a whole body)."""
    hidden_tokens: int = 0
    """The model wrote so many tokens beside what is shown; an honest count holds them."""
    billed: bool | None = None
    """Whether the provider charges for what the model wrote. None: where the server made the reply itself and says 200.
    True: the model had written before it went wrong."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = AUTO
    framing: Literal["auto", "chunked", "length", "close"] = "auto"
    """How the length of the body is told: streams are chunked, whole bodies have a length."""

    cut: int | None = None
    """Only so many bytes of the body are sent, then comes `ending`."""
    cut_by_number: bool = False
    """As many bytes as the number at the end of the question says: one step for every offset of a body."""
    ending: Ending = "clean"
    """clean: a good end of the HTTP body; abrupt: the connection closes without it; reset: RST; stall: nothing more."""
    delay_s: float = 0.0
    """Before the first byte."""
    hold: bool = False
    """Wait for `FaultServer.release()` before the first byte."""
    drip_bytes: int = 0
    """Write so many bytes at a time, with `drip_s` between; 0 writes all at once."""
    drip_s: float = 0.0
    gzip_mb: int = 0
    """The body is a gzip bomb that expands to so many MB of one JSON string."""
    line_mb: int = 0
    """One line of so many MB comes first: inside a JSON string, or as an event of a stream."""
    twice: bool = False
    """The whole HTTP response is written twice on the connection."""


@dataclass(frozen=True)
class Rule:
    """Says which requests a step answers. The first rule that fits a request answers it."""

    step: Step
    question: str = ""
    """Regular expression that the last user message must match in full; empty: any."""
    path: str = ""
    """Text that the path must hold."""
    after: int = 0
    """So many fitting requests go by first."""
    times: int | None = None
    """At most so many requests are answered by it."""
    per_question: bool = False
    """`after` and `times` count every question by itself."""


@dataclass(frozen=True)
class Limit:
    """At most `requests` in every window of `window_s` seconds; more get 429."""

    requests: int
    window_s: float
    headers: Literal["openai", "anthropic", "none"] = "none"
    """Whose rate limit headers every reply carries."""
    says_retry_after: bool = True


@dataclass(frozen=True)
class Outage:
    """After `after` requests in all, nothing listens for `for_s` seconds, and open connections are reset."""

    after: int
    for_s: float


@dataclass(frozen=True)
class Script:
    """Everything that the server plays."""

    rules: tuple[Rule, ...] = ()
    default: Step = Step()
    capacity: int = 0
    """At most so many requests are worked on, the others wait without a word; 0 works on all."""
    service_s: float = 0.0
    """Seconds of work that every request takes once it is worked on."""
    limit: Limit | None = None
    outages: tuple[Outage, ...] = ()
    batch: BatchPlan = field(default_factory=BatchPlan)

    def dump(self) -> str:
        """As JSON text."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def load(text: str) -> Script:
        """The script that `dump` wrote; keys may be left out."""
        data = json.loads(text)
        rules = tuple(Rule(**{**rule, "step": Step(**rule["step"])}) for rule in data.pop("rules", ()))
        limit = data.pop("limit", None)
        return Script(
            rules=rules,
            default=Step(**data.pop("default", {})),
            limit=Limit(**limit) if limit else None,
            outages=tuple(Outage(**outage) for outage in data.pop("outages", ())),
            batch=BatchPlan(**data.pop("batch", {})),
            **data,
        )


class Chooser:
    """Picks the step for each request; counts what the rules have seen."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._seen: Counter[tuple[int, str]] = Counter()

    def step(self, path: str, question: str) -> Step:
        """The step for the next request."""
        for number, rule in enumerate(self._script.rules):
            if rule.path not in path or (rule.question and not re.fullmatch(rule.question, question, re.DOTALL)):
                continue
            key = (number, question if rule.per_question else "")
            seen = self._seen[key]
            if rule.times is not None and seen >= rule.after + rule.times:
                continue
            self._seen[key] += 1
            if seen >= rule.after:
                return rule.step
        return self._script.default
