"""The cap is never passed, whatever calls cost, in whatever order they end, and through restarts."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localdistill.core.errors import LocalDistillError, SpendingUnknown
from localdistill.safety.journal import encode
from localdistill.spending.ledger import NANO, SpendLedger, read_ledger, state_spent


def test_a_call_is_reserved_settled_and_remembered(tmp_path: Path) -> None:
    ledger = SpendLedger(tmp_path / "calls.jsonl", cap_usd=1.0)
    first, second = ledger.reserve(600_000_000), ledger.reserve(400_000_000)
    assert first is not None and second is not None
    assert ledger.reserve(1) is None, "everything is reserved"
    assert ledger.settle(first, 100_000_000) == 100_000_000
    assert ledger.reserve(500_000_000) is not None
    assert ledger.settle(second, None) == 400_000_000
    assert ledger.settle(second, 0) == 0, "a ticket counts once"
    assert (ledger.spent_nano, ledger.assumed_nano, ledger.reserved_nano) == (500_000_000, 400_000_000, 500_000_000)
    ledger.close()

    again = SpendLedger(tmp_path / "calls.jsonl", cap_usd=1.0)
    assert again.spent_nano == NANO, "what was under way when the process ended counts whole"
    assert again.reserve(1) is None
    assert SpendLedger(tmp_path / "calls.jsonl", cap_usd=2.0).reserve(NANO) is not None, "a raised cap goes on"


def test_damage_costs_no_money(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    ledger = SpendLedger(path)
    ticket = ledger.reserve(5)
    assert ticket is not None
    ledger.settle(ticket, 3)
    ledger.reserve(70)
    ledger.close()
    with open(path, "ab") as handle:
        handle.write(b"0000dead {half a li")
    again = SpendLedger(path)
    assert again.spent_nano == 73
    assert again.reserve(1) is not None
    again.close()
    assert SpendLedger(path).spent_nano == 74


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.01, 3.0))
def test_sixty_four_parallel_calls_never_pass_the_cap(seed: int, cap: float) -> None:
    """1,000 calls of random prices and lengths, up to 64 under way, ending in random order."""
    draw = random.Random(seed)
    ledger, under_way, paid = SpendLedger(None, cap), dict[int, int](), 0
    limit = int(cap * NANO)
    for _ in range(1000):
        while len(under_way) >= 64:
            ticket, worst = under_way.popitem() if draw.random() < 0.5 else next(iter(under_way.items()))
            under_way.pop(ticket, None)
            actual = draw.choice((None, 0, worst, draw.randint(0, worst)))
            paid += ledger.settle(ticket, actual)
        worst = int(draw.expovariate(1 / 20_000_000)) + 1
        reserved = ledger.reserve(worst)
        if reserved is not None:
            under_way[reserved] = worst
        assert paid == ledger.spent_nano
        assert ledger.spent_nano + ledger.reserved_nano <= limit
    assert paid + sum(under_way.values()) <= limit


def test_a_killed_process_leaves_its_reservations_behind(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from localdistill.spending.ledger import SpendLedger
        ledger, count = SpendLedger(Path(sys.argv[1]), cap_usd=1000.0), 0
        while True:
            ticket = ledger.reserve(1000)
            count += 1
            print(count, flush=True)
            if count % 3 == 0:
                ledger.settle(ticket, 1)
    """)
    path = tmp_path / "calls.jsonl"
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = 0
        while said < 200:
            said = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        said = max([said, *(int(line) for line in process.stdout.read().split()[:-1])])
    ledger = SpendLedger(path, cap_usd=1000.0)
    least = said // 3 * 1 + (said - said // 3 - 1) * 1000
    assert ledger.spent_nano >= least, "every call that was announced is counted"


def spent_ledger(path: Path) -> None:
    """Two calls of half a dollar that ended, in a ledger that was closed."""
    ledger = SpendLedger(path, cap_usd=5.0)
    for ticket in [ledger.reserve(NANO // 2) for _ in range(2)]:
        assert ticket is not None
        ledger.settle(ticket, NANO // 2)
    ledger.close()


def without_a_line(path: Path, number: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[number]
    path.write_bytes(b"".join(lines))


def made_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "deleted": lambda path: path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
    "its last line gone": lambda path: without_a_line(path, -1),
    "a line in the middle gone": lambda path: without_a_line(path, 2),
    "its last bytes gone": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "one letter changed": lambda path: path.write_bytes(path.read_bytes().replace(b"cost", b"c0st", 1)),
    "zeros in it": lambda path: path.write_bytes(path.read_bytes()[:50] + bytes(20) + path.read_bytes()[70:]),
    "a line of another kind": lambda path: path.write_bytes(path.read_bytes() + encode({"refund": 5})),
    "a line without its ticket": lambda path: path.write_bytes(path.read_bytes() + encode({"reserved": 5})),
    "amounts that are none": lambda path: path.write_bytes(path.read_bytes() + encode({"call": 9, "reserved": "5"})),
    "a cost of no call": lambda path: path.write_bytes(path.read_bytes() + encode({"call": 77, "cost": 5})),
    "a newer version": lambda path: path.write_bytes(path.read_bytes() + encode({"book": 99})),
    "unreadable": made_a_folder,
    "its size gone": lambda path: path.with_name(f"{path.name}.size").unlink(),
    "a torn line from before sizes were kept": lambda path: (
        path.with_name(f"{path.name}.size").unlink(),
        path.write_bytes(b"".join(line for line in path.read_bytes().splitlines(keepends=True) if b"book" not in line)
                         + b"0000dead {half")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_under_a_cap_a_ledger_that_is_not_whole_stops_until_a_person_says_what_was_spent(
        tmp_path: Path, damage: str) -> None:
    path = tmp_path / "run-3" / "calls.jsonl"
    spent_ledger(path)
    DAMAGE[damage](path)
    for _ in range(2):  # nor does opening it mend it
        ledger = SpendLedger(path, cap_usd=100.0)
        with pytest.raises(SpendingUnknown) as caught:
            ledger.reserve(1)
        assert caught.value.exit_code == 4 and "resume run-3 --spent USD" in caught.value.hint
        assert ledger.reserved_nano == 0 and read_ledger(path).problem == ledger.problem != ""
        ledger.close()
    state_spent(path, 1.25)
    ledger = SpendLedger(path, cap_usd=2.0)
    assert (ledger.problem, ledger.spent_nano) == ("", NANO * 5 // 4)
    assert ledger.reserve(NANO) is None
    ticket = ledger.reserve(NANO // 2)
    assert ticket is not None and ticket > 10, "a ticket of the ledger before stands for nothing here"
    assert not ledger.adopt(1)
    ledger.close()
    assert SpendLedger(path, cap_usd=2.0).spent_nano == NANO * 7 // 4, "the statement is written down"
    if damage not in ("deleted",):
        assert path.with_name("calls.jsonl.damaged-1").exists(), "what was left of the old one stays"


def test_without_a_cap_damage_is_said_and_stays_said(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    spent_ledger(path)
    path.write_bytes(path.read_bytes()[:-60])
    ledger = SpendLedger(path)
    assert ledger.problem and ledger.reserve(1) is not None
    for _ in range(20):
        ledger.reserve(NANO)
    ledger.close()
    assert path.stat().st_size > 1000 and SpendLedger(path, 100.0).problem == ledger.problem, "longer than it ever was"


def test_free_calls_go_on_whatever_was_spent(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    spent_ledger(path)
    path.unlink()
    assert SpendLedger(path, cap_usd=1.0).reserve(0) is not None


def test_a_missing_ledger_is_damage_only_where_calls_were_made(tmp_path: Path) -> None:
    assert SpendLedger(tmp_path / "a" / "calls.jsonl", 1.0, lambda: "").reserve(1) is not None
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "calls.jsonl").touch()
    assert SpendLedger(tmp_path / "b" / "calls.jsonl", 1.0, lambda: "").reserve(1) is not None
    with pytest.raises(SpendingUnknown, match="replies were paid for"):
        SpendLedger(tmp_path / "c" / "calls.jsonl", 1.0, lambda: "replies were paid for").reserve(1)
    whole = SpendLedger(tmp_path / "d" / "calls.jsonl", 1.0)
    whole.close()
    again = SpendLedger(tmp_path / "d" / "calls.jsonl", 1.0, lambda: "replies that another run paid for")
    assert again.reserve(1) is not None, "a whole ledger that says so is believed"


def test_a_ledger_from_before_sizes_were_kept_is_read(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(encode({"call": 0, "reserved": 9}) + encode({"call": 0, "cost": 4}) + b"\n"
                     + encode({"call": 1, "reserved": 9}))
    ledger = SpendLedger(path, 1.0)
    assert (ledger.problem, ledger.spent_nano) == ("", 13) and ledger.reserve(1) == 2
    ledger.close()
    assert SpendLedger(path, 1.0).spent_nano == 14


def test_a_full_disk_stops_before_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = SpendLedger(tmp_path / "calls.jsonl")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("localdistill.spending.ledger.os.write", full)
    with pytest.raises(LocalDistillError, match="No space left"):
        ledger.reserve(1)
    assert ledger.reserved_nano == 0, "what was not written down was not reserved"
