"""How much memory this process has held. Not by `ru_maxrss` on Linux: a child begins there with what its parent holds,
so that a small one that a large one started looks large, and one that grows does not seem to."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def peak_mb() -> int:
    """The most that this process has held so far, in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():
        found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) >> 10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)
