"""A model as it was trained: the base held as in training, with the adapter beside its weights. Gives log-probabilities
of training rows, for whoever compares them with those of another form. Must not import torch at import."""

from __future__ import annotations

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

    student: Path
    """Folder of the base model."""
    adapter: Path
    quantization: Literal["none", "nf4"]
    """How the base's weights were held."""
    dtype: str
    """Arithmetic of the training, for example `bfloat16`."""
    rows: tuple[TrainedRow, ...]
    """Some of the rows that it was trained on; at least one."""


def trained_logprobs(trained: TrainedModel, compute: str, cancel: Cancel) -> list[npt.NDArray[np.float32]]:
    """Log-probabilities of the trained tokens of every row, in the precision `compute`; in that of its training where
    the base is quantized. The model is loaded for this alone."""
    torch = import_torch()
    folder = ModelFolder.open(trained.student)
    quantized = trained.quantization != "none"
    device = pick_device("auto") if quantized else torch.device("cpu")
    dtype = getattr(torch, trained.dtype if quantized else compute)
    model = load_causal_model(folder, dtype, device, trained.quantization)
    AdapterFolder.open(trained.adapter, folder).attach(model)
    found = []
    with torch.inference_mode():
        for row in trained.rows:
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
