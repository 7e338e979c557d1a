"""Development items in one training: they end it, they choose its weights, a training that was broken off anywhere
comes to the same, and nothing of it exists where there are none."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localdistill.core.errors import Cancelled, LocalDistillError
from localdistill.core.events import Cancel, Event, Measured, Noted, Warned
from localdistill.core.records import Message, Reply, Request, Sampling
from localdistill.trainers._options import LoopOptions
from localdistill.trainers.job import DevItems
from localdistill.trainers.loop import run_training
from localdistill.trainers.report import TrainingResult
from tests.trainers.rows import job, random_rows
from tests.widening.bag_of_tokens import MatrixBackend

pytest.importorskip("transformers")
SCORES = {2: 0.3, 4: 0.6, 6: 0.6, 8: 0.5, 10: 0.7, 12: 0.1, 14: 0.2, 16: 0.4}
"""Step -> what the items score there."""


def items(scores: Mapping[int, float] = SCORES, patience: int = 0, keeps_best: bool = False) -> DevItems:
    asked = [Request(f"q{number}", (Message("user", "?"),)) for number in range(3)]

    def score(replies: Sequence[Reply]) -> dict[str, float]:
        assert [reply.request_id for reply in replies] == ["q0", "q1", "q2"]
        return {"score": scores[int(replies[0].answer)]}

    return DevItems(asked, score, 2, patience, keeps_best, 3)


def train(student: Path, folder: Path, dev: DevItems | None, backend: MatrixBackend | None = None,
          events: list[Event] | None = None, cancel: Cancel | None = None) -> TrainingResult:
    """Sixteen steps of the toy."""
    told = LoopOptions.model_validate({"learning_rate": 5.0, "batch_rows": 4, "checkpoint_every_s": 0,
                                       "checkpoint_every_steps": 3, "epochs": 4})
    given = job(student, folder, random_rows(16), dev_items=dev)
    return run_training("toy", told, given, backend or MatrixBackend(), (events if events is not None else []).append,
                        cancel or Cancel())


def weights(folder: Path) -> bytes:
    return np.load(folder / "adapter" / "matrix.npy").tobytes()


class Remembering(MatrixBackend):
    """Knows its weights at every measurement."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, bytes] = {}

    def generate(self, requests: Iterable[Request], cancel: Cancel) -> Iterator[Reply]:
        self.seen[self.applied] = self.weights.tobytes()
        yield from super().generate(requests, cancel)


def test_a_training_ends_after_so_many_measurements_without_a_better_score(student: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    backend = Remembering()
    result = train(student, tmp_path, items(patience=2), backend, events)
    assert result.steps == 8 and not result.stopped_early, "the rule of all arms is no reason to leave one out"
    assert result.dev is not None and result.dev.ended and result.dev.points == ((2, 0.3), (4, 0.6), (6, 0.6), (8, 0.5))
    assert weights(tmp_path) == backend.seen[8], "the last weights come out where nothing else is said"
    assert any("ended at step 8: 2 measurements without a better development score" in event.text
               for event in events if isinstance(event, Noted))
    assert result.dev.told() == "step 8, development score 50.0 %, ended after 2 measurements without a better one"


@pytest.mark.parametrize(("patience", "last", "kept"), [(0, 16, 10), (2, 8, 4)])
def test_the_best_weights_come_out_the_earliest_of_several(patience: int, last: int, kept: int, student: Path,
                                                          tmp_path: Path) -> None:
    backend = Remembering()
    result = train(student, tmp_path, items(patience=patience, keeps_best=True), backend)
    assert result.dev is not None and (result.dev.last_step, result.dev.kept_step) == (last, kept) == (last,
                                                                                                     result.steps)
    assert weights(tmp_path) == backend.seen[kept] != backend.seen[last]
    straight: list[Event] = []
    train(student, tmp_path / "b", None, events=straight)
    told = [event.value for event in straight if isinstance(event, Measured) and event.name == "loss"]
    assert result.final_loss == told[kept - 1], "loss, steps and tokens are those of the weights that came out"
    assert not (tmp_path / "checkpoints").exists()


class Breaking(MatrixBackend):
    """Asks to cancel at the so-manieth call that computes or answers."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left, self.cancel = at, Cancel(lambda: self.left <= 0)

    def apply(self, rate: float, max_norm: float) -> float:
        self.left -= 1
        return super().apply(rate, max_norm)

    def generate(self, requests: Iterable[Request], cancel: Cancel) -> Iterator[Reply]:
        self.left -= 1
        yield from super().generate(requests, cancel)


@pytest.mark.parametrize(("patience", "keeps_best"), [(0, True), (2, True), (3, False)])
def test_a_training_that_was_broken_off_anywhere_comes_to_the_same(patience: int, keeps_best: bool, student: Path,
                                                                  tmp_path: Path) -> None:
    dev = items(patience=patience, keeps_best=keeps_best)
    straight = train(student, tmp_path / "straight", dev)
    broken = 0
    for at in range(1, 25, 3):
        folder, breaking = tmp_path / str(at), Breaking(at)
        with contextlib.suppress(Cancelled):
            train(student, folder, dev, breaking, cancel=breaking.cancel)
        broken += not (folder / "adapter").exists()
        again = train(student, folder, dev)
        assert again.dev is not None and straight.dev is not None
        assert (again.steps, again.final_loss, again.trained_tokens, again.dev.points, again.dev.kept_step) == (
            straight.steps, straight.final_loss, straight.trained_tokens, straight.dev.points, straight.dev.kept_step)
        assert weights(folder) == weights(tmp_path / "straight"), f"broken off at {at}"
    assert broken >= 3


def test_a_training_whose_best_weights_are_gone_begins_anew(student: Path, tmp_path: Path) -> None:
    dev, breaking = items(keeps_best=True), Breaking(20)
    with pytest.raises(Cancelled):
        train(student, tmp_path, dev, breaking, cancel=breaking.cancel)
    shutil.rmtree(tmp_path / "checkpoints" / "best")
    events: list[Event] = []
    result = train(student, tmp_path, dev, events=events)
    assert result.steps == 10 and any("begins anew: the weights with its best development score are gone" in event.text
                                      for event in events if isinstance(event, Warned))
    assert next(event.step for event in events if isinstance(event, Measured) and event.name == "loss") == 1


def test_another_rule_is_another_training_and_without_items_nothing_changes(student: Path, tmp_path: Path) -> None:
    breaking = Breaking(9)
    with pytest.raises(Cancelled):
        train(student, tmp_path, items(patience=3), breaking, cancel=breaking.cancel)
    events: list[Event] = []
    assert train(student, tmp_path, None, events=events).dev is None
    assert any("begins anew" in event.text for event in events if isinstance(event, Warned))
    train(student, tmp_path / "b", None)
    assert weights(tmp_path) == weights(tmp_path / "b")


@pytest.mark.parametrize("name", ["torch_lora", "mlx_lora"])
def test_the_best_weights_come_out_of_every_backend(name: str, student: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    from localdistill.trainers import TRAINERS

    pytest.importorskip({"torch_lora": "torch", "mlx_lora": "mlx.core"}[name])
    cls: Any = TRAINERS.load(name)
    asked = [Request(f"q{number}", (Message("user", text),), Sampling(max_tokens=4))
             for number, text in enumerate(("12 - 5", "how many apples are left?"))]
    order: list[int] = []

    def score(replies: Sequence[Reply]) -> dict[str, float]:
        order.append(len(replies))
        return {"score": [0.2, 0.9, 0.4, 0.1][len(order) - 1]}

    def run(folder: Path, steps: int, dev: DevItems | None) -> dict[str, Any]:
        options = cls.Options.model_validate({"rank": 4, "batch_rows": 4, "dropout": 0.1, "schedule": "constant",
                                              "warmup_share": 0.0, "max_steps": steps, "learning_rate": 1e-2,
                                              **({"device": "cpu"} if name == "torch_lora" else {})})
        cls(options).train(job(student, folder, random_rows(16), dev_items=dev), [].append, Cancel())
        return dict(load_file(folder / "adapter" / "adapter_model.safetensors"))

    best = run(tmp_path / "best", 4, DevItems(asked, score, 1, keeps_best=True, count=2))
    assert order == [2, 2, 2, 2]
    second = run(tmp_path / "second", 2, None)
    assert best.keys() == second.keys() and all((best[key] == second[key]).all() for key in best)


def test_answers_that_do_not_fit_are_asked_for_in_halves(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from localdistill.modelfiles.folder import ModelFolder
    from localdistill.modelfiles.loading import load_causal_model
    from localdistill.trainers.torch.generating import answers

    folder = ModelFolder.open(student)
    model = load_causal_model(folder, torch.float32, torch.device("cpu"))
    requests = [Request(f"q{number}", (Message("user", f"12 - {number}"),), Sampling(max_tokens=4))
                for number in range(5)]

    def texts() -> dict[str, str]:
        return {one.request_id: one.raw for one in answers(model, folder, requests, Cancel())}

    plain, forward, room = texts(), type(model).forward, [2]

    def held(model: Any, *args: Any, **inputs: Any) -> Any:
        if len(inputs["input_ids"]) > room[0]:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        return forward(model, *args, **inputs)

    monkeypatch.setattr(type(model), "forward", held)
    assert texts() == plain and len(plain) == 5
    room[0] = 0
    with pytest.raises(LocalDistillError, match="a development item does not fit into memory") as told:
        list(answers(model, folder, requests, Cancel()))
    assert "train.dev.max_tokens" in told.value.hint
