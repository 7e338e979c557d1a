"""A run over connections that drop: opened, watched, left, found again, cancelled, resumed, and never asked twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from localdistill import RunFolder, Workspace
from localdistill.safety.journal import read
from tests.helpers import collecting_recipe, counting_server, write_questions
from tests.tui.terminal import Terminal

COUNT = 400


@contextmanager
def terminal(folder: Path) -> Iterator[Terminal]:
    opened = Terminal(folder)
    try:
        opened.wait_for("localdistill")
        yield opened
    finally:
        opened.close()


def replies(run: RunFolder) -> int:
    return sum(1 for _ in read(run.journal))


@pytest.mark.slow
def test_a_run_survives_dropped_connections(tmp_path: Path) -> None:
    questions = write_questions(tmp_path / "q.jsonl", COUNT)
    run = RunFolder(Workspace(tmp_path).runs / "collecting-1")
    with counting_server(latency_s=0.6) as server:
        (tmp_path / "mine.toml").write_text(collecting_recipe(questions, server.url, 2))
        with terminal(tmp_path) as first:
            first.press("3")
            first.wait_for("Nothing was collected here yet")
            first.press("s")
            first.wait_for("in this workspace")
            first.press("\r")
            first.wait_until(lambda: replies(run) >= 4, "four replies")
            first.wait_for("newest reply")
            first.hang_up()
        assert run.is_alive(), "a dropped connection stops no run"
        seen = replies(run)
        with terminal(tmp_path) as second:
            second.wait_for("collecting-1 running")
            second.wait_until(lambda: replies(run) > seen, "more replies")
            second.press("r")
            second.wait_for("asking the teacher")
            second.press("x")
            second.wait_until(lambda: run.status().state == "cancelled", "the end of the run")
            second.wait_for("cancelled")
            second.press("\x11")
            second.wait_until(lambda: second.process.poll() is not None, "the end of the UI")
            assert second.process.returncode == 0
            assert b"\x1b[?1049l" in second.raw, "the terminal is given back"
        assert replies(run) < COUNT
        with terminal(tmp_path) as third:
            third.press("r")
            third.wait_for("It was told to stop")
            third.press("u")
            third.wait_until(lambda: run.status().state == "running", "a run in a process of its own")
            third.kill()
        server.latency_s = 0.0
        with terminal(tmp_path) as fourth:
            fourth.press("3")
            fourth.wait_until(lambda: run.status().state == "finished", "the end of the run")
            fourth.wait_for(f"{COUNT} of {COUNT}")
    assert replies(run) == COUNT
    assert max(server.asked.values()) <= 2 and sum(server.asked.values()) <= COUNT + 4
