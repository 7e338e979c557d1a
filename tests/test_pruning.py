"""What a finished run still needs is never offered for removal, and removal stays inside the workspace."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import closing
from pathlib import Path

import pytest

from localdistill.api.runs.overview import survey
from localdistill.api.runs.pruning import PruneItem, plan_pruning, remove
from localdistill.core import disk
from localdistill.core.errors import DiskFull
from localdistill.core.records import Message, Prompt, Reply, Trace
from localdistill.recipe import parse_recipe
from localdistill.safety.journal import JournalWriter, sizes
from localdistill.stages.outputs import EvaluateOutput, write_output
from localdistill.store.lines import trace_line
from localdistill.workspace.folder import Workspace
from localdistill.workspace.quarantine import quarantine, read_quarantine
from localdistill.workspace.rebuilding import rebuild_store
from localdistill.workspace.recovery import open_store
from localdistill.workspace.retiring import close_journals
from localdistill.workspace.run_folder import RunFolder

RECIPE = 'name = "r"\n[traces]\nfiles = ["x"]\n'


def write_a_file(staging: Path) -> None:
    (staging / "f").write_text("x")


def test_artifacts_of_a_kept_run_and_their_inputs_stay(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for digest, inputs in (("b2:aa", []), ("b2:bb", ["b2:aa"]), ("b2:cc", [])):
        workspace.make_artifact("answers", digest, {"label": digest, "inputs": inputs}, write_a_file)
    run = RunFolder.create(workspace.runs, parse_recipe(RECIPE), RECIPE, {"stages": [], "base": "."})
    write_output(run, EvaluateOutput("b2:bb", ""))
    kept = {item.name: item.kept_by for item in plan_pruning(workspace, keep_days=1)}
    assert kept["r-1"] and kept["bb"] == "run r-1" and kept["aa"].startswith("answers bb") and kept["cc"] == ""


def test_old_finished_runs_go_and_resumable_ones_stay(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    finished = RunFolder.create(workspace.runs, parse_recipe(RECIPE), RECIPE, {"stages": [], "base": "."})
    finished.write_status({"state": "finished"})
    partial = RunFolder.create(workspace.runs, parse_recipe(RECIPE), RECIPE, {"stages": [], "base": "."})
    partial.write_status({"state": "partial"})
    items = {item.name: item for item in plan_pruning(workspace, keep_days=0)}
    assert items["r-1"].kept_by == "" and items["r-2"].kept_by == "can be resumed"
    remove(workspace, [items["r-1"]])
    assert not finished.path.exists() and partial.path.exists()


def test_nothing_outside_the_workspace_is_removed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text(json.dumps("keep"))
    remove(Workspace(tmp_path / "inside"), [PruneItem("run", "x", "", outside, 1, "")])
    assert (outside / "f").exists()


def finished_run(workspace: Workspace, answers: int = 3) -> RunFolder:
    """A finished run with a journal of paid replies, and a body that could not be read."""
    run = RunFolder.create(workspace.runs, parse_recipe(RECIPE), RECIPE, {"stages": [], "base": "."})
    store = open_store(workspace)
    store.add_prompts([a_prompt(n) for n in range(answers)])
    with closing(JournalWriter(run.journal)) as journal:
        for n in range(answers):
            journal.append(trace_line(a_trace(n, f"{run.id} says")))
    quarantine(run.quarantine, Reply("q", "error", raw="<html>paid", error="no JSON"), "b2:p", "t")
    run.write_status({"state": "finished"})
    return run


def a_prompt(number: int) -> Prompt:
    return Prompt((Message("user", f"question {number}"),))


def a_trace(number: int, answer: str) -> Trace:
    return Trace(f"b2:{answer}{number}", a_prompt(number).id, "e", "m", "because", answer, "complete", cost_usd=0.25)


def test_what_runs_paid_for_outlives_their_folders_and_the_store(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    runs = [finished_run(workspace) for _ in range(3)]
    assert remove(workspace, plan_pruning(workspace, keep_days=0)) == []
    assert not any(run.path.exists() for run in runs)
    kept = sorted(path.relative_to(tmp_path / "journals").as_posix() for path in workspace.retired.rglob("*.zst"))
    assert kept == [f"runs/r-{n}/{name}.jsonl.zst" for n in (1, 2, 3) for name in ("quarantine", "replies")]
    assert [row.body for row in read_quarantine(workspace.retired / "r-2" / "quarantine.jsonl")] == [b"<html>paid"]
    assert open_store(workspace).lacking(workspace.journals()) == [], "the store knows them where they are now"
    before = sorted(open_store(workspace).traces(), key=lambda trace: trace.id)
    assert len(before) == 9 and sum(trace.cost_usd or 0 for trace in before) == 2.25
    workspace.store_path.unlink()
    rebuilt = rebuild_store(workspace)
    assert rebuilt.traces == 9 and sorted(open_store(workspace).traces(), key=lambda trace: trace.id) == before
    assert RunFolder.create(workspace.runs, parse_recipe(RECIPE), RECIPE, {}).id == "r-4", "no name is given twice"


def test_nothing_is_removed_when_it_cannot_be_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path)
    runs, lists = [finished_run(workspace) for _ in range(3)], plan_pruning(workspace, keep_days=0)
    files = {path for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(disk, "file_system_of", lambda path: disk.FileSystem(Path("/"), 10, 1000, -1))
    with pytest.raises(DiskFull, match="nothing was done"):
        remove(workspace, lists)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} - {run.path / "lock" for run in runs} == files
    monkeypatch.undo()
    (runs[0].path / "stages" / "collect.json").write_text("{")
    (tmp_path / "elsewhere").mkdir()
    runs[1].path.rename(tmp_path / "elsewhere" / "r-2")
    runs[1].path.symlink_to(tmp_path / "elsewhere" / "r-2")
    with runs[2].hold():
        stay = {item.name: item.kept_by for item in remove(workspace, lists)}
    assert "damaged" in stay["r-1"] and "link" in stay["r-2"] and stay["r-3"] == "running"
    assert all(any(sizes(run.journal)) for run in runs)


def test_one_damaged_run_does_not_stop_the_pruning_and_keeps_every_artifact(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.make_artifact("answers", "b2:aa", {"label": "a", "inputs": []}, write_a_file)
    damaged, good = finished_run(workspace), finished_run(workspace)
    (damaged.path / "stages" / "collect.json").write_bytes(b"{")
    items = {item.name: item for item in plan_pruning(workspace, keep_days=0)}
    assert "damaged" in items[damaged.id].kept_by and damaged.id in items["aa"].kept_by and not items[good.id].kept_by


def test_journals_of_runs_that_died_are_compressed_once_nobody_holds_them(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    dead, living = finished_run(workspace), finished_run(workspace)
    dead.write_status({"state": "running"})
    with living.hold():
        close_journals(workspace)
    assert dead.status().state == "interrupted" and not dead.journal.exists() and living.journal.exists()
    with closing(JournalWriter(dead.journal)) as journal:  # it is resumed
        journal.append(trace_line(a_trace(7, "later")))
    open_store(workspace)
    assert sizes(dead.journal)[0] and len(list(open_store(workspace).traces())) == 7


def test_what_killed_processes_left_is_named_and_removed(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    building = workspace.artifacts / "exports" / ".building-aa"
    (building / ".scratch-1").mkdir(parents=True)
    (building / ".scratch-1" / "0.npy").write_bytes(b"0" * 100)
    (tmp_path / "runs" / "r-1").mkdir(parents=True)
    half = tmp_path / "journals" / "half.jsonl.zst.partial"
    halves = [half, *(tmp_path / "runs/r-2" / name for name in ("status.json.partial", "stages/grade.json.partial"))]
    for path in halves:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    for path in (tmp_path / "runs" / "r-1", *halves):
        os.utime(path, (1, 1))
    items = {item.name: item for item in plan_pruning(workspace, keep_days=7) if item.kind == "left"}
    names = {".building-aa", "r-1", *(path.name for path in halves)}
    assert set(items) == names and items[".building-aa"].size_bytes == 100
    left = dict(survey(workspace).facts)["left"]
    assert left.startswith("5 things") and "runs prune" in left
    with open(building.with_name(".lock-aa"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert ".building-aa" not in {item.name for item in plan_pruning(workspace, keep_days=7)}, "somebody builds it"
    assert remove(workspace, items.values()) == []
    assert not any(path.exists() for path in (building, *halves, tmp_path / "runs/r-1"))


def test_a_half_built_artifact_stays_for_the_run_that_goes_on_with_it(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    building = workspace.artifacts / "exports" / ".building-aa"
    (building / ".scratch-1").mkdir(parents=True)
    finished_run(workspace).write_status({"state": "partial"})
    (left,) = [item for item in plan_pruning(workspace, keep_days=0) if item.kind == "left"]
    assert "resume r-1" in left.kept_by and remove(workspace, [left]) and building.exists()
    workspace.make_artifact("exports", "b2:aa", {"label": "a"}, write_a_file)
    assert sorted(path.name for path in (workspace.artifacts / "exports" / "aa").iterdir()) == ["f", "manifest.json"]
