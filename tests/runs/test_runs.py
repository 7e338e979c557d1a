"""Runs as users meet them: real supervisors, real stage processes, a real store; killed, cancelled and resumed."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import psutil
import pytest

from localdistill import Store, Workspace, cancel, list_runs, parse_recipe, resume, start, verify_run, wait
from localdistill.core.errors import UsageError
from localdistill.core.events import Failed, Warned
from localdistill.hub.client import SECRETS
from localdistill.runs.supervisor import secrets_of
from localdistill.safety.journal import read
from localdistill.safety.written_size import said_in, side_of
from localdistill.stages.outputs import Selected, SelectOutput, read_output
from localdistill.workspace.run_folder import RunFolder
from tests.helpers import collecting_recipe, counting_server, kill_everything, wait_for, write_questions


def begin(folder: Path, text: str, until: str = "") -> tuple[Workspace, RunFolder]:
    workspace = Workspace(folder)
    return workspace, start(workspace, parse_recipe(text), text, folder, until)


def journalled(run: RunFolder) -> set[str]:
    return {record["trace"]["prompt_id"] for record, _ in read(run.journal, 0)}


def test_a_run_goes_through_its_stages_and_a_second_run_asks_nothing(tmp_path: Path) -> None:
    with counting_server() as server:
        text = collecting_recipe(write_questions(tmp_path / "q.jsonl", 12), server.url)
        workspace, run = begin(tmp_path, text)
        assert wait(run).state == "finished"
        assert sum(server.asked.values()) == 12
        assert read_output(run, SelectOutput).sets == {"teacher": Selected("collecting", 12, 12, {"verified": 0})}
        _, again = begin(tmp_path, text)
        assert wait(again).state == "finished"
        assert sum(server.asked.values()) == 12
    assert [folder.id for folder in list_runs(workspace.runs)] == ["collecting-1", "collecting-2"]
    assert Store(workspace.store_path).counts().traces == 12


def test_kill_at_random_points_loses_no_acknowledged_reply_and_asks_only_what_was_in_flight(tmp_path: Path) -> None:
    count, concurrency, chance = 150, 4, random.Random(7)
    with counting_server(latency_s=0.02) as server:
        text = collecting_recipe(write_questions(tmp_path / "q.jsonl", count), server.url, concurrency)
        workspace, run = begin(tmp_path, text)
        kills = 0
        for goal in sorted(chance.sample(range(5, count - 20), 3)):
            wait_for(lambda goal=goal: len(journalled(run)) >= goal, 240.0)
            acknowledged = journalled(run)
            kill_everything(run)
            kills += 1
            assert acknowledged <= journalled(run)
            assert run.status().state == "interrupted"
            resume(workspace, run.id)
        assert wait(run).state == "finished"
        store = Store(workspace.store_path)
        assert store.counts().traces == count
        assert len(journalled(run)) == count
        # In flight at a kill: what the engine had sent, and what had come but was not yet on disk (50 ms of replies).
        again = sum(server.asked.values()) - count
        assert again <= kills * (concurrency + concurrency * 4), server.asked.most_common(5)


def test_answers_that_a_killed_run_lost_are_missed_before_they_are_bought_again(tmp_path: Path) -> None:
    count = 6
    with counting_server(latency_s=0.2) as server:
        text = collecting_recipe(write_questions(tmp_path / "q.jsonl", count), server.url, 1)
        workspace, run = begin(tmp_path, text)
        wait_for(lambda: len(journalled(run)) >= 4)
        kill_everything(run)
        left, wrote = b"".join(run.journal.read_bytes().splitlines(keepends=True)[:2]), said_in(
            side_of(run.journal).read_bytes())["size"]
        run.journal.write_bytes(left)
        lost = f"replies.jsonl has lost {wrote - len(left):,} of {wrote:,} bytes"
        assert any(lost in problem for one in verify_run(workspace, run.id) for problem in one.problems)
        assert wait(resume(workspace, run.id)).state == "finished"
    warned = [event.text for event, _ in run.events() if isinstance(event, Warned)]
    assert f"{lost}: what it held and nothing else does is asked for again" in warned
    assert Store(workspace.store_path).counts().traces == count
    assert [one.problems for one in verify_run(workspace, run.id)] == [()]


def test_a_run_holds_the_keys_of_its_own_engines_and_of_nobody_else(
        tmp_path: Path, own_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MINE", "SOMEBODYS_API_KEY"):
        monkeypatch.setenv(name, "canary")
    seen = list[dict[str, str]]()

    def look(_: int) -> int:
        pids = RunFolder.open(workspace.runs, "last").status().data["pid"]
        seen.extend(process.environ() for process in (psutil.Process(pids), *psutil.Process(pids).children()))
        return 0

    workspace = Workspace(tmp_path)
    with counting_server() as server:
        server.wrong_tries = look
        text = collecting_recipe(write_questions(tmp_path / "q.jsonl", 1), server.url).replace(
            'model =', 'api_key_env = "MINE"\nmodel =')
        _, run = begin(tmp_path, text, "collect")
        assert wait(run).state == "finished"
    assert len(seen) == 2 and all(environment["MINE"] == "canary" for environment in seen)
    assert not any("SOMEBODYS_API_KEY" in environment for environment in seen)
    recipe = parse_recipe(text)
    assert [secrets_of(recipe, stage) for stage in ("collect", "grade", "select")] == [{"MINE"}, set(), set()]


def test_the_stage_that_fetches_what_lies_in_the_hub_gets_its_key(tmp_path: Path) -> None:
    asks = collecting_recipe(write_questions(tmp_path / "q.jsonl", 1), "http://localhost:1/v1")
    named = asks + '\n[student]\nmodel = "hf://org/name"\n'
    measured = asks + '\n[student]\nmodel = "m"\n[[evaluate.task]]\nuse = "arc"\npath = "hf://datasets/o/n/f.jsonl"\n'
    for recipe in map(parse_recipe, (named, measured)):
        assert secrets_of(recipe) >= set(SECRETS) <= secrets_of(recipe, "collect", fetches=True)
        assert not set(SECRETS) & secrets_of(recipe, "collect"), "who fetches nothing has no key of the hub"
    assert not set(SECRETS) & secrets_of(parse_recipe(asks), "collect", fetches=True)


def test_cancel_stops_at_a_safe_point_and_resume_finishes(tmp_path: Path) -> None:
    with counting_server(latency_s=0.05) as server:
        text = collecting_recipe(write_questions(tmp_path / "q.jsonl", 60), server.url, 2)
        workspace, run = begin(tmp_path, text)
        wait_for(lambda: len(journalled(run)) >= 5)
        assert cancel(workspace, run.id) is False
        status = wait(run)
        assert status.state == "cancelled" and status.data["exit_code"] == 130
        assert len(journalled(run)) < 60
        with pytest.raises(UsageError, match="not running"):
            cancel(workspace, run.id)
        resume(workspace, run.id)
        assert wait(run).state == "finished"
        assert max(server.asked.values()) <= 2


def test_a_second_cancel_stops_at_once(tmp_path: Path) -> None:
    with counting_server(latency_s=5.0) as server:
        text = collecting_recipe(write_questions(tmp_path / "q.jsonl", 4), server.url, 1)
        workspace, run = begin(tmp_path, text)
        wait_for(lambda: server.asked)
        cancel(workspace, run.id)
        assert cancel(workspace, run.id) is True
        assert wait(run).state == "cancelled"


def test_an_engine_that_stops_answering_leaves_a_resumable_run_with_exit_code_3(tmp_path: Path) -> None:
    with counting_server() as server:
        extra = "retries = 1\ntimeout_s = 5"
        text = collecting_recipe(write_questions(tmp_path / "q.jsonl", 3), server.url, 1, extra)
        server.fail_all = True
        workspace, run = begin(tmp_path, text)
        failures: list[Failed] = []
        status = wait(run, [lambda e: failures.append(e) if isinstance(e, Failed) else None])
        assert (status.state, status.data["exit_code"]) == ("partial", 3)
        assert failures and "resume" in failures[0].hint
        server.fail_all = False
        resume(workspace, run.id)
        assert wait(run).state == "finished"


def test_a_crash_of_a_stage_is_reported_and_leaves_the_supervisor_well(tmp_path: Path) -> None:
    with counting_server(latency_s=0.2) as server:
        text = collecting_recipe(write_questions(tmp_path / "q.jsonl", 20), server.url, 1)
        _, run = begin(tmp_path, text)
        wait_for(lambda: server.asked)
        child = psutil.Process(run.status().data["pid"]).children()[0]
        os.kill(child.pid, signal.SIGSEGV)
        status = wait(run)
        assert status.state == "failed"
        assert "killed by signal 11" in status.data["message"]


def test_a_supervisor_that_dies_takes_its_stage_with_it(tmp_path: Path) -> None:
    with counting_server(latency_s=0.2) as server:
        text = collecting_recipe(write_questions(tmp_path / "q.jsonl", 50), server.url, 1)
        _, run = begin(tmp_path, text)
        wait_for(lambda: server.asked)
        supervisor = psutil.Process(run.status().data["pid"])
        child = supervisor.children()[0]
        supervisor.kill()
        psutil.wait_procs([child], timeout=20)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
        assert run.status().state == "interrupted"


def test_damaged_files_of_a_run_are_survived(tmp_path: Path) -> None:
    with counting_server() as server:
        text = collecting_recipe(write_questions(tmp_path / "q.jsonl", 2), server.url)
        workspace, run = begin(tmp_path, text, until="collect")
        wait(run)
    (run.path / "status.json").write_text("{half")
    facts = (run.path / "events.jsonl").read_bytes()
    (run.path / "events.jsonl").write_bytes(facts + b'{"kind": "noted", "stage": "x"\n\xff\xfe\n{"kind": "no')
    assert run.status().state == "interrupted"
    kinds = [event.kind for event, _ in run.events()]
    assert kinds[0] == "run_started" and kinds[-1] == "run_finished"
    resume(workspace, run.id)
    assert wait(run).state == "finished"


def test_unknown_runs_name_the_nearest(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(UsageError, match="no run 'x'"):
        RunFolder.open(workspace.runs, "x")
