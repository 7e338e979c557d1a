"""A workspace that an earlier version wrote opens, lists, resumes and exports."""

from __future__ import annotations

import pytest

from localdistill import (
    Store,
    Workspace,
    chat_files,
    exports_of,
    list_runs,
    list_traces,
    render_trace,
    resume,
    score_card,
    start,
    survey,
    wait,
)  # fmt: skip
from tests.old_workspaces import packed, unpack

ARCHIVES = packed()


@pytest.fixture(scope="module", params=ARCHIVES, ids=lambda path: path.name)
def workspace(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One workspace that the tests of this file use one after another, as its owner would."""
    return Workspace(unpack(request.param, tmp_path_factory.mktemp("old")))


def test_at_least_one_is_kept() -> None:
    assert ARCHIVES


def test_its_runs_and_traces_are_listed(workspace: Workspace) -> None:
    states = {run.id: run.status().state for run in list_runs(workspace.runs)}
    assert states == {"chain-1": "finished", "stopped-1": "cancelled"}
    traces = list_traces(workspace, limit=100)
    originals = [trace for trace in traces if not trace["rewrite"]]
    assert len(originals) == 24 and all(trace["question"].startswith("Ann has") for trace in originals)
    assert any(trace["rewrite"] for trace in traces)
    assert "Ann has" in str(render_trace(Store(workspace.store_path), originals[0]["trace_id"]))
    chain = {step.stage: step.state for step in survey(workspace).chain}
    assert chain["augment"] == "absent", "a stage that there was not yet"
    assert [chain[stage] for stage in ("collect", "grade", "select", "rewrite", "format", "train")] == [
        "done"] * 5 + ["waiting"]


def test_its_scores_and_exports_are_shown(workspace: Workspace) -> None:
    (card,) = score_card(workspace, "chain-1").cards
    assert len(card.rows) == 4 and card.items == 6
    (made,) = exports_of(workspace, "chain-1")
    assert made.state == "whole" and made.gate_passed and {file.quant for file in made.files} == {"F16", "Q8_0"}
    assert [file.path for file in chat_files(workspace)] == [file.path for file in made.for_chat]


def test_its_stopped_run_goes_on_to_its_export(workspace: Workspace) -> None:
    run = resume(workspace, "stopped-1")
    assert wait(run).state == "finished", run.log.read_text()[-3000:]
    (made,) = exports_of(workspace, "stopped-1")
    assert made.state == "whole" and made.arm == "summary"


def test_what_it_asked_is_not_asked_again(workspace: Workspace) -> None:
    first = next(run for run in list_runs(workspace.runs) if run.id == "chain-1")
    again = start(workspace, first.recipe(), (first.path / "recipe.toml").read_text(), workspace.root, "select")
    assert wait(again).state == "finished"
    assert again.journal.stat().st_size == 0 if again.journal.exists() else True
    assert sorted(again.ids("collect")) == sorted(first.ids("collect"))
