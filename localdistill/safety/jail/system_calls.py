"""The filter of system calls (seccomp): which ones a program in the jail may make. Everything that is not listed does
not exist for it, so that a call which a later kernel brings is not allowed by accident."""

from __future__ import annotations

import platform
import struct

_ALLOWED = {
    "x86_64": (
        "read:0 write:1 open:2 close:3 stat:4 fstat:5 lstat:6 poll:7 lseek:8 mmap:9 mprotect:10 munmap:11 brk:12 "
        "rt_sigaction:13 rt_sigprocmask:14 rt_sigreturn:15 pread64:17 pwrite64:18 readv:19 writev:20 access:21 pipe:22 "
        "select:23 sched_yield:24 mremap:25 msync:26 mincore:27 madvise:28 dup:32 dup2:33 pause:34 nanosleep:35 "
        "getitimer:36 alarm:37 setitimer:38 getpid:39 sendfile:40 sendto:44 recvfrom:45 sendmsg:46 recvmsg:47 "
        "shutdown:48 getsockname:51 getpeername:52 setsockopt:54 getsockopt:55 exit:60 wait4:61 uname:63 flock:73 "
        "fsync:74 fdatasync:75 ftruncate:77 getdents:78 getcwd:79 chdir:80 fchdir:81 rename:82 mkdir:83 rmdir:84 "
        "link:86 unlink:87 symlink:88 readlink:89 umask:95 gettimeofday:96 getrlimit:97 getrusage:98 sysinfo:99 "
        "times:100 getuid:102 getgid:104 geteuid:107 getegid:108 getppid:110 getpgrp:111 getgroups:115 getresuid:118 "
        "getresgid:120 getpgid:121 getsid:124 rt_sigpending:127 rt_sigtimedwait:128 rt_sigsuspend:130 sigaltstack:131 "
        "statfs:137 fstatfs:138 arch_prctl:158 gettid:186 time:201 futex:202 sched_getaffinity:204 getdents64:217 "
        "set_tid_address:218 restart_syscall:219 fadvise64:221 clock_gettime:228 clock_getres:229 clock_nanosleep:230 "
        "exit_group:231 epoll_wait:232 epoll_ctl:233 waitid:247 openat:257 mkdirat:258 newfstatat:262 unlinkat:263 "
        "renameat:264 linkat:265 symlinkat:266 readlinkat:267 faccessat:269 pselect6:270 ppoll:271 set_robust_list:273 "
        "get_robust_list:274 epoll_pwait:281 timerfd_create:283 fallocate:285 timerfd_settime:286 timerfd_gettime:287 "
        "eventfd2:290 epoll_create1:291 dup3:292 pipe2:293 preadv:295 pwritev:296 getcpu:309 renameat2:316 "
        "getrandom:318 membarrier:324 copy_file_range:326 statx:332 rseq:334 close_range:436 faccessat2:439 "
        "epoll_pwait2:441 futex_waitv:449"),
    "aarch64": (
        "getcwd:17 eventfd2:19 epoll_create1:20 epoll_ctl:21 epoll_pwait:22 dup:23 dup3:24 flock:32 mkdirat:34 "
        "unlinkat:35 symlinkat:36 linkat:37 renameat:38 statfs:43 fstatfs:44 ftruncate:46 fallocate:47 faccessat:48 "
        "chdir:49 fchdir:50 openat:56 close:57 pipe2:59 getdents64:61 lseek:62 read:63 write:64 readv:65 writev:66 "
        "pread64:67 pwrite64:68 preadv:69 pwritev:70 sendfile:71 pselect6:72 ppoll:73 readlinkat:78 newfstatat:79 "
        "fstat:80 fsync:82 fdatasync:83 timerfd_create:85 timerfd_settime:86 timerfd_gettime:87 exit:93 exit_group:94 "
        "waitid:95 set_tid_address:96 futex:98 set_robust_list:99 get_robust_list:100 nanosleep:101 getitimer:102 "
        "setitimer:103 clock_gettime:113 clock_getres:114 clock_nanosleep:115 sched_getaffinity:123 sched_yield:124 "
        "restart_syscall:128 sigaltstack:132 rt_sigsuspend:133 rt_sigaction:134 rt_sigprocmask:135 rt_sigpending:136 "
        "rt_sigtimedwait:137 rt_sigreturn:139 getresuid:148 getresgid:150 times:153 getpgid:155 getsid:156 "
        "getgroups:158 uname:160 getrlimit:163 getrusage:165 umask:166 getcpu:168 gettimeofday:169 getpid:172 "
        "getppid:173 getuid:174 geteuid:175 getgid:176 getegid:177 gettid:178 sysinfo:179 getsockname:204 "
        "getpeername:205 sendto:206 recvfrom:207 setsockopt:208 getsockopt:209 shutdown:210 sendmsg:211 recvmsg:212 "
        "brk:214 munmap:215 mremap:216 mmap:222 fadvise64:223 mprotect:226 msync:227 mincore:232 madvise:233 wait4:260 "
        "renameat2:276 getrandom:278 membarrier:283 copy_file_range:285 statx:291 rseq:293 close_range:436 "
        "faccessat2:439 epoll_pwait2:441 futex_waitv:449"),
}
"""What computing, files, threads, clocks and pipes need; numbers of the kernel's own headers. Changing modes, owners or
times of files is left out: the other barriers do not look at it."""
_CLONE, _CLONE3, _KILL, _TGKILL, _PRCTL, _PRLIMIT, _IOCTL, _FCNTL, _SOCKETPAIR = range(9)
_SPECIAL = {"x86_64": (56, 435, 62, 234, 157, 302, 16, 72, 53), "aarch64": (220, 435, 129, 131, 167, 261, 29, 25, 199)}
"""Calls that are allowed in one way only."""
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000

_THREAD = 0x10000
_PR_NAMES = (15, 16, 0x53564D41)
"""PR_SET_NAME, PR_GET_NAME, PR_SET_VMA."""
_IOCTLS = (0x5401, 0x5413, 0x540F, 0x541B, 0x5421, 0x5450, 0x5451)
"""What asks whether a file is a terminal and how much waits in it, and the flags of a descriptor."""
_SIGNALS_OF_FILES = (8, 10, 15)
"""F_SETOWN, F_SETSIG, F_SETOWN_EX: a file that gets ready would send any signal to any process."""
_AF_UNIX, _SOCK_STREAM, _SOCK_TYPE = 1, 1, 0xF

_LOAD, _JEQ, _JGE, _JGT, _JSET, _RETURN, _AND = 0x20, 0x15, 0x35, 0x25, 0x45, 0x06, 0x54
_ALLOW, _KILL_PROCESS = 0x7FFF0000, 0x80000000
_EPERM, _ENOSYS = 0x00050001, 0x00050026
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16

Step = tuple[int, int, int, int]
"""Code, jump when true, jump when false, constant."""


def filter_program(own_pid: int, machine: str = "") -> bytes | None:
    """The filter as the kernel takes it; None for a machine whose calls are not listed."""
    machine = machine or platform.machine()
    if machine not in _ALLOWED:
        return None
    steps: list[Step] = [(_LOAD, 0, 0, _ARCH_AT), (_JEQ, 1, 0, _AUDIT_ARCH[machine]), (_RETURN, 0, 0, _KILL_PROCESS),
                         (_LOAD, 0, 0, _NUMBER_AT)]
    if machine == "x86_64":
        steps += [(_JGE, 0, 1, _X32), (_RETURN, 0, 0, _KILL_PROCESS)]
    for first, last in _runs(machine):
        steps += [(_JGE, 0, 2, first), (_JGT, 1, 0, last), (_RETURN, 0, 0, _ALLOW)]
    for number, checks in _special(machine, own_pid):
        steps += [(_JEQ, 0, len(checks), number), *checks]
    steps.append((_RETURN, 0, 0, _ENOSYS))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _runs(machine: str) -> list[tuple[int, int]]:
    """Allowed numbers, as ranges."""
    numbers = sorted(int(call.split(":")[1]) for call in _ALLOWED[machine].split())
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _special(machine: str, own_pid: int) -> list[tuple[int, list[Step]]]:
    """What each of the special calls is asked before it is let through; all of them end with a verdict."""
    number = _SPECIAL[machine]
    return [
        (number[_CLONE], [(_LOAD, 0, 0, _argument(0)), (_JSET, 0, 1, _THREAD), *_end()]),
        (number[_CLONE3], [(_RETURN, 0, 0, _ENOSYS)]),  # its flags lie in memory: the C library falls back to clone
        (number[_KILL], [(_LOAD, 0, 0, _argument(0)), (_JEQ, 0, 1, own_pid), *_end()]),
        (number[_TGKILL], [(_LOAD, 0, 0, _argument(0)), (_JEQ, 0, 1, own_pid), *_end()]),
        (number[_PRCTL], [(_LOAD, 0, 0, _argument(0)), *_one_of(_PR_NAMES)]),
        (number[_PRLIMIT], [(_LOAD, 0, 0, _argument(0)), (_JEQ, 0, 1, 0), *_end()]),
        (number[_IOCTL], [(_LOAD, 0, 0, _argument(1)), *_one_of(_IOCTLS)]),
        (number[_FCNTL], [(_LOAD, 0, 0, _argument(1)), *_none_of(_SIGNALS_OF_FILES)]),
        (number[_SOCKETPAIR], [(_LOAD, 0, 0, _argument(0)), (_JEQ, 0, 4, _AF_UNIX), (_LOAD, 0, 0, _argument(1)),
                               (_AND, 0, 0, _SOCK_TYPE), (_JEQ, 0, 1, _SOCK_STREAM), *_end()]),
    ]


def _argument(place: int) -> int:
    """Where the low half of an argument lies: the kernel takes no more of these."""
    return _ARGUMENTS_AT + 8 * place


def _end() -> list[Step]:
    return [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _EPERM)]


def _one_of(values: tuple[int, ...]) -> list[Step]:
    """Allow when the loaded value is one of these."""
    tests = [(_JEQ, len(values) - place - 1, 0 if place < len(values) - 1 else 1, value)
             for place, value in enumerate(values)]
    return [*tests, *_end()]


def _none_of(values: tuple[int, ...]) -> list[Step]:
    """Refuse when the loaded value is one of these."""
    tests = [(_JEQ, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [*tests, *_end()]
