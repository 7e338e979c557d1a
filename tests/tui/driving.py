"""What pilot tests share: coroutines as tests, and waiting for what a screen shows."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine
from typing import Any

from textual.pilot import Pilot


def piloted(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A coroutine as a test, in an event loop of its own."""
    @functools.wraps(test)
    def body(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return body


async def until(pilot: Pilot[Any], holds: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Let the app work until `holds()` is true; AssertionError when it never is."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        await pilot.pause(0.01)
    await pilot.pause()
