"""macOS: `sandbox-exec`, which starts a process that may read Python's own files and ours and do nothing else.
Deprecated by Apple and still what there is; whether it holds is tried from inside, as on Linux."""

from __future__ import annotations

import os
import sys
from pathlib import Path

PROGRAM = "/usr/bin/sandbox-exec"
_SYSTEM = ("/usr/lib", "/System/Library", "/System/Volumes/Preboot/Cryptexes", "/usr/share/zoneinfo",
           "/private/var/db/timezone", "/Library/Frameworks/Python.framework", "/opt/homebrew/opt",
           "/opt/homebrew/Cellar")


def sandbox_command() -> tuple[list[str], str]:
    """What stands before the command, and the name of the barrier; nothing where it is not there."""
    if sys.platform != "darwin" or not os.path.exists(PROGRAM):
        return [], ""
    return [PROGRAM, "-p", profile(_readable())], "sandbox-exec"


def _readable() -> list[str]:
    ours = str(Path(__file__).resolve().parents[2])
    own = [sys.base_prefix, sys.prefix, ours, *(path for path in sys.path if path.startswith(sys.base_prefix))]
    return [*_SYSTEM, *dict.fromkeys(os.path.realpath(path) for path in own)]


def profile(readable: list[str]) -> str:
    """The rules, in the sandbox's own language. What is not allowed is denied."""
    read = "\n".join(f'(allow file-read* (subpath "{_quoted(path)}"))' for path in readable)
    return f"""(version 1)
(deny default)
{read}
(allow file-read* (literal "/") (literal "/dev/null") (literal "/dev/urandom"))
(allow file-read-metadata)
(allow file-write-data (literal "/dev/null"))
(allow process-exec (literal "{_quoted(os.path.realpath(sys.executable))}") (literal "{_quoted(sys.executable)}"))
(allow signal (target self))
(allow sysctl-read)
(deny network*)
(deny process-fork)
"""


def _quoted(path: str) -> str:
    return path.replace("\\", "\\\\").replace('"', '\\"')
