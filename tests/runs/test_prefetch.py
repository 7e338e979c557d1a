"""Models of the hub in runs: brought here first of all, in one revision for ever, and no network afterwards."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from localdistill import Workspace, make_plan, parse_recipe, prefetch, resume, start, wait
from localdistill.cli.app import app as cli
from localdistill.core.errors import LocalDistillError
from localdistill.core.events import Noted
from localdistill.recipe.hub_models import HubUse, hub_data, hub_uses, with_models
from localdistill.stages.checking import check_recipe
from localdistill.stages.context import build_tasks
from localdistill.workspace.hub_pins import keep_pins, pins
from tests.helpers import REPO
from tests.hub import StandIn, stand_in
from tests.tiny_models import tiny_model

pytest.importorskip("huggingface_hub")
pytest.importorskip("torch")
RECIPE = """
name = "far"
[traces]
files = ["rows.jsonl"]
[student]
model = "hf://acme/tiny"
max_tokens = 200
[[arm]]
name = "full"
format = "full_trace"
[train]
use = "torch_lora"
rank = 2
max_steps = 2
[evaluate]
max_tokens = 4
[[evaluate.task]]
use = "jsonl"
path = "held_out.jsonl"
grader = "exact"
[export]
arm = "full"
[[export.to]]
use = "gguf"
quants = ["F16"]
measure = false
parity_prompts = ["one"]
greedy_tokens = 2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    talk = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "<think>\na\n</think>\n\n1"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": talk}) + "\n")
    item = {"messages": [{"role": "user", "content": "two"}], "reference": "2"}
    (tmp_path / "held_out.jsonl").write_text(json.dumps(item) + "\n")
    (tmp_path / "far.toml").write_text(RECIPE)
    return tmp_path


def offered(hub: StandIn, folder: Path, seed: int = 0) -> str:
    """Let the hub hold a student of random weights; its commit."""
    student = tiny_model(folder / f"student{seed}", hidden=32, seed=seed)
    return hub.holds("acme/tiny", student).commit


def test_after_prefetch_a_run_asks_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stand_in(monkeypatch, folder / "home") as hub:
        commit = offered(hub, folder)
        done = CliRunner().invoke(cli, ["prefetch", str(folder / "far.toml"), "-w", str(folder)])
        assert done.exit_code == 0 and "hf://acme/tiny  LlamaForCausalLM, 0.0 M parameters" in done.stdout
        assert f"acme/tiny at {commit[:12]}" in done.stderr and "licence apache-2.0" in done.stderr
        hub.asked.clear()
        offered(hub, folder, 1)
        run = start(Workspace(folder), parse_recipe(RECIPE), RECIPE, folder, "format")
        assert wait(run).state == "finished", run.log.read_text()[-2000:]
        assert hub.asked == []
    assert run.recipe().student is not None and run.recipe().student.model == f"hf://acme/tiny@{commit}"


def test_a_run_keeps_the_revision_that_it_began_with_whatever_comes_later(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, recipe = Workspace(folder), parse_recipe(RECIPE)
    with stand_in(monkeypatch, folder / "home") as hub:
        first = offered(hub, folder)
        run = start(workspace, recipe, RECIPE, folder, "format")
        assert wait(run).state == "finished", run.log.read_text()[-2000:]
        assert any(f"acme/tiny at {first[:12]}" in event.text for event, _ in run.events() if isinstance(event, Noted))
        second = offered(hub, folder, 1)
        assert first != second
        [moved] = prefetch(workspace, recipe, newest=True)
        assert moved.model.commit == second and pins(workspace) == {"hf://acme/tiny": f"hf://acme/tiny@{second}"}
        assert wait(resume(workspace, run.id)).state == "finished"
        assert run.recipe().student.model.endswith(first)  # type: ignore[union-attr]
        again = start(workspace, recipe, RECIPE, folder, "format")
        assert wait(again).state == "finished"
        assert again.recipe().student.model.endswith(second)  # type: ignore[union-attr]


def test_a_student_that_the_hub_has_not_is_known_before_anything_is_asked(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stand_in(monkeypatch, folder / "home"):
        run = start(Workspace(folder), parse_recipe(RECIPE), RECIPE, folder)
        status = wait(run)
    assert status.state == "failed" and status.stage == "collect" and "the hub has no model acme/tiny" in str(
        status.data["message"])
    assert not list((folder / "runs").glob("*/stages/collect.json"))


def test_the_files_of_benchmarks_are_fetched_once_and_read_without_the_hub(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = "hf://datasets/acme/sums/main/test.jsonl"
    text = RECIPE[:RECIPE.index("[export]")].replace('path = "held_out.jsonl"', f'path = "{address}"').replace(
        'model = "hf://acme/tiny"', f'model = "{tiny_model(folder / "own", hidden=32)}"')
    (folder / "far.toml").write_text(text)
    (folder / "sums/main").mkdir(parents=True)
    shutil.copy(folder / "held_out.jsonl", folder / "sums/main/test.jsonl")
    recipe, command = parse_recipe(text), ["prefetch", str(folder / "far.toml"), "-w", str(folder)]
    with stand_in(monkeypatch, folder / "home") as hub:
        [problem] = check_recipe(recipe, folder)
        assert (problem.kind, problem.key) == ("warning", "evaluate.task.0.path") and "prefetch" in problem.hint
        told = [line.text for line in make_plan(Workspace(folder), recipe, folder).lines if line.label == "evaluate"]
        assert len(told) == 1 and "prefetch RECIPE" in told[0] and not hub.asked
        refused = CliRunner().invoke(cli, command)
        assert refused.exit_code == 1 and "there is no data set 'acme/sums' on the hub" in str(refused.exception)
        commit = hub.holds("datasets/acme/sums", folder / "sums").commit
        done = CliRunner().invoke(cli, command)
        assert done.exit_code == 0 and f"{address}  file of a benchmark" in done.stdout
        assert check_recipe(recipe, folder) == [] and hub_data(recipe) == [address]
        hub.asked.clear()
        [found] = prefetch(Workspace(folder), recipe)
        assert found.model.commit == commit and hub.asked == []
        assert [len(task.prompts()) for task in build_tasks(recipe, folder)] == [1]


def test_a_run_fetches_the_file_of_its_benchmark_before_anything_is_asked(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = RECIPE[:RECIPE.index("[export]")].replace('path = "held_out.jsonl"', 'path = "hf://datasets/acme/sums/a.jsonl"')
    text = text.replace('model = "hf://acme/tiny"', f'model = "{tiny_model(folder / "own", hidden=32)}"')
    (folder / "sums").mkdir()
    shutil.copy(folder / "held_out.jsonl", folder / "sums/a.jsonl")
    with stand_in(monkeypatch, folder / "home") as hub:
        hub.holds("datasets/acme/sums", folder / "sums")
        run = start(Workspace(folder), parse_recipe(text), text, folder, "collect")
        assert wait(run).state == "finished", run.log.read_text()[-2000:]
        assert hub.fetched() == ["a.jsonl"]


def test_every_model_of_a_recipe_is_found_and_tokenizers_need_no_weights() -> None:
    text = RECIPE.replace("[traces]", """[engine]
served = { use = "openai_compatible", base_url = "http://127.0.0.1:1/v1", model = "m", tokenizer = "hf://acme/served" }
own = { use = "transformers", model = "hf://acme/own@v1" }
[prompts]
files = ["hf://datasets/acme/rows"]
[traces]""").replace('files = ["rows.jsonl"]\n[student]', 'one = { ask = "served" }\ntwo = { ask = "own" }\n[student]')
    recipe = parse_recipe(text.replace('format = "full_trace"', 'format = "full_trace"\ntraces = "one"'))
    assert hub_uses(recipe) == [HubUse("hf://acme/tiny", True), HubUse("hf://acme/served", False),
                                HubUse("hf://acme/own@v1", True)]
    assert HubUse("hf://acme/tiny", True) not in hub_uses(recipe, student=False)
    changed = with_models(recipe, {"hf://acme/own@v1": "hf://acme/own@" + "a" * 40})
    assert {use.source for use in hub_uses(changed)} == {
        "hf://acme/tiny", "hf://acme/served", "hf://acme/own@" + "a" * 40}


def test_pins_that_cannot_be_read_are_said_and_not_guessed(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert pins(workspace) == {}
    keep_pins(workspace, {"hf://a/b": "hf://a/b@" + "a" * 40})
    assert pins(workspace) == {"hf://a/b": "hf://a/b@" + "a" * 40}
    for text in ("{half", '{"hf://a/b": "hf://a/b@main"}', '["x"]'):
        (tmp_path / "hub.json").write_text(text)
        with pytest.raises(LocalDistillError, match="which revisions models of the hub have here is not known"):
            pins(workspace)


def test_a_recipe_without_the_hub_has_nothing_to_fetch(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["prefetch", "pantry", "-w", str(tmp_path)])
    assert done.exit_code == 0 and done.stdout == "" and "nothing to fetch" in done.stderr


@pytest.mark.slow
def test_the_whole_chain_works_in_a_network_namespace_without_a_network(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = [shutil.which("unshare") or "unshare", "-rn"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("this system gives nobody a network namespace of his own")
    pytest.importorskip("llama_cpp")
    with stand_in(monkeypatch, folder / "home") as hub:
        offered(hub, folder)
        prefetch(Workspace(folder), parse_recipe(RECIPE))
    monkeypatch.delenv("HF_ENDPOINT")
    ran = subprocess.run([*alone, sys.executable, "-m", "localdistill", "run", str(folder / "far.toml"), "-w",
                          str(folder)], cwd=REPO, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert list((folder / "artifacts" / "export").rglob("*.gguf"))
