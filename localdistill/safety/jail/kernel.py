"""What Linux offers to shut a process in without being root: namespaces with a root of their own, Landlock, a filter of
system calls, limits. Each step is tried by itself and says whether it was reached. Used inside the process that is shut
in, before anything foreign is there; imports nothing of ours but the filter."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
from collections.abc import Sequence

from localdistill.safety.jail.system_calls import filter_program

_libc = ctypes.CDLL(None, use_errno=True)

_NEW_MOUNTS, _NEW_CGROUP, _NEW_NAMES, _NEW_IPC, _NEW_USER, _NEW_PIDS, _NEW_NET = (
    0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
_INNER_ID = 65534
_READ_ONLY, _NO_SUID, _NO_DEV, _NO_EXEC, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = (
    1, 2, 4, 8, 32, 4096, 16384, 1 << 18)
_DETACH, _AT_FDCWD, _AT_RECURSIVE = 2, -100, 0x8000
_MOUNT_SETATTR, _LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 442, 444, 445, 446
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CAPSET = {"x86_64": 126, "aarch64": 91}
_PR_DEATHSIG, _PR_DUMPABLE, _PR_SECCOMP, _PR_DROP_BOUND, _PR_NO_NEW_PRIVS, _PR_AMBIENT = 1, 4, 22, 24, 38, 47
_ROOT_AT = b"/proc"
"""Where the new root is put together: a folder that is always there, and that nobody needs meanwhile."""
SCRATCH = "/tmp"
SCRATCH_BYTES = 16 << 20
"""Of the files that a program may leave while it runs."""

_LEAST_ABI = 4
"""Before the third version files could be cut to nothing, before the fourth any host be reached."""
_READ = 1 << 2 | 1 << 3
_ALL_OF_ABI_4, _IOCTL_DEVICES = (1 << 15) - 1, 1 << 15
_TCP, _SCOPED = 3, 3


def _call(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _mount(source: str, target: bytes, kind: bytes, flags: int, options: bytes = b"") -> None:
    _call(_libc.mount(os.fsencode(source) or None, target, kind or None, ctypes.c_ulong(flags), options or None))


def new_namespaces() -> bool:
    """Leave the namespaces of users, mounts, names, networks, IPC and control groups; children of this process get
    process ids of their own. False when the system does not let us."""
    user, group = os.geteuid(), os.getegid()
    try:
        _call(_libc.unshare(_NEW_USER | _NEW_MOUNTS | _NEW_NAMES | _NEW_IPC | _NEW_NET | _NEW_PIDS | _NEW_CGROUP))
    except OSError:
        return False
    try:
        for name, text in (("setgroups", "deny"), ("gid_map", f"{_INNER_ID} {group} 1"),
                           ("uid_map", f"{_INNER_ID} {user} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    except OSError:
        pass  # the ids then mean nobody: what follows from it is seen by trying
    return True


def own_root(readable: Sequence[str]) -> bool:
    """A file system of our own in memory: these folders, to be read, and a little room in /tmp that goes with us. False
    when the system does not let us."""
    try:
        _mount("", b"/", b"", _RECURSIVE | _PRIVATE)
        _mount("root", _ROOT_AT, b"tmpfs", _NO_SUID | _NO_DEV, b"size=1m,mode=755")
        for path in readable:
            target = _ROOT_AT + os.fsencode(path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if os.path.islink(path):
                os.symlink(os.readlink(path), target)
                continue
            os.makedirs(target, exist_ok=True)
            _mount(path, target, b"", _BIND | _RECURSIVE)
            _make_read_only(target)
        scratch = _ROOT_AT + SCRATCH.encode()
        os.makedirs(scratch)
        _mount("scratch", scratch, b"tmpfs", _NO_SUID | _NO_DEV | _NO_EXEC,
               b"size=%d,nr_inodes=1024,mode=777" % SCRATCH_BYTES)
        os.chdir(_ROOT_AT)
        _call(_libc.syscall(_PIVOT_ROOT[platform.machine()], b".", b"."))
        _call(_libc.umount2(b".", _DETACH))
        os.chdir("/")
        _mount("root", b"/", b"", _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEV)
        os.chdir(SCRATCH)
    except (OSError, KeyError):
        return False
    return True


def _make_read_only(target: bytes) -> None:
    attributes = struct.pack("=QQQQ", _READ_ONLY | _NO_SUID | _NO_DEV, 0, 0, 0)
    if _libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, target, _AT_RECURSIVE, attributes, len(attributes)) == 0:
        return
    kept = os.statvfs(target).f_flag & (_NO_SUID | _NO_DEV | _NO_EXEC)
    _mount("", target, b"", _REMOUNT | _BIND | _READ_ONLY | kept)


def landlock(readable: Sequence[str], writable: Sequence[str]) -> bool:
    """No files but these, no TCP, no signals to others. False where the kernel has it not, or an older one."""
    version = _libc.syscall(_LANDLOCK_CREATE, None, 0, 1)
    if version < _LEAST_ABI:
        return False
    files = _ALL_OF_ABI_4 | (_IOCTL_DEVICES if version >= 5 else 0)
    rules = struct.pack("=QQQ", files, _TCP, _SCOPED)[:24 if version >= 6 else 16]
    try:
        ruleset = _libc.syscall(_LANDLOCK_CREATE, rules, len(rules), 0)
        _call(ruleset)
        for paths, access in ((readable, _READ), (writable, _ALL_OF_ABI_4 & ~(1 << 6 | 1 << 11 | 1))):
            for path in paths:
                beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
                _call(_libc.syscall(_LANDLOCK_ADD, ruleset, 1, struct.pack("=Qi", access, beneath), 0))
                os.close(beneath)
        _no_new_privileges()
        _call(_libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0))
        os.close(ruleset)
    except OSError:
        return False
    return True


def _no_new_privileges() -> None:
    _call(_libc.prctl(_PR_NO_NEW_PRIVS, 1, 0, 0, 0))


def drop_privileges() -> None:
    """No capabilities, none to be had again; nobody may look into this process, and it dies with its parent."""
    for capability in range(64):
        if _libc.prctl(_PR_DROP_BOUND, capability, 0, 0, 0) < 0:
            break
    _libc.prctl(_PR_AMBIENT, 4, 0, 0, 0)
    number = _CAPSET.get(platform.machine())
    if number is not None:
        _libc.syscall(number, struct.pack("=Ii", 0x20080522, 0), bytes(24))
    _no_new_privileges()
    _libc.prctl(_PR_DUMPABLE, 0, 0, 0, 0)
    _libc.prctl(_PR_DEATHSIG, signal.SIGKILL, 0, 0, 0)


def filter_calls() -> bool:
    """Let through nothing but listed system calls. False where the system or the machine is not known."""
    program = filter_program(os.getpid())
    if program is None:
        return False
    held = ctypes.create_string_buffer(program, len(program))
    pointed = struct.pack("@HP", len(program) // 8, ctypes.addressof(held))
    try:
        _no_new_privileges()
        _call(_libc.prctl(_PR_SECCOMP, 2, pointed, 0, 0))
    except OSError:
        return False
    return True
