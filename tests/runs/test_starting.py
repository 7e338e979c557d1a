"""Who starts, stops and watches a run: one at a time, only the one that runs it, and what was said before is past."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from localdistill import (
    LocalDistillError,
    RunFolder,
    UsageError,
    Warned,
    Workspace,
    cancel,
    parse_recipe,
    resume,
    start,
    wait,
)
from localdistill.cli import main
from tests.attack.ground import replace_bytes
from tests.helpers import collecting_recipe, counting_server, wait_for, write_questions
from tests.tui.garden import copied, garden

MANY = 4
PRICED = "usd_per_million_input = 0.0\nusd_per_million_output = 0.0"


def test_of_several_resumes_one_runs_and_the_others_say_so_and_change_nothing(tmp_path: Path) -> None:
    together = Barrier(MANY)

    def go_on(cap: float) -> float | UsageError:
        together.wait()
        try:
            resume(workspace, run.id, max_usd=cap)
            return cap
        except UsageError as error:
            return error

    with counting_server(latency_s=0.2) as server:
        text = collecting_recipe(write_questions(tmp_path / "q.jsonl", 30), server.url, 1, PRICED)
        workspace = Workspace(tmp_path)
        run = start(workspace, parse_recipe(text), text, tmp_path, "collect")
        wait_for(lambda: server.asked)
        cancel(workspace, run.id)
        assert wait(run).state == "cancelled"
        with ThreadPoolExecutor(MANY) as pool:
            ended = list(pool.map(go_on, [float(cap) for cap in range(1, MANY + 1)]))
        [cap] = [one for one in ended if isinstance(one, float)]
        refused = [one.message for one in ended if isinstance(one, UsageError)]
        assert refused == [f"run {run.id} is already running"] * (MANY - 1)
        assert run.request()["max_usd"] == cap, "who was refused changed nothing"
        assert wait(run).state == "finished" and max(server.asked.values()) <= 2
    assert sum(event.kind == "run_started" for event, _ in run.events()) == 2


def test_cancel_signals_only_the_process_that_holds_the_lock(tmp_path: Path) -> None:
    workspace = Workspace(copied(tmp_path))
    run = RunFolder.open(workspace.runs, "garden-1")
    sleeping = [sys.executable, "-c", "import time; time.sleep(300)"]
    with subprocess.Popen(sleeping) as innocent, subprocess.Popen(sleeping) as holder:
        try:
            with run.hold() as lock:
                run.write_status({"state": "running", "pid": innocent.pid})
                assert cancel(workspace, run.id) is False
                assert cancel(workspace, run.id) is True and run.holder() is None, "nobody but a starter holds it"
                lock.write(str(holder.pid).encode())
                lock.flush()
                assert run.holder() == holder.pid and cancel(workspace, run.id) is True
                assert holder.wait(timeout=60) == -signal.SIGTERM and innocent.poll() is None
            assert run.holder() is None, "a number that was left there is nobody's"
        finally:
            innocent.kill()
            holder.kill()


def test_what_a_stage_left_and_is_damaged_is_named_and_made_again(tmp_path: Path) -> None:
    with counting_server() as server:
        text = collecting_recipe(write_questions(tmp_path / "q.jsonl", 6), server.url)
        workspace = Workspace(tmp_path)
        run = start(workspace, parse_recipe(text), text, tmp_path)
        assert wait(run).state == "finished"
        names = ("collect.ids", "select-teacher.ids", "grade.json")
        before = {name: (run.path / "stages" / name).read_bytes() for name in names}
        for name, data in before.items():
            replace_bytes(run.path / "stages" / name, data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
        assert wait(resume(workspace, run.id)).state == "finished"
        assert sum(server.asked.values()) == 6, "nobody is asked again"
    said = [event.text for event, _ in run.events() if isinstance(event, Warned)]
    for name in ("stages/collect.ids", "stages/select-teacher.ids", "the output of the stage 'grade'"):
        assert any(text.startswith(name) and "is damaged: it is not what was written: it is made again" in text
                   for text in said), said
    assert {name: (run.path / "stages" / name).read_bytes() for name in names} == before


def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, root: Path,
            *words: str) -> tuple[int, str]:
    """A command: exit code and standard output."""
    monkeypatch.setattr(sys, "argv", ["localdistill", *words, "--workspace", str(root)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), capsys.readouterr().out


def test_what_was_said_before_somebody_attached_is_marked_as_past(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out = command(capsys, monkeypatch, garden(), "attach", "garden-1", "--json")
    facts = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and facts[-1]["kind"] == "run_finished" and all(fact["past"] is True for fact in facts)


def test_verify_says_what_is_damaged_and_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copied(tmp_path)
    code, out = command(capsys, monkeypatch, root, "verify")
    assert code == 0 and "damaged" not in out and "garden-1 finished" in out
    path = next((root / "artifacts/export").glob("*/*.gguf"))
    replace_bytes(path, path.read_bytes()[:-1] + b"\x99")
    code, out = command(capsys, monkeypatch, root, "runs", "verify", "garden-1")
    assert code == 1 and f"{path.name} is not what was written" in out and "localdistill resume garden-1" in out
    code, out = command(capsys, monkeypatch, root, "verify", "--json")
    [odd] = [one for one in json.loads(out) if one["state"] != "whole"]
    assert code == 1 and odd["kind"] == "export" and odd["problems"] == [f"{path.name} is not what was written"]


def test_a_run_that_cannot_start_says_why_without_a_word_of_python(tmp_path: Path) -> None:
    workspace = Workspace(copied(tmp_path))
    run = RunFolder.open(workspace.runs, "garden-1")
    (run.path / "status.json").unlink()
    (run.path / "events.jsonl").unlink()
    (run.path / "events.jsonl").mkdir()
    with pytest.raises(LocalDistillError, match="did not start: ") as caught:
        resume(workspace, run.id)
    assert "Errno" not in caught.value.message and "Error" not in caught.value.message, caught.value.message
