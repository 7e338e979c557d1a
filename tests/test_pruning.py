"""What a finished run still needs is never offered for removal, and removal stays inside the workspace."""

from __future__ import annotations

import json
from pathlib import Path

from localdistill.api.runs.pruning import PruneItem, plan_pruning, remove
from localdistill.recipe import parse_recipe
from localdistill.stages.outputs import EvaluateOutput, write_output
from localdistill.workspace.folder import Workspace
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
