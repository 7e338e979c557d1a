"""The jail: what gets out of it (nothing), what a program can make of its own verdict (nothing), and what is left of a
program when its time is over (nothing). The attacks are in `attacks.py`."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from localdistill.core.errors import Cancelled
from localdistill.core.events import Cancel
from localdistill.safety.children import start_bare
from localdistill.safety.jail import cells
from localdistill.safety.jail.cells import Cell, Confinement, JailRefused, Limits, require_level
from localdistill.safety.jail.running import Exam, ExamResult, examine, look_at_jail, run_script
from localdistill.safety.jail.system_calls import filter_program
from tests.jails import need_jail
from tests.safety.attacks import ATTACKS, SQUARES

SQUARE = "def answer(n):\n    return n * n\n"
LIMITS = Limits(timeout_s=20)


@pytest.fixture(scope="module", autouse=True)
def jail() -> None:
    need_jail()


def put(program: str, *parts: str, names: tuple[str, ...] = ("answer",), before: str = "") -> ExamResult:
    return examine(program, Exam(parts, names, before), LIMITS)


class Outside:
    """What an attack goes for, and whether it got there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret = folder / "secret"
        self.secret.write_text("s")
        os.utime(self.secret, (1e9, 1e9))
        self.secret.chmod(0o600)
        self.before = self.secret.stat()
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.port = self.tcp.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        self.place = str(folder / "s")
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(self.place)
        self.unix.listen()
        self.datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.datagrams.bind(f"{self.place}.datagrams")
        self.name = f"jail-test-{os.getpid()}"
        self.abstract = socket.socket(socket.AF_UNIX)
        if sys.platform == "linux":
            self.abstract.bind(f"\0{self.name}")
            self.abstract.listen()
        self.sockets = (self.tcp, self.udp, self.unix, self.datagrams, self.abstract)
        for one in self.sockets:
            one.setblocking(False)

    def named_in(self, program: str) -> str:
        """The program with the names of what it goes for."""
        for word, value in (("SECRET_FILE", self.secret), ("FOLDER", self.folder), ("TCP_PORT", self.port),
                            ("UNIX_SOCKET", self.place), ("ABSTRACT", self.name), ("PID", os.getpid())):
            program = program.replace(word, str(value))
        return program

    def require_untouched(self) -> None:
        """Nothing was reached."""
        now = self.secret.stat()
        assert (now.st_mode, now.st_mtime, now.st_size) == (self.before.st_mode, 1e9, 1)
        assert sorted(path.name for path in self.folder.iterdir()) == ["s", "s.datagrams", "secret"]
        for one in (self.tcp, self.unix, self.abstract):
            with pytest.raises(OSError):
                one.accept()
        for one in (self.udp, self.datagrams):
            with pytest.raises(OSError):
                one.recv(9)

    def close(self) -> None:
        for one in self.sockets:
            one.close()


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    found = Outside(tmp_path_factory.mktemp("o"))
    yield found
    found.close()


def inmates() -> list[psutil.Process]:
    """Every living process of a jail below this one, or that lost its parent."""
    found = []
    for process in psutil.process_iter(["cmdline", "status", "ppid", "create_time"]):
        command = " ".join(process.info["cmdline"] or ())
        if "localdistill.safety.jail.keeper" in command and sys.executable in command:
            parents = [parent.pid for parent in process.parents()]
            if process.info["status"] != psutil.STATUS_ZOMBIE and (os.getpid() in parents or len(parents) <= 1):
                found.append(process)
    return found


def require_defeated(name: str, outside: Outside) -> ExamResult:
    """An attack fails, leaves everything outside as it was, and nothing of it lives on."""
    attack = ATTACKS[name]
    examined = examine(outside.named_in(attack.program), Exam(attack.parts, ("answer",)),
                       Limits(timeout_s=attack.timeout_s, memory_bytes=256 << 20))
    assert not examined.is_right, examined
    outside.require_untouched()
    assert inmates() == []
    return examined


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_passes_gets_out_or_outlives_its_limit(name: str, outside: Outside,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAIL_TEST_SECRET", "s")
    require_defeated(name, outside)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="namespaces and Landlock are Linux's")
@pytest.mark.parametrize("without", ["namespaces", "Landlock"])
@pytest.mark.parametrize("name", ATTACKS)
def test_one_barrier_less_is_told_and_still_holds(name: str, without: str, outside: Outside,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    weaken(monkeypatch, without)
    if look_at_jail().level == 0:
        pytest.skip("this machine has no other barrier")
    assert require_defeated(name, outside).confinement.level == 1


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces and Landlock are Linux's")
@pytest.mark.parametrize(("without", "wall"), [("namespaces,Landlock", "files"), ("namespaces,filter", "network"),
                                               ("namespaces,filter", "processes")])
def test_a_wall_without_a_barrier_is_open_and_nothing_is_run(without: str, wall: str, tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    weaken(monkeypatch, without)
    with pytest.raises(JailRefused, match=f"{wall}: OPEN"):
        put(f"open('{tmp_path}/ran', 'w')\n{SQUARE}", *SQUARES)
    assert list(tmp_path.iterdir()) == []


def weaken(monkeypatch: pytest.MonkeyPatch, without: str) -> None:
    """A system that has not this barrier."""
    monkeypatch.setattr(cells, "start_bare", lambda module, *rest, **how: start_bare(
        "tests.safety.weaker", without, *rest, **how))


def test_there_are_forty_attacks_and_more() -> None:
    assert len(ATTACKS) >= 40


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_the_attacks_go_for_can_be_reached_from_outside(outside: Outside) -> None:
    """The attacks would pass if nothing held: those that need no rights of root do here, in this very process."""
    for name in ("reads a file", "reads passwords", "writes a file", "changes the mode of a file", "TCP", "UDP",
                 "a socket that lies in a folder", "a datagram through a pair of sockets", "a command", "forks",
                 "looks at the environment", "signals to who started it"):
        names: dict[str, object] = {}
        exec(outside.named_in(ATTACKS[name].program), names)
        assert callable(names["answer"])
        assert names["answer"](1) == "reached", name


def test_a_right_program_passes_and_a_wrong_one_shows_its_share() -> None:
    right = put(SQUARE, *SQUARES)
    assert right.is_right and (right.passed, right.total) == (2, 2)
    wrong = put("def answer(n): return 9", *SQUARES)
    assert not wrong.is_right and (wrong.passed, wrong.total) == (1, 2)
    assert [one.what for one in wrong.tests if not one.passed] == ["answer(4) == 16"]


def test_every_assertion_of_a_function_counts_also_behind_one_that_fails() -> None:
    tests = ("def check(f):\n    assert f(1) == 1\n    assert f(2) == 5\n    for n in (3, 4):\n"
             "        assert f(n) == n * n\n")
    examined = put(SQUARE, tests + "check(answer)")
    assert (examined.passed, examined.total, examined.is_right) == (3, 4, False)


def test_what_a_program_raises_reaches_the_tests_by_its_name() -> None:
    program = "def answer(n):\n    if n < 0: raise ValueError('negative')\n    return n"
    tests = "try:\n    answer(-1)\n    assert False\nexcept ValueError as error:\n    assert str(error) == 'negative'\n"
    assert put(program, tests).is_right
    assert not put("def answer(n): return n", tests).is_right


@pytest.mark.parametrize(("program", "part"), [
    ("def answer(x): x.append(4); x[0] = {'a': 1}", "x = [1, 2]\nanswer(x)\nassert x == [{'a': 1}, 2, 4]"),
    ("def answer(d): d.pop('a')", "d = {'a': 1, 'b': (2,)}\nanswer(d)\nassert d == {'b': (2,)}"),
    ("def answer(n):\n    while True:\n        yield n\n        n += 1",
     "it = answer(3)\nassert [next(it), next(it)] == [3, 4]"),
    ("def answer(f, x): return [f(one) for one in x]", "assert answer(lambda n: n + 1, [1, 2]) == [2, 3]"),
    ("def answer(): return (1, 2.5, True, None, 'ü\\ud800', b'x', {1}, 10 ** 40, 1j, float('inf'))",
     "assert answer() == (1, 2.5, True, None, 'ü\\ud800', b'x', {1}, 10 ** 40, 1j, float('inf'))"),
    ("def answer(): return True", "assert answer() is True and type(answer()) is bool"),
    ("from collections import Counter\ndef answer(x): return Counter(x)", "assert answer('aab') == {'a': 2, 'b': 1}"),
    ("from fractions import Fraction\ndef answer(): return Fraction(1, 3)",
     "from fractions import Fraction\nassert answer() == Fraction(1, 3)"),
    ("from decimal import Decimal\nfrom datetime import date, timedelta\n"
     "def answer(): return [Decimal('0.1'), date(2, 1, 3), timedelta(1, 2)]",
     "from decimal import Decimal\nfrom datetime import date, timedelta\n"
     "assert answer() == [Decimal('0.1'), date(2, 1, 3), timedelta(1, 2)]"),
    ("class answer:\n    def __init__(self): self.held = []\n    def push(self, x): self.held.append(x)\n"
     "    def __len__(self): return len(self.held)",
     "s = answer()\ns.push(1)\nassert len(s) == 1 and s.held == [1]"),
    ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\ndef answer(n): return P(n)",
     "assert answer(2) == P(2)\nassert answer(2) != P(3)"),
])
def test_values_of_every_usual_kind_go_there_and_back(program: str, part: str) -> None:
    examined = put(program, part)
    assert examined.is_right, examined


def test_helpers_of_the_task_are_its_own_whatever_the_program_makes_of_them() -> None:
    helper = "def twice(n): return 2 * n"
    program = "def twice(n): return 0\ndef answer(n): return 0"
    assert not put(program, "assert twice(answer(1)) == 4", before=helper).is_right
    assert put("def answer(n): return 2", "assert twice(answer(1)) == 4", before=helper).is_right


def test_a_builtin_is_the_programs_only_where_the_task_asks_for_it() -> None:
    assert put("def sum(a, b): return a + b", "assert sum(1, 2) == 3", names=("sum",)).is_right
    assert not put("def sum(a): return 7\ndef answer(): return [1]", "assert sum(answer()) == 7").is_right


def test_tests_that_cannot_run_say_nothing_of_the_program() -> None:
    assert put(SQUARE, "assert answer(1) == 1", before="import no_such_module").broken
    assert not put(SQUARE, "assert answer(1) == 1", before="import no_such_module").is_right


def test_a_script_reads_its_input_and_prints() -> None:
    ran = run_script("n = int(input())\nprint(n * n)\nimport sys\nsys.exit(0)", "7\n", LIMITS)
    assert (ran.output, ran.ended) == ("49\n", "")


@pytest.mark.parametrize(("program", "why"), [
    ("print(1)\nraise ValueError('no')", "ValueError: no"),
    ("import os\nprint(1, flush=True)\nos._exit(0)", "ended its process"),
    ("while True: print('x' * 4096)", "printed more than"),
    ("import time\ntime.sleep(60)", "longer than 1 s"),
    ("import os, time\nos.close(1)\ntime.sleep(60)", "ended its process"),
])
def test_a_script_that_does_not_end_well_is_told(program: str, why: str) -> None:
    ran = run_script(program, "", Limits(timeout_s=1))
    assert why in ran.ended
    assert inmates() == []


def test_the_same_program_says_the_same_every_time() -> None:
    program = "print(sorted(map(hash, 'abc')), {'a', 'b', 'c', 'd'})"
    assert len({run_script(program, "", LIMITS).output for _ in range(3)}) == 1


def test_threads_and_a_loop_of_events_work_inside() -> None:
    program = ("import asyncio, threading\nfound = []\nthread = threading.Thread(target=found.append, args=(1,))\n"
               "thread.start()\nthread.join()\nasync def two(): await asyncio.sleep(0.01); found.append(2)\n"
               "asyncio.run(two())\nimport tempfile\nwith tempfile.TemporaryFile() as file: file.write(b'x')\n"
               "print(found)")
    ran = run_script(program, "", LIMITS)
    assert (ran.output, ran.ended) == ("[1, 2]\n", "") or ran.confinement.barriers["files"] == ("Landlock",)


def test_a_program_is_never_handed_to_what_is_not_shut_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The level is told before: the job stays here."""
    handed: list[object] = []
    monkeypatch.setattr(Cell, "hand_over", lambda self, job: handed.append(job))
    monkeypatch.setattr(Cell, "confinement", lambda self: Confinement(
        {"files": (), "network": ("own namespace",), "processes": ("own namespace",)}))
    for run in (lambda: put(SQUARE, *SQUARES), lambda: run_script("print(1)", "", LIMITS)):
        with pytest.raises(JailRefused, match="files: OPEN"):
            run()
    assert handed == []


def test_a_level_that_is_not_reached_is_refused_with_what_was() -> None:
    reached = look_at_jail()
    assert reached.level >= 1 and {"files", "network", "processes", "memory"} == set(reached.barriers)
    with pytest.raises(JailRefused, match=f"level {reached.level} only"):
        require_level(reached, reached.level + 1)


def test_work_that_is_cancelled_leaves_nobody_behind() -> None:
    with pytest.raises(Cancelled):
        examine(SQUARE, Exam(SQUARES, ("answer",)), LIMITS, cancel=Cancel(lambda: True))
    assert inmates() == []


def test_a_machine_whose_system_calls_are_not_known_has_no_filter() -> None:
    assert filter_program(1, "riscv64") is None
    for machine in ("x86_64", "aarch64"):
        program = filter_program(1, machine)
        assert program and len(program) % 8 == 0 and len(program) // 8 < 4096
