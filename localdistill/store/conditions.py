"""Conditions that users write, worked out away from this process and away from the file: a child fetches rows in short
read-only sessions and tests them in a database of its own that holds nothing else and reaches nothing. What takes too
long or too much memory dies with the child. Conditions of our own filters do not come through here."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping

from localdistill.core import errors
from localdistill.core.borders import BORDERS
from localdistill.core.errors import LocalDistillError, UsageError
from localdistill.core.records import FactScope
from localdistill.safety.children import ChildDied, ChildTimeout, JsonChild, describe_exit
from localdistill.store.session import Sessions

CHILD = "localdistill.store.conditions_child"
STEP_S = 10.0
"""Longest time for one window of rows (thousands of traces, normally milliseconds)."""
TOTAL_S = 600.0
"""Longest time for one condition over the whole store."""
MEMORY_BYTES = 512 << 20
"""What the child's database may hold."""
ADDRESS_BYTES = 4 << 30
"""Address space of the child, libraries included; what the database does not count itself ends here."""

_START_S = 30.0
_HINT = "a condition speaks of one trace at a time, for example: score = 1 AND completion_tokens < 500"


def matching_seqs(sessions: Sessions, where: str, search: str = "", scope: FactScope | None = None) -> Generator[int]:
    """The `seq` of every trace that meets `where` and holds `search`, in stored order, as they are found; facts are
    those of `scope`. UsageError when the condition cannot be used or takes too much; StoreLocked and StoreError as for
    any reading."""
    sessions.run(lambda con: None)
    yield from _asked(where, {"store": str(sessions.path), "wait_s": sessions.wait_s, "search": search, "scope": scope,
                              "borders": vars(BORDERS)}, _START_S + sessions.wait_s)


def check_condition(where: str, facts: Mapping[str, bool]) -> None:
    """UsageError for a condition that no row could be tested with. facts: the columns that may be named beside those of
    every store, and whether each holds text."""
    for _ in _asked(where, {"facts": list(facts.items()), "borders": vars(BORDERS)}, _START_S):
        pass


def _asked(where: str, request: Mapping[str, object], patience_s: float) -> Generator[int]:
    child = JsonChild(CHILD)
    try:
        child.send({**request, "where": where, "memory_bytes": MEMORY_BYTES, "address_bytes": ADDRESS_BYTES,
                    "cpu_s": int(TOTAL_S)})
        yield from _received(child, where, patience_s)
    except ChildDied as death:
        ending = describe_exit(death.returncode)
        raise UsageError(f"the condition '{where}' brought the database down ({ending}); it may need more than "
                         f"{ADDRESS_BYTES >> 20} MB", _HINT) from None
    finally:
        child.kill()


def _received(child: JsonChild, where: str, patience_s: float) -> Iterator[int]:
    """What the child finds. The clock of the condition runs only while it is worked out, not while rows are fetched."""
    deadline = time.monotonic() + TOTAL_S
    limit_s, rows = patience_s, 0
    while True:
        left_s = deadline - time.monotonic()
        try:
            message = child.receive(max(0.0, min(limit_s, left_s)))
        except ChildTimeout:
            on = f" on {rows:,} traces" if rows else ""
            took = f"{TOTAL_S:g} s in all" if left_s < limit_s else f"{limit_s:g} s{on}"
            raise UsageError(f"the condition '{where}' was stopped: it took longer than {took}", _HINT) from None
        if "done" in message:
            return
        if "error" in message:
            raise _error(message)
        yield from message.get("seqs", ())
        rows = message.get("testing", 0)
        limit_s = STEP_S if "testing" in message else patience_s


def _error(message: dict[str, str]) -> LocalDistillError:
    kind: type[LocalDistillError] = getattr(errors, message["error"])
    return kind(message["message"], message["hint"] or _HINT)
