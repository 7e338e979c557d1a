"""The process that commands are forked from: it has imported the command line and opens nothing. A line of JSON says
what to run; the exit code is the answer."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import termios
import time
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import localdistill.cli.app
import localdistill.recipe
import localdistill.workspace.folder
import localdistill.workspace.run_folder  # noqa: F401


def main() -> None:
    """Serve until standard input ends."""
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            _be_the_command(asked)
        code = _wait(child, float(asked["timeout_s"]))
        sys.stdout.write(f"{code}\n")
        sys.stdout.flush()


def _wait(child: int, timeout_s: float) -> int:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _be_the_command(asked: dict[str, Any]) -> None:
    code: object = 70
    try:
        os.setsid()
        _redirect(asked["names"])
        for name, value in asked["environment"].items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        os.chdir(asked["cwd"])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["localdistill", *asked["arguments"]]
        if asked["before"]:
            module, _, function = asked["before"].partition(":")
            getattr(import_module(module), function)()
        from localdistill.cli import main as command

        command()
        code = 0
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _redirect(names: Sequence[str]) -> None:
    """Let the standard streams be these files or this terminal."""
    modes = (os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT)
    for target, (name, mode) in enumerate(zip(names, modes, strict=True)):
        handle = os.open(name, os.O_RDWR if name.startswith("/dev/pts") else mode, 0o600)
        if target == 0 and os.isatty(handle):
            fcntl.ioctl(handle, termios.TIOCSCTTY, 0)
        os.dup2(handle, target)
        if handle > 2:
            os.close(handle)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, encoding="utf-8", closefd=False, buffering=1 if os.isatty(number) else -1)  # noqa: SIM115
        for number, mode in enumerate(("r", "w", "w")))


if __name__ == "__main__":
    main()
