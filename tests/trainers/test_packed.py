"""Rows that stand in one sequence see only themselves, little is kept for the backward pass, and neither changes what a
step comes to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.borders import BORDERS
from localdistill.core.losses import ListedLogprobs, Slope
from localdistill.modelfiles.architectures import ARCHITECTURES, Architecture
from localdistill.objectives.sft import SftObjective
from tests.tiny_models import tiny_model, tiny_of
from tests.trainers.rows import random_rows
from tests.trainers.test_torch_lora import Loaded

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
ENDS = (7, 8, 40, 61)
CASES = [(None, None), (5, None), (None, 2.0), (5, 2.0)]


def parts(dtype: Any, length: int = ENDS[-1], heads: int = 4, keys: int = 2, width: int = 8) -> list[Any]:
    draws = torch.Generator().manual_seed(length)
    return [torch.randn(1, count, length, width, generator=draws, dtype=torch.float64).to(dtype).requires_grad_()
            for count in (heads, keys, keys)]


def by_mask(query: Any, key: Any, value: Any, ends: Sequence[int], window: int | None, cap: float | None) -> Any:
    """The same by one large mask: (1, T, N, D)."""
    places, groups = torch.arange(query.shape[2]), query.shape[1] // key.shape[1]
    owner = sum((places >= end).long() for end in ends)
    back = places[:, None] - places[None]
    seen = (back >= 0) & (owner[:, None] == owner[None]) & (back < (window or len(places)))
    scores = query @ key.repeat_interleave(groups, 1).transpose(2, 3) * query.shape[-1] ** -0.5
    if cap is not None:
        scores = torch.tanh(scores / cap) * cap
    shares = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    return (shares @ value.repeat_interleave(groups, 1)).transpose(1, 2)


def attended(given: list[Any], ends: Sequence[int], window: int | None = None, cap: float | None = None) -> list[Any]:
    """What comes out, and the gradients of queries, keys and values, for a gradient that differs by place."""
    from localdistill.trainers.torch.attention import packed_attention

    found, _ = packed_attention(None, *given, None, sliding_window=window, softcap=cap, ends=ends)
    above = torch.arange(float(found.numel())).view_as(found).sin().to(found)
    return [found, *torch.autograd.grad(found, given, above)]


@pytest.mark.parametrize(("window", "cap"), CASES)
@pytest.mark.parametrize("block", [256, 3])
def test_packed_attention_is_attention_under_a_mask(window: int | None, cap: float | None, block: int,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BORDERS, "attended_rows", block)
    given = parts(torch.float64)
    wanted = by_mask(*given, ENDS, window, cap)
    above = torch.arange(float(wanted.numel())).view_as(wanted).sin().to(wanted)
    for one, other in zip(attended(given, ENDS, window, cap),
                          [wanted, *torch.autograd.grad(wanted, given, above)], strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_packed_row_is_bit_for_bit_what_it_is_alone(dtype: Any) -> None:
    from localdistill.trainers.torch.attention import packed_attention

    given = parts(dtype)
    above = torch.randn(1, ENDS[-1], 4, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    packed, _ = packed_attention(None, *given, None, ends=ENDS)
    gradients = torch.autograd.grad(packed, given, above)
    for start, end in pairwise((0, *ENDS)):
        own = [part[:, :, start:end].detach().requires_grad_() for part in given]
        alone, _ = packed_attention(None, *own, None, ends=(end - start,))
        assert torch.equal(alone, packed[:, start:end])
        for one, whole in zip(torch.autograd.grad(alone, own, above[:, start:end]), gradients, strict=True):
            assert torch.equal(one, whole[:, :, start:end])


@pytest.mark.parametrize("window", [None, 5, 1000])
def test_the_kernel_for_cuda_is_asked_for_the_same(window: int | None) -> None:
    """By a kernel that does, on a CPU, what torch's documentation says of its own."""
    from localdistill.trainers.torch.attention import AttentionScope, _by_kernel

    def kernel(query: Any, key: Any, value: Any, bounds: Any, of_keys: Any, longest: int, longest_keys: int, *,
               scale: float, window_size: tuple[int, int], enable_gqa: bool) -> Any:
        assert bounds.dtype == torch.int32 and torch.equal(bounds, of_keys) and longest == longest_keys == 32
        assert window_size[1] == 0 and enable_gqa and scale == 0.5 and query.is_contiguous()
        own = None if window_size[0] < 0 else window_size[0] + 1
        back = (part.transpose(0, 1)[None] for part in (query * scale * query.shape[-1] ** 0.5, key, value))
        return by_mask(*back, bounds[1:].tolist(), own, None)[0]

    query, key, value = (part[0] for part in parts(torch.float64))
    found = _by_kernel(kernel, query, key, value, 0.5, AttentionScope(ENDS, window, None))
    wanted = by_mask(query[None] * 0.5 * 8 ** 0.5, key[None], value[None], ENDS, window, None)[0]
    assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-12)


def test_dropout_of_attention_in_a_configuration_changes_no_loss(tmp_path: Path) -> None:
    losses = []
    for name, settings in (("without", {}), ("with", {"attention_dropout": 0.5})):
        made = Loaded(tiny_model(tmp_path / name, "qwen2", **settings), random_rows(4), dtype="bfloat16")
        losses.append(made.step(range(4))[0].loss)
    assert losses[0] == losses[1]


def test_sequences_have_few_lengths_and_rows_come_to_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Loaded(tiny_model(tmp_path / "student"), random_rows(4), dtype="bfloat16")
    seen: list[tuple[int, int]] = []
    hook = made.backend.model.model.register_forward_pre_hook(
        lambda _, args, named: seen.append((named["input_ids"].shape[1], named["ends"][-1])), with_kwargs=True)
    rounded = made.backend.logprobs(range(4))
    hook.remove()
    assert seen and all(length % 32 == 0 == length - last for length, last in seen)
    assert sum(made.backend.stepper.lengths) % 32, "or nothing was added"
    monkeypatch.setattr("localdistill.trainers.torch.steps.ROUND_LENGTH", 1)
    assert all((one == other).all() for one, other in zip(rounded, made.backend.logprobs(range(4)), strict=True))


def kept_bytes(made: Loaded) -> int:
    """What one forward pass keeps for the backward pass, each storage once."""
    seen: dict[int, int] = {}

    def note(tensor: Any) -> Any:
        if not isinstance(tensor, torch.nn.Parameter):
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        held = made.backend.stepper.forward(range(len(made.rows)), learns=True)
    assert held.picked.requires_grad
    return sum(seen.values())


@pytest.mark.parametrize("kind", ARCHITECTURES.values(), ids=lambda kind: kind.model_type)
def test_keeping_little_changes_no_loss_and_no_gradient(kind: Architecture, tmp_path: Path) -> None:
    made = Loaded(tiny_of(kind, tmp_path / "student"), random_rows(5, longest=60))
    (found, gradients), few = made.step(range(5)), kept_bytes(made)
    slim = [module for module in made.backend.model.modules()
            if "forward" in vars(module) and not hasattr(module, "lora_A")]
    layers = made.backend.model.config.num_hidden_layers
    assert len(slim) >= 1 + 3 * layers, "two norms and a gated layer in each, and the last norm"
    for module in slim:
        del module.forward
    (plain, others), many = made.step(range(5)), kept_bytes(made)
    assert found.loss == plain.loss
    for name, value in others.items():
        assert float((gradients[name] - value).norm()) < 1e-5 * float(value.norm()), name
    assert few < 0.85 * many


class SteepObjective(SftObjective):
    """Cross entropy, a thousand times as steep."""

    def known(self, batch: ListedLogprobs) -> Slope:
        return Slope(super().known(batch).by_logprob * 1000.0)


def test_float16_lowers_its_scale_and_computes_the_batch_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Loaded(tiny_model(tmp_path / "student"), random_rows(8), SteepObjective(), dtype="float16", dropout=0.1)
    stepper = made.backend.stepper
    assert stepper.scale == 2.0 ** 16
    states = stepper.random_state()
    stepper.scale = 1.0
    _, wanted = made.step(range(8))
    stepper.scale = 2.0 ** 24
    stepper.set_random_state(states)
    _, found = made.step(range(8))
    assert 1.0 < stepper.scale < 2.0 ** 24
    for name, value in wanted.items():
        assert float((found[name] / stepper.scale - value).norm()) < 0.02 * float(value.norm()), name
    monkeypatch.setattr("localdistill.trainers.torch.backend._DOUBLED_AFTER", 1)
    made.backend.accumulate(made.work(range(8)))
    lowered = stepper.scale
    made.backend.apply(1e-4, 1.0)
    assert stepper.scale == 2 * lowered
    made.backend.save(tmp_path)
    stepper.scale = 1.0
    made.backend.restore(tmp_path)
    assert stepper.scale == 2 * lowered
