"""The shipped recipe on the real traces of DeepSeek-R1, QwQ and R1-Distill: what is contaminated is found and left out,
and the whole chain runs on a student of a real architecture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localdistill import Store, Workspace, load_recipe, start, wait
from localdistill.core.events import Cancel, Counted, Event, Warned
from localdistill.exporters.parity_report import ParityReport
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.shipped import shipped_root
from localdistill.stages.benchmarking import benches
from localdistill.stages.context import StageContext
from localdistill.stages.outputs import ExportOutput, FormatOutput, read_output
from localdistill.workspace.run_folder import RunFolder
from tests.helpers import SHARED_DATA
from tests.tiny_models import tiny_model

pytestmark = pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the real traces are not beside this checkout")
RECIPE = shipped_root() / "recipes" / "gsm8k-traces.toml"


def settings(student: str, *more: str) -> list[str]:
    names = ("deepseekR1", "QwQ", "DSQ")
    files = json.dumps([str(SHARED_DATA / "traces" / f"gsm8k_{name}.json") for name in names])
    task = json.dumps(str(SHARED_DATA / "gsm8k" / "test.jsonl"))
    return [f"traces.files={files}", f"evaluate.task.gsm8k.path={task}", f"student.model={json.dumps(student)}", *more]


def begin(folder: Path, until: str, *more: str) -> tuple[RunFolder, list[Event]]:
    recipe = load_recipe(RECIPE, settings(str(folder / "student"), *more))
    events: list[Event] = []
    run = start(Workspace(folder), recipe, RECIPE.read_text(), folder, until)
    status = wait(run, [events.append])
    assert status.state == "finished", (status.data, run.log.read_text()[-3000:])
    return run, events


def test_the_582_test_questions_are_flagged_and_the_recipe_leaves_them_out(tmp_path: Path) -> None:
    run, events = begin(tmp_path, "select")
    graded = next(e.counts for e in events if isinstance(e, Counted) and e.stage == "grade")
    assert sum(graded.values()) == 3 * 582 and graded["right"] >= 1670
    warnings: list[Event] = []
    workspace = Workspace(tmp_path)
    context = StageContext(workspace, run, run.recipe(), Store(workspace.store_path), warnings.append, Cancel())
    task, guard = context.tasks()
    assert len(task.prompts()) == 1319 and guard.is_guard
    assert [len(bench.prompts) for bench in benches(context)] == [737, len(guard.prompts())]
    assert [e.text for e in warnings if isinstance(e, Warned)] == [
        "582 of 1319 items of 'gsm8k' are among the prompts to train on; they are left out"
    ]


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_whole_chain_on_100_million_parameters(tmp_path: Path) -> None:
    tiny_model(
        tmp_path / "student",
        "qwen2",
        hidden=768,
        layers=20,
        vocab=400,
        max_position_embeddings=4096,
        initializer_range=0.02,
    )
    assert ModelFolder.open(tmp_path / "student").parameter_count >= 100e6
    run, events = begin(
        tmp_path,
        "export",
        "student.max_tokens=1200",
        "train.max_steps=2",
        "train.batch_rows=2",
        "evaluate.max_tokens=8",
        "evaluate.task.gsm8k.limit=16",
        "evaluate.task.everyday.limit=4",
        'export.arm="full_trace"',
        'export.to.gguf.quants=["F16", "Q8_0"]',
    )
    arms = {name: arm.facts for name, arm in read_output(run, FormatOutput).arms.items()}
    assert set(arms) == {"original", "answer_only", "extract_answer", "full_trace"}
    (prompts,) = {facts.prompts for facts in arms.values()}
    assert arms["original"].rows == prompts > 0, "several teachers share a prompt, whose own response is trained once"
    assert all(facts.rows >= prompts and (facts.rows > prompts) == (facts.several > 0) for facts in arms.values())
    assert arms["full_trace"].left_out, "long traces do not fit in 1,200 tokens and must be listed"
    artifact = Workspace(tmp_path).artifact("export", read_output(run, ExportOutput).export)
    assert artifact is not None
    artifact.verify()
    assert ParityReport.from_bytes(artifact.file("parity.json").read_bytes(), "parity.json").passed
    assert not any(e.kind == "failed" for e in events)
