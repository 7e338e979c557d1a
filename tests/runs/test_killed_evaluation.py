"""An evaluation as users run it, killed at random moments with everything below it: what was answered is never asked
again, and it comes to what it would have come to."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from localdistill import Workspace, parse_recipe, resume, start, wait
from localdistill.core.events import Noted
from localdistill.safety.journal import read
from localdistill.stages.benchmarking import items_of
from localdistill.stages.outputs import EvaluateOutput, read_output
from localdistill.workspace.run_folder import RunFolder
from tests.helpers import wait_for
from tests.runs.test_runs import kill_everything
from tests.tiny_models import tiny_model

pytest.importorskip("torch")
ITEMS, AT_ONCE = 400, 4
RECIPE = f"""
name = "measured"
[traces]
own = {{ files = ["rows.jsonl"] }}
[student]
model = "student"
[evaluate]
max_tokens = 40
engine_options = {{ batch_rows = {AT_ONCE}, threads = 1, dtype = "float32" }}
[[evaluate.task]]
use = "jsonl"
grader = "exact"
path = "items.jsonl"
"""


def measuring(folder: Path) -> tuple[Workspace, RunFolder]:
    """A run that evaluates a student of random weights as it is."""
    folder.mkdir()
    tiny_model(folder / "student", "llama", hidden=32)
    items = [{"messages": [{"role": "user", "content": f"Double {number}"}], "reference": str(2 * number)}
             for number in range(ITEMS)]
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    talk = [{"role": "user", "content": "Half 1"}, {"role": "assistant", "content": "2"}]
    (folder / "rows.jsonl").write_text(json.dumps({"messages": talk}) + "\n")
    workspace = Workspace(folder)
    return workspace, start(workspace, parse_recipe(RECIPE), RECIPE, folder)


def answered(workspace: Workspace) -> list[str]:
    """The replies on disk, each as often as it was written."""
    return [record["reply"]["request_id"] for path in workspace.root.rglob("replies.journal")
            for record, _ in read(path) if "reply" in record]


def said_known(run: RunFolder) -> list[int]:
    """How many replies were there already, each time that the evaluation went on."""
    found = (re.search(r"([\d,]+) of [\d,]+ replies are there", event.text) for event, _ in run.events()
             if isinstance(event, Noted))
    return [int(one.group(1).replace(",", "")) for one in found if one]


def outputs(workspace: Workspace, run: RunFolder) -> list[tuple[str, float]]:
    [made] = read_output(run, EvaluateOutput).answers
    artifact = workspace.artifact("answers", made.answers)
    assert artifact is not None
    return [(item.output, item.score) for item in items_of(artifact)]


def killed(folder: Path, kills: int, seed: int = 7) -> int:
    """Kill a run so often, each time after a random number of new replies; how many replies were on disk at the last
    kill. Every kill is checked: all that was on disk is known to the next process."""
    chance, at_kill = random.Random(seed), list[int]()
    workspace, run = measuring(folder)
    for _ in range(kills):
        goal = (at_kill[-1] if at_kill else 0) + chance.randint(0, ITEMS // (2 * kills))
        wait_for(lambda goal=goal: run.status().alive and len(answered(workspace)) >= goal)
        kill_everything(run)
        kept = answered(workspace)
        assert len(kept) == len(set(kept)), "a reply that was on disk was asked for again"
        at_kill.append(len(kept))
        resume(workspace, run.id)
    assert wait(run).state == "finished", run.log.read_text()[-2000:]
    said = said_known(run)
    assert said[-1] == at_kill[-1] and set(said) <= set(at_kill), (said, at_kill)
    whole, other = measuring(folder.with_name("whole"))
    assert wait(other).state == "finished" and outputs(workspace, run) == outputs(whole, other)
    return at_kill[-1]


@pytest.mark.slow
def test_an_evaluation_killed_with_its_supervisor_asks_only_for_what_was_in_flight(tmp_path: Path) -> None:
    assert killed(tmp_path / "killed", 3) > AT_ONCE
