"""MLX trains what torch and peft train: the same losses and weights from the same start, for every kind of student and
objective, alone, packed, stopped and gone on; and what it would compute in another way is refused."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localdistill.core.errors import Cancelled, ModelFileError
from localdistill.core.events import Cancel, Event, Measured, Warned, silent
from localdistill.core.records import Message, Request, Sampling
from localdistill.modelfiles.architectures import ARCHITECTURES
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.hardware import Hardware
from localdistill.modelfiles.mlx_held import load_held
from localdistill.objectives.dpo import DpoObjective
from localdistill.objectives.redi import RediObjective
from localdistill.objectives.sft import SftObjective
from localdistill.trainers._rows import read_rows
from localdistill.trainers._schedule import Schedule
from localdistill.trainers.backend import StepWork
from localdistill.trainers.job import DevItems
from localdistill.trainers.mlx_lora import MlxLoraTrainer
from tests.tiny_models import tiny_adapter, tiny_model
from tests.trainers.rows import job, random_pairs, random_rows, table
from tests.trainers.test_torch_lora import losses
from tests.trainers.test_torch_objectives import OBJECTIVES

torch = pytest.importorskip("torch")
mx = pytest.importorskip("mlx.core")
pytest.importorskip("peft")
torch.set_num_threads(1)
TAGS = (398, 399)
MAC = Hardware("Darwin", "Apple M3", 8, 16 << 30, 8 << 30, ())
STUDENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "theta": ("llama", {"rope_theta": 5e5}),
    "llama3": ("llama", {"rope_parameters": {
        "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192}}),
    "untied": ("llama", {"tied": False}),
    "biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 24}),
    "mistral": ("mistral", {"sliding_window": 64}),
}


def trainer(**options: Any) -> MlxLoraTrainer:
    values = {"dtype": "float32", "rank": 4, "alpha": 8, "learning_rate": 5e-3, "batch_rows": 4,
              "checkpoint_every_s": 0}
    return MlxLoraTrainer(MlxLoraTrainer.Options(**(values | options)))


def run(student: Path, folder: Path, rows: list[dict[str, Any]], cancel: Cancel | None = None,
        options: dict[str, Any] | None = None, **changes: Any) -> list[float]:
    events: list[Event] = []
    with contextlib.suppress(Cancelled):
        trainer(**(options or {})).train(job(student, folder, rows, **changes), events.append, cancel or Cancel())
    return losses(events)


def by_peft(student: Path, start: Path, rows: list[dict[str, Any]], objective: Any,
            steps: int) -> tuple[list[float], dict[str, Any]]:
    """The same training by transformers, peft and torch's own AdamW over full logits: losses and weights."""
    import peft
    import transformers

    data, options = read_rows(table(rows)), trainer(epochs=9, max_steps=steps).options
    model = peft.PeftModel.from_pretrained(
        transformers.AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32), start, is_trainable=True)
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.0)
    schedule, seen = Schedule(options, data, 3), []

    def own(row: int) -> Any:
        ids = torch.from_numpy(data.ids[data.starts[row]:data.starts[row + 1]].astype(np.int64))
        at = torch.from_numpy(data.trained(row))
        return torch.log_softmax(model(ids[None]).logits[0], -1)[at - 1].gather(1, ids[at, None])[:, 0]

    with torch.no_grad():
        reference = {row: own(row) for row in range(len(data))}
    for step in range(steps):
        batch = schedule.batch(step)
        found = {row: own(row) for row in batch}
        right, wrong = ([row for row in batch if data.signs[row] == sign] for sign in (1, -1))
        pair = {data.groups[row]: row for row in wrong}
        if isinstance(objective, SftObjective):
            total = -sum(found[row].sum() for row in batch)
        elif isinstance(objective, RediObjective):
            total = sum(0.8 * found[pair[data.groups[row]]].mean() - found[row].mean() for row in right)
        else:
            moved = {row: (found[row] - reference[row]).sum() for row in batch}
            total = -sum(torch.nn.functional.logsigmoid(0.1 * (moved[row] - moved[pair[data.groups[row]]]))
                         for row in right)
        loss = total / data.units(batch, objective.unit)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.param_groups[0]["lr"] = schedule.learning_rate(step)
        optimizer.step()
        seen.append(float(loss))
    return seen, {name.replace(".default", ""): value.detach() for name, value in model.named_parameters()
                  if value.requires_grad}


def agree(student: Path, place: Path, objective: Any, steps: int = 20, longest: int = 30,
          **options: Any) -> tuple[float, float]:
    """The largest difference of a loss, and of a trained weight."""
    from safetensors.torch import load_file

    rows = random_pairs(6) if -1 in objective.signs else random_rows(12, longest=longest)
    start = tiny_adapter(student, place / "start")
    seen = run(student, place / "mlx", rows, options={"epochs": 9, "max_steps": steps, **options},
               objective=type(objective)(), start_adapter=start)
    theirs, weights = by_peft(student, start, rows, objective, steps)
    ours = load_file(place / "mlx" / "adapter" / "adapter_model.safetensors")
    assert len(seen) == steps and set(ours) == set(weights)
    assert max(float(abs(value).max()) for value in weights.values()) > 0.1
    return (float(np.abs(np.array(seen) - np.array(theirs)).max()),
            max(float((ours[name] - weights[name]).abs().max()) for name in ours))


@pytest.mark.parametrize("name", STUDENTS)
def test_losses_and_weights_are_those_of_peft_for_every_kind_of_student(name: str, tmp_path: Path) -> None:
    arch, settings = STUDENTS[name]
    student = tiny_model(tmp_path / "student", arch, hidden=32, **settings)
    by_loss, by_weight = agree(student, tmp_path, SftObjective(), 6)
    assert by_loss < 1e-5 and by_weight < 1e-3


@pytest.mark.parametrize("objective", [DpoObjective(), RediObjective()], ids=lambda one: one.name)
def test_losses_and_weights_are_those_of_peft_for_preferences(objective: Any, tmp_path: Path) -> None:
    student = tiny_model(tmp_path / "student", hidden=32, rope_theta=5e5)
    by_loss, by_weight = agree(student, tmp_path, objective, 6, micro_tokens=30)
    assert by_loss < 1e-5 and by_weight < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("objective", [SftObjective(), DpoObjective(), RediObjective()], ids=lambda one: one.name)
@pytest.mark.parametrize("name", STUDENTS)
def test_twenty_steps_stay_together(name: str, objective: Any, tmp_path: Path) -> None:
    arch, settings = STUDENTS[name]
    student = tiny_model(tmp_path / "student", arch, **settings)
    by_loss, by_weight = agree(student, tmp_path, objective)
    print(f"{name} {objective.name}: loss {by_loss:.1e}, weights {by_weight:.1e}")
    assert by_loss < 5e-5 and by_weight < 5e-3


class LoadedInMlx:
    """The MLX backend with rows, between steps: adapters that are not zero, and gradients to look at."""

    def __init__(self, student: Path, rows: list[dict[str, Any]], objective: Any = None,
                 tag_token_ids: tuple[int, ...] = (), **options: Any) -> None:
        from localdistill.trainers.mlx.backend import MlxBackend

        self.rows, self.objective = read_rows(table(rows)), objective or SftObjective()
        self.backend = MlxBackend(trainer(**{"micro_tokens": 10_000, **options}).options)
        start = tiny_adapter(student, student.parent / "start")
        self.backend.load(job(student, Path(), rows, seed=0, tag_token_ids=tag_token_ids, start_adapter=start),
                          self.rows, silent)

    def step(self, batch: Sequence[int], **stored: Any) -> tuple[Any, dict[str, Any]]:
        """What a batch comes to, and its gradients, which are forgotten."""
        numbers = self.backend.accumulate(StepWork(self.rows, batch, self.objective, stored))
        gradients = {name: np.array(value) for name, value in self.backend.stepper.gradients.items()}
        self.backend.discard()
        return numbers, gradients


def worst(found: dict[str, Any], wanted: dict[str, Any]) -> float:
    assert set(found) == set(wanted)
    return max(float(np.linalg.norm(found[name] - wanted[name]) / np.linalg.norm(wanted[name])) for name in wanted)


@pytest.mark.parametrize("tags", [(), TAGS], ids=["untied", "tags"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_has_the_gradient_that_it_has_in_torch(name: str, tags: tuple[int, ...],
                                                               tmp_path: Path) -> None:
    from tests.trainers.test_torch_lora import Loaded

    rows = random_pairs(4, shortest=8, longest=40)
    if -1 not in OBJECTIVES[name].signs:
        rows = [row | {"sign": 1, "group": ""} for row in rows]
    for row in rows if tags else ():
        row["input_ids"][3], row["input_ids"][-2] = tags
    student = tiny_model(tmp_path / "student", hidden=32, tied=bool(tags))
    mine = LoadedInMlx(student, rows, OBJECTIVES[name], tags)
    mine.backend.stepper.head.chunk_rows = 7
    theirs = Loaded(student, rows, OBJECTIVES[name], True, tags, tmp_path / "start")
    stored = {}
    if OBJECTIVES[name].stored:
        from localdistill.trainers._columns import StoredColumn

        values = mine.backend.logprobs(range(len(rows)))
        stored["reference"] = StoredColumn([own + 0.3 * np.cos(np.arange(len(own)))[:, None] for own in values])
    numbers, gradients = mine.step(range(len(rows)), **stored)
    wanted, by_torch = theirs.step(range(len(rows)), **stored)
    assert numbers.loss == pytest.approx(wanted.loss, rel=1e-5)
    assert worst(gradients, {key: value.numpy() for key, value in by_torch.items()}) < 1e-4


@pytest.mark.parametrize("objective", [SftObjective(), DpoObjective()], ids=lambda one: one.name)
def test_packed_rows_come_to_what_they_come_to_alone(objective: Any, tmp_path: Path) -> None:
    rows = random_pairs(4, 6, 60) if -1 in objective.signs else random_rows(8, 6, 60)
    made = LoadedInMlx(tiny_model(tmp_path / "student", "qwen3", hidden=32, head_dim=24), rows, objective)
    values = made.backend.logprobs(range(8))
    alone = [made.backend.logprobs([row])[0] for row in range(8)]
    assert max(float(np.abs(one - other).max()) for one, other in zip(values, alone, strict=True)) < 1e-5
    from localdistill.trainers._columns import StoredColumn

    stored = {"reference": StoredColumn(values)} if objective.stored else {}
    whole, gradients = made.step(range(8), **stored)
    made.backend.stepper.micro_tokens = 1
    parts, others = made.step(range(8), **stored)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5) and worst(others, gradients) < 1e-4


def test_attention_of_the_library_is_as_before_after_a_step(tmp_path: Path) -> None:
    from mlx_lm.models import llama

    before = llama.scaled_dot_product_attention
    made = LoadedInMlx(tiny_model(tmp_path / "student", hidden=32), random_rows(3))
    made.step([0, 1])
    assert llama.scaled_dot_product_attention is before


def test_a_training_that_was_killed_goes_on_bit_for_bit(student: Path, tmp_path: Path) -> None:
    """With dropout, clipping, moments and a reference: everything that the next step depends on."""
    script = f"""
import os, signal
from pathlib import Path
from localdistill.core.events import Cancel, Measured
from localdistill.objectives.dpo import DpoObjective
from tests.trainers.rows import job, random_pairs
from tests.trainers.test_mlx_lora import trainer
def emit(event):
    if isinstance(event, Measured) and event.name == "checkpoint" and event.step == 8:
        os.kill(os.getpid(), signal.SIGKILL)
given = job(Path({str(student)!r}), Path({str(tmp_path / "b")!r}), random_pairs(10), objective=DpoObjective())
trainer(epochs=3, dropout=0.1, micro_tokens=30, checkpoint_every_steps=4).train(given, emit, Cancel())
"""
    options = {"epochs": 3, "dropout": 0.1, "micro_tokens": 30, "checkpoint_every_steps": 4}
    straight = run(student, tmp_path / "a", random_pairs(10), objective=DpoObjective(), options=options)
    killed = subprocess.run([sys.executable, "-c", script], timeout=250, cwd=Path(__file__).parents[2])
    assert killed.returncode == -9 and len(straight) == 15
    after = run(student, tmp_path / "b", random_pairs(10), objective=DpoObjective(), options=options)
    assert after == straight[8:]
    weights = [(tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


def test_memory_that_runs_out_changes_no_step(student: Path, tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    from localdistill.trainers.mlx import steps

    straight = run(student, tmp_path / "a", random_rows(8), options={"epochs": 1, "dropout": 0.1, "micro_tokens": 1})
    forward, failed = steps.MlxStepper.forward, []

    def fails(self: Any, piece: Sequence[int], learns: bool) -> Any:
        if len(piece) > 1:
            failed.append(len(piece))
            raise RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory")
        return forward(self, piece, learns)

    monkeypatch.setattr(steps.MlxStepper, "forward", fails)
    events: list[Event] = []
    trainer(epochs=1, dropout=0.1).train(job(student, tmp_path / "b", random_rows(8)), events.append, Cancel())
    assert failed and losses(events) == pytest.approx(straight, abs=1e-6)
    assert any("micro-batches now hold" in event.text for event in events if isinstance(event, Warned))


def test_development_items_are_answered_and_change_nothing(student: Path, tmp_path: Path) -> None:
    seen: list[Any] = []

    def score(replies: Sequence[Any]) -> dict[str, float]:
        seen.append([reply.raw for reply in replies])
        return {"score": 0.0, "answered": float(len(replies))}

    requests = [Request(f"d{n}", (Message("user", text),), Sampling(max_tokens=6, temperature=0.7))
                for n, text in enumerate(("12 - 5", "how many apples?"))]
    plain = run(student, tmp_path / "a", random_rows(8), options={"epochs": 2, "dropout": 0.1})
    events: list[Event] = []
    given = job(student, tmp_path / "b", random_rows(8), dev_items=DevItems(requests, score, 2))
    trainer(epochs=2, dropout=0.1).train(given, events.append, Cancel())
    assert losses(events) == plain and len(seen) == 2 and len(seen[0]) == 2
    assert [event.step for event in events if isinstance(event, Measured) and event.name == "dev answered"] == [2, 4]


def test_the_adapter_is_one_of_peft_and_says_nothing_of_this_machine(student: Path, tmp_path: Path) -> None:
    import peft
    import transformers

    run(student, tmp_path, random_rows(6), options={"epochs": 1})
    model = peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(student),
                                           tmp_path / "adapter")
    assert sum("lora_A" in name for name, _ in model.named_parameters()) == 14
    config = (tmp_path / "adapter" / "adapter_config.json").read_text()
    assert str(student) not in config and str(tmp_path) not in config
    report = json.loads((tmp_path / "training.json").read_text())
    assert report["trainer"] == "mlx_lora" and report["base"] == {"quantization": "none", "dtype": "float32"}


@pytest.mark.parametrize(("name", "key", "value"), [
    ("theta", "rope_theta", 10_000.0), ("llama3", "rope_scaling", {"type": "default"}),
    ("qwen3", "rms_norm_eps", 1e-2), ("mistral", "rope_theta", 9_000.0),
])
def test_a_student_that_mlx_computes_in_another_way_is_refused_at_load(
        name: str, key: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from localdistill.modelfiles.mlx_checking import require_same_logits

    arch, settings = STUDENTS[name]
    folder = ModelFolder.open(tiny_model(tmp_path / "student", arch, hidden=64, seed=7, **settings))
    require_same_logits(folder)
    kind = ARCHITECTURES[folder.architecture]
    mapped = type(kind).mlx_config
    monkeypatch.setattr(type(kind), "mlx_config", lambda self, config: mapped(self, config) | {key: value})
    from localdistill.modelfiles import mlx_checking

    mlx_checking._difference.cache_clear()
    with pytest.raises(ModelFileError, match="in another way than transformers"):
        require_same_logits(folder)
    mlx_checking._difference.cache_clear()


def test_what_cannot_be_trained_is_said_before_anything_runs(tmp_path: Path) -> None:
    windowed = tiny_model(tmp_path / "mistral", "mistral", hidden=32, sliding_window=64)
    trainer().check(windowed, 64, MAC)
    with pytest.raises(ModelFileError, match="look back through a window of 64"):
        trainer().check(windowed, 65, MAC)
    with pytest.raises(ModelFileError, match="rope type 'dynamic'"):
        trainer().check(tiny_model(tmp_path / "dynamic", hidden=32, rope_parameters={
            "rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}), 64, MAC)
    narrow = tiny_model(tmp_path / "narrow", hidden=48)
    trainer().check(narrow, 64, MAC)
    with pytest.raises(ModelFileError, match="cannot be held in 4 or 8 bits"):
        trainer(quantization="4bit").check(narrow, 64, MAC)


def test_a_missing_package_is_named_with_its_extra(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    from localdistill.core.errors import MissingExtra

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "mlx" else find(name, *more))
    with pytest.raises(MissingExtra, match="mlx"):
        trainer().check(student, 64, MAC)
    assert replace(MAC, chip=None).chip is None


@pytest.mark.parametrize(("tied", "tags", "holding"), [(True, (), "none"), (True, TAGS, "none"), (False, TAGS, "none"),
                                                       (True, TAGS, "4bit")])
def test_the_loader_of_mlx_lm_opens_the_adapter_that_lies_beside(tied: bool, tags: tuple[int, ...], holding: str,
                                                                 tmp_path: Path) -> None:
    """The same logits, trained rows of tags included, over the same weights."""
    from mlx_lm.utils import load_adapters

    from localdistill.modelfiles.adapter import AdapterFolder
    from localdistill.modelfiles.mlx_adapter import attach_adapter
    from localdistill.modelfiles.mlx_models import load_mlx_model

    student = tiny_model(tmp_path / "student", hidden=64, tied=tied)
    rows = random_rows(6)
    for row in rows if tags else ():
        row["input_ids"][3], row["input_ids"][-2] = tags
    made = trainer(quantization=holding, learning_rate=2e-2, epochs=2)
    made.train(job(student, tmp_path / "out", rows, tag_token_ids=tags), silent, Cancel())
    folder, ids = ModelFolder.open(student), mx.array([[5, 9, 398, 17, 399, 2, 81]])
    ours, theirs, plain = (load_mlx_model(folder, "float32", holding) for _ in range(3))
    attach_adapter(ours, AdapterFolder.open(tmp_path / "out" / "adapter", folder))
    load_adapters(theirs, str(tmp_path / "out" / "adapter_mlx"))
    wanted, found, before = (np.array(model(ids)) for model in (ours, theirs, plain))
    assert float(np.abs(wanted - found).max()) < 1e-4 < float(np.abs(wanted - before).max())
    config = json.loads((tmp_path / "out" / "adapter_mlx" / "adapter_config.json").read_text())
    assert config.get("localdistill_fitted_to", "") == ("mlx-4bit-g64" if holding == "4bit" else "")


def test_more_trained_rows_than_mlx_lm_has_room_for_are_said(student: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    made = trainer(rank=1, max_steps=1)
    made.train(job(student, tmp_path, random_rows(4), tag_token_ids=TAGS), events.append, Cancel())
    assert any("no adapter was written for mlx-lm" in event.text for event in events if isinstance(event, Warned))
    assert not (tmp_path / "adapter_mlx").exists() and (tmp_path / "adapter").is_dir()


def test_a_checkpoint_of_torch_is_not_gone_on_with_and_that_is_said(student: Path, tmp_path: Path) -> None:
    from localdistill.trainers.torch_lora import TorchLoraTrainer

    seen: list[Event] = []
    torch_trainer = TorchLoraTrainer(TorchLoraTrainer.Options(rank=4, alpha=8, batch_rows=4, checkpoint_every_s=0))
    with contextlib.suppress(Cancelled):
        torch_trainer.train(job(student, tmp_path, random_rows(16)), seen.append,
                            Cancel(lambda: len(losses(seen)) >= 2))
    events: list[Event] = []
    trainer(max_steps=3).train(job(student, tmp_path, random_rows(16)), events.append, Cancel())
    assert len(losses(events)) == 3
    assert any("begins anew: 1 checkpoints of it were made by another" in event.text for event in events
               if isinstance(event, Warned))


@pytest.mark.slow
def test_trainings_that_are_killed_at_random_go_on_bit_for_bit(student: Path, tmp_path: Path) -> None:
    """Killed again and again, wherever it happens to be; what comes out is what a training in one go comes to."""
    options = {"epochs": 3, "dropout": 0.1, "micro_tokens": 30, "checkpoint_every_steps": 1}
    run(student, tmp_path / "a", random_pairs(10), objective=DpoObjective(), options=options)
    script = f"""
import os, signal, sys
from pathlib import Path
from localdistill.core.events import Cancel, silent
from localdistill.objectives.dpo import DpoObjective
from localdistill.trainers.mlx import steps
from tests.trainers.rows import job, random_pairs
from tests.trainers.test_mlx_lora import trainer
left, forward = int(sys.argv[1]), steps.MlxStepper.forward
def counted(*given, **more):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return forward(*given, **more)
steps.MlxStepper.forward = counted
given = job(Path({str(student)!r}), Path({str(tmp_path / "b")!r}), random_pairs(10), objective=DpoObjective())
trainer(**{options!r}).train(given, silent, Cancel())
"""
    chance, kills = random.Random(11), 0
    while not (tmp_path / "b" / "training.json").exists():
        passes = str(chance.randrange(5, 25) if kills < 6 else 0)
        ended = subprocess.run([sys.executable, "-c", script, passes], cwd=Path(__file__).parents[2], timeout=300)
        assert ended.returncode in (0, -9)
        kills += ended.returncode == -9
    assert kills >= 3
    weights = [(tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


# ---- quantized bases


@pytest.mark.parametrize("holding", ["4bit", "8bit"])
def test_a_base_that_was_quantized_before_is_the_one_that_is_quantized_at_load(holding: Any, tmp_path: Path) -> None:
    from mlx.utils import tree_flatten

    from localdistill.modelfiles.mlx_models import load_mlx_model

    student = tiny_model(tmp_path / "student", rope_theta=5e5)
    made, folder = trainer(quantization=holding), ModelFolder.open(student)
    (tmp_path / "held").mkdir()
    made.hold_base(student, tmp_path / "held", silent, Cancel())
    kept, anew = load_held(folder, holding, "float32", tmp_path / "held"), load_mlx_model(folder, "float32", holding)
    one, other = (dict(tree_flatten(model.parameters())) for model in (kept, anew))
    assert set(one) == set(other) and all(bool(mx.array_equal(one[name], other[name])) for name in one)
    assert made.held_base(student)["group_size"] == 64 and made.held_base(student)["bits"] == int(holding[0])
    seen = [run(student, tmp_path / str(held), random_rows(6), options={"quantization": holding, "max_steps": 3},
                held=held) for held in (None, tmp_path / "held")]
    assert seen[0] == seen[1] and len(seen[0]) == 3


def test_a_base_of_another_student_or_kind_is_refused_and_none_is_kept_without_need(student: Path,
                                                                                    tmp_path: Path) -> None:
    (tmp_path / "held").mkdir()
    made = trainer(quantization="4bit")
    made.hold_base(student, tmp_path / "held", silent, Cancel())
    other = ModelFolder.open(tiny_model(tmp_path / "other", hidden=32, seed=9))
    for folder, holding, dtype in ((other, "4bit", "float32"), (ModelFolder.open(student), "8bit", "float32"),
                                   (ModelFolder.open(student), "4bit", "bfloat16")):
        with pytest.raises(ModelFileError, match="holds another student, or this one in another way"):
            load_held(folder, holding, dtype, tmp_path / "held")  # type: ignore[arg-type]
    with pytest.raises(ModelFileError, match="holds no student in few bits"):
        load_held(other, "4bit", "float32", tmp_path)
    assert trainer().held_base(student) == {}
    told = made.served(student, None, tmp_path / "held").places
    assert told["held"] == str(tmp_path / "held") and "held" not in trainer().served(student, None, tmp_path).places


@pytest.mark.parametrize("holding", ["4bit", "8bit"])
def test_a_quantized_base_trains_merges_and_is_the_same_model_afterwards(holding: str, tmp_path: Path) -> None:
    """The merged folder, by transformers, against the trained model, by MLX: the same probabilities."""
    from localdistill.modelfiles.adapter import AdapterFolder
    from localdistill.modelfiles.loading import load_causal_model
    from localdistill.modelfiles.mlx_adapter import attach_adapter
    from localdistill.modelfiles.mlx_models import load_mlx_model

    student = tiny_model(tmp_path / "student", rope_theta=5e5)
    made = trainer(quantization=holding, learning_rate=2e-2, epochs=4)
    seen: list[Event] = []
    made.train(job(student, tmp_path / "out", random_rows(12)), seen.append, Cancel())
    assert losses(seen)[-1] < losses(seen)[0]
    made.merge(student, tmp_path / "out", tmp_path / "merged", silent, Cancel())
    folder, ids = ModelFolder.open(student), [5, 9, 300, 17, 44, 2, 81]
    trained = load_mlx_model(folder, "float32", holding)
    attach_adapter(trained, AdapterFolder.open(tmp_path / "out" / "adapter", folder))
    one = torch.from_numpy(np.array(trained(mx.array([ids]))[0])).log_softmax(-1)
    model = load_causal_model(ModelFolder.open(tmp_path / "merged"), torch.float32, torch.device("cpu"))
    stored = load_causal_model(folder, torch.float32, torch.device("cpu"))
    with torch.inference_mode():
        other, plain = (each(torch.tensor([ids])).logits[0].log_softmax(-1) for each in (model, stored))
    divergence = [float((one.exp() * (one - each)).sum(-1).mean()) for each in (other, plain)]
    assert divergence[0] < 1e-6 < divergence[1]
    report = json.loads((tmp_path / "out" / "training.json").read_text())
    assert report["base"]["quantization"] == f"mlx-{holding}-g64"


def test_an_adapter_of_quantized_weights_belongs_to_no_others(student: Path, tmp_path: Path) -> None:
    from localdistill.engines.mlx import MlxEngine
    from localdistill.engines.transformers import TransformersEngine
    from localdistill.trainers.merge import merge

    made = trainer(quantization="4bit", max_steps=2)
    made.train(job(student, tmp_path / "out", random_rows(4)), silent, Cancel())
    adapter = tmp_path / "out" / "adapter"
    with pytest.raises(ModelFileError, match="fitted to weights held as mlx-4bit-g32, not to those that are stored"):
        merge(student, adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    asked = [Request("r", (Message("user", "x"),), Sampling(max_tokens=3))]
    for engine in (TransformersEngine(TransformersEngine.Options(model=str(student), adapter=str(adapter))),
                   MlxEngine(MlxEngine.Options(model=str(student), adapter=str(adapter), quantization="8bit"))):
        with pytest.raises(ModelFileError, match="fitted to weights held as mlx-4bit-g32"):
            list(engine.answer(asked, silent, Cancel()))
    served = made.served(student, tmp_path / "out")
    assert served.options == {"quantization": "4bit", "dtype": "float32"} == made.served(student, None).options
    engine = MlxEngine(MlxEngine.Options(**(dict(served.options) | dict(served.places))))
    assert [reply.status for reply in engine.answer(asked, silent, Cancel())] != ["error"]
    assert "+mlx-4bit-g32" in engine.identity()


def test_the_trained_tokens_are_as_likely_to_mlx_as_the_gate_is_told(student: Path, tmp_path: Path) -> None:
    from localdistill.modelfiles.trained import TrainedRow
    from localdistill.trainers.torch_lora import TorchLoraTrainer

    rows = random_rows(4)
    trainer(max_steps=4).train(job(student, tmp_path, rows), silent, Cancel())
    told = [TrainedRow(tuple(row["input_ids"]), tuple(row["weights"])) for row in rows]
    ours = trainer().logprobs(student, tmp_path, told, Cancel())
    theirs = TorchLoraTrainer().logprobs(student, tmp_path, told, Cancel())
    assert max(float(np.abs(one - other).max()) for one, other in zip(ours, theirs, strict=True)) < 1e-5


@pytest.mark.parametrize("holding", ["none", "4bit"])
def test_few_weights_are_in_memory_while_the_gate_is_told_and_it_is_told_what_the_whole_model_says(
        holding: Any, tmp_path: Path) -> None:
    from localdistill.modelfiles.adapter import AdapterFolder
    from localdistill.modelfiles.mlx_adapter import attach_adapter
    from localdistill.modelfiles.mlx_models import load_mlx_model
    from localdistill.modelfiles.trained import TrainedRow, logprobs_of

    student, rows = tiny_model(tmp_path / "student", hidden=256, layers=12, tied=False), random_rows(3)
    learner = trainer(max_steps=1, quantization=holding)
    learner.train(job(student, tmp_path / "out", rows), silent, Cancel())
    told = [TrainedRow(tuple(row["input_ids"]), tuple(row["weights"])) for row in rows]
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    found = learner.logprobs(student, tmp_path / "out", told, Cancel())
    peak = mx.get_peak_memory() - before
    folder = ModelFolder.open(student)
    assert peak < folder.parameter_count * 4 / 3
    model = load_mlx_model(folder, "float32", holding)
    attach_adapter(model, AdapterFolder.open(tmp_path / "out" / "adapter", folder))
    for row, one in zip(told, found, strict=True):
        logits = np.array(model(mx.array([row.ids]))[0])
        assert one == pytest.approx(logprobs_of(row, logits.__getitem__, 1 << 20), abs=1e-5)


def test_a_recipe_that_names_no_trainer_takes_mlx_on_apple_silicon_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import platform

    from localdistill import parse_recipe

    shipped = (Path(__file__).parents[2] / "recipes" / "pantry.toml").read_text()
    text = shipped.replace('use = "torch_lora"', 'use = "auto"')
    def taken(recipe: str) -> str:
        section = parse_recipe(recipe).train
        assert section is not None
        return section.use

    assert taken(text) == taken(text.replace('use = "auto"\n', "")) == "torch_lora"
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert taken(text) == taken(text.replace('use = "auto"\n', "")) == "mlx_lora"
    assert taken(shipped) == "torch_lora"
