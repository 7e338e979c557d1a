"""The loop over the smallest backend: what it promises whatever computes, and that it needs no torch."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.errors import Cancelled, InputError, LocalDistillError
from localdistill.core.events import Cancel, Event, Measured, Noted, Warned
from localdistill.core.losses import ListedLogprobs, Loss
from localdistill.core.records import Message, Reply, Request
from localdistill.objectives.dpo import DpoObjective
from localdistill.objectives.redi import RediObjective
from localdistill.objectives.sft import SftObjective
from localdistill.trainers._deaths import needs_less
from localdistill.trainers._options import LoopOptions
from localdistill.trainers.job import DevItems
from localdistill.trainers.loop import run_training
from localdistill.trainers.report import TrainingReport, TrainingResult
from tests.trainers.rows import job, random_pairs, random_rows
from tests.widening.bag_of_tokens import MatrixBackend

pytest.importorskip("transformers")


def train(student: Path, folder: Path, events: list[Event] | None = None, backend: MatrixBackend | None = None,
          cancel: Cancel | None = None, rows: list[dict[str, Any]] | None = None, options: Mapping[str, Any] = {},
          **changes: Any) -> TrainingResult:
    """A training of the toy."""
    told = LoopOptions.model_validate({"learning_rate": 5.0, "batch_rows": 4, "checkpoint_every_s": 0, **options})
    given = job(student, folder, rows or random_rows(16), **changes)
    return run_training("toy", told, given, backend or MatrixBackend(), (events if events is not None else []).append,
                        cancel or Cancel())


def measured(events: list[Event], name: str = "loss") -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events if isinstance(event, Measured) and event.name == name]


@pytest.mark.parametrize("objective", [SftObjective, RediObjective, DpoObjective])
def test_the_toy_learns(objective: Any, student: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    rows = random_rows(16) if objective is SftObjective else random_pairs(8)
    result = train(student, tmp_path, events, rows=rows, objective=objective(), options={"epochs": 20})
    seen = [value for _, value in measured(events)]
    assert result.steps == 80 == len(seen) and seen[-1] < seen[0] - 0.03
    report = TrainingReport.from_bytes((tmp_path / "training.json").read_bytes(), "the report")
    assert (report.trainer, report.objective, report.result) == ("toy", objective.name, result)
    assert (tmp_path / "adapter" / "matrix.npy").is_file() and not (tmp_path / "checkpoints").exists()


def test_the_job_says_how_many_epochs_when_it_does(student: Path, tmp_path: Path) -> None:
    assert train(student, tmp_path, epochs=1.5, options={"epochs": 7}).steps == 6
    report = TrainingReport.from_bytes((tmp_path / "training.json").read_bytes(), "the report")
    assert report.options["epochs"] == 1.5


def test_development_items_are_answered_between_steps_and_change_nothing(student: Path, tmp_path: Path) -> None:
    asked = [Request(f"q{number}", (Message("user", "?"),)) for number in range(3)]

    def score(replies: Sequence[Reply]) -> dict[str, float]:
        assert [reply.request_id for reply in replies] == ["q0", "q1", "q2"]
        return {"score": sum(float(reply.answer) for reply in replies) / 3, "answered": len(replies)}

    events: list[Event] = []
    plain: list[Event] = []
    train(student, tmp_path / "a", plain)
    train(student, tmp_path / "b", events, dev_items=DevItems(asked, score, every_steps=3))
    assert measured(events, "dev score") == [(3, 3.0), (6, 6.0), (8, 8.0)]
    assert measured(events, "dev answered") == [(3, 3.0), (6, 3.0), (8, 3.0)]
    assert measured(events) == measured(plain)


def test_memory_that_runs_out_makes_the_backend_give_way_and_changes_no_step(student: Path, tmp_path: Path) -> None:
    plain: list[Event] = []
    events: list[Event] = []
    train(student, tmp_path / "a", plain)
    train(student, tmp_path / "b", events, MatrixBackend(room=2))
    said = [event.text for event in events if isinstance(event, Warned)]
    assert said == [f"memory ran out; {count} groups at once" for count in (8, 4, 2)]
    assert [value for _, value in measured(events)] == pytest.approx([value for _, value in measured(plain)], rel=1e-5)
    with pytest.raises(LocalDistillError, match=r"single row does not fit into memory \(the matrix is full\)") as told:
        train(student, tmp_path / "c", [], MatrixBackend(room=0))
    assert ("fewer bits" in str(told.value.hint)) is (MatrixBackend().held.quantization == "none")
    assert "fewer bits" not in needs_less("nf4") and "fewer bits" in needs_less("none")


class Counting(SftObjective):
    """Remembers how many losses it gave, and makes the next ones larger by it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0.0

    def loss(self, batch: ListedLogprobs) -> Loss:
        self.count += 1
        found = super().loss(batch)
        return Loss(found.total * (1 + self.count), found.slope)

    def state(self) -> dict[str, float]:
        return {"count": self.count}

    def restore(self, state: Mapping[str, float]) -> None:
        self.count = state["count"]


def test_a_step_that_saw_one_side_says_nothing_of_the_other(student: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    train(student, tmp_path, events, objective=RediObjective())
    assert measured(events, "logprob_right") and not measured(events, "logprob_wrong")


@pytest.mark.parametrize("room", [10**6, 2])
def test_what_an_objective_remembers_survives_checkpoints_and_tries_again(
    room: int, student: Path, tmp_path: Path
) -> None:
    straight: list[Event] = []
    train(student, tmp_path / "a", straight, objective=Counting(), options={"epochs": 4})
    before: list[Event] = []
    after: list[Event] = []
    with contextlib.suppress(Cancelled):
        train(student, tmp_path / "b", before, MatrixBackend(), Cancel(lambda: len(measured(before)) == 6),
              objective=Counting(), options={"epochs": 4})
    train(student, tmp_path / "b", after, objective=Counting(), options={"epochs": 4})
    assert measured(before) + measured(after) == measured(straight) and len(measured(after)) == 10
    assert any(isinstance(event, Noted) and "resumed after step 6 of 16" in event.text for event in after)
    tight = Counting()
    train(student, tmp_path / "c", [], MatrixBackend(room), objective=tight, options={"max_steps": 2})
    assert tight.count == (2 if room > 4 else 4), "a try that ran out of memory does not count"


def test_a_column_that_nobody_can_make_is_refused(student: Path, tmp_path: Path) -> None:
    class Distilled(SftObjective):
        stored = ("teacher",)  # type: ignore[assignment]

    with pytest.raises(InputError, match="needs a column 'teacher', which the dataset lacks"):
        train(student, tmp_path, objective=Distilled())


WITHOUT_TORCH = """
import sys
for name in ("torch", "transformers", "safetensors.torch", "mlx", "peft"):
    sys.modules[name] = None
from pathlib import Path
from localdistill.core.events import Cancel, silent
from localdistill.trainers._options import LoopOptions
from localdistill.trainers.loop import run_training
from tests.trainers.rows import job, random_rows
from tests.widening.bag_of_tokens import MatrixBackend
options = LoopOptions(checkpoint_every_steps=2)
print(run_training("toy", options, job(Path(sys.argv[1]), Path(sys.argv[2]), random_rows(40)), MatrixBackend(), silent,
                   Cancel()).steps)
"""


def test_the_loop_needs_no_torch(student: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, str(student), str(tmp_path)], capture_output=True,
                          text=True, check=False, cwd=Path(__file__).resolve().parents[2])
    assert done.stdout.strip() == "6", done.stderr
