"""An objective is told the log-probabilities of tokens that the dataset lists beside the row's own, and what a teacher
gave them: in every shape the gradient is that of full logits, on torch and on MLX."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localdistill.core.errors import InputError
from localdistill.core.losses import ListedLogprobs, Loss, Pseudo, Shape, Slope, Unit
from localdistill.objectives.sft import SftObjective
from localdistill.objectives.shapes import Plain
from localdistill.trainers._columns import StoredColumn
from localdistill.trainers._rows import Dataset, check_rows, read_rows
from tests.tiny_models import tiny_model
from tests.trainers.rows import random_rows, table, taught

CHUNK = 7


class Taught(Plain):
    """Cross entropy against a teacher's listed tokens and the rest of its mass: -w sum q log p; with `shape` "position"
    or "batch" the square of it."""

    Options = SftObjective.Options
    name, version = "taught", 1
    unit: Unit = "weight"  # type: ignore[assignment]
    pseudo: frozenset[Pseudo] = frozenset({"tail"})  # type: ignore[assignment]
    stored = ("teacher",)  # type: ignore[assignment]

    def __init__(self, shape: Shape) -> None:
        self.shape: Any = shape
        self.options = self.Options()

    @classmethod
    def samples(cls) -> Sequence[Any]:
        return ()

    def pulls(self, batch: ListedLogprobs) -> tuple[Any, Any]:
        listed = np.exp(batch.stored["teacher"].astype(np.float64))
        share = listed / np.maximum(1.0, listed.sum(1, keepdims=True) / 0.9)
        w = batch.weight * batch.row_weight[batch.row]
        return w[:, None] * share, w * (1 - share.sum(1))

    def known(self, batch: ListedLogprobs) -> Slope | None:
        if self.shape != "constant":
            return None
        by_listed, by_tail = self.pulls(batch)
        return Slope(-by_listed, -by_tail)

    def loss(self, batch: ListedLogprobs) -> Loss:
        assert batch.tail is not None and batch.logprobs.shape == batch.stored["teacher"].shape
        by_listed, by_tail = self.pulls(batch)
        at = -(by_listed * batch.logprobs).sum(1) - by_tail * batch.tail
        if self.shape == "constant":
            return Loss(float(at.sum()), Slope(-by_listed, -by_tail))
        return Loss(float((at**2).sum()), Slope(-2 * at[:, None] * by_listed, -2 * at * by_tail))


SHAPES: tuple[Shape, ...] = ("constant", "position", "batch")


def told_by(rows: Dataset) -> StoredColumn:
    """What the teacher says of the listed tokens of every row."""
    return StoredColumn([rows.column("teacher", row) for row in range(len(rows))])


def taught_rows() -> list[dict[str, Any]]:
    return taught(random_rows(6, shortest=8, longest=30))


@pytest.mark.parametrize("micro_tokens", [25, 10_000])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_is_that_of_full_logits(shape: Shape, micro_tokens: int, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from tests.trainers.test_torch_lora import Loaded
    from tests.trainers.test_torch_objectives import worst

    objective: Any = Taught(shape)
    made = Loaded(tiny_model(tmp_path / "student", "llama", hidden=32), taught_rows(), objective,
                  micro_tokens=micro_tokens)
    made.backend.stepper.head.chunk_rows = CHUNK
    total = torch.zeros((), dtype=torch.float64)
    batch = range(len(made.rows))
    for row in batch:
        ids = torch.from_numpy(made.rows.ids[made.rows.starts[row]:made.rows.starts[row + 1]].astype(np.int64))
        places = torch.from_numpy(made.rows.trained(row))
        logprobs = torch.log_softmax(made.backend.model(ids[None]).logits[0].double(), dim=-1)[places - 1]
        tokens = torch.from_numpy(made.rows.listed_tokens([row]).astype(np.int64))
        assert torch.equal(tokens[:, 0], ids[places]) and tokens.shape[1] == 3
        listed = logprobs.gather(1, tokens)
        told = made.rows.listed([row], np.zeros(tokens.shape), stored={"teacher": made.rows.column("teacher", row)})
        by_listed, by_tail = (torch.from_numpy(values) for values in objective.pulls(told))
        at = -(by_listed * listed).sum(1) - by_tail * torch.log1p(-listed.exp().sum(1))
        total = total + (at if shape == "constant" else at**2).sum()
    loss = total / made.rows.units(batch, "weight")
    loss.backward()
    by_hand = {name: value.grad.clone() for name, value in made.trained.items()}
    made.backend.discard()
    numbers, gradients = made.step(batch, teacher=told_by(made.rows))
    assert numbers.loss == pytest.approx(loss.item(), rel=1e-5) and worst(gradients, by_hand) < 1e-5


def test_an_objective_of_own_tokens_is_told_the_same_with_a_list_beside_them(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from tests.trainers.test_torch_lora import Loaded
    from tests.trainers.test_torch_objectives import worst

    student, rows = tiny_model(tmp_path / "student", "llama", hidden=32), random_rows(6)
    plain, beside = (Loaded(student, own, SftObjective()) for own in (rows, taught(rows)))
    (one, by_plain), (other, by_beside) = (made.step(range(6)) for made in (plain, beside))
    assert one.loss == pytest.approx(other.loss, rel=1e-6) and worst(by_beside, by_plain) < 1e-6


def test_a_training_reads_the_column_of_its_dataset_and_another_list_is_another_training(
        student: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from localdistill.core.events import Cancel, Event
    from tests.trainers.rows import job
    from tests.trainers.test_torch_lora import losses, trainer

    events: list[Event] = []
    objective: Any = Taught("position")
    trainer(epochs=6, rank=8, learning_rate=1e-2).train(
        job(student, tmp_path, taught_rows(), objective=objective), events.append, Cancel())
    seen = losses(events)
    assert seen[-1] < seen[0] and all(math.isfinite(value) for value in seen)
    one, other, plain = (read_rows(table(rows)).identity() for rows in (
        taught_rows(), taught(random_rows(6, shortest=8, longest=30), seed=1), random_rows(6, shortest=8, longest=30)))
    assert len({one, other, plain}) == 3


def change(rows: list[dict[str, Any]], name: str, work: Callable[[list[Any]], list[Any]]) -> list[dict[str, Any]]:
    return [*rows[:3], {**rows[3], name: work(list(rows[3][name]))}, *rows[4:]]


@pytest.mark.parametrize(("name", "work", "said"), [
    ("listed", lambda own: own[:-1], "row row3: listed has no 2 for each trained token"),
    ("logprobs_teacher", lambda own: [*own, -1.0], "row row3: logprobs_teacher has no 3 for each trained token"),
    ("logprobs_teacher", lambda own: [float("-inf"), *own[1:]], "row row3: a stored log-probability is not finite"),
    ("listed", lambda own: [390_000, *own[1:]], "row row3: a listed token is outside the vocabulary of 400"),
    ("listed", lambda own: [own[1], *own[1:]], "row row3: a token is listed twice at one position"),
])
def test_lists_that_do_not_fit_are_named(name: str, work: Callable[[list[Any]], list[Any]], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_rows(read_rows(table(change(taught_rows(), name, work))), 400, 2, 512, SftObjective())


def test_the_own_token_may_not_be_listed_again() -> None:
    rows = taught_rows()
    first = next(token for token, weight in zip(rows[0]["input_ids"], rows[0]["weights"]) if weight > 0)
    rows[0]["listed"][0] = first
    with pytest.raises(InputError, match="row row0: a token is listed twice"):
        check_rows(read_rows(table(rows)), 400, 2, 512, SftObjective())


@pytest.mark.parametrize("shape", SHAPES)
def test_mlx_has_the_gradient_of_torch(shape: Shape, tmp_path: Path) -> None:
    for module in ("torch", "mlx.core", "mlx_lm"):
        pytest.importorskip(module)
    from tests.trainers.test_mlx_lora import LoadedInMlx, worst
    from tests.trainers.test_torch_lora import Loaded

    student, rows = tiny_model(tmp_path / "student", "llama", hidden=32), taught_rows()
    mine = LoadedInMlx(student, rows, Taught(shape))
    mine.backend.stepper.head.chunk_rows = CHUNK
    theirs = Loaded(student, rows, Taught(shape), True, (), tmp_path / "start")
    numbers, gradients = mine.step(range(6), teacher=told_by(mine.rows))
    wanted, by_torch = theirs.step(range(6), teacher=told_by(theirs.rows))
    assert numbers.loss == pytest.approx(wanted.loss, rel=1e-5)
    assert worst(gradients, {key: value.numpy() for key, value in by_torch.items()}) < 1e-4
