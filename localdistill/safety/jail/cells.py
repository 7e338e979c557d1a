"""Starting inmates, and ending them: the jail seen from outside. What was reached is told by the inmate before anything
foreign is handed to it, so that a program which could not be shut in is never run."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localdistill.core.borders import BORDERS
from localdistill.core.errors import LocalDistillError
from localdistill.safety.children import NOTHING, Process, ends_within, start_bare
from localdistill.safety.jail.keeper import OVER_TIME
from localdistill.safety.jail.lines import MOST_LINE_BYTES
from localdistill.safety.jail.sandbox_exec import sandbox_command

WALLS = ("files", "network", "processes")
"""What must be closed."""
START_S = 60.0
"""How long an inmate may take until it can be handed its program, on a machine that is busy."""
_GRACE_S = 60.0
_END_S = 5.0
_LOOK_S = 1.0
_WATCH_S = 0.05


@dataclass(frozen=True)
class Limits:
    """What a program may use."""

    timeout_s: float = 10.0
    """Processor time, so that what else runs does not decide; on the wall clock three times as much, from when it is
    handed over."""
    memory_bytes: int = 1 << 30
    output_bytes: int = 1 << 20
    """Of what it prints."""

    @property
    def wall_s(self) -> float:
        """Most time on the wall clock."""
        return 3 * self.timeout_s

    @property
    def cpu_s(self) -> int:
        """Processor time at which the kernel itself ends a process: a backstop should whoever watches be stopped."""
        return math.ceil(self.timeout_s) + 2


@dataclass(frozen=True)
class Confinement:
    """How an inmate is shut in, as it found by trying."""

    barriers: Mapping[str, tuple[str, ...]]
    """Each wall, and what it is made of."""

    @property
    def level(self) -> int:
        """How many barriers of the kernel would all have to fail: of the thinnest wall. 0: some wall is open."""
        return min(len(self.barriers.get(wall, ())) for wall in WALLS)

    @property
    def text(self) -> str:
        """In words, for people."""
        return "; ".join(f"{wall}: {' + '.join(made_of) or 'OPEN'}" for wall, made_of in self.barriers.items())


class JailRefused(LocalDistillError):
    """A program cannot be run here: it would not be shut in."""

    usual_hint = "`localdistill doctor` says what is missing; a virtual machine with Linux 6.7 or later has all of it"


def require_level(confinement: Confinement, least: int) -> None:
    """JailRefused below the level `least`, or where a wall is open."""
    if confinement.level < max(1, least):
        how = f"be shut in at level {confinement.level} only" if confinement.level else "not be shut in"
        raise JailRefused(f"programs of models are not run here: they would {how} ({confinement.text})")


class PipeEnds:
    """Both ends of a pipe, each closed once."""

    def __init__(self) -> None:
        self.out, self.into = os.pipe()

    def close(self) -> None:
        """Close what is open."""
        self.close_out()
        self.close_into()

    def close_out(self) -> None:
        """Close the end that is read."""
        if self.out >= 0:
            os.close(self.out)
        self.out = -1

    def close_into(self) -> None:
        """Close the end that is written."""
        if self.into >= 0:
            os.close(self.into)
        self.into = -1


class Cell:
    """One inmate and its keeper. Used as `with`: at its end the inmate is dead, whatever it did."""

    def __init__(self, role: str, limits: Limits, *, asked: int = -1, answered: int = -1, stdin: int = -1,
                 stdout: int = -1) -> None:
        """asked, answered: where it reads from another inmate, and writes to it."""
        self.limits = limits
        self._control, self._job, self._said = PipeEnds(), PipeEnds(), PipeEnds()
        self._buffer = bytearray()
        self.is_open = True
        """It may still say something."""
        own = {"job": self._job.out, "said": self._said.into, "asked": asked, "answered": answered, "stdin": stdin,
               "stdout": stdout}
        confined, outside = sandbox_command()
        plan = {**own, "role": role, "control": self._control.out, "outside": outside, "forks": not outside,
                "memory_bytes": limits.memory_bytes, "cpu_s": limits.cpu_s,
                "timeout_s": limits.timeout_s, "most_s": START_S + limits.wall_s + _GRACE_S}
        passed = [self._control.out, *(number for number in own.values() if number >= 0)]
        try:
            self._process: Process = start_bare("localdistill.safety.jail.keeper", json.dumps(plan), before=confined,
                                                stdin=NOTHING, stdout=NOTHING, stderr=NOTHING, pass_fds=passed,
                                                start_new_session=True)
        except OSError as error:
            self._close_pipes()
            raise JailRefused(f"no process could be started to run a program in: {error.strerror}") from None
        for pipe in (self._control, self._job):
            pipe.close_out()
        self._said.close_into()
        self._watched = None if sys.platform == "linux" else self._process.pid
        """Where the kernel does not limit memory, we look."""

    def __enter__(self) -> Cell:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def said(self) -> int:
        """The descriptor of what it says."""
        return self._said.out

    def confinement(self) -> Confinement:
        """How it is shut in. JailRefused when it did not come to that."""
        deadline = time.monotonic() + START_S
        for message in self.messages(deadline):
            return Confinement({wall: tuple(made_of) for wall, made_of in message["barriers"].items()})
        raise JailRefused(f"the process that a program runs in did not start ({self.ending()})")

    def hand_over(self, job: Mapping[str, Any]) -> None:
        """Let it begin."""
        hidden = [str(Path(__file__).resolve().parents[3])]
        data = memoryview(json.dumps({**job, "hidden": hidden}).encode("ascii") + b"\n")
        with contextlib.suppress(BrokenPipeError):
            while data:
                data = data[os.write(self._job.into, data):]
        self._job.close_into()

    def messages(self, deadline: float) -> Iterator[dict[str, Any]]:
        """What it says, until it ends, the deadline, or what is no message."""
        while True:
            while (end := self._buffer.find(b"\n")) >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                message = _object_in(line)
                if message is None:
                    self.is_open = False
                    return
                yield message
            if not self._is_ready(deadline):
                return
            chunk = os.read(self.said, BORDERS.pipe_bytes)
            self.is_open = bool(chunk) and len(self._buffer) <= MOST_LINE_BYTES
            if not self.is_open:
                return
            self._buffer += chunk

    def _is_ready(self, deadline: float) -> bool:
        """Wait until it says something; false at the deadline."""
        while (left := deadline - time.monotonic()) > 0 and not self.is_over_memory():
            if select.select([self.said], [], [], left if self._watched is None else min(left, _WATCH_S))[0]:
                return True
        return False

    def is_over_memory(self) -> bool:
        """Whether it holds more memory than it may, where the kernel does not see to that."""
        if self._watched is None:
            return False
        import psutil

        with contextlib.suppress(psutil.Error):
            return bool(psutil.Process(self._watched).memory_info().rss > self.limits.memory_bytes)
        return False

    def end(self) -> None:
        """Kill the inmate and wait until it is gone. Harmless to call twice."""
        self._control.close_into()
        if self._watched is None and ends_within(self._process, _END_S):
            pass
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._close_pipes()

    def why_over(self, deadline: float) -> str:
        """Why it did not come to its end."""
        if self.is_over_memory():
            return f"it took more than {self.limits.memory_bytes >> 20} MB of memory"
        if time.monotonic() >= deadline or self.is_over_time():
            return f"it took longer than {self.limits.timeout_s:g} s"
        ends_within(self._process, _END_S)
        return f"the process of the tests ended ({self.ending()})"

    def is_over_time(self) -> bool:
        """Whether it was ended for its processor time; it must have ended."""
        return ends_within(self._process, _LOOK_S) and self._process.returncode == OVER_TIME

    def ending(self) -> str:
        """How it ended, once it has."""
        code = self._process.poll()
        if code is None:
            return "it did not answer"
        if code > 128:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(code - 128).name}"
        return f"exit code {code}"

    def _close_pipes(self) -> None:
        for pipe in (self._control, self._job, self._said):
            pipe.close()


def _object_in(line: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
