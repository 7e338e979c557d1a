"""The real program in a real pseudo-terminal: keys go in, bytes come out."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import pyte

from tests.helpers import REPO

KEYS = {"enter": "\r", "escape": "\x1b", "tab": "\t", "shift+tab": "\x1b[Z", "up": "\x1b[A", "down": "\x1b[B",
        "home": "\x1b[H", "f1": "\x1bOP",
        "ctrl+q": "\x11", "ctrl+t": "\x14", "ctrl+o": "\x0f", "ctrl+p": "\x10", "ctrl+c": "\x03"}
_SEQUENCE = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[()][A-Z0-9]|.)", re.DOTALL)

_BEYOND_PYTE = re.compile(rb"\x1b\[[<=>][0-9;]*[A-Za-z]")
"""Sequences of newer terminals, whose ends pyte would draw as text."""
_UNFINISHED = re.compile(rb"\x1b(?:\[[0-?]*)?\Z")
_LETTERS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|.", re.DOTALL)


def _own_terminal() -> None:
    """Make standard input the terminal that controls this session, so that losing it hangs up."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """`python -m MODULE` or any command, on a terminal of its own."""

    def __init__(self, cwd: Path, command: Sequence[str] = ("-m", "tui"), size: tuple[int, int] = (100, 30),
                 environment: Mapping[str, str] | None = None) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONPATH": str(REPO),
               "LOCALDISTILL_CONFIG": str(cwd / "no-config"), **(environment or {})}
        env.pop("NO_COLOR", None)
        self.process = subprocess.Popen([sys.executable, *command], stdin=slave, stdout=slave, stderr=slave, cwd=cwd,
                                        env=env, start_new_session=True, close_fds=True,
                                        preexec_fn=_own_terminal)
        os.close(slave)
        self.output = bytearray()
        """All that the program wrote."""
        self._screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self._screen)
        self._drawn = 0

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        """Drop the connection, and end the program if that did not."""
        if self.master >= 0:
            os.close(self.master)
            self.master = -1
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    close = hang_up

    def kill(self) -> None:
        """End the program as a crash would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def raw(self) -> bytes:
        """All that the program wrote."""
        return bytes(self.output)

    def press(self, *keys: str) -> None:
        """Send keys by name (see KEYS) or as text."""
        for key in keys:
            os.write(self.master, KEYS.get(key, key).encode())
            self.read(0.02)

    def type(self, text: str, gap_s: float = 0.0) -> None:
        """Send a text: all of it at once, as a slow line does, or letter by letter with a gap between."""
        if not gap_s:
            os.write(self.master, text.encode())
        for letter in _LETTERS.findall(text) if gap_s else ():
            os.write(self.master, letter.encode())
            self.read_for(gap_s)

    def paste(self, text: str) -> None:
        """Send a text as a terminal sends what is pasted."""
        os.write(self.master, f"\x1b[200~{text}\x1b[201~".encode())

    def read_for(self, seconds: float) -> None:
        """Take all that comes within a time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.read(left)

    def click(self, column: int, row: int) -> None:
        """Press and release the left mouse button (from 1, 1)."""
        os.write(self.master, f"\x1b[<0;{column};{row}M\x1b[<0;{column};{row}m".encode())

    def resize(self, columns: int, rows: int) -> None:
        """Change the terminal's size."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._screen.resize(rows, columns)
        os.kill(self.process.pid, signal.SIGWINCH)

    def read(self, wait_s: float) -> bool:
        """Take what comes within `wait_s`; False when nothing came or the program has ended."""
        ready, _, _ = select.select([self.master], [], [], wait_s)
        if not ready:
            return False
        try:
            data = os.read(self.master, 1 << 16)
        except OSError:
            return False
        self.output += data
        return bool(data)

    def settle(self, quiet_s: float = 0.5, timeout_s: float = 20.0) -> None:
        """Read until nothing was written for a while."""
        deadline = time.monotonic() + timeout_s
        while self.read(quiet_s) and time.monotonic() < deadline:
            pass

    def text(self, since: int = 0) -> str:
        """What was written from byte `since` on, without the sequences that steer a terminal."""
        return _SEQUENCE.sub(b"", bytes(self.output[since:])).decode("utf-8", "replace")

    def until(self, wanted: str | Callable[[], object], since: int = 0, timeout_s: float = 60.0) -> None:
        """Read until a text was written since byte `since`, or a condition holds."""
        deadline = time.monotonic() + timeout_s
        while not (wanted in self.text(since) if isinstance(wanted, str) else wanted()):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError(f"waited in vain for {wanted!r}; the last of it: {self.text(since)[-2000:]!r}")
            self.read(0.1)

    @property
    def screen(self) -> str:
        """What a person sees now: the program writes only what changes, so that what it wrote may be a part of it."""
        new = bytes(self.output[self._drawn:])
        if unfinished := _UNFINISHED.search(new):
            new = new[:unfinished.start()]
        self._drawn += len(new)
        self._stream.feed(_BEYOND_PYTE.sub(b"", new))
        return "\n".join(self._screen.display)

    def until_shown(self, *texts: str, timeout_s: float = 60.0) -> None:
        """Read until all these texts stand on the screen."""
        self.wait_until(lambda: all(text in self.screen for text in texts), f"{texts} on the screen", timeout_s)

    def until_gone(self, text: str, timeout_s: float = 60.0) -> None:
        """Read until a text stands nowhere on the screen."""
        self.wait_until(lambda: text not in self.screen, f"the end of '{text}'", timeout_s)

    def wait_for(self, text: str, timeout_s: float = 60.0) -> None:
        """Read until `text` was written."""
        self.until(text, timeout_s=timeout_s)

    def wait_until(self, holds: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
        """Read until a condition, called `what`, holds; the program may end meanwhile."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < deadline, f"waited in vain for {what}:\n{self.screen}"
            self.read(0.05) or time.sleep(0.01)

    def go(self, key: str, title: str) -> None:
        """Press the key of a screen and wait for its title. Pressed again when it was taken for the end of a sequence
        (the program was busy and read an escape before it together with the key)."""
        self.settle(0.3)
        since = len(self.output)
        for _ in range(5):
            self.press(key)
            with contextlib.suppress(AssertionError):
                self.until(f" {title} ", since, 6.0)
                return
        raise AssertionError(f"'{key}' does not open {title}: {self.text(since)[-2000:]!r}")
