"""A model as it was trained, for whoever compares it with what was made of it: log-probabilities of training rows, by
the base held as in training with the adapter beside its weights. Must not import torch at import."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localdistill.core.events import Cancel
from localdistill.modelfiles.streamed import StreamedModel

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class TrainedRow:
    """One row of a dataset, as training saw it; tokens of weight 0 were not trained."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class TrainedModel:
    """The model that was merged, as its training held it."""

    rows: tuple[TrainedRow, ...]
    """Some of the rows that it was trained on; at least one."""
    logprobs: Callable[[Sequence[TrainedRow], Cancel], Sequence[npt.NDArray[np.floating]]]
    """Log-probabilities of the trained tokens of every row, over weights as the training held them."""
    held: str = ""
    """How the base's weights were held, where the merged model rests on others than those: `nf4`."""
    others: Callable[[], Iterable[Sequence[int]]] = tuple
    """Token ids of other rows that it was trained on, from all over them; of `rows` where there are no others."""


def logprobs_streamed(model: StreamedModel, rows: Sequence[TrainedRow],
                      cancel: Cancel) -> list[npt.NDArray[np.float32]]:
    """Log-probabilities of the trained tokens of every row, in float32, with few of the weights in memory."""
    found = []
    for hidden, row in zip(model.hidden([row.ids for row in rows], cancel), rows, strict=True):
        def logits(places: npt.NDArray[np.intp], hidden: Any = hidden) -> npt.NDArray[np.float32]:
            cancel.check()
            return model.logits(hidden[places])

        found.append(logprobs_of(row, logits, model.rows_at_once))
    return found


def logprobs_of(row: TrainedRow, logits: Callable[[npt.NDArray[np.intp]], npt.NDArray[np.float32]],
                at_once: int) -> npt.NDArray[np.float32]:
    """Log-probabilities of the trained tokens of `row`. logits: places (N,), at most `at_once` of them, -> the logits
    (N, V) behind the tokens that stand there."""
    import numpy as np

    ids = np.array(row.ids)
    parts: list[npt.NDArray[np.float32]] = []
    places = np.array([place for place, weight in enumerate(row.weights) if weight > 0 and place > 0])
    for first in range(0, len(places), at_once):
        some = places[first:first + at_once]
        told = logits(some - 1)
        top = told.max(axis=-1)
        total = top + np.log(np.exp(told - top[:, None]).sum(axis=-1))
        parts.append(told[np.arange(len(some)), ids[some]] - total)
    return np.concatenate(parts)
