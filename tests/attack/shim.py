"""The library in front of libc that lets file operations fail, as Python drives it. Linux with a C compiler only: where
there is neither, the kinds that need it say so and are left out."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
READS, WRITES, NAMES, SYNCS = 1, 2, 4, 8
"""Kinds of operations: as in the source."""


@dataclass(frozen=True)
class Fault:
    """What fails, and how."""

    name: str
    """Of an error (`EIO`), or of a signal that the process gets there (`SIGKILL`)."""
    kinds: int
    goes_on: bool = False
    """Everything after it fails too, as on a disk that stays full."""

    @property
    def number(self) -> int:
        """Of the error; of a signal its negative."""
        return -int(getattr(signal, self.name)) if self.name.startswith("SIG") else int(getattr(errno, self.name))


ALL = READS | WRITES | NAMES | SYNCS
FAULTS = (Fault("EIO", READS | WRITES | SYNCS), Fault("ENOSPC", WRITES), Fault("ENOSPC", WRITES | SYNCS, True),
          Fault("EACCES", NAMES))


@dataclass
class Counted:
    """What went through while the library watched."""

    seen: int = 0
    """Operations that could have failed."""
    fired: int = 0
    """Those that did."""


@cache
def library() -> Path | None:
    """The compiled library; None where it cannot be had."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if os.uname().sysname != "Linux" or compiler is None:
        return None
    made = Path(tempfile.gettempdir()) / f"localdistill-attack-{os.getuid()}" / f"shim-{SOURCE.stat().st_mtime_ns}.so"
    if not made.is_file():
        made.parent.mkdir(parents=True, exist_ok=True)
        partial = made.with_suffix(f".{os.getpid()}")
        done = subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(partial), str(SOURCE), "-ldl"],
                              capture_output=True, text=True)
        if done.returncode:
            return None
        os.replace(partial, made)
    return made


def environment() -> dict[str, str]:
    """What a process needs that is to be driven."""
    found = library()
    return {"LD_PRELOAD": str(found)} if found else {}


@contextmanager
def failing_in(who: str, fault: Fault, nth: int, folder: Path, report: Path | None = None) -> Iterator[None]:
    """Let the Nth operation below `folder` fail in every process started in the length of the block whose command line
    holds `who`; 0 only counts. The counts are added to `report` when such processes end well."""
    wanted = {"ATTACK_WHO": who, "ATTACK_FOLDER": str(folder), "ATTACK_NTH": str(nth),
              "ATTACK_FAULT": str(fault.number), "ATTACK_KINDS": str(fault.kinds),
              "ATTACK_GOES_ON": str(int(fault.goes_on)),
              **({"ATTACK_REPORT": str(report)} if report else {})}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name in wanted:
            del os.environ[name]


@cache
def _loaded() -> ctypes.CDLL | None:
    """The library, when this process runs with it in front of libc."""
    found = library()
    if found is None or str(found) not in os.environ.get("LD_PRELOAD", ""):
        return None
    lib = ctypes.CDLL(str(found))
    lib.attack_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int]
    lib.attack_seen.restype = lib.attack_fired.restype = ctypes.c_long
    lib.attack_record.argtypes = [ctypes.c_int, ctypes.c_char_p]
    return lib


def is_loaded() -> bool:
    """Whether file operations of this process can fail."""
    return _loaded() is not None


@contextmanager
def failing(fault: Fault, nth: int, folder: Path) -> Iterator[Counted]:
    """Let the `nth` operation below `folder` fail in the length of the block; 0 only counts."""
    lib, counted = _loaded(), Counted()
    assert lib is not None
    lib.attack_arm(str(folder).encode(), nth, fault.number, fault.kinds, int(fault.goes_on))
    try:
        yield counted
    finally:
        lib.attack_disarm()
        counted.seen, counted.fired = lib.attack_seen(), lib.attack_fired()


@contextmanager
def recording(folder: Path) -> Iterator[set[str]]:
    """The files and folders below `folder` that are opened in the length of the block; nothing without the library."""
    lib, found = _loaded(), set[str]()
    if lib is None:
        yield found
        return
    with tempfile.TemporaryFile() as log:
        lib.attack_record(log.fileno(), str(folder).encode())
        try:
            yield found
        finally:
            lib.attack_record(-1, None)
        log.seek(0)
        found.update(line for line in log.read().decode("utf-8", "surrogateescape").splitlines())
