"""An event loop's selector that hands out few events at a time."""

from __future__ import annotations

import selectors
from collections import deque
from collections.abc import Mapping
from typing import Any

from localdistill.core.borders import BORDERS


class FewAtATime(selectors.BaseSelector):
    """Of what is ready at once, `BORDERS.served_events` events after one another.

    asyncio takes what is ready in steps: all of it is read, then all of it is worked on, then all that follows is sent.
    When the replies to hundreds of requests come together, the next request waits for the work on all of them, the
    replies to those come together again, and so it goes on: with 256 in flight at a server of 200 ms every round took a
    tenth longer. In small groups, requests go out while the rest is being read."""

    def __init__(self) -> None:
        self._inner = selectors.DefaultSelector()
        self._left: deque[tuple[selectors.SelectorKey, int]] = deque()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """See `BaseSelector`."""
        return self._known_anew(self._inner.register(fileobj, events, data))

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """See `BaseSelector`."""
        return self._known_anew(self._inner.modify(fileobj, events, data))

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """See `BaseSelector`."""
        return self._known_anew(self._inner.unregister(fileobj))

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """The next few events; waits only when none is left over."""
        if not self._left:
            self._left.extend(self._inner.select(timeout))
        return [self._left.popleft() for _ in range(min(BORDERS.served_events, len(self._left)))]

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """See `BaseSelector`."""
        return self._inner.get_map()

    def close(self) -> None:
        """See `BaseSelector`."""
        self._left.clear()
        self._inner.close()

    def _known_anew(self, key: selectors.SelectorKey) -> selectors.SelectorKey:
        """What was ready for another interest, or on another socket with this number, is asked for again."""
        if self._left:
            self._left = deque(event for event in self._left if event[0].fd != key.fd)
        return key
