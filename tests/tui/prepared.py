"""A workspace as a finished run leaves it, the same on every machine, for pictures and tests of screens.

What the machine decides would differ from one to the next (loss curves, scores, times, sizes of model files): it is
written here instead of measured. What it does not decide (the store, the selection, the datasets) is made by the real
stages."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from localdistill import RunFolder, Workspace, load_recipe, start, wait
from localdistill.core.events import (
    ArtifactWritten,
    Counted,
    Event,
    Measured,
    Noted,
    Progressed,
    RunFinished,
    RunStarted,
    StageFinished,
    StageStarted,
    Streamed,
    Warned,
    stamped,
)
from localdistill.exporters.parity_report import FileFigures, ParityItem, ParityReport
from localdistill.modelfiles.gguf_files import is_model_file, part_name
from localdistill.runs.supervisor import Recorder
from localdistill.scorecard import (
    ContestantResult,
    ItemResult,
    ScoreCard,
    ScoreCards,
    build_beside_card,
    build_files_card,
    build_forms_card,
    build_score_card,
    choose_file,
    standings_of,
)
from localdistill.scorecard.card import items_to_text
from localdistill.stages.context import build_tasks
from localdistill.stages.export_scores import summary_of
from localdistill.stages.outputs import (
    AnswersMade,
    ArmAdapter,
    EvaluateOutput,
    ExportOutput,
    MeasuredForms,
    TermsOfUse,
    TrainOutput,
    write_output,
)
from localdistill.tasks.base import Task
from localdistill.trainers.report import TrainingReport, TrainingResult

BEGAN = 1_790_000_000.0
"""When the run began, seconds since the epoch."""
ARMS = ("full_trace", "answer_only", "extract_answer")
RECIPE = """name = "garden"
description = "Stories about fruit, twenty-four of them."

[traces.imported]
files = ["stories.jsonl"]

[[grade]]
use = "exact"

[[filter]]
use = "verified"

[[filter]]
use = "length"
unit = "characters"
maximum = 1200

[traces.extract]
from = "imported"
rewrite = "extract"

[student]
model = "shipped:pantry/student"
max_tokens = 512

[arm.full_trace]
format = "full_trace"

[arm.answer_only]
format = "answer_only"

[arm.extract_answer]
traces = "extract"
format = "reasoning_then_answer"

[train]
use = "torch_lora"
epochs = 2

[evaluate]
max_tokens = 320

[[evaluate.task]]
use = "pantry"

[[evaluate.task]]
use = "pantry_guard"

[export]
arm = "best"

[[export.to]]
use = "gguf"

[[export.to]]
use = "ollama"
"""
_NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn")
_THINGS = ("apples", "pears", "plums", "cherries")


def stories() -> Iterator[dict[str, Any]]:
    """Twenty-four questions with traces; every sixth answer is wrong, and one trace is very long."""
    for number in range(24):
        name, thing = _NAMES[number % 6], _THINGS[number % 4]
        first, more = 3 + number, 2 + number % 7
        told = first + more + (number % 6 == 5)
        steps = [f"{name} begins with {first} {thing}.", f"Then {more} come along: {first} + {more} = {told}."]
        if number == 13:
            steps += [f"Once more, slowly: {n} and one is {n + 1}." for n in range(60)]
        question = f"{name} has {first} {thing} and picks {more} more. How many {thing} has {name} now?"
        reasoning = "\n".join([*steps, f"So there are {told}."])
        yield {
            "messages": [{"role": "user", "content": question},
                         {"role": "assistant", "content": f"<think>\n{reasoning}\n</think>\n\nThe answer is {told}."}],
            "reference": str(first + more), "model": "gardener-32b", "licence": "Apache-2.0", "source": "garden",
        }


def make(root: Path) -> Workspace:
    """The workspace, in the empty folder `root`."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "stories.jsonl").write_text("".join(json.dumps(row) + "\n" for row in stories()))
    recipe_file = root / "garden.toml"
    recipe_file.write_text(RECIPE)
    workspace, recipe = Workspace(root), load_recipe(recipe_file)
    run = start(workspace, recipe, RECIPE, root, until="format")
    status = wait(run)
    assert status.state == "finished", status.data
    run.amend_request(stages=list(recipe.stages()))
    adapters = _train(workspace, run)
    scorecard, tasks = _evaluate(workspace, run)
    exported = export(workspace, run, tasks)
    _events(run, recipe.stages(), adapters, scorecard, exported)
    os.utime(run.path / "request.json", (BEGAN, BEGAN))
    return workspace


def _artifact(workspace: Workspace, kind: str, label: str, files: dict[str, bytes], **meta: object) -> str:
    digest = "b2:" + hashlib.sha256(f"{kind} {label}".encode()).hexdigest()[:32]

    def build(staging: Path) -> None:
        for name, data in files.items():
            path = staging / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    workspace.make_artifact(kind, digest, {"label": label, "inputs": [], "made_at": BEGAN, **meta}, build)
    return digest


def _train(workspace: Workspace, run: RunFolder) -> dict[str, str]:
    adapters, out = {}, {}
    for place, arm in enumerate(ARMS):
        result = TrainingResult(40, 2.0, 900 + 700 * place, 0.4 + 0.1 * place, 61.0, 1_200_000_000)
        report = TrainingReport("torch_lora", arm, 0, "sha256:student", "sft", {}, result)
        digest = _artifact(workspace, "adapter", f"{arm}, seed 0", {
            "result.json": result.to_bytes(), "training.json": report.to_bytes(),
            "adapter/adapter_config.json": b"{}", "adapter/adapter_model.safetensors": bytes(1000)}, seed=0)
        adapters[arm] = digest
        out[arm] = (ArmAdapter(digest, 0, result),)
    write_output(run, TrainOutput(out))
    return adapters


def _results(task: Task, share: float, name: str, tokens: int) -> tuple[ItemResult, ...]:
    results = []
    for prompt in task.prompts():
        draw = random.Random(f"{task.name} {prompt.id} {name}").random()
        common = random.Random(prompt.id).random()
        right = 0.7 * common + 0.3 * draw < share
        said = prompt.reference or "a short sentence" if right else "7"
        results.append(ItemResult(prompt.id, float(right), True, False, tokens + int(9 * draw), said,
                                  f"The answer is {said}.", str(prompt.metadata.get("steps", ""))))
    return tuple(results)


def _base(task: Task) -> ContestantResult:
    return ContestantResult("base", 0, "", False, 0, "", _results(task, 0.9 if task.is_guard else 0.3, "base", 9))


def _contestants(task: Task) -> list[ContestantResult]:
    shares = (0.62, 0.45, 0.56) if not task.is_guard else (0.88, 0.9, 0.89)
    return [_base(task), *(ContestantResult(arm, 0, arm, arm == "full_trace", 900, "",
                                            _results(task, share, arm, 20)) for arm, share in zip(ARMS, shares))]


def _contest(tasks: Sequence[Task]) -> list[ScoreCard]:
    cards = []
    for task in tasks:
        cards.append(build_score_card(_contestants(task), base="base", task=task.name, grader=task.grader,
                                      is_guard=task.is_guard))
    return cards


def _evaluate(workspace: Workspace, run: RunFolder) -> tuple[str, list[Task]]:
    tasks = build_tasks(run.recipe(), workspace.root)
    cards = ScoreCards(tuple(_contest(tasks)))
    answers = [AnswersMade(task.name, member.name, member.seed,
                           _artifact(workspace, "answers", f"{task.name}: {member.name}",
                                     {"items.jsonl": items_to_text(member.items).encode()}))
               for task in tasks for member in _contestants(task)]
    digest = _artifact(workspace, "scorecard", "garden", {"scorecard.json": cards.to_bytes(), "scorecard.txt": b"",
                                                          "scorecard.md": b""})
    write_output(run, EvaluateOutput(digest, "full_trace", tuple(answers)))
    return digest, tasks


def _forms(tasks: Sequence[Task]) -> tuple[list[ScoreCard], list[ScoreCard], list[ScoreCard]]:
    """Against the trained model, against the base, and files against the 16-bit one."""
    cards, beside, files = [], [], []
    for task in tasks:
        share = 0.88 if task.is_guard else 0.62
        forms = [ContestantResult(form, 0, "full_trace", True, 0, "",
                                  _results(task, share - loss, f"full_trace{loss}", 20))
                 for form, loss in (("trained", 0.0), ("merged", 0.0), ("F16", 0.0), ("Q8_0", 0.01), ("Q4_K_M", 0.05))]
        what = (task.name, task.grader, task.is_guard, "arm 'full_trace'")
        cards.append(build_forms_card(forms, "trained", *what))
        beside.append(build_beside_card(forms, _base(task), *what))
        files.append(build_files_card(forms[2:], "F16", *what))
    return cards, beside, files


GATE = (("token_ids", 0, 0, "1000 strings, all equal"),
        ("chat_template", 0, 0, "byte-equal; 6 of 6 prompts render as in training"),
        ("bos", 0, 0, "prompts begin with 0 BOS, 0 in training"),
        ("prompt_ids", 0, 0, "0 of 6 rendered prompts differ"),
        ("stop_tokens", 0, 0, "1 stop tokens known to both"),
        ("top1", 1.0, 0.98, "143 of 143 positions agree on the first token"),
        ("kl", 1.4e-07, 1e-3, "mean KL 1.4e-07 nats over 143 positions"),
        ("margin_error", 0.0084, 0.5, "top-two margins are off by at most 0.0084 nats"),
        ("greedy", 0, 0, "6 of 6 continuations equal, 0 of them up to a near tie"),
        ("stop_place", 0, 0, "6 of 6 stop alike"))


def begun(root: Path) -> tuple[Workspace, RunFolder]:
    """A workspace whose run `garden-1` exists and has done nothing yet."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "garden.toml").write_text(RECIPE)
    recipe = load_recipe(root / "garden.toml")
    workspace = Workspace(root)
    return workspace, RunFolder.create(workspace.runs, recipe, RECIPE, {
        "stages": list(recipe.stages()), "base": str(root)})


def parity(failed: str = "") -> ParityReport:
    """A report of the parity gate, one item of it `failed`."""
    return ParityReport(tuple(ParityItem(name, name != failed, *rest) for name, *rest in GATE), "float32")


def export(workspace: Workspace, run: RunFolder, tasks: Sequence[Task], parts: int = 1) -> str:
    """What the export stage leaves, with model files that hold zeros, in so many parts each. Its digest."""
    cards, beside, beside_source = _forms(tasks)
    sizes = {"F16": 5_946_816, "Q8_0": 3_184_000, "Q4_K_M": 1_878_912}
    names = {quant: [f"garden-full-trace-{quant}.gguf"] for quant in sizes}
    if parts > 1:
        names = {quant: [part_name(name, number, parts) for number in range(parts)] for quant, [name] in names.items()}
    files = {name: bytes([at]) * (sizes[quant] // parts) for quant in sizes for at, name in enumerate(names[quant])}
    figures = tuple(FileFigures(names[quant][0], *rest) for quant, *rest in (
        ("F16", 16.5, None, None), ("Q8_0", 8.83, 0.00012, 0.993), ("Q4_K_M", 5.21, 0.031, 0.951)))
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
    digest = _artifact(workspace, "export", "full_trace", {
        **files, "SHA256SUMS": sums.encode(), "README.md": b"# garden\n",
        "Modelfile": b"FROM ./garden-full-trace-Q4_K_M.gguf\n",
        "parity.json": replace(parity(), files=figures).to_bytes(),
        "measured.json": MeasuredForms(tuple(cards), tuple(beside)).to_bytes()})
    write_output(run, ExportOutput(
        digest, "full_trace", 0, tuple(sorted(filter(is_model_file, files))), True,
        TermsOfUse("conditional", ("gardener (conditional)",)),
        standings_of(_contest(tasks), "full_trace"),
        tuple(summary_of(*pair) for pair in zip(cards, beside)), choice=choose_file(beside_source, sizes, 0.08)))
    return digest


def _kept(run: RunFolder, events: Iterable[Event], at: float, state: str = "running") -> None:
    """What the supervisor of a run keeps of these events, all of which came at the time `at`."""
    (run.path / "events.jsonl").unlink(missing_ok=True)
    with patch("time.time", return_value=at):
        recorder = Recorder(run, run.recipe().name)
        with closing(recorder._file):
            for event in events:
                recorder.take(event)
            recorder.status["state"] = state
            recorder.flush(force=True)


def _events(run: RunFolder, stages: Sequence[str], adapters: dict[str, str], scorecard: str, exported: str) -> None:
    """The real facts of the real stages, and written ones of the others; all times are made up."""
    real = [replace(fact, elapsed_s=2.0) if isinstance(fact, StageFinished) else fact for fact, _ in run.events()
            if not isinstance(fact, RunStarted | RunFinished | Measured)]
    trained: list[Event] = []
    for place, arm in enumerate(ARMS):
        say = stamped(trained.append, "train", arm, 0)
        say(Counted("dataset", {"rows": 19, "tokens": 1600, "trained_tokens": 900, "longest_row": 110}))
        for point in _curve(arm, place):
            say(point)
        say(ArtifactWritten("adapter", adapters[arm], f"{arm}, seed 0"))
    _kept(run, [
        RunStarted(run.id, "garden", tuple(stages)), *real, StageStarted("train"),
        *trained, StageFinished("train", 183.0), StageStarted("evaluate"),
        Noted("pantry: 300 items, graded by exact, 1 seed per arm", stage="evaluate"),
        ArtifactWritten("scorecard", scorecard, "garden", stage="evaluate"), StageFinished("evaluate", 25.0),
        StageStarted("export"), Noted("parity gate passed; wrote 3 files", stage="export"),
        ArtifactWritten("export", exported, "full_trace", stage="export"), StageFinished("export", 42.0),
        RunFinished("finished", 260.0)], BEGAN + 260, "finished")


def _curve(arm: str, place: int) -> Iterator[Measured]:
    """A falling loss with some noise, the learning rate, and the pace."""
    noise = random.Random(arm)
    for step in range(1, 41):
        loss = 0.3 + 0.1 * place + 2.0 * math.exp(-step / 12) + 0.05 * noise.random()
        rate = 3e-3 * (step / 2 if step < 2 else (1 + math.cos(math.pi * (step - 2) / 38)) / 2)
        for name, value in (("loss", loss), ("learning_rate", rate), ("grad_norm", 0.5), ("tokens_per_s", 6700.0)):
            yield Measured(name, round(value, 6), step)


COLLECTING = """name = "asking"
max_usd = 2.0

[prompts]
files = ["questions.jsonl"]

[teacher]
use = "openai_compatible"
base_url = "http://127.0.0.1:9/v1"
model = "gardener-32b"

[[grade]]
use = "exact"
"""


@contextmanager
def collecting(root: Path) -> Iterator[Workspace]:
    """A workspace in the empty folder `root` whose run asks a teacher as long as the context lasts."""
    root.mkdir(parents=True, exist_ok=True)
    rows = [{"messages": row["messages"][:1], "reference": row["reference"]} for row in stories()]
    (root / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "asking.toml").write_text(COLLECTING)
    recipe = load_recipe(root / "asking.toml")
    run = RunFolder.create(Workspace(root).runs, recipe, COLLECTING, {
        "stages": list(recipe.stages()), "base": str(root)})
    tail = "Cleo begins with 5 plums.\nThen 4 come along: 5 + 4 = 9.\nSo there are"
    with run.hold():
        _kept(run, [
            RunStarted(run.id, "asking", tuple(recipe.stages())), StageStarted("collect"),
            Warned("the server asks to wait: 429", "it slows down by itself", stage="collect"),
            Progressed("asking gardener-32b", 14, 24, "questions", {"tokens": 5210, "usd": 0.0182, "errors": 1},
                       {"replies": {"complete": 12, "length": 1, "error": 1}, "errors": {"429 Too Many Requests": 1}},
                       stage="collect"),
            Streamed(tail, who="gardener-32b", stage="collect")], BEGAN + 9)
        os.utime(run.path / "request.json", (BEGAN, BEGAN))
        yield Workspace(root)
