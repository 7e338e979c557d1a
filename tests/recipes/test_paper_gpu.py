"""The paper's shape on a real student, at tiny size: the recipe plans, and its chain ends on the cards of four tasks,
six arms and three seeds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from localdistill import Recipe, Workspace, load_recipe, make_plan, start, wait
from localdistill.api.runs.results import cards_of
from localdistill.core.events import Event
from localdistill.exporters.parity_report import ParityReport
from localdistill.modelfiles.shipped import shipped_root
from localdistill.stages.outputs import ExportOutput, FormatOutput, TrainOutput, read_output
from localdistill.tasks.gsm8k import Gsm8kTask
from localdistill.tasks.humaneval import HumanEvalTask
from localdistill.tasks.ifeval import IfEvalTask
from tests.helpers import CountingServer, counting_server
from tests.recipes.test_paper import ARMS
from tests.tiny_models import tiny_model

RECIPE = shipped_root() / "recipes" / "paper-gpu.toml"
TASKS = ("gsm8k", "humaneval", "ifeval", "everyday")


def settings(folder: Path) -> list[str]:
    """Small files of the same shape at the paths of the recipe."""
    questions = [{"question": f"Double {n}", "answer": f"{n} + {n} = {2 * n}\n#### {2 * n}"} for n in range(8)]
    files = {"train": questions, **{task.name: task.samples()[0].rows
                                    for task in (Gsm8kTask, HumanEvalTask, IfEvalTask)}}
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    paths = [f"evaluate.task.{name}.path={json.dumps(str(folder / f'{name}.jsonl'))}" for name in TASKS[:3]]
    return [f"prompts.files={json.dumps([str(folder / 'train.jsonl')])}", *paths]


def with_students(folder: Path, reasoner: CountingServer, plain: CountingServer) -> Recipe:
    tiny_model(folder / "student", "qwen2", vocab=400, max_position_embeddings=1024)
    plain.says = _plain
    engines = [setting for name, server in (("reasoner", reasoner), ("plain", plain)) for setting in (
        f'engine.{name}.base_url="{server.url}"', f'engine.{name}.api_key_env="PROBE_KEY"')]
    return load_recipe(RECIPE, [
        *settings(folder), *engines, f"student.model={json.dumps(str(folder / 'student'))}", "student.max_tokens=600",
        "train.max_steps=2", "train.device='cpu'", "evaluate.max_tokens=8", "evaluate.task.everyday.limit=4",
        "export.arm='full_trace'", "export.to.gguf.quants=['F16']"])


def _plain(question: str) -> str:
    """An answer to a question, and a summary of what somebody thought about one."""
    found = re.search(r"Double (\d+)", question)
    assert found is not None
    number = int(found[1])
    return f"It is \\boxed{{{2 * number}}}." if question.startswith("Double") else f"{2 * number}."


def test_it_holds_the_papers_arms_and_its_plan_states_power_and_cost(tmp_path: Path) -> None:
    recipe = load_recipe(RECIPE, settings(tmp_path))
    assert [arm.name for arm in recipe.arms] == ["original", "answer_only", "summary_answer", "non_reasoning_teacher",
                                                 "concise_answer", "full_trace"]
    assert {arm.name for arm in recipe.arms} == set(ARMS)
    assert recipe.evaluate is not None and [task.use for task in recipe.evaluate.tasks] == list(TASKS)
    told = "\n".join(line.text for line in make_plan(Workspace(tmp_path / "w"), recipe, tmp_path).lines)
    for said in ("8 calls to reasoner;", "8 calls to reasoner for the set concise;", "8 calls to plain;",
                 "rewrite summary asks plain about at most 8 answers", "everyday: 84 items x 19 models",
                 "everyday: a difference of 15.6 points or more", "$25.00"):
        assert said in told, told


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_chain_ends_on_one_card_of_four_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALDISTILL_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("PROBE_KEY", "a-key-of-a-test")
    events: list[Event] = []
    with counting_server() as reasoner, counting_server() as plain:
        recipe = with_students(tmp_path, reasoner, plain)
        run = start(Workspace(tmp_path / "w"), recipe, RECIPE.read_text(), tmp_path)
        status = wait(run, [events.append])
    assert status.state == "finished", (status.data, run.log.read_text()[-3000:])
    assert {arm.facts.prompts for arm in read_output(run, FormatOutput).arms.values()} == {8}
    adapters = read_output(run, TrainOutput).adapters
    assert {name: len(made) for name, made in adapters.items()} == dict.fromkeys(ARMS, 3)
    cards = cards_of(Workspace(tmp_path / "w"), run)
    assert [(card.task, card.is_guard, card.seeds) for card in cards[:4]] == [
        ("gsm8k", False, 3), ("humaneval", False, 3), ("ifeval", True, 3), ("everyday", True, 3)]
    assert {len(card.rows) for card in cards[:4]} == {7}
    artifact = Workspace(tmp_path / "w").artifact("export", read_output(run, ExportOutput).export)
    assert artifact is not None
    assert ParityReport.from_bytes(artifact.file("parity.json").read_bytes(), "parity.json").passed
