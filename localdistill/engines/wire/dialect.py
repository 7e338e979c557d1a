"""What an engine needs to know of the language that a server speaks: one implementation per form of API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from localdistill.engines.wire.collected import Collected


@dataclass(frozen=True)
class RateLimitHeaders:
    """What a reply's headers say of one allowance (requests or tokens); None where they are silent."""

    limit: float | None = None
    remaining: float | None = None
    reset_s: float | None = None


class Fold(Protocol):
    """Joins the events of a stream into the body that the server would have sent at once. Texts of one field are
    joined; of all other fields the last value stays; borders of events and their timing are not kept."""

    ended: bool
    """The server said that the reply is finished; counts may still come."""
    over: bool
    """The server said that nothing more comes."""
    shows: bool
    """Somebody watches: `take` returns pieces. False spares them."""

    def take(self, event: Mapping[str, Any]) -> list[tuple[bool, str]]:
        """Add one event; returns the (is reasoning, text) pieces that it brought, for showing."""

    def grown(self, event: Mapping[str, Any]) -> tuple[str, list[str]] | None:
        """The one text by which an event just taken made the body longer, and the pieces it went to; None when the
        event said anything else that is new."""

    def body(self) -> dict[str, Any]:
        """The joined body so far."""


class Dialect(Protocol):
    """One form of API. Stateless."""

    path: ClassVar[str]
    """Behind the base address."""

    def headers(self, key: str) -> dict[str, str]:
        """Request headers; `key` may be empty."""

    def collect(self, body: object) -> Collected:
        """The parts of a whole body. Raises Malformed."""

    def fold(self) -> Fold:
        """A fresh fold for one stream."""

    def error_of(self, body: object) -> tuple[str, int] | None:
        """(message, HTTP-like status or 0) of an error object, which some servers send with status 200."""

    def limits(self, headers: Mapping[str, str]) -> dict[str, RateLimitHeaders]:
        """Allowances by name (`requests`, `tokens`) as the headers state them."""
