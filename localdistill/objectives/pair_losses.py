"""Losses of a pair: how far a right answer must rise above a wrong one, both against a reference, in the published
variants. Each gives the loss and its derivative by the two log-ratios; none knows where these come from.

Sources: sigmoid, https://arxiv.org/abs/2305.18290; hinge, 2305.10425; ipo, 2310.12036 (over lengths, as its authors
advise); robust, 2403.00409; exo_pair, 2402.00856; nca_pair, 2402.05369; bco_pair, 2404.04656 (without a shift);
sppo_hard, 2405.00675; apo_zero and apo_down, 2408.06266; sigmoid_norm, sigmoid of length-normalised log-ratios."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from localdistill.core.losses import Floats

PairLossName = Literal["sigmoid", "hinge", "ipo", "robust", "exo_pair", "nca_pair", "bco_pair", "sppo_hard", "apo_zero",
                       "apo_down", "sigmoid_norm"]
SMOOTHED: frozenset[PairLossName] = frozenset({"sigmoid", "robust", "exo_pair", "sigmoid_norm"})
"""Those that take label smoothing."""


@dataclass(frozen=True)
class Pairs:
    """P pairs, in float64."""

    right: Floats
    """(P,): log-probability of the right answer, less the reference's."""
    wrong: Floats
    right_tokens: Floats
    """(P,): trained weight of the right answer."""
    wrong_tokens: Floats
    beta: float
    smoothing: float
    """Share of the pairs that are taken to be the wrong way round."""


PairLoss = Callable[[Pairs], tuple["Floats", "Floats", "Floats"]]
"""(P,) each: the loss, its derivative by `right`, and by `wrong`."""


def log_sigmoid(x: Floats) -> Floats:
    """Without overflow on either side."""
    import numpy as np

    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


def sigmoid(x: Floats) -> Floats:
    """Without overflow on either side."""
    import numpy as np

    return np.exp(log_sigmoid(x))


def _bump(x: Floats) -> Floats:
    """Derivative of the sigmoid."""
    return sigmoid(x) * sigmoid(-x)


def _of_margin(of: Callable[[Floats, float], tuple[Floats, Floats]]) -> PairLoss:
    """A loss of the difference of the two rewards: `of` gives it and its derivative."""
    def loss(pairs: Pairs) -> tuple[Floats, Floats, Floats]:
        value, slope = of(pairs.beta * (pairs.right - pairs.wrong), pairs.smoothing)
        return value, pairs.beta * slope, -pairs.beta * slope

    return loss


def _of_rewards(of: Callable[[Floats, Floats], tuple[Floats, Floats, Floats]]) -> PairLoss:
    """A loss of the two rewards: `of` gives it and its derivatives."""
    def loss(pairs: Pairs) -> tuple[Floats, Floats, Floats]:
        value, by_right, by_wrong = of(pairs.beta * pairs.right, pairs.beta * pairs.wrong)
        return value, pairs.beta * by_right, pairs.beta * by_wrong

    return loss


def _sigmoid(margin: Floats, smoothing: float) -> tuple[Floats, Floats]:
    value = -(1 - smoothing) * log_sigmoid(margin) - smoothing * log_sigmoid(-margin)
    return value, smoothing * sigmoid(margin) - (1 - smoothing) * sigmoid(-margin)


def _hinge(margin: Floats, smoothing: float) -> tuple[Floats, Floats]:
    import numpy as np

    return np.maximum(0.0, 1 - margin), np.where(margin < 1, -1.0, 0.0)


def _robust(margin: Floats, smoothing: float) -> tuple[Floats, Floats]:
    value = smoothing * log_sigmoid(-margin) - (1 - smoothing) * log_sigmoid(margin)
    slope = -smoothing * sigmoid(margin) - (1 - smoothing) * sigmoid(-margin)
    return value / (1 - 2 * smoothing), slope / (1 - 2 * smoothing)


def _exo_pair(margin: Floats, smoothing: float) -> tuple[Floats, Floats]:
    import math

    log_right, log_wrong = math.log1p(-smoothing), math.log(smoothing)
    value = (sigmoid(margin) * (log_sigmoid(margin) - log_right)
             + sigmoid(-margin) * (log_sigmoid(-margin) - log_wrong))
    return value, _bump(margin) * (margin - log_right + log_wrong)


def _nca_pair(right: Floats, wrong: Floats) -> tuple[Floats, Floats, Floats]:
    value = -log_sigmoid(right) - 0.5 * log_sigmoid(-right) - 0.5 * log_sigmoid(-wrong)
    return value, 0.5 * sigmoid(right) - sigmoid(-right), 0.5 * sigmoid(wrong)


def _bco_pair(right: Floats, wrong: Floats) -> tuple[Floats, Floats, Floats]:
    return -log_sigmoid(right) - log_sigmoid(-wrong), -sigmoid(-right), sigmoid(wrong)


def _apo_zero(right: Floats, wrong: Floats) -> tuple[Floats, Floats, Floats]:
    return sigmoid(-right) + sigmoid(wrong), -_bump(right), _bump(wrong)


def _apo_down(right: Floats, wrong: Floats) -> tuple[Floats, Floats, Floats]:
    margin = right - wrong
    return sigmoid(right) + sigmoid(-margin), _bump(right) - _bump(margin), _bump(margin)


def _sppo_hard(pairs: Pairs) -> tuple[Floats, Floats, Floats]:
    above, below = pairs.right - 0.5 / pairs.beta, pairs.wrong + 0.5 / pairs.beta
    return above**2 + below**2, 2 * above, 2 * below


def _ipo(pairs: Pairs) -> tuple[Floats, Floats, Floats]:
    away = pairs.right / pairs.right_tokens - pairs.wrong / pairs.wrong_tokens - 0.5 / pairs.beta
    return away**2, 2 * away / pairs.right_tokens, -2 * away / pairs.wrong_tokens


def _sigmoid_norm(pairs: Pairs) -> tuple[Floats, Floats, Floats]:
    margin = pairs.beta * (pairs.right / pairs.right_tokens - pairs.wrong / pairs.wrong_tokens)
    value, slope = _sigmoid(margin, pairs.smoothing)
    return value, pairs.beta * slope / pairs.right_tokens, -pairs.beta * slope / pairs.wrong_tokens


PAIR_LOSSES: Mapping[PairLossName, PairLoss] = {
    "sigmoid": _of_margin(_sigmoid), "hinge": _of_margin(_hinge), "ipo": _ipo, "robust": _of_margin(_robust),
    "exo_pair": _of_margin(_exo_pair), "nca_pair": _of_rewards(_nca_pair), "bco_pair": _of_rewards(_bco_pair),
    "sppo_hard": _sppo_hard, "apo_zero": _of_rewards(_apo_zero), "apo_down": _of_rewards(_apo_down),
    "sigmoid_norm": _sigmoid_norm,
}
