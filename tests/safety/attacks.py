"""Programs that attack the jail. Each is right only if it gets out, or gets a verdict that it did not earn. None does
harm should the jail not hold: what could is asked for with a signal of 0, a small number, the present time."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

SQUARES = ("assert answer(3) == 9", "assert answer(4) == 16")
"""What a program must come to that forges; none of them squares anything."""
REACHED = ("assert answer(1) == 'reached'",)
"""What a program says that got at something."""


@dataclass(frozen=True)
class Attack:
    """One program. In its text SECRET_FILE, FOLDER, TCP_PORT, UNIX_SOCKET, ABSTRACT and PID stand for what it goes
    for."""

    program: str
    parts: tuple[str, ...] = REACHED
    timeout_s: float = 3.0


def forges(program: str) -> Attack:
    return Attack(textwrap.dedent(program), SQUARES)


def reaches(body: str) -> Attack:
    """`body` is the inside of answer(n): it returns 'reached' when it got there."""
    return Attack("def answer(n):\n" + textwrap.indent(textwrap.dedent(body), "    ") + "\n    return 'reached'\n")


def hangs(program: str) -> Attack:
    return Attack(textwrap.dedent(program), SQUARES, 0.7)


CALL = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
NEEDS = "\nif result < 0: raise OSError(ctypes.get_errno())"

ATTACKS: Mapping[str, Attack] = {
    # forged verdicts
    "equals everything": forges("""
        class Yes:
            def __eq__(self, other): return True
            def __ne__(self, other): return False
            def __hash__(self): return 0
        def answer(n): return Yes()"""),
    "a number that equals everything": forges("""
        class Yes(int):
            def __eq__(self, other): return True
            __hash__ = int.__hash__
        def answer(n): return Yes(1)"""),
    "lies about its class": forges("""
        class Yes:
            __class__ = int
            def __eq__(self, other): return True
            def __int__(self): return 9
            def __index__(self): return 9
        def answer(n): return Yes()"""),
    "ends its process while loading": forges("import os\nos._exit(0)"),
    "leaves while loading": forges("raise SystemExit(0)"),
    "ends its process when asked": forges("import os\ndef answer(n): os._exit(0)"),
    "leaves when asked": forges("def answer(n): raise SystemExit(0)"),
    "raises what tests expect": forges("def answer(n): raise AssertionError"),
    "changes builtins": forges("""
        import builtins
        builtins.AssertionError = type('Never', (BaseException,), {})
        builtins.isinstance = builtins.issubclass = builtins.callable = lambda *a: True
        builtins.type = lambda *a: int
        def answer(n): return object()"""),
    "writes verdicts to every descriptor": forges("""
        import os
        lines = b'{"passed":true,"what":"","why":""}\\n{"total":1}\\n{"done":true}\\n{"loaded":true}\\n' * 9
        for number in range(256):
            try: os.write(number, lines)
            except OSError: pass
        def answer(n): return 0"""),
    "answers before it is asked": forges("""
        import os
        def answer(n):
            for number in range(3, 256):
                try: os.write(number, b'{"value":9}\\n' * 4)
                except OSError: pass
            return 9"""),
    "looks for what is expected": forges("""
        import gc, sys, re
        def answer(n):
            texts, frame = [], sys._getframe()
            while frame:
                texts += map(str, frame.f_locals.values())
                frame = frame.f_back
            texts += [str(one) for one in gc.get_objects() if isinstance(one, (dict, list, tuple))]
            return int(re.search(r'answer\\(%d\\) == (\\d+)' % n, ' '.join(texts))[1])"""),
    "looks for what is expected in memory": reaches("""
        for line in open('/proc/self/maps'):
            begin, end = (int(part, 16) for part in line.split()[0].split('-'))
            with open('/proc/self/mem', 'rb') as memory:
                memory.seek(begin)
                if b"== 'reached'" in memory.read(end - begin): return 'reached'
        raise LookupError"""),
    "breaks the talk": forges("""
        import json, os
        json.dumps = lambda *a, **k: '{"value":9}'
        def answer(n): return 9"""),
    "speaks after its end": forges("""
        import atexit, threading, time, os
        def late():
            time.sleep(0.2)
            for number in range(3, 64):
                try: os.write(number, b'{"passed":true,"what":"","why":""}\\n{"done":true}\\n')
                except OSError: pass
        threading.Thread(target=late).start()
        atexit.register(late)
        def answer(n): return None"""),
    "a value that runs when it is read": forges("""
        class Run:
            def __reduce__(self): return (eval, ('n * n',))
            def __repr__(self): return '9'
        def answer(n): return Run()"""),
    "changes a small number": forges("""
        import ctypes
        def answer(n):
            ctypes.memmove(id(0) + 24, id(9) + 24, 4)
            return 0"""),
    "hides a builtin of the tests": Attack(
        "def set(x): return 0\ndef sorted(x): return 0\ndef answer(n): return [n]",
        ("assert set(answer(1)) == set([2])", "assert sorted(answer(1)) == sorted([2])")),
    # resources
    "an endless loop": hangs("def answer(n):\n    while True: pass"),
    "sleep that no signal ends": hangs("""
        import signal, time
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
        def answer(n):
            while True: time.sleep(9)"""),
    "a search that never ends": hangs("import re\ndef answer(n): return re.match('(a+)+$', 'a' * 60 + 'b')"),
    "a power of powers": hangs("def answer(n): return len(str(9 ** 9 ** 9))"),
    "threads that go on": hangs("""
        import threading
        def spin():
            while True: pass
        def answer(n):
            for _ in range(200): threading.Thread(target=spin, daemon=True).start()
            spin()"""),
    "all memory": forges("""
        def answer(n):
            held = [bytearray(64 << 20) for _ in range(32)]
            return n * n"""),
    "a bomb that unpacks": hangs("""
        import zlib
        def answer(n):
            packed = zlib.compress(bytes(16 << 20))
            held = [zlib.decompress(packed) for _ in range(32)]
            return n * n"""),
    "no end of calls": hangs("""
        import sys
        sys.setrecursionlimit(1 << 30)
        def answer(n): return answer(n)"""),
    "a list that holds itself": forges("""
        def answer(n):
            held = []
            held.append(held)
            return held"""),
    "an answer without end": forges("def answer(n): return 'a' * (20 << 20)"),
    "a line without end": hangs("""
        import os
        def answer(n):
            while True:
                for number in range(3, 64):
                    try: os.write(number, b'9' * 65536)
                    except OSError: pass"""),
    "large files": reaches("""
        with open('/tmp/large', 'wb') as file:
            for _ in range(200): file.write(bytes(1 << 20))"""),
    "many files": reaches("""
        for number in range(5000): open('/tmp/%d' % number, 'w').close()"""),
    "many descriptors": reaches("import os\nfor _ in range(5000): os.dup(0)"),
    "memory behind a descriptor": reaches("import os\nos.memfd_create('held')"),
    # files
    "reads a file": reaches("open('SECRET_FILE').read()"),
    "reads a file by a link": reaches("""
        import os
        try: os.symlink('SECRET_FILE', '/tmp/link'); place = '/tmp/link'
        except OSError: place = 'SECRET_FILE'
        open(place).read()"""),
    "reads a file by another root": reaches("""
        for root in ('/proc/1/root', '/proc/self/root', '/proc/self/cwd/..', '/tmp/../..', '/proc/PID/root'):
            try: open(root + 'SECRET_FILE').read(); return 'reached'
            except OSError: pass
        raise LookupError"""),
    "reads passwords": reaches("open('/etc/passwd').read()"),
    "writes a file": reaches("open('FOLDER/new', 'w').write('x')"),
    "removes a file": reaches("import os\nos.remove('SECRET_FILE')"),
    "empties a file": reaches("import os\nos.truncate('SECRET_FILE', 0)"),
    "changes the mode of a file": reaches("import os\nos.chmod('SECRET_FILE', 0o777)"),
    "changes the times of a file": reaches("import os\nos.utime('SECRET_FILE', (0, 0))"),
    "changes Python's own library": reaches("import json\nopen(json.__file__, 'a').write('#')"),
    "reads what was left open": reaches("""
        import os
        for number in [0, *range(3, 1024)]:
            try:
                if os.pread(number, 9, 0): return 'reached'
            except OSError: pass
        raise LookupError"""),
    "looks at the environment": reaches("""
        import os
        if 'JAIL_TEST_SECRET' not in os.environ and 'HOME' not in os.environ: raise LookupError"""),
    "mounts": reaches(CALL + "os.mkdir('/tmp/jail-m')\nresult = libc.mount(b'x', b'/tmp/jail-m', b'tmpfs', 0, None)"
                      + NEEDS),
    "new namespaces": reaches(CALL + "result = libc.unshare(0x10000000 | 0x20000)" + NEEDS),
    "another root": reaches("import os\nos.mkdir('/tmp/jail-r')\nos.chroot('/tmp/jail-r')"),
    "takes rights back": reaches("import os\nos.setuid(0)\nos.setgroups([0])"),
    "an open by handle": reaches(CALL + "result = libc.open_by_handle_at(-100, bytes(64), 0)" + NEEDS),
    "io_uring": reaches(CALL + "result = libc.syscall(425, 8, bytes(120))" + NEEDS),
    # network
    "TCP": reaches("import socket\nsocket.create_connection(('127.0.0.1', TCP_PORT), 1)"),
    "UDP": reaches("""
        import socket
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', TCP_PORT))"""),
    "a socket that lies in a folder": reaches("""
        import socket
        socket.socket(socket.AF_UNIX).connect('UNIX_SOCKET')"""),
    "a socket without a place": reaches("""
        import socket
        socket.socket(socket.AF_UNIX).connect('\\0ABSTRACT')"""),
    "a datagram through a pair of sockets": reaches("""
        import socket
        one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        one.sendto(b'x', 'UNIX_SOCKET.datagrams')"""),
    "names of hosts": reaches("import socket\nsocket.getaddrinfo('example.com', 80)"),
    # processes and clocks
    "a command": reaches("import subprocess\nsubprocess.run(['/bin/true'], check=True)"),
    "becomes another program": reaches("import os\nos.execv('/bin/sh', ['sh', '-c', 'sleep 60'])"),
    "forks": reaches("import os\nif os.fork() == 0: os._exit(0)"),
    "a bomb of forks": hangs("""
        import os, time
        def answer(n):
            for _ in range(6):
                try: os.fork()
                except OSError: pass
            time.sleep(60)"""),
    "a process that nobody waits for": hangs("""
        import os, time
        def answer(n):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(60)
                os._exit(0)
            time.sleep(60)"""),
    "clone by its number": reaches(CALL + "result = libc.syscall(56, 17, 0, 0, 0, 0)" + NEEDS),
    "signals to all": reaches("import os\nos.kill(-1, 0)"),
    "signals to who started it": reaches("import os\nos.kill(PID, 0)"),
    "signals by a file that gets ready": reaches("""
        import fcntl, os
        out, into = os.pipe()
        fcntl.fcntl(out, fcntl.F_SETOWN, PID)"""),
    "traces another process": reaches(CALL + "result = libc.ptrace(16, PID, None, None)" + NEEDS),
    "reads the memory of another process": reaches("open('/proc/PID/mem', 'rb').read(1)"),
    "writes into the memory of another process": reaches(
        CALL + "result = libc.process_vm_writev(PID, bytes(16), 1, bytes(16), 1, 0)" + NEEDS),
    "limits of another process": reaches("import resource\nresource.prlimit(PID, resource.RLIMIT_NOFILE)"),
    "lifts its own limits": reaches("""
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))"""),
    "outlives its parent": reaches(CALL + "result = libc.prctl(1, 0, 0, 0, 0)" + NEEDS),
    "sets the clock": reaches("import time\ntime.clock_settime(time.CLOCK_REALTIME, time.time())"),
    "memory that others share": reaches(CALL + "result = libc.shmget(7, 4096, 0o1666)" + NEEDS),
}
