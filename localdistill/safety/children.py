"""Child processes that speak JSON lines, so that a crash, a hang or a memory bomb in foreign code hits nobody else.

Parent side: `JsonChild`. Child side: `serve`. The child's own standard output and error, which native libraries
write to at will, go to an unnamed temporary file whose tail explains a death; they never mix with the protocol.
Nothing here knows what the lines mean.

Children of every other kind are started by `start` too: the one door, which holds secrets back. Those that will run
foreign code are started by `start_bare`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from localdistill.core.borders import BORDERS

Process = subprocess.Popen[bytes]
NOTHING, PIPE = subprocess.DEVNULL, subprocess.PIPE

_SECRET_NAME = re.compile(
    r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|PASS|CREDENTIAL|AUTH|BEARER|COOKIE)S?\d*(_|$)|_(PAT|PWD)\d*$",
    re.IGNORECASE)
_SECRET_VALUE = re.compile(
    r"(sk|rk|gsk|xai|nvapi|hf|r8|pplx|gh[opsu]|glpat)[-_][\w-]{16,}|AIza[\w-]{30,}|A[KS]IA[A-Z0-9]{16}"
    r"|.*://[^/\s:@]*:[^/\s@]+@.*", re.DOTALL)
_PASSWORD = re.compile(r".*://[^/\s:@]*:([^/\s@]+)@.*", re.DOTALL)
_HELD_BACK = "LOCALDISTILL_HELD_BACK"
"""Names of the secrets that this process was given for itself: whatever they look like, its children get none."""
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_WENT_OFFLINE = "LOCALDISTILL_WENT_OFFLINE"
"""Set where it was us who told libraries to load nothing from a network, and not the user."""
_LOG_TAIL_BYTES = 4096
_held_back: set[str] = set()


class ChildDied(Exception):
    """The child closed its pipe; `returncode` is negative for a signal, `log` the end of what it printed."""

    def __init__(self, returncode: int | None, log: str) -> None:
        super().__init__(f"the child process ended ({describe_exit(returncode)})")
        self.returncode = returncode
        self.log = log


class ChildTimeout(Exception):
    """The child did not answer in time."""


def describe_exit(returncode: int | None) -> str:
    """`killed by SIGSEGV`, `exit code 1` or `unknown` for a process's return code."""
    if returncode is None:
        return "unknown"
    if returncode >= 0:
        return f"exit code {returncode}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-returncode).name}"
    return f"killed by signal {-returncode}"


def hold_back(name: str) -> None:
    """The environment variable `name` holds a secret, however it is called: no child gets it unless it is named."""
    _held_back.add(name)


def go_offline() -> None:
    """Let libraries in this process load nothing from a network."""
    if not any(os.environ.get(name) for name in _OFFLINE):
        os.environ[_WENT_OFFLINE] = "1"
    os.environ.update(dict.fromkeys(_OFFLINE, "1"))


def is_offline_by_choice() -> bool:
    """Whether the user forbids models to be fetched: `HF_HUB_OFFLINE` was set before this program began."""
    asked = any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in _OFFLINE)
    return asked and not os.environ.get(_WENT_OFFLINE)


def child_environment(extra: Mapping[str, str] | None = None, secrets: Iterable[str] = (),
                      is_offline: bool = True) -> dict[str, str]:
    """This process's environment without secrets but those named in `secrets`, with this package importable and
    library telemetry off. `is_offline`: libraries load nothing from a network."""
    given = {name for name in secrets if name in os.environ}
    held = _held_back.union(os.environ.get(_HELD_BACK, "").split(","))
    environment = {name: value for name, value in os.environ.items()
                   if name in given or not (name in held or _is_secret(name, value))}
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    environment.update({"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"})
    if is_offline:
        environment.update(dict.fromkeys(_OFFLINE[:1], "1"))
    elif environment.pop(_WENT_OFFLINE, ""):
        environment = {name: value for name, value in environment.items() if name not in _OFFLINE}
    environment[_HELD_BACK] = ",".join(sorted(given))
    environment.update(extra or {})
    return environment


def given_secrets() -> list[str]:
    """The secrets that this process was given for itself; of an address, the password in it."""
    values = [os.environ.get(name, "").strip() for name in os.environ.get(_HELD_BACK, "").split(",") if name]
    found = [(_PASSWORD.fullmatch(value), value) for value in values if value]
    return [address[1] if address else value for address, value in found if address or "://" not in value]


def _is_secret(name: str, value: str) -> bool:
    return bool(_SECRET_NAME.search(name) or _SECRET_VALUE.fullmatch(value.strip()))


def start(command: Sequence[str], environment: Mapping[str, str] | None = None, secrets: Iterable[str] = (),
          is_offline: bool = True, **how: Any) -> Process:
    """Start a process with `child_environment(environment, secrets, is_offline)`. `how` goes to Popen."""
    return subprocess.Popen(command, env=child_environment(environment, secrets, is_offline), **how)


def start_module(module: str, *arguments: str, **how: Any) -> Process:
    """`start` of `python -m module`."""
    return start([sys.executable, "-m", module, *arguments], **how)


def start_bare(module: str, *arguments: str, before: Sequence[str] = (), **how: Any) -> Process:
    """`python -m module` with nothing of this process's environment, no packages but this one and the standard library,
    and the same hashes every time. before: a command that runs it. `how` goes to Popen."""
    root = str(Path(__file__).resolve().parents[2])
    environment = {"PYTHONPATH": root, "PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    command = [*before, sys.executable, "-s", "-S", "-P", "-m", module, *arguments]
    return subprocess.Popen(command, env=environment, cwd="/", **how)


def output_of(command: Sequence[str], timeout_s: float, environment: Mapping[str, str] | None = None) -> bytes | None:
    """What a command prints; None when it cannot be started, takes longer, or ends with another code than 0."""
    try:
        child = start(command, environment, stdin=NOTHING, stdout=PIPE, stderr=NOTHING)
    except OSError:
        return None
    with child:
        try:
            said, _ = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
            return None
    return said if child.returncode == 0 else None


def ends_within(child: Process, timeout_s: float) -> bool:
    """Wait until `child` has ended, at most so long; whether it has."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=timeout_s)
    return child.poll() is not None


class JsonChild:
    """A running `python -m module`. Not safe for use by two threads at once."""

    def __init__(self, module: str, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None,
                 secrets: Iterable[str] = (), is_offline: bool = True) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = start_module(module, *arguments, environment=environment, secrets=secrets,
                                     is_offline=is_offline, stdin=PIPE, stdout=PIPE, stderr=self._log, bufsize=0,
                                     start_new_session=True)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._buffer = bytearray()
        self._searched = 0

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def is_alive(self) -> bool:
        """True while the process runs."""
        return self._process.poll() is None

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one line. Raises ChildDied."""
        data = memoryview(json.dumps(message, ensure_ascii=True, separators=(",", ":")).encode() + b"\n")
        try:
            while data:
                data = data[self._stdin.write(data) or 0 :]
        except (BrokenPipeError, ValueError, OSError):
            raise self._death() from None

    def receive(self, timeout_s: float | None = None) -> dict[str, Any]:
        """The next line, waiting at most `timeout_s`. Raises ChildTimeout or ChildDied."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([self._stdout], [], [], left)
            if not ready:
                raise ChildTimeout(f"no answer within {timeout_s} s")
            chunk = os.read(self._stdout.fileno(), BORDERS.pipe_bytes)
            if not chunk:
                raise self._death()
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        message: dict[str, Any] = json.loads(line)
        return message

    def log_tail(self) -> str:
        """The last few kilobytes that the child printed."""
        try:
            size = os.fstat(self._log.fileno()).st_size
            tail = os.pread(self._log.fileno(), _LOG_TAIL_BYTES, max(0, size - _LOG_TAIL_BYTES))
            return tail.decode("utf-8", "replace")
        except (OSError, ValueError):
            return ""

    def _death(self) -> ChildDied:
        ends_within(self._process, 5)
        return ChildDied(self._process.returncode, self.log_tail())

    def kill(self) -> None:
        """End the child and what it started at once, and free everything. Harmless to call twice."""
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._stdin, self._stdout, self._log):
            with contextlib.suppress(OSError):
                stream.close()

    def close(self, timeout_s: float = 5.0) -> None:
        """Close the child's input, which asks it to leave; kill it when it does not."""
        with contextlib.suppress(OSError):
            self._stdin.close()
        ends_within(self._process, timeout_s)
        self.kill()


class JsonPipe:
    """JSON lines over pipes, the child's end: read requests, write answers."""

    def __init__(self, source: IO[bytes], sink: IO[bytes]) -> None:
        self._source, self._sink = source, sink

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Messages until the parent closes the pipe or is gone."""
        for line in self._source:
            yield json.loads(line)

    def write(self, *messages: Mapping[str, Any]) -> None:
        """Send messages in one write; ends the process when the parent is gone."""
        data = b"".join(json.dumps(m, ensure_ascii=True, separators=(",", ":")).encode() + b"\n" for m in messages)
        try:
            self._sink.write(data)
            self._sink.flush()
        except (BrokenPipeError, OSError):
            os._exit(0)


def serve() -> JsonPipe:
    """Take the protocol over from standard input and output; what prints to them afterwards goes to the log."""
    source = os.fdopen(os.dup(0), "rb")
    sink = os.fdopen(os.dup(1), "wb")
    quiet = os.open(os.devnull, os.O_RDONLY)
    os.dup2(quiet, 0)
    os.close(quiet)
    os.dup2(2, 1)
    return JsonPipe(source, sink)


def limit_memory(size_bytes: int) -> None:
    """Cap this process's address space where the system can (Linux does, macOS does not)."""
    import resource

    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (size_bytes, size_bytes))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
