"""The cap is never passed, whatever calls cost, in whatever order they end, and through restarts."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localdistill.callbook import NANO, CallBook
from localdistill.errors import LocalDistillError


def test_a_call_is_reserved_settled_and_remembered(tmp_path: Path) -> None:
    book = CallBook(tmp_path / "calls.jsonl", cap_usd=1.0)
    first, second = book.reserve(600_000_000), book.reserve(400_000_000)
    assert first is not None and second is not None
    assert book.reserve(1) is None, "everything is reserved"
    assert book.settle(first, 100_000_000) == 100_000_000
    assert book.reserve(500_000_000) is not None
    assert book.settle(second, None) == 400_000_000
    assert book.settle(second, 0) == 0, "a ticket counts once"
    assert (book.spent_nano, book.assumed_nano, book.reserved_nano) == (500_000_000, 400_000_000, 500_000_000)
    book.close()

    again = CallBook(tmp_path / "calls.jsonl", cap_usd=1.0)
    assert again.spent_nano == NANO, "what was under way when the process ended counts whole"
    assert again.reserve(1) is None
    assert CallBook(tmp_path / "calls.jsonl", cap_usd=2.0).reserve(NANO) is not None, "a raised cap goes on"


def test_damage_costs_no_money(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    book = CallBook(path)
    ticket = book.reserve(5)
    assert ticket is not None
    book.settle(ticket, 3)
    book.reserve(70)
    book.close()
    with open(path, "ab") as handle:
        handle.write(b"0000dead {half a li")
    again = CallBook(path)
    assert again.spent_nano == 73
    assert again.reserve(1) is not None
    again.close()
    assert CallBook(path).spent_nano == 74


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.01, 3.0))
def test_sixty_four_parallel_calls_never_pass_the_cap(seed: int, cap: float) -> None:
    """1,000 calls of random prices and lengths, up to 64 under way, ending in random order."""
    draw = random.Random(seed)
    book, under_way, paid = CallBook(None, cap), dict[int, int](), 0
    limit = int(cap * NANO)
    for _ in range(1000):
        while len(under_way) >= 64:
            ticket, worst = under_way.popitem() if draw.random() < 0.5 else next(iter(under_way.items()))
            under_way.pop(ticket, None)
            actual = draw.choice((None, 0, worst, draw.randint(0, worst)))
            paid += book.settle(ticket, actual)
        worst = int(draw.expovariate(1 / 20_000_000)) + 1
        reserved = book.reserve(worst)
        if reserved is not None:
            under_way[reserved] = worst
        assert paid == book.spent_nano
        assert book.spent_nano + book.reserved_nano <= limit
    assert paid + sum(under_way.values()) <= limit


def test_a_killed_process_leaves_its_reservations_behind(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from localdistill.callbook import CallBook
        book, count = CallBook(Path(sys.argv[1]), cap_usd=1000.0), 0
        while True:
            ticket = book.reserve(1000)
            count += 1
            print(count, flush=True)
            if count % 3 == 0:
                book.settle(ticket, 1)
    """)
    path = tmp_path / "calls.jsonl"
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = 0
        while said < 200:
            said = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        said = max([said, *(int(line) for line in process.stdout.read().split()[:-1])])
    book = CallBook(path, cap_usd=1000.0)
    least = said // 3 * 1 + (said - said // 3 - 1) * 1000
    assert book.spent_nano >= least, "every call that was announced is counted"


def test_a_full_disk_stops_before_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = CallBook(tmp_path / "calls.jsonl")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("localdistill.callbook.os.write", full)
    with pytest.raises(LocalDistillError, match="No space left"):
        book.reserve(1)
    assert book.reserved_nano == 0, "what was not written down was not reserved"
