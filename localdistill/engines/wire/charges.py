"""What a call may cost and what it is charged with: the limit that its body sets, what a server says it used, our own
count of what came, and what is said of an error, made into what the ledger is told. Knows no connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localdistill.core.errors import UsageError
from localdistill.core.records import Reply
from localdistill.engines.wire.collected import UNREADABLE, Collected, counted, reply_of
from localdistill.engines.wire.http import Denied, Refused, Slowed, Transient
from localdistill.providers import Price, charged_nano_usd
from localdistill.spending.ledger import SpendLedger

_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens")
_REPLIES = ("n", "best_of")


def most_new_tokens(body: Mapping[str, Any], asked: int) -> int:
    """How many new tokens `body` lets a server write, whatever `extra` made of the `asked` ones. UsageError when it
    lets it write without end."""
    limits = [limit if type(limit := body[key]) is int else 0 for key in _LIMITS if key in body]
    if not limits or min(limits) <= 0:
        raise UsageError("`extra` takes the limit on new tokens away, so that a call could cost anything",
                         "leave max_tokens to the recipe")
    replies = [int(count) for key in _REPLIES if isinstance(count := body.get(key), int)]
    return max([asked, *limits]) * max([1, *replies])


@dataclass(frozen=True)
class Charge:
    """What is known of the cost of a call, in nano-dollars."""

    nano: int | None
    """None: nobody knows."""
    seen: int = 0
    """What it cost at least, as what came shows."""
    is_whole: bool = False
    """The whole reply was seen."""

    def settle(self, ledger: SpendLedger, ticket: int) -> int:
        """End the call in the ledger; returns what was counted."""
        if self.seen or self.is_whole:
            ledger.saw(ticket, self.seen, self.is_whole)
        return ledger.settle(ticket, self.nano)


UNKNOWN = Charge(None)


def charge_of(price: Price | None, reply: Reply, prompt_tokens: int, is_whole: bool = True) -> Charge:
    """Of a reply; prompt_tokens: our count of what was asked. What a stream counted until it broke off is not what the
    server counts."""
    if price is None:
        return Charge(None, is_whole=is_whole)
    ours = counted(reply.reasoning, reply.answer, prompt_tokens)
    nano = charged_nano_usd(price, reply.usage, ours)
    return Charge(nano if is_whole and not reply.usage.estimated else None, nano, is_whole)


def charge_after(price: Price | None, problem: Exception, prompt_tokens: int) -> Charge:
    """Of a call that ended in `problem`: nothing where it proves that nothing was written, else nobody knows."""
    if isinstance(problem, Transient | Slowed | Refused | Denied) and not problem.billed:
        return Charge(0)
    wrote: Collected | None = problem.wrote if isinstance(problem, Transient | Refused) else None
    if price is None or wrote is None:
        return UNKNOWN
    try:
        reply = reply_of(wrote, "", "", 0, 0.0, prompt_tokens=prompt_tokens, is_whole=False)
    except UNREADABLE:
        return UNKNOWN
    return charge_of(price, reply, prompt_tokens, is_whole=False)
