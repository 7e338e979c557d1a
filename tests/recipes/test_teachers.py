"""The shipped recipes with teachers behind a network, run against servers on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localdistill import Store, Workspace, load_recipe, make_plan, start, wait
from localdistill.core.errors import UsageError
from localdistill.modelfiles.shipped import shipped_root
from localdistill.stages.outputs import CollectOutput, read_output
from localdistill.workspace.run_folder import RunFolder
from tests.helpers import counting_server, write_questions

RECIPES = shipped_root() / "recipes"


def finished(folder: Path, name: str, settings: list[str]) -> tuple[Workspace, RunFolder]:
    path = RECIPES / f"{name}.toml"
    recipe = load_recipe(path, [f"prompts.files={json.dumps([str(folder / 'q.jsonl')])}", *settings])
    workspace = Workspace(folder)
    run = start(workspace, recipe, path.read_text(), folder)
    status = wait(run)
    assert status.state == "finished", (status.data, run.log.read_text()[-3000:])
    return workspace, run


def test_the_pool_shares_the_work_and_asks_until_verified(tmp_path: Path) -> None:
    write_questions(tmp_path / "q.jsonl", 60)
    with counting_server(0.002) as one, counting_server(0.002) as two:
        one.wrong_tries = two.wrong_tries = lambda number: int(number == 7)
        endpoints = ", ".join(f'{{ base_url = "{server.url}" }}' for server in (one, two))
        workspace, run = finished(tmp_path, "vllm-pool", [f"teacher.endpoints=[{endpoints}]"])
        asked = one.asked + two.asked
    assert sum(one.asked.values()) > 0 and sum(two.asked.values()) > 0
    assert set(asked) == {f"Double {n}\nPlease reason step by step, and put your final answer within \\boxed{{}}."
                          for n in range(60)}
    assert 61 <= sum(asked.values()) <= 62
    store = Store(workspace.store_path)
    assert len(run.ids("select")) == 60
    tries = store.facts([prompt.id for prompt in store.prompts()], [("tries", 1, "")])
    assert sum(fact.value for [fact] in tries.values()) == sum(asked.values())


def test_two_priced_teachers_stay_under_the_cap_and_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_questions(tmp_path / "q.jsonl", 12)
    monkeypatch.setenv("LOCALDISTILL_CONFIG", str(tmp_path / "config"))
    with counting_server() as server:
        settings = [setting for name in ("reasoner", "plain") for setting in (
            f'teacher.{name}.base_url="{server.url}"', f'teacher.{name}.api_key_env="PROBE_KEY"')]
        monkeypatch.setenv("PROBE_KEY", "a-key-of-a-test")
        server.usage = {"prompt_tokens": 60, "completion_tokens": 9}
        workspace, run = finished(tmp_path, "api-teacher", settings)
        assert sum(server.asked.values()) == 24
    assert len(run.ids("collect")) == 24 and len(run.ids("select")) == 12
    assert {trace.model.rsplit("/", 1)[1] for trace in Store(workspace.store_path).traces(run.ids("select"))} == {
        "deepseek-v4-pro"}
    spent = read_output(run, CollectOutput).spent_usd
    assert spent == pytest.approx(12 * ((60 * 1.32 + 9 * 3.96) + (60 * 0.30 + 9 * 1.20)) / 1e6, rel=1e-6)
    plan = make_plan(workspace, run.recipe(), tmp_path)
    assert any("12 answers are stored" in line.text for line in plan.lines)


def test_without_a_key_nothing_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_questions(tmp_path / "q.jsonl", 2)
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)
    monkeypatch.setenv("LOCALDISTILL_CONFIG", str(tmp_path / "config"))
    path = RECIPES / "api-teacher.toml"
    recipe = load_recipe(path, [f"prompts.files={json.dumps([str(tmp_path / 'q.jsonl')])}"])
    run = start(Workspace(tmp_path), recipe, path.read_text(), tmp_path)
    status = wait(run)
    assert status.state == "failed" and "localdistill keys set deepseek" in status.data["hint"]
    with pytest.raises(UsageError, match="the terms of openai bar"):
        from localdistill.workspace.terms import require

        require(load_recipe(path, [f"prompts.files={json.dumps([str(tmp_path / 'q.jsonl')])}",
                                   'teacher.plain.provider="openai"']), Workspace(tmp_path))
