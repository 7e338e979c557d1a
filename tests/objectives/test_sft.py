"""The loss of supervised fine-tuning, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest

from localdistill.objectives.sft import SftObjective

torch = pytest.importorskip("torch")


def test_the_loss_is_the_weighted_sum_of_cross_entropies() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [math.log(4.0), 0.0]])
    loss = SftObjective().loss(logits, torch.tensor([1, 1]), torch.tensor([1.0, 0.5]), torch.tensor([1, 1]))
    assert float(loss) == pytest.approx(-math.log(0.75) - 0.5 * math.log(0.2))


def test_low_precision_logits_are_summed_in_float32() -> None:
    logits = torch.zeros(4, 1000, dtype=torch.bfloat16)
    loss = SftObjective().loss(logits, torch.arange(4), torch.ones(4), torch.ones(4))
    assert loss.dtype == torch.float32 and float(loss) == pytest.approx(4 * math.log(1000), rel=1e-6)


def test_negative_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        SftObjective().loss(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long), torch.ones(1), torch.tensor([-1]))
