"""A run's folder whose files are damaged: the status never raises, whole facts stay, damaged ones are counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localdistill import Noted, RunFolder


def folder(root: Path, events: bytes = b"", status: str = "") -> RunFolder:
    made = RunFolder(root / "r-1")
    made.path.mkdir()
    (made.path / "events.jsonl").write_bytes(events)
    (made.path / "status.json").write_text(status)
    return made


def test_damaged_lines_are_passed_over_and_counted(tmp_path: Path) -> None:
    good = json.dumps({"kind": "noted", "stage": "s", "text": "kept"}).encode() + b"\n"
    run = folder(tmp_path, good + b"\xff\x00\n" + b"[" * 20_000 + b"\n" + b"5\n" + b"\n" + good + b'{"torn')
    assert [event for event, _ in run.events()] == [Noted("kept", stage="s")] * 2
    assert run.damaged_lines() == 3
    assert RunFolder(tmp_path / "gone").damaged_lines() == 0


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 20_000, '{"updated_at": null, "state": 5}',
                                  '{"updated_at": "x"}', '{"updated_at": Infinity}'])
def test_any_status_file_reads_as_a_status(tmp_path: Path, text: str) -> None:
    run = folder(tmp_path, status=text)
    status = run.status()
    assert (status.alive, status.updated_at) == (False, run.started_at()) and isinstance(status.state, str)


def test_a_status_larger_than_what_is_read_at_once_is_read_whole(tmp_path: Path) -> None:
    run, tail = folder(tmp_path), "x" * 150_000
    run.write_status({"state": "finished", "tail": tail})
    assert run.status().data["tail"] == tail
