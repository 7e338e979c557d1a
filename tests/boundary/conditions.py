"""What is done to a command before it begins, in its own process: see `running.run(before=...)`."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from typing import NoReturn

_LIMIT_BYTES = 64 << 30


def interrupt_listing() -> None:
    """Whoever lists runs is interrupted."""
    from localdistill.workspace.run_listing import RunListing

    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    RunListing.look = interrupted  # type: ignore[method-assign]


def end_listing_by_a_library() -> None:
    """Addresses are limited, though far above what is needed, and a library ends the process as runs are listed."""
    _limited(os.abort)


def kill_listing() -> None:
    """The same, and somebody kills it."""
    _limited(lambda: os.kill(os.getpid(), signal.SIGKILL))


def _limited(end: Callable[[], object]) -> None:
    from localdistill.workspace.run_listing import RunListing

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_LIMIT_BYTES, resource.RLIM_INFINITY))
    RunListing.look = lambda *_: end()  # type: ignore[assignment, method-assign, return-value]
