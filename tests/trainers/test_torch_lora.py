"""What the trainer promises: rows are checked, nothing depends on batching, it learns, resumes, and stops in time."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from localdistill.core.errors import Cancelled, InputError, LocalDistillError
from localdistill.core.events import Cancel, Event, Measured, Warned, silent
from localdistill.core.losses import ListedLogprobs, Loss, Slope
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.loading import load_causal_model
from localdistill.objectives.sft import SftObjective
from localdistill.safety.children import child_environment
from localdistill.trainers.backend import StepNumbers, StepWork
from localdistill.trainers.torch_lora import TorchLoraTrainer
from tests.tiny_models import tiny_model
from tests.trainers.rows import STOP, job, random_rows

torch = pytest.importorskip("torch")
torch.set_num_threads(1)


def trainer(**options: Any) -> TorchLoraTrainer:
    values = {"dtype": "float32", "rank": 4, "alpha": 8, "learning_rate": 5e-3, "batch_rows": 4, "device": "cpu",
              "checkpoint_every_s": 0}
    return TorchLoraTrainer(TorchLoraTrainer.Options(**(values | options)))


def losses(events: list[Event]) -> list[float]:
    return [event.value for event in events if isinstance(event, Measured) and event.name == "loss"]


class Loaded:
    """The torch backend with rows, between steps: adapters that are not zero, and gradients to look at."""

    def __init__(self, student: Path, rows: list[dict[str, Any]], objective: Any = None, keeps: bool = False,
                 tag_token_ids: tuple[int, ...] = (), start_adapter: Path | None = None, **options: Any) -> None:
        from localdistill.trainers._rows import read_rows
        from localdistill.trainers.torch.backend import TorchBackend
        from tests.trainers.rows import table

        self.rows, self.objective = read_rows(table(rows)), objective or SftObjective()
        self.backend = TorchBackend(trainer(**{"micro_tokens": 10_000, **options}).options)
        self.backend.load(job(student, Path(), rows, seed=0, tag_token_ids=tag_token_ids, start_adapter=start_adapter),
                          self.rows, silent)
        self.trained = self.backend.trained
        if keeps:
            return
        with torch.no_grad():
            for name, value in self.trained.items():
                if "lora_B" in name:
                    value.normal_(0, 0.1, generator=torch.Generator().manual_seed(len(name)))

    def work(self, batch: Sequence[int], **stored: Any) -> StepWork:
        return StepWork(self.rows, batch, self.objective, stored)

    def step(self, batch: Sequence[int], **stored: Any) -> tuple[StepNumbers, dict[str, Any]]:
        """What a batch comes to, and its gradients, which are forgotten."""
        numbers = self.backend.accumulate(self.work(batch, **stored))
        gradients = {name: value.grad.clone() for name, value in self.trained.items()}
        self.backend.discard()
        return numbers, gradients


def test_it_learns_sixteen_rows_by_heart_and_reports(tmp_path: Path) -> None:
    events: list[Event] = []
    student = tiny_model(tmp_path / "student")
    result = trainer(epochs=120, rank=32, alpha=32, batch_rows=8, learning_rate=1e-2).train(
        job(student, tmp_path, random_rows(16, longest=16)), events.append, Cancel())
    seen = losses(events)
    assert result.steps == 240 == len(seen)
    assert seen[0] > 5 and result.final_loss < 0.2 * seen[0]
    assert result.epochs == 120 and not result.stopped_early
    assert result.trained_tokens == 120 * sum(
        sum(weight > 0 for weight in row["weights"]) for row in random_rows(16, longest=16))
    names = {event.name for event in events if isinstance(event, Measured)}
    assert names >= {"loss", "learning_rate", "tokens_per_s", "probe_peak_bytes"}
    report = json.loads((tmp_path / "training.json").read_text())
    assert report["result"]["steps"] == 240 and report["options"]["rank"] == 32
    assert not (tmp_path / "checkpoints").exists()
    config = (tmp_path / "adapter" / "adapter_config.json").read_text()
    assert str(tmp_path) not in config and str(student) not in config


@pytest.mark.parametrize("arch", ["llama", "qwen2", "qwen3"])
def test_the_loss_of_a_row_is_the_same_alone_and_among_others(tmp_path: Path, arch: str) -> None:
    rows = random_rows(9, shortest=5, longest=60)
    made = Loaded(tiny_model(tmp_path / arch, arch, hidden=32), rows)
    alone = sum(made.step([row])[0].loss * sum(rows[row]["weights"]) for row in range(9))
    whole, gradients = made.step(range(9))
    assert whole.loss * sum(sum(row["weights"]) for row in rows) == pytest.approx(alone, rel=1e-5)
    assert whole.tokens == sum(len(row["input_ids"]) for row in rows)
    made.backend.stepper.micro_tokens = 60
    for name, value in made.step(range(9))[1].items():
        assert torch.allclose(value, gradients[name], atol=1e-6, rtol=1e-4), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("arch", "drops"), [
    ("qwen2", {"attention_dropout": 0.3}), ("phi3", {"resid_pdrop": 0.3, "embd_pdrop": 0.3, "attention_dropout": 0.3})])
def test_nothing_but_the_adapter_drops_at_random_whatever_the_student_says(
        tmp_path: Path, arch: str, drops: dict[str, float], dtype: str) -> None:
    rows = random_rows(5, 5, 60)
    plain, dropping = (Loaded(tiny_model(tmp_path / name, arch, **own), rows, dtype=dtype).step(range(5))[0].loss
                       for name, own in (("plain", {}), ("dropping", drops)))
    assert dropping == plain


@pytest.mark.parametrize(("change", "said"), [
    ({"weights": [1.0, 1.0, 1.0, 1.0]}, "nothing comes before it"),
    ({"weights": [0.0, 0.0, 0.0, 0.0]}, "no token is trained"),
    ({"weights": [0.0, 1.0, 1.0, 0.0]}, "stop token 2 is not trained"),
    ({"weights": [0.0, 1.0, 1.0]}, "differ in length"),
    ({"weights": [0.0, math.nan, 1.0, 1.0]}, "finite"),
    ({"input_ids": [5, 6, 999, 2]}, "outside the vocabulary"),
    ({"input_ids": [5] * 599 + [2], "weights": [0.0] + [1.0] * 599}, "context of 512"),
])
def test_a_row_that_teaches_the_wrong_thing_is_named(student: Path, tmp_path: Path, change: dict[str, Any],
                                                     said: str) -> None:
    bad = {"row_id": "the-bad-one", "input_ids": [5, 6, 7, STOP], "weights": [0.0, 1.0, 1.0, 1.0], "sign": 1,
           "group": ""}
    with pytest.raises(InputError, match="the-bad-one.*" + said):
        trainer().train(job(student, tmp_path, [*random_rows(2), bad | change]), silent, Cancel())


def test_an_empty_dataset_and_an_unknown_layer_are_refused(student: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rows"):
        trainer().train(job(student, tmp_path, []), silent, Cancel())
    with pytest.raises(ValidationError, match="no layers named 'nonsense'"):
        trainer(targets="nonsense")


KILLED = """
import os, signal, sys
from pathlib import Path
from localdistill.core.events import Cancel, Measured
from tests.trainers.rows import job, random_rows
from tests.trainers.test_torch_lora import trainer
import torch
torch.set_num_threads(1)

def emit(event):
    if isinstance(event, Measured) and event.name == "loss":
        print(event.step, event.value.hex(), flush=True)
        if event.step == 23:
            os.kill(os.getpid(), signal.SIGKILL)

trainer(epochs=4, dropout=0.1, checkpoint_every_steps=10).train(
    job(Path(sys.argv[1]), Path(sys.argv[2]), random_rows(40)), emit, Cancel())
"""


def test_a_killed_training_resumes_to_the_same_losses(student: Path, tmp_path: Path) -> None:
    straight: list[Event] = []
    trainer(epochs=4, dropout=0.1).train(job(student, tmp_path / "a", random_rows(40)), straight.append, Cancel())
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", KILLED, str(student), str(tmp_path / "b")], cwd=root, check=False,
                          capture_output=True, text=True, env=child_environment())
    assert done.returncode == -9, done.stderr
    before = [float.fromhex(line.split()[1]) for line in done.stdout.splitlines()]
    newest = tmp_path / "b" / "checkpoints" / "step-00000020"
    damaged = tmp_path / "b" / "checkpoints" / "step-00000030"
    damaged.mkdir()
    (damaged / "manifest.json").write_text('{"step": 30, "files": {"tensors.safetensors": "00"}}')
    assert newest.is_dir() and len(before) == 23
    resumed: list[Event] = []
    result = trainer(epochs=4, dropout=0.1, checkpoint_every_steps=10).train(
        job(student, tmp_path / "b", random_rows(40)), resumed.append, Cancel())
    assert result.steps == 40
    assert before[:20] + losses(resumed) == pytest.approx(losses(straight), abs=1e-6)
    assert len(losses(resumed)) == 20
    assert [e.step for e in resumed if isinstance(e, Measured) and e.name == "checkpoint"] == [30]
    weights = [(tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


def test_a_checkpoint_with_one_flipped_byte_is_passed_over(tmp_path: Path) -> None:
    from localdistill.trainers._checkpoints import find_checkpoint, save_checkpoint

    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, {"fingerprint": "f"}, lambda folder: folder.joinpath("x").write_text("weights"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
    file = tmp_path / "step-00000003" / "backend" / "x"
    file.write_text("weighty")
    found = find_checkpoint(tmp_path, "f").newest
    assert found is not None and found.step == 2 and (found.folder / "x").read_text() == "weights"
    other = find_checkpoint(tmp_path, "another training")
    assert other.newest is None and other.of_others == 1


def test_a_cancelled_training_leaves_a_checkpoint_and_another_dataset_does_not_use_it(student: Path,
                                                                                     tmp_path: Path) -> None:
    seen: list[Event] = []
    with pytest.raises(Cancelled):
        trainer().train(job(student, tmp_path, random_rows(16)), seen.append, Cancel(lambda: len(losses(seen)) >= 3))
    assert (tmp_path / "checkpoints" / "step-00000003" / "manifest.json").is_file()
    other: list[Event] = []
    trainer(epochs=1).train(job(student, tmp_path, random_rows(16, seed=9)), other.append, Cancel())
    assert len(losses(other)) == 4
    assert any(isinstance(event, Warned) and "begins anew" in event.text for event in other)


def test_a_checkpoint_of_an_earlier_version_is_said_and_left_alone(student: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    old = tmp_path / "checkpoints" / "step-00000007"
    old.mkdir(parents=True)
    save_file({"trained.x": torch.zeros(2), "rng.cpu": torch.get_rng_state()}, old / "tensors.safetensors")
    (old / "state.json").write_text(json.dumps({"fingerprint": "b2:old", "tokens": 9, "micro_tokens": 4096}))
    digests = {name: hashlib.sha256((old / name).read_bytes()).hexdigest()
               for name in ("tensors.safetensors", "state.json")}
    (old / "manifest.json").write_text(json.dumps({"step": 7, "files": digests}))
    events: list[Event] = []
    assert trainer(epochs=1).train(job(student, tmp_path, random_rows(8)), events.append, Cancel()).steps == 2
    assert any(isinstance(event, Warned) and "another version" in event.text for event in events)


class NanObjective(SftObjective):
    """Cross entropy that breaks at a point of the training."""

    def __init__(self, at: float) -> None:
        super().__init__()
        self.at = at

    def loss(self, batch: ListedLogprobs) -> Loss:
        found = super().loss(batch)
        return replace(found, total=math.nan) if batch.progress >= self.at else found


class SteepObjective(SftObjective):
    """Cross entropy whose slope breaks at a point of the training, and not its figure."""

    def known(self, batch: ListedLogprobs) -> Slope:
        return Slope(super().known(batch).by_logprob * (math.inf if batch.progress >= 0.2 else 1.0))

    def loss(self, batch: ListedLogprobs) -> Loss:
        return replace(super().loss(batch), total=1.0)


@pytest.mark.parametrize(("objective", "what"), [(NanObjective(0.2), "loss"), (SteepObjective(), "gradient")])
def test_what_is_not_finite_stops_and_keeps_the_last_good_weights(
    student: Path, tmp_path: Path, objective: SftObjective, what: str
) -> None:
    from safetensors.torch import load_file

    events: list[Event] = []
    result = trainer().train(job(student, tmp_path, random_rows(32), objective=objective), events.append, Cancel())
    assert result.steps == 4 and f"the {what} was not finite at step 5" in result.stopped_early
    assert any(isinstance(event, Warned) and "stopped" in event.text for event in events)
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())


def test_what_is_not_finite_from_the_start_is_an_error(student: Path, tmp_path: Path) -> None:
    with pytest.raises(LocalDistillError, match="step 1"):
        trainer().train(job(student, tmp_path, random_rows(32), objective=NanObjective(0.0)), silent, Cancel())


class HungryObjective(SftObjective):
    """Runs out of memory whenever more than `most` trained positions come at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def known(self, batch: ListedLogprobs) -> Slope:
        if len(batch.row) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return super().known(batch)


def test_running_out_of_memory_halves_the_micro_batch_and_changes_no_step(student: Path, tmp_path: Path) -> None:
    plain: list[Event] = []
    trainer(batch_rows=8).train(job(student, tmp_path / "a", random_rows(16)), plain.append, Cancel())
    hungry: list[Event] = []
    trainer(batch_rows=8).train(job(student, tmp_path / "b", random_rows(16), objective=HungryObjective(30)),
                                hungry.append, Cancel())
    assert any(isinstance(event, Warned) and "memory" in event.text for event in hungry)
    assert losses(hungry) == pytest.approx(losses(plain), rel=1e-4)
    with pytest.raises(LocalDistillError, match="single row"):
        trainer().train(job(student, tmp_path / "c", random_rows(4), objective=HungryObjective(1)), silent, Cancel())


def test_the_same_seed_trains_the_same_adapter_and_another_seed_another(student: Path, tmp_path: Path) -> None:
    written = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        trainer(epochs=1, dropout=0.1).train(job(student, tmp_path / name, random_rows(12), seed=seed), silent,
                                             Cancel())
        written.append((tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes())
    assert written[0] == written[1] != written[2]


def test_every_row_is_seen_once_per_epoch_in_steps_of_equal_number(tmp_path: Path) -> None:
    from localdistill.trainers._batches import epoch_batches, micro_batches

    lengths = [5 + (row * 37) % 101 for row in range(200)]
    for epoch in range(3):
        batches = epoch_batches(lengths, 16, 0, seed=4, epoch=epoch)
        assert sorted(row for batch in batches for row in batch) == list(range(200)) and len(batches) == 13
        padded = sum(len(portion.rows) * max(lengths[row] for row in portion.rows)
                     for batch in batches for portion in micro_batches(batch, lengths, 4096))
        assert padded < 1.1 * sum(lengths)
    assert epoch_batches(lengths, 16, 0, 4, 0) == epoch_batches(lengths, 16, 0, 4, 0)
    assert epoch_batches(lengths, 16, 0, 4, 0) != epoch_batches(lengths, 16, 0, 4, 1)
    by_tokens = epoch_batches(lengths, 16, 300, seed=4, epoch=0)
    assert all(sum(lengths[row] for row in batch) <= 300 for batch in by_tokens)
    assert all(sum(lengths[row] for row in portion.rows) <= 200
               for batch in by_tokens for portion in micro_batches(batch, lengths, 200))


def test_bfloat16_and_recomputed_activations_learn_too(student: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    result = trainer(dtype="bfloat16", gradient_checkpointing=True, epochs=20, rank=16, alpha=32).train(
        job(student, tmp_path, random_rows(8, longest=12)), events.append, Cancel())
    assert result.final_loss < 0.8 * losses(events)[0]


def test_nf4_trains_on_a_cpu(student: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    folder = tiny_model(tmp_path / "student", hidden=64)
    events: list[Event] = []
    result = trainer(quantization="nf4", epochs=10).train(
        job(folder, tmp_path / "out", random_rows(8, longest=12)), events.append, Cancel())
    assert result.steps == 20 and result.final_loss < losses(events)[0]


def test_nf4_weights_compute_alike_on_every_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a CPU multiplies in bfloat16 the library computes other figures in evaluation, and not for all widths."""
    library = pytest.importorskip("bitsandbytes").nn.modules
    folder = ModelFolder.open(tiny_model(tmp_path / "student", hidden=48))
    found = []
    for multiplies in (False, True):
        monkeypatch.setattr(library, "has_avx512bf16", lambda multiplies=multiplies: multiplies)
        model = load_causal_model(folder, torch.float32, torch.device("cpu"), "nf4")
        with torch.no_grad():
            found.append(model(torch.tensor([[5, 17, 42, 7]])).logits)
    assert torch.equal(*found)
