"""What a recipe would fail on is told before its first stage, all of it at once, wherever one asks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localdistill import (
    Recipe,
    Workspace,
    check_recipe,
    list_runs,
    make_plan,
    parse_recipe,
    problems_before_run,
    resume,
    start,
    wait,
)
from localdistill.core.errors import LocalDistillError, RecipeError
from localdistill.core.events import Cancel, Warned, silent
from localdistill.core.records import Candidate, Example, Prompt, Skip, TokenCounter
from localdistill.exporters.gguf import GgufExporter
from localdistill.exporters.job import ExportJob
from localdistill.formats import FORMATS
from localdistill.formats.preference import PreferenceFormat
from localdistill.stages.outputs import CollectOutput, write_output
from localdistill.workspace.recovery import open_store
from localdistill.workspace.run_folder import RunFolder
from tests.tiny_models import CHAT_TEMPLATE, CORPUS, PLAIN_TEMPLATE, edit_json, tiny_model
from tests.toys import listed

RECIPE = """
name = "checked"
[traces]
files = ["rows.jsonl"]
[student]
model = "student"
max_tokens = 200
[[arm]]
name = "full"
format = "full_trace"
[train]
use = "torch_lora"
[export]
arm = "full"
[[export.to]]
use = "gguf"
[[export.to]]
use = "ollama"
"""
ALL = ("format", "train", "export")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    talk = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "<think>\na\n</think>\n\n1"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": talk}) + "\n")
    return tmp_path


def snapshot(hub: Path, repository: str, folder: Path) -> None:
    """Let the hub's cache in `hub` hold a model."""
    place = hub / "hub" / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True, exist_ok=True)
    (place / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folder, place / "snapshots" / ("0" * 40))


def errors(recipe: Recipe, folder: Path, *stages: str) -> dict[str, str]:
    return {problem.key: problem.text for problem in check_recipe(recipe, folder, stages) if problem.kind == "error"}


def test_a_student_that_cannot_be_exported_is_refused_by_check_plan_and_start(folder: Path) -> None:
    tiny_model(folder / "student", "mistral", hidden=32, sliding_window=100)
    recipe, workspace = parse_recipe(RECIPE), Workspace(folder)
    said = "cannot be exported by gguf: .*sliding window of 100"
    [problem] = check_recipe(recipe, folder, ALL)
    assert problem.key == "student.model" and re.search(said, problem.text) and "max_tokens" in problem.hint
    with pytest.raises(RecipeError, match=said):
        make_plan(workspace, recipe, folder)
    with pytest.raises(RecipeError, match=said):
        start(workspace, recipe, RECIPE, folder)
    assert list_runs(workspace.runs) == []
    assert check_recipe(recipe, folder, ("collect", "select")) == check_recipe(recipe, folder, ("format",)) == []
    shorter = parse_recipe(RECIPE.replace("max_tokens = 200", "max_tokens = 100"))
    assert check_recipe(shorter, folder, ALL) == []


def of_pieces(folder: Path) -> None:
    """A tokenizer of another kind: pieces of text with marks for blanks, and bytes for what it lacks."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    special = ["<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=400, special_tokens=special,
                                                              show_progress=False))
    tokenizer.save(str(folder / "tokenizer.json"))
    edit_json(folder / "config.json", eos_token_id=3, pad_token_id=1)
    edit_json(folder / "generation_config.json", eos_token_id=3, pad_token_id=1)


def with_tokens(folder: Path, *texts: str, stops: bool = False, **kind: bool) -> None:
    """More tokens than the student had; with `stops` they end generation like the one that it has."""
    from tokenizers import AddedToken, Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False, **kind) for text in texts])
    tokenizer.save(str(folder / "tokenizer.json"))
    if stops:
        ends = [tokenizer.token_to_id(text) for text in ("<|im_end|>", *texts)]
        edit_json(folder / "generation_config.json", eos_token_id=ends)


@pytest.mark.parametrize(("arch", "config", "change"), [
    ("mistral", {"sliding_window": None}, lambda folder: None),
    ("llama", {"vocab_size": 410}, of_pieces),
    ("llama", {"vocab_size": 410}, lambda folder: with_tokens(folder, "<fin>", "<halt>", "<over>", stops=True)),
    ("llama", {"vocab_size": 410}, lambda folder: with_tokens(folder, "<tool>", rstrip=True)),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 0}, lambda folder: None),
    ("qwen3", {"attention_bias": True}, lambda folder: None),
], ids=["mistral", "pieces", "four stops", "a token that eats blanks", "a window", "biases"])
def test_a_student_is_refused_before_its_training_or_its_export_works(
        folder: Path, arch: str, config: dict[str, Any], change: Callable[[Path], None]) -> None:
    """Whichever of the two, never a refusal behind the training."""
    for module in ("llama_cpp", "gguf"):
        pytest.importorskip(module)
    student = tiny_model(folder / "student", arch, hidden=32, **config)
    change(student)
    told = errors(parse_recipe(RECIPE), folder, *ALL)
    exporter = GgufExporter(GgufExporter.Options(quants=("F16",), greedy_tokens=2, parity_prompts=("Hi",)))
    job = ExportJob(student, folder / "out", "student", True, {"num_ctx": 200})
    if told:
        assert set(told) == {"student.model"} and "cannot be exported by gguf" in told["student.model"]
        with pytest.raises(LocalDistillError) as refused:
            exporter.export(job, silent, Cancel())
        assert refused.value.message in told["student.model"], "the same refusal, only earlier"
    else:
        assert (folder / "out/student-F16.gguf") in exporter.export(job, silent, Cancel())


def test_rows_of_tokens_that_an_adapter_for_llama_cpp_cannot_hold_are_known_before_the_training(folder: Path) -> None:
    tiny_model(folder / "student", hidden=32)
    alone = RECIPE.replace("gguf", "adapter_gguf").replace('[[export.to]]\nuse = "ollama"\n', "")
    told = errors(parse_recipe(alone), folder, *ALL)
    assert list(told) == ["student.model"] and "adapter_gguf: training to think trains the rows of 2 tokens" in told[
        "student.model"]
    plain = alone.replace("full_trace", "answer_only")
    assert errors(parse_recipe(plain), folder, *ALL) == {}
    after = plain.replace("[train]", """[[arm]]
name = "after"
format = "answer_only"
start = "thinking"
[[arm]]
name = "thinking"
format = "full_trace"
[train]""")
    assert errors(parse_recipe(after), folder, *ALL) == {}
    told = errors(parse_recipe(after.replace('arm = "full"', 'arm = "after"')), folder, *ALL)
    assert "the rows of 2 tokens" in told["student.model"], "it goes on from an adapter that trained them"


def test_the_command_that_checks_a_recipe_looks_at_its_student(folder: Path) -> None:
    (folder / "r.toml").write_text(RECIPE)
    script = "import sys; from localdistill.cli import main; sys.argv[0] = 'localdistill'; main()"
    command = [sys.executable, "-c", script, "recipe", "check", "r.toml"]
    absent = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert absent.returncode == 2 and "student.model: there is no model folder" in absent.stderr
    tiny_model(folder / "student", "mistral", hidden=32, sliding_window=None)
    fine = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert fine.returncode == 0 and "checked: fine" in fine.stdout


def test_what_cannot_be_looked_at_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [unknown] = check_recipe(parse_recipe(RECIPE.replace('"student"', '"hf://nobody/none"')), folder, ALL)
    assert unknown.kind == "warning" and "fetched and looked at when the run starts" in unknown.text
    tiny_model(folder / "student", "llama", hidden=32)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    unchecked = check_recipe(parse_recipe(RECIPE), folder, ALL)
    assert unchecked and all(one.kind == "warning" and "tokenizers" in one.text for one in unchecked)
    plan = make_plan(Workspace(folder), parse_recipe(RECIPE), folder)
    assert {f"{one.key}: {one.text}" for one in unchecked} <= set(plan.warnings)


def test_an_absent_student_is_no_reason_not_to_collect(folder: Path) -> None:
    recipe = parse_recipe(RECIPE)
    assert "no model folder" in errors(recipe, folder, "collect", "format")["student.model"]
    assert errors(recipe, folder, "collect", "grade", "select") == {}


BROKEN = """
name = "broken"
[engine.local]
use = "llama_cpp"
model = "teacher.gguf"
[engine.api]
use = "openai_compatible"
base_url = "http://127.0.0.1:9/v1"
model = "m"
[prompts]
files = ["prompts.jsonl"]
[traces]
own = { ask = "local" }
bought = { ask = "api", grammar = "root ::= [0-9]+" }
kept = { stored = "scroe = 1" }
[[filter]]
use = "where"
condition = "tokens_answer < 10"
[student]
model = "student"
[arm.one]
traces = "own"
format = "full_trace"
[train]
use = "torch_lora"
[evaluate]
[[evaluate.task]]
use = "jsonl"
path = "items.jsonl"
"""


def test_every_problem_is_told_at_once(folder: Path) -> None:
    recipe = parse_recipe(BROKEN)
    found = errors(recipe, folder)
    assert set(found) == {"prompts.files", "engine.local.model", "engine.api", "traces.kept.stored", "filter.0",
                          "student.model", "evaluate.task.0.path"}
    assert "grammar" in found["engine.api"] and found["engine.api"].startswith("as teacher api")
    assert "did you mean 'score'" in found["traces.kept.stored"]
    assert {problem.key for problem in problems_before_run(BROKEN, folder)} >= set(found)
    for ask in (lambda: make_plan(Workspace(folder), recipe, folder),
                lambda: start(Workspace(folder), recipe, BROKEN, folder)):
        with pytest.raises(RecipeError) as refused:
            ask()
        assert all(key in refused.value.message for key in found)
    assert not list(folder.glob("runs/*"))


@pytest.mark.parametrize("use", ["mlx", "transformers"])
@pytest.mark.parametrize(("asked", "what"), [('grammar = "root ::= [0-9]+"', "grammar"),
                                             ("json_schema = '{\"type\": \"object\"}'", "JSON schema")])
def test_engines_that_keep_to_no_grammar_are_said_before_anything_is_asked(
        folder: Path, use: str, asked: str, what: str) -> None:
    tiny_model(folder / "student", "llama", hidden=32)
    (folder / "prompts.jsonl").write_text('{"question": "1 + 1?"}\n')
    text = (f'name = "kept"\n[engine.local]\nuse = "{use}"\nmodel = "student"\n[prompts]\nfiles = ["prompts.jsonl"]\n'
            f'[traces]\nown = {{ ask = "local", {asked} }}\n')
    [problem] = check_recipe(parse_recipe(text), folder, ("collect",))
    assert problem.key == "engine.local" and f"the engine local cannot keep to a {what}" in problem.text
    assert "GGUF" in problem.hint


def test_a_damaged_model_file_of_an_engine_is_found(folder: Path) -> None:
    (folder / "teacher.gguf").write_bytes(b"not a model")
    (folder / "prompts.jsonl").write_text('{"question": "1 + 1?"}\n')
    found = errors(parse_recipe(BROKEN), folder, "collect")
    assert set(found) == {"engine.local.model", "engine.api", "traces.kept.stored"}
    assert "GGUF" in found["engine.local.model"]


def test_the_template_is_tried_on_the_first_prompt_in_every_arm(folder: Path) -> None:
    tiny_model(folder / "student", "llama", hidden=32)
    text = RECIPE.replace("[train]", '[[arm]]\nname = "own"\nformat = "original"\n[train]')
    [problem] = check_recipe(parse_recipe(text), folder, ("format",))
    assert problem.key == "arm.own" and problem.kind == "warning" and "the first prompt makes no row" in problem.text
    tool = {"type": "function", "function": {"name": "add"}}
    rows = (folder / "rows.jsonl").read_text()
    (folder / "rows.jsonl").write_text(rows + json.dumps({**json.loads(rows), "tools": [tool]}) + "\n")
    told = {problem.key: problem.text for problem in check_recipe(parse_recipe(text), folder, ("format",))}
    assert "the first prompt with tools makes no row" in told["arm.full"]
    assert "leaves out which tools there are" in told["arm.full"]
    (folder / "rows.jsonl").write_text(rows)
    [longer] = check_recipe(parse_recipe(RECIPE.replace("max_tokens = 200", "max_tokens = 16")), folder, ("format",))
    assert longer.key == "arm.full" and "longer than 16 tokens" in longer.text


def test_an_objective_that_cannot_learn_from_an_arm_is_found_before_anything_is_asked(folder: Path) -> None:
    tiny_model(folder / "student", "llama", hidden=32)
    text = RECIPE.replace('use = "torch_lora"', 'use = "torch_lora"\nobjective = { use = "dpo" }')
    [problem] = check_recipe(parse_recipe(text), folder, ("collect", "format"))
    assert problem.key == "arm.full" and "takes pairs of a right and a wrong answer" in problem.text


def test_too_little_disk_for_an_export_is_known_before(folder: Path) -> None:
    tiny_model(folder / "student", "llama", hidden=32)
    [problem] = check_recipe(parse_recipe(RECIPE), folder, ALL, room_bytes=1000)
    assert problem.key == "export" and "GB are free" in problem.text
    assert check_recipe(parse_recipe(RECIPE), folder, ALL, room_bytes=10**12) == []


def test_a_student_in_the_hub_is_fetched_before_anything_is_asked(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(folder / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    text = RECIPE.replace('"student"', '"hf://nobody/none"')
    workspace = Workspace(folder)
    run = start(workspace, parse_recipe(text), text, folder)
    assert wait(run).state == "failed" and run.status().stage == "collect"
    assert not workspace.store_path.exists() or open_store(workspace).counts().traces == 0
    tiny_model(folder / "student", "llama", hidden=32)
    snapshot(folder / "hub", "nobody/none", folder / "student")
    again = resume(workspace, run.id)
    assert wait(again).stage != "collect"


def test_a_run_that_goes_on_is_checked_again_for_what_it_has_not_done(folder: Path) -> None:
    tiny_model(folder / "student", "llama", hidden=32)
    recipe, workspace = parse_recipe(RECIPE), Workspace(folder)
    run = RunFolder.create(workspace.runs, recipe, RECIPE, {"stages": recipe.stages(), "base": str(folder)})
    shutil.move(folder / "student", folder / "moved")
    (folder / "rows.jsonl").unlink()
    with pytest.raises(RecipeError) as refused:
        resume(workspace, run.id)
    assert "traces.imported.files" in refused.value.message and "student.model" in refused.value.message
    write_output(run, CollectOutput(1))
    with pytest.raises(RecipeError) as refused:
        resume(workspace, run.id, arm="base")
    assert "traces.imported.files" not in refused.value.message and "student.model" in refused.value.message
    assert run.status().state != "running" and "export_arm" not in run.request(), "nothing was begun or changed"


def test_what_the_check_doubts_is_told_by_the_run(folder: Path) -> None:
    tiny_model(folder / "student", "llama", hidden=32)
    text = RECIPE.replace("[train]", '[[arm]]\nname = "own"\nformat = "original"\n[train]')
    run = start(Workspace(folder), parse_recipe(text), text, folder, "format")
    wait(run)
    warned = [event.text for event, _ in run.events() if isinstance(event, Warned)]
    assert [text for text in warned if text.startswith("arm.own: the first prompt makes no row")]


def test_checking_the_demo_loads_no_library_for_models() -> None:
    script = ("import sys; from localdistill import check_recipe, load_recipe, recipe_file; "
              "path = recipe_file('pantry'); assert check_recipe(load_recipe(path), path.parent) == []; "
              "print([name for name in ('torch', 'transformers', 'llama_cpp') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


class Likeliest(PreferenceFormat):
    """Sets two right answers beside each other, as a format of the user may."""

    name = "likeliest"

    def lay_out(self, prompt: Prompt, candidates: Sequence[Candidate], count: TokenCounter) -> list[Example | Skip]:
        right = [one for one in self.sides(prompt, candidates, count).right if isinstance(one, Example)]
        pair = [replace(right[0], group="g"), replace(right[-1], group="g", sign=-1)] if len(right) > 1 else []
        return [*pair] or [Skip(prompt.id, one.trace.id, "one is right") for one in candidates]


def test_what_stands_in_for_answers_serves_formats_of_right_ones_too(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed(monkeypatch, FORMATS, "likeliest", Likeliest)
    tiny_model(folder / "student", "llama", hidden=32)
    text = RECIPE.replace("full_trace", "likeliest").replace(
        'use = "torch_lora"', 'use = "torch_lora"\nobjective = { use = "dpo" }')
    assert check_recipe(parse_recipe(text), folder, ("format",)) == []


@pytest.mark.parametrize(("template", "is_warned"), [(CHAT_TEMPLATE, False), (PLAIN_TEMPLATE, True)],
                         ids=["a switch", "none"])
def test_an_arm_that_thinks_and_does_not_is_warned_of_where_nobody_can_tell_it_which(
        folder: Path, template: str, is_warned: bool) -> None:
    tiny_model(folder / "student", "llama", hidden=32, chat_template=template)
    text = RECIPE.replace('[[arm]]\nname = "full"\nformat = "full_trace"\n', """[arm.full]
parts = [{ format = "full_trace" }, { format = "answer_only" }]
""")
    found = check_recipe(parse_recipe(text), folder, ("format",))
    assert [(problem.key, problem.kind) for problem in found] == [("arm.full", "warning")] * is_warned
    assert all("nobody can tell it which" in problem.text for problem in found)
    assert check_recipe(parse_recipe(RECIPE), folder, ("format",)) == []
