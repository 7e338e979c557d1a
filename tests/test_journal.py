"""What was acknowledged is read back, whatever happened to the file's end or middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localdistill.core.errors import LocalDistillError
from localdistill.safety.journal import JournalWriter, Reading, decode, encode, read


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
