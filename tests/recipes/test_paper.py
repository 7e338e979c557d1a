"""The paper's six arms in one recipe: it plans, every set is asked once, and the chain runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localdistill import Store, Workspace, load_recipe, make_plan, start, wait
from localdistill.core.events import Counted, Event
from localdistill.modelfiles.shipped import shipped_root
from localdistill.stages.outputs import FormatOutput, SelectOutput, read_output
from tests.helpers import counting_server, write_questions

RECIPE = shipped_root() / "recipes" / "paper.toml"
ARMS = ["original", "answer_only", "summary_answer", "full_trace", "concise_answer", "non_reasoning_teacher"]


def test_it_holds_the_six_arms_and_its_plan_speaks_of_every_set(tmp_path: Path) -> None:
    recipe = load_recipe(RECIPE)
    assert [arm.name for arm in recipe.arms] == ARMS
    plan = make_plan(Workspace(tmp_path), load_recipe(RECIPE, ["prompts.limit=20"]), RECIPE.parent)
    told = [line.text for line in plan.lines]
    for said in ("20 calls to reasoner;", "20 calls to reasoner for the set concise;", "20 calls to plain;",
                 "rewrite summary asks reasoner about at most 20 answers", "6 arms x 1 seeds"):
        assert any(said in text for text in told), said
    assert plan.warnings == ()


def test_every_set_is_asked_once_in_its_own_way(tmp_path: Path) -> None:
    write_questions(tmp_path / "q.jsonl", 8)
    with counting_server() as reasoner, counting_server() as plain:
        engines = [f'engine.{name}={{ use = "openai_compatible", base_url = "{server.url}", model = "{name}" }}'
                   for name, server in (("reasoner", reasoner), ("plain", plain))]
        recipe = load_recipe(RECIPE, [f"prompts.files={json.dumps([str(tmp_path / 'q.jsonl')])}", *engines,
                                      "traces.plain.grammar=''", "traces.concise.suffix={ math = 'Show the steps.' }"])
        for _ in range(2):
            run = start(Workspace(tmp_path), recipe, RECIPE.read_text(), tmp_path, "select")
            assert wait(run).state == "finished", run.log.read_text()[-3000:]
    assert set(plain.asked.values()) == set(reasoner.asked.values()) == {1}
    assert set(reasoner.asked) == {f"Double {n}{end}" for n in range(8) for end in ("", "\nShow the steps.")}
    assert set(plain.asked) == {f"Double {n}" for n in range(8)}
    kept = read_output(run, SelectOutput).sets
    assert {name: one.kept for name, one in kept.items()} == {"reasoner": 8, "concise": 8, "plain": 8}
    assert {one.selection for one in kept.values()} == {"paper/reasoner", "paper/concise", "paper/plain"}


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_six_arms_end_on_one_score_card(tmp_path: Path) -> None:
    recipe = load_recipe(RECIPE, [
        "prompts.limit=160", "train.epochs=1", "evaluate.task.pantry.limit=20", "evaluate.task.pantry_guard.limit=10",
        "export.arm='full_trace'", "export.to=[{ use = 'gguf', quants = ['F16'] }]"])
    events: list[Event] = []
    run = start(Workspace(tmp_path), recipe, RECIPE.read_text(), tmp_path)
    status = wait(run, [events.append])
    assert status.state == "finished", (status.data, run.log.read_text()[-3000:])
    arms = read_output(run, FormatOutput).arms
    assert list(arms) == ARMS and len({arm.facts.rows for arm in arms.values()}) == 1
    waterfalls = {e.trace_set: e.counts for e in events if isinstance(e, Counted) and e.what == "waterfall"}
    assert waterfalls["plain"]["kept"] < waterfalls["concise"]["kept"] <= waterfalls["reasoner"]["kept"]
    lines = (shipped_root() / "data" / "pantry" / "prompts.jsonl").read_text().splitlines()[:160]
    stories = sum(json.loads(line)["metadata"]["kind"] == "story" for line in lines)
    counts = Store(tmp_path / "localdistill.duckdb").counts()
    assert counts.rewritten == waterfalls["reasoner"]["kept"]
    assert counts.traces - counts.rewritten == 2 * 160 + stories, "what two sets ask alike is asked once"
