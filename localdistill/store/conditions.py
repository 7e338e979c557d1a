"""Conditions that users write, worked out away from this process and away from the file: a child fetches rows in short
read-only sessions and tests them in a database of its own that holds nothing else and reaches nothing. What takes too
long or too much memory dies with the child. One that came to its end waits a while for the next condition, which has a
database of its own again: to start a child takes longer than most conditions. Conditions of our own filters do not come
through here."""

from __future__ import annotations

import atexit
import base64
import contextlib
import threading
import time
from array import array
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

IDLE_S = 60
"""Longest time that a child waits for another condition."""

_START_S = 30.0
_BEGIN_S = 5.0
"""Within this time a child that waited has begun."""
_HINT = "a condition speaks of one trace at a time, for example: score = 1 AND completion_tokens < 500"


class _Waiting:
    """The child that the last condition of this process left."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: JsonChild | None = None

    def take(self) -> JsonChild | None:
        """It, when there is one; nobody else is given it."""
        return self._swap(None)

    def keep(self, child: JsonChild) -> None:
        """It has answered, and waits."""
        if before := self._swap(child):
            before.kill()

    def close(self) -> None:
        """The process ends."""
        if left := self._swap(None):
            left.kill()

    def _swap(self, new: JsonChild | None) -> JsonChild | None:
        with self._lock:
            old, self._left = self._left, new
            return old


WAITING = _Waiting()
atexit.register(WAITING.close)


def matching_seqs(sessions: Sessions, where: str, search: str = "",
                  scope: FactScope | None = None) -> Generator[array[int]]:
    """The `seq` of every trace that meets `where` and holds `search`, in stored order, piece by piece as they are
    found; facts are those of `scope`. UsageError when the condition cannot be used or takes too much; StoreLocked and
    StoreError as for any reading."""
    sessions.run(lambda con: None)
    yield from _asked(where, {"store": str(sessions.path), "wait_s": sessions.wait_s, "search": search, "scope": scope,
                              "borders": vars(BORDERS)}, _START_S + sessions.wait_s)


def check_condition(where: str, facts: Mapping[str, bool]) -> None:
    """UsageError for a condition that no row could be tested with. facts: the columns that may be named beside those of
    every store, and whether each holds text."""
    for _ in _asked(where, {"facts": list(facts.items()), "borders": vars(BORDERS)}, _START_S):
        pass


def _asked(where: str, request: Mapping[str, object], patience_s: float) -> Generator[array[int]]:
    whole = {**request, "where": where, "memory_bytes": MEMORY_BYTES, "address_bytes": ADDRESS_BYTES,
             "cpu_s": int(TOTAL_S), "idle_s": IDLE_S}
    child = _that_waited(whole)
    is_begun, is_done = child is not None, False
    child = child or JsonChild(CHILD)
    try:
        if not is_begun:
            child.send(whole)
        yield from _received(child, where, patience_s)
        is_done = True
    except ChildDied as death:
        ending = describe_exit(death.returncode)
        raise UsageError(f"the condition '{where}' brought the database down ({ending}); it may need more than "
                         f"{ADDRESS_BYTES >> 20} MB", _HINT) from None
    finally:
        if is_done:
            WAITING.keep(child)
        else:
            child.kill()


def _that_waited(request: Mapping[str, object]) -> JsonChild | None:
    """The child that waited, when there is one and it has begun with `request`: it may be leaving just now."""
    child = WAITING.take()
    if child is not None:
        with contextlib.suppress(ChildDied, ChildTimeout):
            child.send(request)
            child.receive(_BEGIN_S)
            return child
        child.kill()
    return None


def _received(child: JsonChild, where: str, patience_s: float) -> Iterator[array[int]]:
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
        if "seqs" in message:
            yield array("q", base64.b64decode(message["seqs"]))
        rows = message.get("testing", 0)
        limit_s = STEP_S if "testing" in message else patience_s


def _error(message: dict[str, str]) -> LocalDistillError:
    kind: type[LocalDistillError] = getattr(errors, message["error"])
    return kind(message["message"], message["hint"] or _HINT)
