"""A model as it was trained, for whoever compares it with what was made of it: log-probabilities of training rows, by
the base held as in training with the adapter beside its weights. Must not import torch at import."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from localdistill.core.events import Cancel
from localdistill.modelfiles.adapter import AdapterFolder
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.loading import import_torch, load_causal_model, pick_device

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


def logprobs_as_trained(student: Path, adapter: Path, quantization: Literal["none", "nf4"], dtype: str,
                        rows: Sequence[TrainedRow], cancel: Cancel) -> list[npt.NDArray[np.float32]]:
    """Log-probabilities of the trained tokens of every row, by the base in the folder `student` with `adapter` beside
    it, computed in `dtype`. The model is loaded for this alone."""
    torch = import_torch()
    folder = ModelFolder.open(student)
    device = torch.device("cpu") if quantization == "none" else pick_device("auto")
    model = load_causal_model(folder, getattr(torch, dtype), device, quantization)
    AdapterFolder.open(adapter, folder).attach(model)
    found = []
    with torch.inference_mode():
        for row in rows:
            cancel.check()
            logits = model(torch.tensor([list(row.ids)], device=device)).logits[0]
            found.append(logprobs_of(logits.float().cpu().numpy(), row))
    return found


def logprobs_of(logits: npt.NDArray[np.float32], row: TrainedRow) -> npt.NDArray[np.float32]:
    """Log-probabilities of the trained tokens of `row`, from the logits (T, V) of its tokens."""
    import numpy as np

    places = np.array([place for place, weight in enumerate(row.weights) if weight > 0 and place > 0])
    before = logits[places - 1]
    top = before.max(axis=-1)
    total = top + np.log(np.exp(before - top[:, None]).sum(axis=-1))
    result: npt.NDArray[np.float32] = before[np.arange(len(places)), np.array(row.ids)[places]] - total
    return result
