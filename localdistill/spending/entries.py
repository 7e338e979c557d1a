"""What a spend ledger says, line by line: the accounts of the engines that were asked, and what all of it comes to.
Knows no file; the ledger that writes and whoever only reads count by the same rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

VERSION = 2
BEGINS = "book"
"""The key of the line that a ledger begins with."""


@dataclass(frozen=True)
class Reserved:
    """What is reserved for a call, or for a batch of calls."""

    nano: int
    of: str
    """Whom it goes to, as in `Account`."""
    calls: int
    batch: str = ""
    """The name of the batch that these calls are; empty for a single call."""


@dataclass
class Account:
    """Calls to one engine: a host and a model."""

    excess: int = 0
    """By how much a single call has been seen to cost more than was reserved for it. Any other may too: all that
    are open, whose end nobody saw, or that come after it count with as much more."""
    is_known: bool = False
    """A whole reply came: whether this engine keeps to the limit on new tokens has been seen once."""
    held: int = 0
    """Nano-dollars reserved for calls that are open or whose end nobody saw, without the excess."""
    calls: int = 0
    """Their number."""

    @property
    def nano(self) -> int:
        """What these calls may have cost at most."""
        return self.held + self.calls * self.excess


@dataclass
class Entries:
    """What a ledger says. All amounts in whole nano-dollars."""

    calls: int = 0
    """Paid calls that were begun."""
    settled: int = 0
    """What calls whose cost was seen did cost, and what a person stated."""
    open: dict[int, Reserved] = field(default_factory=dict)
    """What is reserved for calls whose end is not written down, by ticket."""
    accounts: dict[str, Account] = field(default_factory=dict)
    next: int = 0
    """The first free ticket."""
    lost: str = ""
    """Why it was not whole when it was opened before; nobody has stated anything since."""
    version: int = 0
    """Of its format; 0 when it does not say that it is a ledger."""
    is_wrong: bool = False
    """A running total is not what the lines before it come to."""
    least: int = 0
    """The total of the last line that could be read, whatever else is damaged."""

    @property
    def total(self) -> int:
        """Everything that was spent or may have been, open calls included."""
        return self.settled + sum(account.nano for account in self.accounts.values())

    @property
    def open_nano(self) -> int:
        """What is reserved for the open calls."""
        return sum(self.worth(reserved) for reserved in self.open.values())

    @property
    def assumed(self) -> int:
        """What was reserved for calls that ended, and nobody saw how."""
        return self.total - self.settled - self.open_nano

    @property
    def batches(self) -> dict[int, Reserved]:
        """Batches that may be under way at a provider, by ticket."""
        return {ticket: reserved for ticket, reserved in self.open.items() if reserved.batch}

    def account(self, of: str) -> Account:
        """The account of one engine."""
        return self.accounts.setdefault(of, Account())

    def excess(self, of: str) -> int:
        """By how much a call to this engine may cost more than it is told, as far as has been seen."""
        return self.accounts[of].excess if of in self.accounts else 0

    def worth(self, reserved: Reserved) -> int:
        """What a reservation comes to now."""
        return reserved.nano + reserved.calls * self.excess(reserved.of)

    def take(self, record: Mapping[str, Any]) -> None:
        """Add one line. Raises ValueError, KeyError or TypeError when it is none of ours."""
        if BEGINS in record:
            self.version = max(self.version, _whole(record[BEGINS]))
        elif "lost" in record:
            self.lost = str(record["lost"])
            self.settled += max(0, _whole(record.get("least", 0)) - self.total)
        elif "stated" in record:
            self.settled, self.open, self.lost, self.accounts = _whole(record["stated"]), {}, "", {}
            self.next = max(self.next, _whole(record["next"]))
        elif "reserved" in record:
            self._reserve(record)
        elif "excess" in record:
            account = self.account(str(record["of"]))
            account.excess, account.is_known = max(account.excess, _whole(record["excess"])), True
        else:
            self._settle(record)
        if "total" in record:
            self.least = _whole(record["total"])
            self.is_wrong |= self.least != self.total

    def _reserve(self, record: Mapping[str, Any]) -> None:
        ticket = _whole(record["call"])
        reserved = Reserved(_whole(record["reserved"]), str(record.get("of", "")), _whole(record.get("calls", 1)),
                            str(record.get("batch", "")))
        self.open[ticket] = reserved
        self.next, self.calls = max(self.next, ticket + 1), self.calls + 1
        account = self.account(reserved.of)
        account.held += reserved.nano
        account.calls += reserved.calls

    def _settle(self, record: Mapping[str, Any]) -> None:
        ticket, cost = _whole(record["call"]), record["cost"]
        amount = None if cost is None else _whole(cost)
        reserved = self.open.pop(ticket)
        if amount is not None:
            account = self.account(reserved.of)
            account.held -= reserved.nano
            account.calls -= reserved.calls
            account.is_known |= amount > 0
            self.settled += amount


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("not a whole number")
    return value
