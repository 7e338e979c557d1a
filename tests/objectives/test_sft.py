"""Supervised fine-tuning on log-probabilities is cross entropy on logits."""

from __future__ import annotations

import numpy as np
import pytest

from localdistill.core.losses import ListedLogprobs
from localdistill.objectives.sft import SftObjective

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_is_the_weighted_sum_of_cross_entropies(smoothing: float) -> None:
    logits = torch.randn(6, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    targets, weight = torch.tensor([0, 3, 10, 3, 5, 7]), torch.tensor([1.0, 0.5, 1.0, 1.0, 0.25, 1.0])
    entropy = torch.nn.functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    logprobs = torch.log_softmax(logits, -1)
    batch = ListedLogprobs(logprobs.gather(1, targets[:, None]).numpy(), weight.numpy(), np.array([0, 0, 0, 1, 1, 1]),
                           np.ones(2), np.ones(2, int), np.arange(2), mean=logprobs.mean(-1).numpy())
    loss = SftObjective(SftObjective.Options(label_smoothing=smoothing)).loss(batch)
    assert loss.total == pytest.approx(float((entropy * weight).sum()))
