"""Runs the command line as a person would, thousands of times: each in a process of its own, forked from one that has
imported it, with files or a terminal in place of the standard streams."""

from __future__ import annotations

import atexit
import json
import os
import pty
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.helpers import REPO

TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """Negative: the signal that ended it."""
    out: bytes
    """Standard output; on a terminal everything."""
    err: bytes

    @property
    def text(self) -> str:
        """Everything that it said."""
        return (self.out + b"\n" + self.err).decode("utf-8", "replace")


@cache
def _forker() -> subprocess.Popen[bytes]:
    """The process that commands are forked from."""
    process = subprocess.Popen([sys.executable, "-m", "tests.boundary.forking"], cwd=REPO, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
    atexit.register(process.kill)
    return process


def run(arguments: Sequence[str], cwd: Path, *, text: str = "", on_terminal: bool = False,
        environment: Mapping[str, str | None] | None = None, before: str = "",
        out: Path | str | None = None) -> Ended:
    """`localdistill ARGUMENTS` in `cwd`, for at most two minutes. text: what is typed or piped in. environment: None
    takes a variable out. before: `module:function`, called in the new process first. out: in place of standard
    output."""
    with tempfile.TemporaryDirectory(prefix="said-") as folder:
        files = [str(Path(folder) / name) for name in ("in", "out", "err")]
        Path(files[0]).write_bytes(text.encode("utf-8", "surrogateescape"))
        master, slave = pty.openpty() if on_terminal else (-1, -1)
        names = [os.ttyname(slave)] * 3 if on_terminal else files
        if out is not None:
            names[1] = str(out)
        asked = {"arguments": list(arguments), "cwd": str(cwd), "names": names, "before": before,
                 "environment": dict(environment or {}), "timeout_s": TIMEOUT_S}
        forker = _forker()
        assert forker.stdin is not None and forker.stdout is not None
        forker.stdin.write(json.dumps(asked).encode() + b"\n")
        forker.stdin.flush()
        try:
            shown = _attend(master, forker.stdout.fileno(), text) if on_terminal else b""
            code = int(forker.stdout.readline())
        finally:
            for handle in (master, slave):
                if handle >= 0:
                    os.close(handle)
        if on_terminal:
            return Ended(code, shown, b"")
        said = [Path(name).read_bytes() if Path(name).is_file() else b"" for name in names[1:]]
        return Ended(code, *said)


def _attend(master: int, ends: int, text: str) -> bytes:
    """Type `text` and the end of input, and read until the process has ended."""
    os.write(master, text.encode("utf-8", "surrogateescape") + b"\x04")
    shown, deadline = bytearray(), time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        ready, _, _ = select.select([master, ends], [], [], 3.0)
        if not ready:  # a hidden prompt throws away what was typed before it
            os.write(master, b"\n\x04")
        elif master in ready:
            shown += os.read(master, 1 << 16)
        elif ends in ready:
            break
    return bytes(shown)
