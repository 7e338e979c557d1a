"""What gives way when memory runs out changes no step: every rung of the ladder, taken one after the other on a CPU as
if it were a GPU, computes what was computed before."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.borders import BORDERS
from localdistill.modelfiles.architectures import ARCHITECTURES
from localdistill.trainers.torch import layer_pass
from localdistill.trainers.torch.head import FusedHead
from localdistill.trainers.torch.host_head import HostHead
from localdistill.trainers.torch.rungs import HostEmbedding, Ladder, rungs_of
from tests.tiny_models import tiny_model, tiny_of
from tests.trainers.rows import random_rows, taught
from tests.trainers.test_torch_lora import Loaded

torch = pytest.importorskip("torch")

EQUAL = {"host_embedding", "recompute", "host_activations", "stream"}
"""Rungs after which a step is the same bit for bit."""


def ladder(made: Loaded) -> Ladder:
    """That of a GPU, over a training on the CPU."""
    backend = made.backend
    found = Ladder(rungs_of(backend.model, backend.device, True, backend.folder.tied_embeddings, lambda: "",
                            backend._use_host_head))
    backend.ladder = found
    return found


def each_rung(made: Loaded, tolerance: float) -> list[str]:
    """Take one rung after the other, a step after each; their names."""
    rungs, state = ladder(made), made.backend.stepper.random_state()
    steps = [made.step(range(6))]
    while said := rungs.down():
        made.backend.stepper.set_random_state(state)
        steps.append(made.step(range(6)))
        (expected, before), (numbers, found) = steps[-2:]
        exact = rungs.taken[-1] in EQUAL
        assert numbers.loss == expected.loss if exact else numbers.loss == pytest.approx(expected.loss, rel=tolerance)
        for name, value in found.items():
            if exact:
                assert torch.equal(value, before[name]), (said, name)
            else:
                assert float((value - before[name]).norm() / before[name].norm()) < tolerance, (said, name)
    return rungs.taken


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_no_rung_changes_a_step(tmp_path: Path, name: str) -> None:
    kind = ARCHITECTURES[name]
    made = Loaded(tiny_of(kind, tmp_path / "student"), random_rows(6, 8, 40, always=(7, 9)), dropout=0.2,
                  tag_token_ids=(7, 9))
    tied = made.backend.folder.tied_embeddings
    first = [] if tied else ["host_embedding"]
    assert each_rung(made, 1e-5) == [*first, "recompute", "host_activations", "host_head", "stream"]
    embedding = made.backend.model.model.embed_tokens
    assert isinstance(embedding.base, HostEmbedding) and isinstance(made.backend.stepper.head, HostHead)


@pytest.mark.parametrize("options", [{"dtype": "bfloat16"}, {"quantization": "nf4", "dtype": "bfloat16"}])
def test_nor_in_half_precision_and_over_quantized_weights(tmp_path: Path, options: dict[str, Any]) -> None:
    student = tiny_model(tmp_path / "student", hidden=128, tied=False)
    assert len(each_rung(Loaded(student, random_rows(6, 5, 40), **options), 2e-2)) == 5


@pytest.mark.parametrize("pseudo", [frozenset(), frozenset({"tail"}), frozenset({"tail", "mean"})])
@pytest.mark.parametrize("cap", [None, 3.0])
def test_the_head_in_slices_is_the_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pseudo: frozenset[Any],
                                        cap: float | None) -> None:
    made = Loaded(tiny_model(tmp_path / "student", tied=False), taught(random_rows(6, 5, 40), 3),
                  tag_token_ids=(7, 9, 350))
    head, draw = made.backend.model.lm_head, torch.Generator().manual_seed(1)
    hidden = torch.randn(50, 64, generator=draw)
    listed = torch.stack([torch.randperm(400, generator=draw)[:4] for _ in range(50)])
    whole = FusedHead(head, cap)
    pulls = {name: torch.randn(50, generator=draw) for name in ("tail", "mean")}
    by_listed = torch.randn(50, 4, generator=draw)

    def pulling(part: slice, values: Any) -> Any:
        return type(values)(by_listed[part], pulls["tail"][part] if "tail" in pseudo else None,
                            pulls["mean"][part] if "mean" in pseudo else None)

    values, gradient = whole.pull(hidden, listed, pseudo, pulling)
    monkeypatch.setattr(BORDERS, "head_slice_bytes", 64 * 4 * 33)
    monkeypatch.setattr(BORDERS, "head_positions", 7)
    sliced = HostHead(head, torch.device("cpu"), cap)
    assert sliced.slice_rows == 33
    found, other = sliced.pull(hidden, listed, pseudo, pulling)
    for mine, theirs in ((found.logprobs, values.logprobs), (found.tail, values.tail), (found.mean, values.mean),
                         (other.hidden, gradient.hidden), (other.tags, gradient.tags)):
        assert (mine is None) == (theirs is None)
        assert mine is None or torch.allclose(mine, theirs, atol=2e-5, rtol=1e-5)
    rows = made.trained["base_model.model.lm_head.token_adapter.trainable_tokens_delta"]
    whole.learn(hidden, gradient)
    expected, rows.grad = rows.grad.clone(), None
    sliced.learn(hidden, other)
    assert torch.allclose(rows.grad, expected, atol=1e-4)


def test_streamed_layers_are_on_the_device_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Loaded(tiny_model(tmp_path / "student", layers=6, tied=False), random_rows(6, 5, 40))
    rungs, brought, alive = ladder(made), list[Any](), list[int]()
    while rungs.down():
        pass
    weights = sum(not one.requires_grad for one in made.backend.model.model.layers[0].parameters())

    def copied(weight: Any, device: Any, pinned: bool = False) -> Any:
        found = torch.nn.Parameter(weight.detach().clone(), requires_grad=False)
        brought.append(weakref.ref(found))
        gc.collect()
        alive.append(sum(one() is not None for one in brought))
        return found

    monkeypatch.setattr(layer_pass, "_moved", copied)
    assert made.step(range(6))[0].loss > 0
    assert len(brought) == 2 * 6 * weights, "once forward and once back"
    assert max(alive) <= 2 * weights, "those of a layer are gone when those of the next but one come"


def test_an_answer_between_steps_streams_too(tmp_path: Path) -> None:
    made = Loaded(tiny_model(tmp_path / "student", tied=False), random_rows(6, 5, 40))
    before = made.backend.logprobs(range(6))
    rungs = ladder(made)
    while rungs.down():
        pass
    after = made.backend.logprobs(range(6))
    assert all(abs(one - other).max() < 1e-5 for one, other in zip(before, after, strict=True))


def test_a_checkpoint_remembers_what_gave_way(tmp_path: Path) -> None:
    student, rows = tiny_model(tmp_path / "student", tied=False), random_rows(6, 5, 40)
    made = Loaded(student, rows)
    rungs = ladder(made)
    for _ in range(3):
        rungs.down()
    made.step(range(6))
    (folder := tmp_path / "checkpoint").mkdir()
    made.backend.save(folder)
    again = Loaded(student, rows)
    ladder(again)
    again.backend.restore(folder)
    assert again.backend.ladder.taken == ["host_embedding", "recompute", "host_activations"]
    assert again.step(range(6))[0].loss == made.step(range(6))[0].loss


def test_on_a_cpu_nothing_moves_to_the_memory_that_ran_out(tmp_path: Path) -> None:
    made = Loaded(tiny_model(tmp_path / "student", tied=False), random_rows(6, 5, 40))
    while made.backend.relieve():
        pass
    assert made.backend.ladder.taken == ["recompute"]
