"""Shutting the own process in, and trying every wall from inside before anybody relies on it: a wall that was put up
and does not hold counts for nothing. Runs in the jail's processes only."""

from __future__ import annotations

import _socket
import contextlib
import json
import mmap
import os
import resource
import sys
from collections.abc import Callable, Mapping
from functools import partial

Barriers = dict[str, list[str]]
"""Each wall (files, network, processes, memory) and what it is made of; nothing where it is open."""

_LIBRARIES = ("/lib", "/lib64", "/lib32", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo")
_OPEN_FILES, _TASKS, _FILE_BYTES = 64, 64, 16 << 20
_OVER = 64 << 20
_ALWAYS_THERE = "/private/etc/hosts"
"""A file of macOS that everybody may read, and that Python does not need."""


class Enclosure:
    """The walls around this process and the one that it starts."""

    def __init__(self, outside: str = "") -> None:
        """outside: what this process was started in already, `sandbox-exec`."""
        self._outside = outside
        self._readable = _readable()
        self._is_linux = sys.platform == "linux"
        self._before = os.getppid()
        self._known_file = os.path.abspath(__file__) if self._is_linux else _ALWAYS_THERE
        self._has_namespaces = self._has_root = False

    def begin(self) -> None:
        """What is done before the inmate's process is made, so that it is made inside."""
        if self._is_linux:
            from localdistill.safety.jail import kernel

            self._has_namespaces = kernel.new_namespaces()
            self._has_root = self._has_namespaces and kernel.own_root(self._readable)

    def finish(self, memory_bytes: int, cpu_s: int) -> Barriers:
        """In the inmate's process: limits, the last walls, and what holds."""
        _limit(memory_bytes, cpu_s, self._has_namespaces)
        stated: Barriers = {"files": [], "network": [], "processes": [], "memory": ["a limit"]}
        if self._outside:
            for wall in ("files", "network", "processes"):
                stated[wall].append(self._outside)
        if self._is_linux:
            self._finish_on_linux(stated)
        holds = self._probes(memory_bytes)
        return {wall: made_of if made_of and holds[wall]() else [] for wall, made_of in stated.items()}

    def _finish_on_linux(self, stated: Barriers) -> None:
        from localdistill.safety.jail import kernel

        kernel.drop_privileges()
        if self._has_namespaces:
            stated["network"].append("own namespace")
            stated["processes"].append("own namespace")
        if self._has_root:
            stated["files"].append("own root")
        if kernel.landlock(self._readable, [kernel.SCRATCH] if self._has_root else []):
            stated["files"].append("Landlock")
        if kernel.filter_calls():
            stated["network"].append("filter of system calls")
            stated["processes"].append("filter of system calls")

    def _probes(self, memory_bytes: int) -> Mapping[str, Callable[[], bool]]:
        return {"files": self._files_hold, "network": _network_holds, "processes": self._processes_hold,
                "memory": lambda: _memory_holds(memory_bytes)}

    def _files_hold(self) -> bool:
        """A file that was within reach a moment ago is not any more, and nothing readable can be changed."""
        tried = [(self._known_file, os.O_RDONLY), (self._known_file, os.O_WRONLY), (json.__file__, os.O_WRONLY)]
        tries: list[Callable[[], object]] = [partial(_open, path, how) for path, how in tried]
        tries.append(partial(os.listdir, "/proc/self"))
        return all(map(_fails, tries))

    def _processes_hold(self) -> bool:
        """Who started us cannot be signalled, also not with a signal that only asks."""
        return _fails(lambda: os.kill(self._before, 0))


def _readable() -> list[str]:
    """Folders that Python needs to import its own library, without those inside others."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    own = [path for path in sys.path if path and os.path.abspath(path) != root]
    wanted = [path for path in (*_LIBRARIES, os.path.join(sys.base_prefix, "lib"), *own)
              if os.path.isabs(path) and os.path.isdir(path)]
    links = [path for path in wanted if os.path.islink(path)]
    real = [path for path in dict.fromkeys(wanted) if path not in links]
    return [path for path in real if not any(path != other and path.startswith(other + "/") for other in real)] + [
        path for path in dict.fromkeys(links) if not any(path.startswith(other + "/") for other in real)]


def _limit(memory_bytes: int, cpu_s: int, counts_own_tasks: bool) -> None:
    for name, value in (("RLIMIT_AS", memory_bytes), ("RLIMIT_CPU", cpu_s), ("RLIMIT_FSIZE", _FILE_BYTES),
                        ("RLIMIT_NOFILE", _OPEN_FILES), ("RLIMIT_CORE", 0), ("RLIMIT_MEMLOCK", 0),
                        ("RLIMIT_MSGQUEUE", 0), ("RLIMIT_NPROC", _TASKS if counts_own_tasks else -1)):
        number = getattr(resource, name, None)
        if number is not None and value >= 0:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(number, (value, value))


def _network_holds() -> bool:
    """No datagram leaves, not even to this machine."""
    try:
        probe = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)  # without the module around it, which loads slowly
    except OSError:
        return True
    holds = all(_fails(partial(probe.sendto, b"?", (host, 9))) for host in ("127.0.0.1", "192.0.2.1"))
    probe.close()
    return holds


def _memory_holds(memory_bytes: int) -> bool:
    return _fails(lambda: mmap.mmap(-1, memory_bytes + _OVER).close())


def _open(path: str, how: int) -> None:
    os.close(os.open(path, how))


def _fails(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (OSError, MemoryError, ValueError):
        return True
    return False
