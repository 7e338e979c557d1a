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

from localdistill.core.errors import DiskFull, SpendingUnknown
from localdistill.safety.record_lines import encode
from localdistill.spending.ledger import NANO, SpendLedger
from localdistill.spending.reading import read_ledger, state_spent, understood


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
    for _ in range(2):
        with pytest.raises(DiskFull, match=r"the disk at .* is full: calls\.jsonl .* are free") as caught:
            ledger.reserve(1)
        assert "free some space on" in caught.value.hint
    assert ledger.reserved_nano == 0, "what was not written down was not reserved"


def busy_ledger(path: Path) -> int:
    """A ledger with every kind of line, its last call open; what is spent or reserved by it."""
    ledger = SpendLedger(path)
    for number in range(9):
        ticket = ledger.reserve(1_000_003 * (number + 1), f"host/m{number % 2}", calls=3 if number == 7 else 1)
        assert ticket is not None
        if number == 4:
            ledger.saw(ticket, 9_000_000, is_whole=True)
        if number % 3:
            ledger.settle(ticket, None if number % 4 == 1 else 700_001 * number)
    total = ledger.spent_nano + ledger.reserved_nano
    ledger.close()
    return total


def test_no_flipped_bit_makes_less_spent_than_there_is(tmp_path: Path) -> None:
    total = busy_ledger(path := tmp_path / "calls.jsonl")
    files = [path.read_bytes(), path.with_name("calls.jsonl.size").read_bytes()]
    assert understood(*files).least == total and understood(*files).problem == ""
    for which, whole in enumerate(files):
        for place in range(len(whole) * 8):
            data = bytearray(whole)
            data[place // 8] ^= 1 << place % 8
            book = understood(*(bytes(data) if at == which else file for at, file in enumerate(files)))
            assert book.least >= total and (book.problem or book.least == total), (which, place, book)


def test_what_is_cut_off_or_taken_out_counts_as_the_whole_cap(tmp_path: Path) -> None:
    total, cap = busy_ledger(path := tmp_path / "calls.jsonl"), 0.5
    whole, side = path.read_bytes(), path.with_name("calls.jsonl.size").read_bytes()
    lines = whole.splitlines(keepends=True)
    spoiled = [None, *(whole[:end] for end in range(len(whole)))]
    spoiled += [b"".join(lines[:n] + lines[n + 1:]) for n in range(len(lines))]
    for data in spoiled:
        book = understood(data, side)
        assert book.problem and book.counted(cap) == cap * NANO > total
    assert understood(whole, None).problem and understood(None, None, lambda: "paid replies").problem == "paid replies"
    path.unlink()
    ledger = SpendLedger(path, cap)
    assert ledger.spent_nano == cap * NANO and ledger.spent_usd == cap
    ledger.close()


def test_what_damage_left_known_is_not_forgotten_while_calls_go_on(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    total = busy_ledger(path)
    path.write_bytes(path.read_bytes()[:200])
    ledger = SpendLedger(path)
    assert ledger.problem and ledger.spent_nano == total, "its size says what it came to"
    ticket = ledger.reserve(5)
    assert ticket is not None
    ledger.settle(ticket, 3)
    ledger.close()
    assert SpendLedger(path).spent_nano == total + 3


def test_what_one_call_cost_beyond_its_reserve_every_other_may_cost_too(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    ledger = SpendLedger(path, cap_usd=1.0)
    unseen = ledger.reserve(100, "host/m")
    assert unseen is not None
    ledger.settle(unseen, None)
    first, other = ledger.reserve(100, "host/m"), ledger.reserve(100, "else/m", calls=2)
    assert first is not None and other is not None
    assert ledger.settle(first, 130) == 130
    assert ledger.spent_nano == 130 + 100 + 30, "the call whose end nobody saw counts with as much more"
    second, third = ledger.reserve(100, "host/m"), ledger.reserve(100, "host/m")
    assert second is not None and third is not None and ledger.reserved_nano == 2 * 130 + 100
    ledger.saw(second, 150)
    assert ledger.reserved_nano == 2 * 150 + 100 and ledger.spent_nano == 130 + 150
    assert ledger.settle(second, None) == 150 and ledger.settle(third, 20) == 20
    ledger.learn("else/m", 7)
    assert ledger.reserved_nano == 100 + 2 * 7 and ledger.worst(10, "else/m", 3) == 31
    ledger.close()
    again = SpendLedger(path, cap_usd=1.0)
    assert again.problem == "" and again.spent_nano == 130 + 2 * 150 + 20 + 114
    assert again.adopt(other) and again.settle(other, 90) == 90, "a batch is counted as its results say"
    assert again.spent_nano == 130 + 2 * 150 + 20 + 90
    again.close()
    state_spent(path, 0.5)
    assert SpendLedger(path, 1.0).worst(10, "host/m") == 60, "a statement forgets no liar"


def test_an_engine_that_nobody_knows_is_asked_one_call_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    ledger = SpendLedger(path, cap_usd=1.0)
    first = ledger.reserve(100, "host/m")
    assert first is not None
    assert ledger.reserve(100, "host/m") is None and ledger.reserve(100, "else/m") is None
    assert ledger.reserve(0, "else/m") is not None, "what costs nothing waits for nobody"
    ledger.settle(first, None)
    second = ledger.reserve(100, "host/m")
    assert second is not None and ledger.reserve(100, "host/m") is None, "nothing was seen of the first"
    ledger.settle(second, 0)
    third = ledger.reserve(100, "host/m")
    assert third is not None and ledger.reserve(100, "host/m") is None, "a refusal says nothing of its limits"
    ledger.settle(third, 80)
    assert ledger.reserve(100, "host/m") is not None and ledger.reserve(100, "host/m") is not None
    other = ledger.reserve(100, "else/m")
    assert other is not None
    ledger.saw(other, 20, is_whole=True)
    ledger.settle(other, None)
    ledger.close()
    again = SpendLedger(path, cap_usd=1.0)
    for of in ("host/m", "else/m"):
        assert again.reserve(100, of) is not None and again.reserve(100, of) is not None, "known across restarts"
    again.close()
    free = SpendLedger(None)
    assert free.reserve(100, "host/m") is not None and free.reserve(100, "host/m") is not None, "there is no cap"


def test_a_short_write_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "calls.jsonl"
    ledger, write = SpendLedger(path), os.write
    kept = ledger.reserve(7)
    assert kept is not None
    monkeypatch.setattr("localdistill.spending.ledger.os.write", lambda file, data: write(file, data[:9]))
    with pytest.raises(DiskFull, match=r"calls\.jsonl"):
        ledger.reserve(1)
    monkeypatch.setattr("localdistill.spending.ledger.os.write", write)
    with pytest.raises(DiskFull, match=r"calls\.jsonl"):
        ledger.settle(kept, 2)
    ledger.close()
    again = SpendLedger(path)
    assert (again.problem, again.spent_nano) == ("", 7), "no line says what those before it do not come to"
