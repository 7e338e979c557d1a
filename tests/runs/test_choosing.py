"""Which run is meant when nobody names one, from the command line, and what is said of a run that has just begun."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from localdistill import (
    RunFolder,
    RunStatus,
    Workspace,
    list_runs,
    parse_recipe,
    resume,
    run_to,
    start,
    survey,
    wait,
)
from localdistill.cli.app import app as cli
from localdistill.core.errors import UsageError
from localdistill.safety import children
from tests.helpers import collecting_recipe, counting_server, write_questions

HOUR_S = 3600.0


@contextmanager
def runs(root: Path, states: Mapping[str, str]) -> Iterator[Workspace]:
    """Folders of runs, oldest first, an hour apart; those that are `running` live until the end."""
    with ExitStack() as stack:
        for hours, (name, state) in enumerate(states.items(), start=-len(states)):
            run = RunFolder(root / "runs" / name)
            (run.path / "stages").mkdir(parents=True)
            (run.path / "request.json").write_text(json.dumps({"stages": ["collect"], "base": str(root)}))
            (run.path / "events.jsonl").touch()
            at = time.time() + hours * HOUR_S
            os.utime(run.path / "request.json", (at, at))
            run.write_status({"state": state, "stage": "collect", "exit_code": 0})
            if state == "running":
                stack.enter_context(run.hold())
        yield Workspace(root)


def call(root: Path, *words: str) -> tuple[int, str]:
    """The exit code and all that was said."""
    result = CliRunner().invoke(cli, [*words, "-w", str(root)])
    if isinstance(result.exception, UsageError):
        return result.exception.exit_code, f"{result.exception.message} {result.exception.hint}"
    return result.exit_code, result.output


def asked(workspace: Workspace) -> list[str]:
    return sorted(path.parent.name for path in workspace.runs.glob("*/cancel"))


def test_cancel_without_a_name_means_the_run_that_runs_however_old(tmp_path: Path) -> None:
    with runs(tmp_path, {"long-1": "running", "short-1": "finished", "short-2": "failed"}) as workspace:
        assert call(tmp_path, "cancel")[0] == 0
        assert asked(workspace) == ["long-1"]


def test_cancel_without_a_name_asks_which_when_several_run(tmp_path: Path) -> None:
    with runs(tmp_path, {"first-1": "running", "done-1": "finished", "second-1": "running"}) as workspace:
        code, said = call(tmp_path, "cancel")
        assert code == 2 and "first-1" in said and "second-1" in said and "done-1" not in said
        assert asked(workspace) == []
        assert call(tmp_path, "cancel", "first-1")[0] == 0 and asked(workspace) == ["first-1"]


@pytest.mark.parametrize("states", [{}, {"a-1": "finished"}, {"a-1": "interrupted", "b-1": "finished"}])
def test_cancel_says_when_nothing_runs(tmp_path: Path, states: dict[str, str]) -> None:
    with runs(tmp_path, states) as workspace:
        code, said = call(tmp_path, "cancel")
        assert code == 2 and ("no run is running" in said or "there are no runs" in said)
        assert asked(workspace) == []


def test_cancelling_an_ended_run_by_name_says_which_run_runs(tmp_path: Path) -> None:
    with runs(tmp_path, {"long-1": "running", "short-1": "finished"}) as workspace:
        code, said = call(tmp_path, "cancel", "short-1")
        assert code == 2 and "it is finished" in said and "long-1" in said and asked(workspace) == []


def test_attach_without_a_name_means_the_run_that_runs_else_the_newest(tmp_path: Path) -> None:
    with runs(tmp_path, {"one-1": "running", "two-1": "running", "done-1": "finished"}):
        code, said = call(tmp_path, "attach")
        assert code == 2 and "one-1" in said and "two-1" in said
    with runs(tmp_path / "ended", {"old-1": "failed", "new-1": "finished"}):
        assert call(tmp_path / "ended", "attach")[0] == 0, "the newest, which reached its end"


def test_resume_without_a_name_takes_no_run_that_reached_its_end(tmp_path: Path) -> None:
    with runs(tmp_path, {"stopped-1": "cancelled", "done-1": "finished", "busy-1": "running"}) as workspace:
        assert run_to("resume", workspace).id == "stopped-1"
    with runs(tmp_path / "newest", {"stopped-1": "cancelled", "done-1": "finished", "died-1": "running"}) as workspace:
        pass
    assert run_to("resume", workspace).id == "died-1", "the newest goes before older ones"
    with runs(tmp_path / "several", {"a-1": "paused", "b-1": "failed", "c-1": "finished"}):
        code, said = call(tmp_path / "several", "resume")
        assert code == 2 and "a-1" in said and "b-1" in said and "c-1" not in said
    with runs(tmp_path / "none", {"c-1": "finished"}):
        code, said = call(tmp_path / "none", "resume")
        assert code == 2 and "no run has to be resumed" in said


def test_a_survey_speaks_of_the_run_that_runs(tmp_path: Path) -> None:
    with runs(tmp_path, {"long-1": "running", "short-1": "finished"}) as workspace:
        seen = survey(workspace)
        assert seen.run == "long-1" and seen.next_steps[0].command == "attach long-1"


def created(root: Path) -> RunFolder:
    text = collecting_recipe(write_questions(root / "q.jsonl", 1), "http://127.0.0.1:1")
    return RunFolder.create(root / "runs", parse_recipe(text), text, {"stages": ["collect"], "base": str(root)})


def test_a_run_that_has_no_process_yet_is_starting_at_its_own_time(tmp_path: Path) -> None:
    run = created(tmp_path)
    status = run.status()
    assert (status.state, status.alive) == ("starting", False)
    assert status.updated_at == status.started_at > time.time() - HOUR_S
    listed = json.loads(call(tmp_path, "runs", "--json")[1])
    assert [(row["state"], row["started_at"]) for row in listed] == [("starting", status.started_at)]
    assert "1970" not in call(tmp_path, "runs")[1]


def test_a_run_whose_process_never_began_is_told_from_one_that_died(tmp_path: Path) -> None:
    never, died = created(tmp_path), created(tmp_path)
    died.hold().close()
    for run in (never, died):
        os.utime(run.path / "request.json", (time.time() - HOUR_S,) * 2)
    assert (never.status().state, died.status().state) == ("not started", "interrupted")
    assert died.status().updated_at == died.status().started_at > 0


def test_a_run_lives_from_the_moment_its_process_is_made_and_after_a_resume_too(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[RunStatus] = []

    def watched(*arguments: str, **options: Any) -> children.Process:
        process = children.start_module(*arguments, **options)
        seen.extend(folder.status() for folder in list_runs(Workspace(tmp_path).runs))
        return process

    with counting_server() as server:
        text = collecting_recipe(write_questions(tmp_path / "q.jsonl", 2), server.url)
        with monkeypatch.context() as patch:
            patch.setattr("localdistill.runs.control.start_module", watched)
            run = start(Workspace(tmp_path), parse_recipe(text), text, tmp_path)
            assert wait(run).state == "finished"
            assert wait(resume(Workspace(tmp_path), run.id)).state == "finished"
    assert len(seen) == 2 and all(status.alive for status in seen)
    assert {status.state for status in seen} <= {"starting", "running"}
    assert all(status.updated_at >= status.started_at > 0 for status in seen)
