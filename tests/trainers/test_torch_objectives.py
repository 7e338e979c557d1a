"""Every objective on torch: the gradient is that of full logits, groups are whole however small the pieces, references
are those of step 0, and a training goes on as if it had never stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localdistill.core.errors import Cancelled, InputError, UsageError
from localdistill.core.events import Cancel, Event, Measured, silent
from localdistill.core.losses import ListedLogprobs, Loss, Pseudo, Shape, Slope, Unit
from localdistill.objectives.dpo import DpoObjective
from localdistill.objectives.redi import RediObjective
from localdistill.objectives.sft import SftObjective
from localdistill.objectives.shapes import Plain
from localdistill.trainers._columns import StoredColumn, load_column
from tests.tiny_models import tiny_model
from tests.trainers.rows import job, random_pairs, random_rows, table
from tests.trainers.test_torch_lora import Loaded, losses, trainer

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
TAGS = (398, 399)


class EveryToken(Plain):
    """A loss that uses all that a head can be asked for, in any shape: -w (log p + log tail / 2 + mean / 4), and with
    `shape` "position" or "batch" the square of it."""

    Options = SftObjective.Options
    name, version = "every_token", 1

    def __init__(self, shape: Shape) -> None:
        self.shape: Any = shape
        self.options = self.Options()

    unit: Unit = "row"  # type: ignore[assignment]
    pseudo: frozenset[Pseudo] = frozenset({"tail", "mean"})  # type: ignore[assignment]

    @classmethod
    def samples(cls) -> Sequence[Any]:
        return ()

    def known(self, batch: ListedLogprobs) -> Slope | None:
        w = -batch.weight * batch.row_weight[batch.row]
        return Slope(w[:, None], w / 2, w / 4) if self.shape == "constant" else None

    def loss(self, batch: ListedLogprobs) -> Loss:
        assert batch.tail is not None and batch.mean is not None
        w = batch.weight * batch.row_weight[batch.row]
        inner = -(batch.logprobs[:, 0] + batch.tail / 2 + batch.mean / 4)
        if (known := self.known(batch)) is not None:
            return Loss(float((w * inner).sum()), known)
        slope = -2 * w * inner
        return Loss(float((w * inner**2).sum()), Slope(slope[:, None], slope / 2, slope / 4))


def by_autograd(made: Loaded, batch: Sequence[int], reference: StoredColumn | None) -> tuple[float, dict[str, Any]]:
    """The loss of `batch` and its gradients, from full logits of every row by itself, by torch alone."""
    total, sums = torch.zeros((), dtype=torch.float64), {}
    objective: Any = made.objective
    for row in batch:
        ids = torch.from_numpy(made.rows.ids[made.rows.starts[row]:made.rows.starts[row + 1]].astype(np.int64))
        places = torch.from_numpy(made.rows.trained(row))
        logprobs = torch.log_softmax(made.backend.model(ids[None]).logits[0].double(), dim=-1)[places - 1]
        own = logprobs.gather(1, ids[places, None])[:, 0]
        weight = torch.from_numpy(made.rows.weights[made.rows.starts[row]:][places.numpy()].astype(np.float64))
        if isinstance(objective, SftObjective):
            share = objective.options.label_smoothing
            total = total - (weight * ((1 - share) * own + share * logprobs.mean(1))).sum()
        elif isinstance(objective, EveryToken):
            tail = torch.log1p(-own.exp())
            inner = own + tail / 2 + logprobs.mean(1) / 4
            total = total + (weight * (-inner if objective.shape == "constant" else inner**2)).sum()
        else:
            before = 0 if reference is None else torch.from_numpy(reference.of([row])[:, 0])
            sums[row] = ((weight * own).sum(), float(weight.sum()), (weight * (own - before)).sum())
    for right, wrong in zip(*([row for row in sums if made.rows.signs[row] == sign] for sign in (1, -1)), strict=True):
        if isinstance(objective, RediObjective):
            total = total - sums[right][0] / sums[right][1] + 0.8 * sums[wrong][0] / sums[wrong][1]
        else:
            total = total - torch.nn.functional.logsigmoid(0.1 * (sums[right][2] - sums[wrong][2]))
    loss = total / made.rows.units(batch, objective.unit)
    loss.backward()
    gradients = {name: value.grad.clone() for name, value in made.trained.items()}
    made.backend.discard()
    return loss.item(), gradients


OBJECTIVES: dict[str, Any] = {
    "sft": SftObjective(), "smoothed": SftObjective(SftObjective.Options(label_smoothing=0.2)), "redi": RediObjective(),
    "dpo": DpoObjective(), "constant": EveryToken("constant"), "position": EveryToken("position"),
    "batch": EveryToken("batch"),
}


def made_for(objective: Any, folder: Path, tags: tuple[int, ...] = (), **options: Any) -> Loaded:
    rows = random_pairs(5, shortest=8, longest=40)
    if -1 not in objective.signs:
        rows = [row | {"sign": 1, "group": ""} for row in rows]
    rows[0]["weights"] = [0.5 * weight for weight in rows[0]["weights"]]
    for row in rows if tags else ():
        row["input_ids"][3], row["input_ids"][-2] = tags
    student = tiny_model(folder, "llama", hidden=32, tied=bool(tags))
    return Loaded(student, rows, objective, tag_token_ids=tags, **options)


def stored_for(made: Loaded) -> dict[str, StoredColumn]:
    """A reference that is not the policy: its log-probabilities, each moved a little."""
    if not made.objective.stored:
        return {}
    values = made.backend.logprobs(range(len(made.rows)))
    return {"reference": StoredColumn([own + 0.3 * np.cos(np.arange(len(own)))[:, None] for own in values])}


def worst(found: dict[str, Any], wanted: dict[str, Any]) -> float:
    """The largest difference of two gradients, relative to the length of each tensor's."""
    return max(float((found[name] - wanted[name]).norm() / wanted[name].norm()) for name in wanted)


@pytest.mark.parametrize("tags", [(), TAGS], ids=["untied", "tags"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_gradient_is_that_of_full_logits(name: str, tags: tuple[int, ...], tmp_path: Path) -> None:
    made = made_for(OBJECTIVES[name], tmp_path / "student", tags)
    made.backend.stepper.head.chunk_rows = 7
    stored = stored_for(made)
    wanted, by_hand = by_autograd(made, range(10), stored.get("reference"))
    numbers, gradients = made.step(range(10), **stored)
    assert numbers.loss == pytest.approx(wanted, rel=1e-5)
    assert worst(gradients, by_hand) < 1e-5
    assert numbers.trained_tokens == sum(len(made.rows.trained(row)) for row in range(10))


@pytest.mark.parametrize("micro_tokens", [10, 90])
@pytest.mark.parametrize("name", ["redi", "dpo", "batch"])
def test_groups_larger_than_a_piece_come_to_the_same(name: str, micro_tokens: int, tmp_path: Path) -> None:
    made = made_for(OBJECTIVES[name], tmp_path / "student")
    stored = stored_for(made)
    whole, gradients = made.step(range(10), **stored)
    made.backend.stepper.micro_tokens = micro_tokens
    portions = made.backend.stepper.portions(made.work(range(10)))
    assert any(portion.is_split for portion in portions) is (name != "batch" and micro_tokens == 10)
    parts, others = made.step(range(10), **stored)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5) and worst(others, gradients) < 1e-5
    assert parts.metrics == {key: (pytest.approx(total, rel=1e-4, abs=1e-4), count)
                             for key, (total, count) in whole.metrics.items()}


def test_a_group_in_pieces_drops_out_the_same_twice(tmp_path: Path) -> None:
    """Values and gradient of one step must be of one network: with other dropout in between, the loss of the second
    pass would not be the one that was followed."""
    made = made_for(DpoObjective(), tmp_path / "student", dropout=0.5, micro_tokens=10)
    stored = stored_for(made)
    seen: list[Any] = []
    values, pull = made.backend.stepper.head.values, made.backend.stepper.head.pull
    made.backend.stepper.head.values = lambda *given: seen.append(values(*given)) or seen[-1]  # type: ignore[method-assign]
    made.backend.stepper.head.pull = lambda *given: (found := pull(*given), seen.append(found[0]))[0]  # type: ignore[method-assign]
    made.step([0, 1], **stored)
    first, second = (torch.cat([one.logprobs for one in part]) for part in (seen[:2], seen[2:]))
    assert len(seen) == 4 and torch.equal(first, second)
    made.step([0, 1], **stored)
    assert not torch.equal(first, torch.cat([one.logprobs for one in seen[4:6]]))


@pytest.mark.parametrize("name", ["dpo", "redi"])
def test_pairs_are_learned(name: str, student: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    trainer(epochs=8, rank=8, learning_rate=1e-2).train(
        job(student, tmp_path, random_pairs(8), objective=type(OBJECTIVES[name])()), events.append, Cancel())
    seen = losses(events)
    assert seen[-1] < seen[0] and all(np.isfinite(seen))
    if name == "dpo":
        assert seen[0] == pytest.approx(np.log(2), abs=1e-5), "the policy of step 0 is its own reference"
        margins = [event.value for event in events if isinstance(event, Measured) and event.name == "margin"]
        assert margins[0] == pytest.approx(0, abs=1e-4) and margins[-1] > 0.1


def test_a_preference_training_that_stopped_goes_on_bit_for_bit(student: Path, tmp_path: Path) -> None:
    def run(folder: Path, cancel: Cancel = Cancel(), **options: Any) -> list[float]:  # noqa: B008
        events: list[Event] = []
        given = job(student, folder, random_pairs(12), objective=DpoObjective())
        with contextlib.suppress(Cancelled):
            trainer(epochs=4, dropout=0.1, micro_tokens=30, **options).train(given, events.append, cancel)
        return losses(events)

    straight = run(tmp_path / "a")
    stop = Cancel(lambda: (tmp_path / "b" / "checkpoints" / "step-00000010").is_dir())
    before = run(tmp_path / "b", stop, checkpoint_every_steps=10)
    assert len(straight) == 24 and len(before) == 10
    kept = (tmp_path / "b" / "checkpoints" / "reference.npy").read_bytes()
    after = run(tmp_path / "b", checkpoint_every_steps=10)
    assert before + after == straight
    weights = [(tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1] and kept


def test_a_reference_is_read_by_the_training_that_made_it_alone(student: Path, tmp_path: Path) -> None:
    from localdistill.trainers._rows import read_rows

    rows = read_rows(table(random_pairs(3)))
    values = [np.full((len(rows.trained(row)), 1), row, np.float32) for row in range(6)]
    StoredColumn(values).save(tmp_path, "reference", "this")
    found = load_column(tmp_path, "reference", "this", rows)
    assert found is not None and found.of([4, 1]).tolist() == [*values[4].tolist(), *values[1].tolist()]
    assert load_column(tmp_path, "reference", "another", rows) is None
    assert load_column(tmp_path, "reference", "this", read_rows(table(random_pairs(2)))) is None
    file = tmp_path / "reference.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    assert load_column(tmp_path, "reference", "this", rows) is None


def test_a_reference_that_is_gone_is_made_again_from_the_weights_of_step_0(student: Path, tmp_path: Path) -> None:
    def go(folder: Path, stop_after: int) -> list[float]:
        events: list[Event] = []
        cancel = Cancel(lambda: len(losses(events)) >= stop_after)
        given = job(student, folder, random_pairs(8), objective=DpoObjective())
        with contextlib.suppress(Cancelled):
            trainer(epochs=4).train(given, events.append, cancel)
        return losses(events)

    straight = go(tmp_path / "a", 99)
    before = go(tmp_path / "b", 6)
    (tmp_path / "b" / "checkpoints" / "reference.npy").unlink()
    assert before + go(tmp_path / "b", 99) == straight


def test_rows_that_an_objective_cannot_take_are_refused(student: Path, tmp_path: Path) -> None:
    alone = [row | {"group": ""} for row in random_pairs(2)]
    with pytest.raises(InputError, match="row0: the objective dpo takes one right and one wrong answer"):
        trainer().train(job(student, tmp_path, alone, objective=DpoObjective()), silent, Cancel())
    with pytest.raises(InputError, match="row1: the objective sft takes no wrong answers"):
        trainer().train(job(student, tmp_path, alone), silent, Cancel())


# ---- starting from another arm


def trained(student: Path, folder: Path, **changes: Any) -> tuple[Path, list[float]]:
    options = {"rank": 4, "epochs": 2, **changes.pop("options", {})}
    events: list[Event] = []
    rows = changes.pop("rows", random_rows(12))
    trainer(**options).train(job(student, folder, rows, **changes), events.append, Cancel())
    return folder / "adapter", losses(events)


def test_a_training_starts_from_the_weights_of_another(student: Path, tmp_path: Path) -> None:
    first, seen = trained(student, tmp_path / "a")
    made = Loaded(student, random_rows(12), start_adapter=first, keeps=True)
    from safetensors.torch import load_file

    tensors = load_file(first / "adapter_model.safetensors")
    assert {name: torch.equal(made.trained[name], tensor) for name, tensor in tensors.items()} == dict.fromkeys(
        tensors, True)
    _, again = trained(student, tmp_path / "b", start_adapter=first)
    assert again[0] < seen[0] - 0.01
    second, _ = trained(student, tmp_path / "c", rows=random_pairs(4), objective=DpoObjective(), start_adapter=first)
    assert (second / "adapter_model.safetensors").is_file()


def test_trained_rows_of_tags_go_along(tmp_path: Path) -> None:
    student = tiny_model(tmp_path / "student", hidden=32)
    rows = random_rows(8, always=TAGS)
    first, _ = trained(student, tmp_path / "a", rows=rows, tag_token_ids=TAGS)
    made = Loaded(student, rows, start_adapter=first, keeps=True)
    assert made.backend.tags == list(TAGS)
    from localdistill.modelfiles.adapter import AdapterFolder
    from localdistill.modelfiles.folder import ModelFolder

    own = made.trained["base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"]
    theirs = AdapterFolder.open(first, ModelFolder.open(student)).rows("model.embed_tokens")
    assert theirs is not None and torch.equal(own, theirs)


@pytest.mark.parametrize(("options", "said"), [
    ({"rank": 8, "alpha": 16}, "has rank 4, this training 8"), ({"alpha": 4}, "counts 2 times"),
    ({"targets": "q_proj"}, "changes 14 layers, this training 2"),
])
def test_an_adapter_of_another_shape_is_no_start(student: Path, tmp_path: Path, options: dict[str, Any],
                                                 said: str) -> None:
    first, _ = trained(student, tmp_path / "a", options={"max_steps": 1})
    with pytest.raises(UsageError, match=said):
        trained(student, tmp_path / "b", options=options, start_adapter=first)
