"""What was acknowledged is read back, whatever happened to the file's end or middle."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localdistill.core.borders import BORDERS
from localdistill.core.errors import LocalDistillError
from localdistill.safety.closing import close_lines, edit_lines
from localdistill.safety.frames import Reading, frames
from localdistill.safety.journal import JournalWriter, bytes_before, closed_part, read, read_lines
from localdistill.safety.record_lines import decode, encode


@given(st.dictionaries(st.text(), st.text(st.characters(codec=None))))
@settings(max_examples=50)
def test_any_record_survives(record: dict[str, str]) -> None:
    line = encode(record)
    assert line.count(b"\n") == 1 and decode(line[:-1]) == record


def test_records_come_back_in_order_from_any_offset(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    writer = JournalWriter(path)
    for n in range(10):
        writer.append({"n": n})
    writer.sync()
    found = list(read(path))
    assert [record["n"] for record, _ in found] == list(range(10))
    assert [record["n"] for record, _ in read(path, found[6][1])] == [7, 8, 9]
    writer.close()
    writer.close()


def test_a_torn_last_line_is_not_read_and_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    whole = encode({"n": 1})
    path.write_bytes(whole + encode({"n": 2})[:-4])
    assert [record["n"] for record, _ in read(path)] == [1]
    writer = JournalWriter(path)
    writer.append({"n": 3})
    writer.close()
    reading = Reading()
    assert [record["n"] for record, _ in read(path, 0, reading)] == [1, 3]
    assert reading.damaged_lines == 1


def test_a_flipped_byte_in_the_middle_is_passed_over_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    lines = [encode({"n": n}) for n in range(3)]
    lines[1] = lines[1].replace(b'"n"', b'"m"')
    path.write_bytes(b"".join(lines))
    reading = Reading()
    assert [record["n"] for record, _ in read(path, 0, reading)] == [0, 2]
    assert reading.damaged_lines == 1


def test_after_kill_9_every_synced_record_is_there(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    script = ("import sys; from pathlib import Path; from localdistill.safety.journal import JournalWriter\n"
              "w = JournalWriter(Path(sys.argv[1]))\n"
              "for n in range(10**9):\n"
              "    w.append({'n': n}); w.sync(); print(n, flush=True)\n")
    child = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    acknowledged = [int(child.stdout.readline()) for _ in range(40)]
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    found = [record["n"] for record, _ in read(path)]
    assert found[: len(acknowledged)] == acknowledged



def test_a_failed_write_leaves_no_half_line_and_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "replies.jsonl"
    writer = JournalWriter(path)
    writer.append({"n": 1})
    writer.sync()
    real = os.fsync

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    writer.append({"n": 2})
    with pytest.raises(LocalDistillError, match=r"is full: replies\.jsonl "):
        writer.sync()
    assert path.read_bytes() == encode({"n": 1})
    with pytest.raises(LocalDistillError):
        writer.append({"n": 3})
    monkeypatch.setattr(os, "fsync", real)
    writer.sync()
    writer.append({"n": 4})
    writer.close()
    assert [record["n"] for record, _ in read(path)] == [1, 2, 4]


# --- closed journals --------------------------------------------------------------------------------------------------


def written(path: Path, numbers: range) -> None:
    writer = JournalWriter(path)
    for n in numbers:
        writer.append({"n": n, "text": f"word {n * n} " * 20})
    writer.close()


def numbers_in(path: Path, offset: int = 0, reading: Reading | None = None) -> list[int]:
    return [record["n"] for record, _ in read(path, offset, reading) if "n" in record]


@pytest.fixture
def small_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some three lines in a frame."""
    monkeypatch.setattr(BORDERS, "frame_bytes", 600)


def test_closing_moves_no_offset_and_any_zstd_tool_unpacks_it(tmp_path: Path, small_frames: None) -> None:
    import pyarrow as pa

    path = tmp_path / "replies.jsonl"
    written(path, range(10))
    plain, before = path.read_bytes(), [end for _, end in read(path)]
    close_lines(path)
    assert not path.exists() and closed_part(path).stat().st_size < len(plain)
    assert [end for _, end in read(path)] == before and numbers_in(path, before[5]) == [6, 7, 8, 9]
    with pa.CompressedInputStream(pa.OSFile(str(closed_part(path))), "zstd") as stream:
        assert stream.read() == plain
    written(path, range(10, 14))
    assert numbers_in(path) == list(range(14)) and numbers_in(path, before[-1]) == [10, 11, 12, 13]
    ends = [end for record, end in read(path) if "n" in record]
    close_lines(path)
    close_lines(path)
    assert [end for _, end in read(path)] == ends and bytes_before(path, ends[-1], 50) == bytes_before(
        path, ends[-1], 20_000)[-50:]


def test_a_closing_that_knows_what_is_closed_writes_the_same_as_one_that_looks(
        tmp_path: Path, small_frames: None) -> None:
    looking, knowing = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    known = None
    for start in range(0, 30, 10):
        for path in (looking, knowing):
            written(path, range(start, start + 10))
        close_lines(looking)
        known = close_lines(knowing, known=known)
    assert closed_part(looking).read_bytes() == closed_part(knowing).read_bytes()
    with closed_part(knowing).open("ab") as file:
        file.write(b"half a frame")
    written(knowing, range(30, 40))
    close_lines(knowing, known=known)
    assert numbers_in(knowing) == list(range(40))


@pytest.mark.parametrize("left", range(1, 5))
def test_a_closing_that_was_interrupted_loses_and_doubles_nothing(
    tmp_path: Path, small_frames: None, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies after so many frames, with part of the next one written, before the open part is removed."""
    path = tmp_path / "replies.jsonl"
    written(path, range(6))
    close_lines(path)
    written(path, range(6, 15))
    opened, frames_before = path.read_bytes(), closed_part(path).stat().st_size
    close_lines(path)
    with open(closed_part(path), "rb") as file:
        new = [frame for frame in frames(file) if frame.place > frames_before]
    whole = closed_part(path).read_bytes()
    end = new[left - 1].behind if left <= len(new) else len(whole)
    closed_part(path).write_bytes(whole[:end] + whole[end:end + 20])
    path.write_bytes(opened)
    reading = Reading()
    assert numbers_in(path, 0, reading) == list(range(15)) and reading.damaged_lines == 0
    close_lines(path)
    assert numbers_in(path) == list(range(15)) and closed_part(path).read_bytes() == whole


def test_a_flipped_bit_costs_few_lines_and_each_is_counted(tmp_path: Path, small_frames: None) -> None:
    path = tmp_path / "replies.jsonl"
    written(path, range(40))
    close_lines(path)
    whole, chance = closed_part(path).read_bytes(), random.Random(5)
    for _ in range(60):
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        closed_part(path).write_bytes(data)
        reading = Reading()
        found = numbers_in(path, 0, reading)
        assert len(found) >= 36 and set(found) <= set(range(40))
        assert len(found) == 40 or len(found) + reading.damaged_lines >= 40


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
def test_a_closed_journal_that_was_cut_keeps_what_is_before_and_says_so(
    tmp_path: Path, small_frames: None, keep: float
) -> None:
    path = tmp_path / "replies.jsonl"
    written(path, range(40))
    close_lines(path)
    whole = closed_part(path).read_bytes()
    closed_part(path).write_bytes(whole[:int(len(whole) * keep)])
    reading = Reading()
    found = numbers_in(path, 0, reading)
    assert found == list(range(len(found))) and len(found) > 40 * keep - 5 and reading.damaged_lines > 0


def test_a_piece_that_is_gone_from_the_middle_is_counted_to_the_line(tmp_path: Path, small_frames: None) -> None:
    path = tmp_path / "replies.jsonl"
    written(path, range(40))
    close_lines(path)
    whole = closed_part(path).read_bytes()
    closed_part(path).write_bytes(whole[:len(whole) // 3] + whole[len(whole) // 2:])
    reading = Reading()
    found = numbers_in(path, 0, reading)
    assert len(found) + reading.damaged_lines == 40 and found[-1] == 39


@pytest.mark.parametrize("closed", [False, True])
def test_taking_things_out_leaves_every_other_line_at_its_offset(
    tmp_path: Path, small_frames: None, closed: bool
) -> None:
    path = tmp_path / "replies.jsonl"
    written(path, range(12))
    if closed:
        close_lines(path)
    before = {record["n"]: end for record, end in read(path)}

    def edit(record: dict[str, Any] | None) -> dict[str, Any] | None:
        if record is None or record["n"] in (3, 4):
            return None
        return {"n": record["n"]} if record["n"] == 7 else record

    assert edit_lines(path, edit) == 3 and edit_lines(path, edit) == 0
    reading = Reading()
    found = {record["n"]: (end, "text" in record) for record, end in read(path, 0, reading)}
    assert found == {n: (end, n != 7) for n, end in before.items() if n not in (3, 4)} and not reading.damaged_lines
    text = b"".join(line for line, _ in read_lines(path, 0, Reading()))
    assert b"word 9 " not in text and b"word 49 " not in text and b"word 25 " in text


def test_what_cannot_be_read_goes_with_what_is_taken_out(tmp_path: Path, small_frames: None) -> None:
    path = tmp_path / "replies.jsonl"
    written(path, range(12))
    close_lines(path)
    data = bytearray(closed_part(path).read_bytes())
    data[len(data) // 2] ^= 0xFF
    closed_part(path).write_bytes(data)
    reading = Reading()
    before = numbers_in(path, 0, reading)
    assert reading.damaged_lines and edit_lines(path, lambda record: record or {}) == 0, "anything keeps it"
    assert edit_lines(path, lambda record: record)
    reading = Reading()
    assert numbers_in(path, 0, reading) == before and reading.damaged_lines == 0
