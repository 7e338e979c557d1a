"""Whether the process of a stage was ended for want of memory. The system says so to nobody: it kills, or an allocator
aborts with a line in the log."""

from __future__ import annotations

import re
import signal

MOST_DEATHS = 12
"""So often a stage is begun again: more rungs than any ladder has."""
_LAST_WORDS = re.compile(rb"insufficient memory|out of ?memory|bad_alloc|unable to allocate|cannot allocate memory|"
                         rb"not enough memory", re.IGNORECASE)


def ended_for_memory(code: int, log: bytes) -> bool:
    """Whether memory was the most likely reason for the end with `code` (negative: a signal) of a process that nobody
    of ours ended. log: what it and its libraries wrote last.

    A kill that nobody asked for is the kernel's of Linux, or the memory pressure of macOS; an abort is one of Metal's
    or of an allocator's where the log says so; with 127 the dynamic linker ends a process that has no room for another
    thread."""
    if code == -signal.SIGKILL:
        return True
    return code in (-signal.SIGABRT, 127) and _LAST_WORDS.search(log) is not None
