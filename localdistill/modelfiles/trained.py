"""A model as it was trained, for whoever compares it with what was made of it: log-probabilities of training rows, by
the base held as in training with the adapter beside its weights. Must not import torch at import."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from localdistill.core.events import Cancel
from localdistill.modelfiles.adapter import AdapterFolder
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.loading import import_torch, load_causal_model, pick_device
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
    logprobs: Callable[[Sequence[TrainedRow], str, Cancel], Sequence[npt.NDArray[np.floating]]]
    """Log-probabilities of the trained tokens of every row; in the precision that is named (`float32`) where the base
    was held as it is stored."""
    held: str = ""
    """How the base's weights were held, where the merged model rests on others than those: `nf4`."""
    others: Callable[[], Iterable[Sequence[int]]] = tuple
    """Token ids of other rows that it was trained on, from all over them; of `rows` where there are no others."""


def logprobs_as_trained(student: Path, adapter: Path, quantization: Literal["none", "nf4"], dtype: str,
                        rows: Sequence[TrainedRow], cancel: Cancel) -> list[npt.NDArray[np.float32]]:
    """Log-probabilities of the trained tokens of every row, by the base in the folder `student` with `adapter` beside
    it: computed in `dtype` where its weights are held in another way, else in float32, few of them in memory."""
    folder = ModelFolder.open(student)
    opened = AdapterFolder.open(adapter, folder)
    if quantization == "none":
        return logprobs_streamed(StreamedModel(folder, opened), rows, cancel)
    torch, device, found = import_torch(), pick_device("auto"), []
    model = load_causal_model(folder, getattr(torch, dtype), device, quantization)
    opened.attach(model)
    with torch.inference_mode():
        for row in rows:
            cancel.check()
            logits = model(torch.tensor([list(row.ids)], device=device)).logits[0]
            found.append(logprobs_of(logits.float().cpu().numpy(), row))
    return found


def logprobs_streamed(model: StreamedModel, rows: Sequence[TrainedRow],
                      cancel: Cancel) -> list[npt.NDArray[np.float32]]:
    """Log-probabilities of the trained tokens of every row, in float32, with few of the weights in memory."""
    import numpy as np

    found = []
    for hidden, row in zip(model.hidden([row.ids for row in rows], cancel), rows, strict=True):
        places, parts = _trained_places(row), []
        for first in range(0, len(places), model.rows_at_once):
            cancel.check()
            some = places[first:first + model.rows_at_once]
            parts.append(_chosen(model.logits(hidden[some - 1]), np.array(row.ids)[some]))
        found.append(np.concatenate(parts))
    return found


def logprobs_of(logits: npt.NDArray[np.float32], row: TrainedRow) -> npt.NDArray[np.float32]:
    """Log-probabilities of the trained tokens of `row`, from the logits (T, V) of its tokens."""
    import numpy as np

    places = _trained_places(row)
    return _chosen(logits[places - 1], np.array(row.ids)[places])


def _trained_places(row: TrainedRow) -> npt.NDArray[np.intp]:
    import numpy as np

    return np.array([place for place, weight in enumerate(row.weights) if weight > 0 and place > 0])


def _chosen(logits: npt.NDArray[np.float32], tokens: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Log-probabilities of one of the tokens (T,) each, from the logits (T, V) before it."""
    import numpy as np

    top = logits.max(axis=-1)
    total = top + np.log(np.exp(logits - top[:, None]).sum(axis=-1))
    result: npt.NDArray[np.float32] = logits[np.arange(len(tokens)), tokens] - total
    return result
