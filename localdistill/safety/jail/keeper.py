"""The keeper of one inmate: `python -m localdistill.safety.jail.keeper PLAN`, started by `cells`. It shuts itself in,
makes the process in which foreign code will run, and from then on only waits: when the pipe from whoever started it is
closed, for whatever reason, the inmate is killed, and with it, as it is the first of its namespace, all that it made.
No foreign code and no text of any task ever comes into this process."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import sys
import time
from typing import Any

from localdistill.safety.jail.lines import Lines
from localdistill.safety.jail.walls import Enclosure

FAILED = 70
"""Exit code of an inmate that did not come to its work."""
OVER_TIME = 75
"""Exit code of a keeper whose inmate used more processor time than it may."""
_LOOK_S = 0.05


def main() -> None:
    """Keep one inmate; the exit code is the inmate's, 128 and the signal where one ended it."""
    plan = json.loads(sys.argv[1])
    role = importlib.import_module(f"localdistill.safety.jail.{plan['role']}")
    enclosure, nothing = Enclosure(plan["outside"]), os.open(os.devnull, os.O_RDWR)
    enclosure.begin()
    child = os.fork() if plan["forks"] else 0
    if child == 0:
        _inmate(role, plan, enclosure, nothing)
    for number in _own_files(plan):
        os.close(number)
    os._exit(_keep(child, plan["control"], plan["most_s"], plan["timeout_s"]))


def _own_files(plan: dict[str, Any]) -> list[int]:
    """The inmate's files."""
    return [plan[name] for name in ("job", "said", "asked", "answered", "stdin", "stdout") if plan[name] >= 0]


def _keep(child: int, control: int, most_s: float, cpu_s: float) -> int:
    """Wait for the inmate; kill it when the control pipe closes, or when it had its time, of the clock or of the
    processor."""
    deadline, watched = time.monotonic() + most_s, [control]
    with contextlib.suppress(OSError, AttributeError):
        watched.append(os.pidfd_open(child))
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        ready, _, _ = select.select(watched, [], [], _LOOK_S)
        is_over = _cpu_s(child) > cpu_s
        if control in ready or time.monotonic() > deadline or is_over:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return OVER_TIME if is_over else 128 + signal.SIGKILL


def _cpu_s(process: int) -> float:
    """Processor time of all threads of a process, by the clock that Linux has for each."""
    with contextlib.suppress(OSError):
        return time.clock_gettime((~process << 3) | 2)
    return 0.0


def _inmate(role: Any, plan: dict[str, Any], enclosure: Enclosure, nothing: int) -> None:
    """The inmate's whole life. Does not return."""
    code = FAILED
    try:
        _only_own_files(plan, nothing)
        said = Lines(plan["job"], plan["said"])
        said.write({"barriers": enclosure.finish(plan["memory_bytes"], plan["cpu_s"])})
        job = said.read()
        if job is not None:
            code = role.work(job, said, Lines(plan["asked"], plan["answered"]))
    except BaseException:
        code = FAILED
    finally:
        os._exit(code)


def _only_own_files(plan: dict[str, Any], nothing: int) -> None:
    """Nothing is open but the inmate's own files; standard input and output are its own or nothing."""
    for number, own in ((0, plan["stdin"]), (1, plan["stdout"]), (2, -1)):
        os.dup2(own if own >= 0 else nothing, number)
    for number in (nothing, plan["control"], plan["stdin"], plan["stdout"]):
        if number >= 0:
            os.close(number)


if __name__ == "__main__":
    main()
