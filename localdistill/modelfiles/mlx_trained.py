"""A model as MLX trained it, for whoever compares it with what was made of it: log-probabilities of training rows, by
the base held as in training with the adapter beside its weights. Must not import mlx at import."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from localdistill.core.events import Cancel
from localdistill.modelfiles.adapter import AdapterFolder
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.mlx_models import MlxDtype, MlxHolding, import_mlx, load_mlx_model
from localdistill.modelfiles.trained import TrainedRow, logprobs_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def logprobs_as_trained_in_mlx(student: Path, adapter: Path, holding: MlxHolding, dtype: MlxDtype,
                               rows: Sequence[TrainedRow], cancel: Cancel) -> list[npt.NDArray[np.float32]]:
    """Log-probabilities of the trained tokens of every row. The model is loaded for this alone."""
    import numpy as np

    mx, folder = import_mlx(), ModelFolder.open(student)
    from localdistill.modelfiles.mlx_adapter import attach_adapter

    model = load_mlx_model(folder, dtype, holding)
    attach_adapter(model, AdapterFolder.open(adapter, folder))
    found = []
    for row in rows:
        cancel.check()
        logits = model(mx.array([list(row.ids)]))[0].astype(mx.float32)
        found.append(logprobs_of(np.array(logits, copy=True), row))
    return found
