"""The command line. `main` is the entry point; it imports the commands only when one is about to run."""

from __future__ import annotations

import os
import signal
import sys

_SMALL_POOL = {"ARROW_DEFAULT_MEMORY_POOL": "system"}
"""Arrow's own pool reserves a gigabyte of addresses: where those are limited (`ulimit -v`), an import needs 1.6 GB with
it, and 0.6 without."""


def main() -> None:
    """Run the command in `sys.argv`. However it ends, there is an exit code, and what went wrong is one sentence and a
    hint."""
    for name, value in _SMALL_POOL.items():
        os.environ.setdefault(name, value)
    try:
        from localdistill.cli import ending

        code = ending.run(sys.argv[1:])
    except KeyboardInterrupt:  # before there was anything that could say so
        code = 130
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # what the interpreter still does is not worth a traceback
    sys.exit(code)
