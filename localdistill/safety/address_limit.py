"""Work where addresses are limited (`ulimit -v`). A native library that gets no more of them ends the process without a
word; so a copy of this process does the work there, and what is left says how that ended."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress

from localdistill.core.disk import size_text
from localdistill.core.errors import OutOfMemory

_ENDED_BY_LIBRARY = (-signal.SIGABRT, -signal.SIGBUS, -signal.SIGSEGV, 127)
"""How libraries end a process for want of memory; with 127 the C library itself, as a thread begins."""
_LITTLE_BYTES = 8 << 30
_ARENAS, _M_ARENA_MAX = 1, -8
"""glibc sets 64 MB of addresses apart for each thread that asks for memory, unless it is told to keep to one heap."""


def in_a_copy(work: Callable[[], int]) -> int:
    """The exit code of `work`. Where addresses are limited it goes on in a copy of this process, which returns from
    here too and is to end with that code. Call it before there are threads.

    OutOfMemory, in the process that is left, when a library ended the copy."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return work()
    if limit < _LITTLE_BYTES:
        _keep_to_one_heap()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the copy hears it too, and says what it comes to
    if not (copy := os.fork()):
        signal.signal(signal.SIGINT, before)
        return work()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(copy, number))
    code = os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
    if code in _ENDED_BY_LIBRARY:
        raise OutOfMemory("memory ran out, and a library ended the command",
                          f"raise the limit (ulimit -v; it is {size_text(limit)}); what was stored before is kept")
    if code < 0:
        with suppress(OSError):  # two signals cannot be taken at all
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def _keep_to_one_heap() -> None:
    """This process and those that it starts, where the C library is one that can be told."""
    import ctypes

    os.environ.setdefault("MALLOC_ARENA_MAX", str(_ARENAS))
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)
