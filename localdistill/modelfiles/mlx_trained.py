"""A model as MLX trained it, for whoever compares it with what was made of it: log-probabilities of training rows, by
the base held as in training with the adapter beside its weights, which are in memory block by block. Must not import
mlx at import."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localdistill.core.borders import BORDERS
from localdistill.core.events import Cancel
from localdistill.modelfiles.adapter import AdapterFolder
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.mlx_models import MlxDtype, MlxHolding, head_logits, import_mlx, uncomputed_model
from localdistill.modelfiles.streamed import groups_of, logit_rows_at_once
from localdistill.modelfiles.trained import TrainedRow, logprobs_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def logprobs_as_trained_in_mlx(student: Path, adapter: Path, holding: MlxHolding, dtype: MlxDtype,
                               rows: Sequence[TrainedRow], cancel: Cancel) -> list[npt.NDArray[np.float32]]:
    """Log-probabilities of the trained tokens of every row. The files are read once for as many rows as go together."""
    folder = ModelFolder.open(student)
    opened, at = AdapterFolder.open(adapter, folder), 0
    found: list[npt.NDArray[np.float32]] = []
    for group in groups_of([row.ids for row in rows], BORDERS.streamed_tokens):
        found += _of_group(folder, opened, holding, dtype, rows[at:at + len(group)], cancel)
        at += len(group)
    return found


def _of_group(folder: ModelFolder, adapter: AdapterFolder, holding: MlxHolding, dtype: MlxDtype,
              rows: Sequence[TrainedRow], cancel: Cancel) -> Iterator[npt.NDArray[np.float32]]:
    import numpy as np

    mx = import_mlx()
    from localdistill.modelfiles.mlx_adapter import attach_adapter

    model = uncomputed_model(folder, dtype, holding)
    attach_adapter(model, adapter)
    model.model.layers = [_Passing(layer, cancel) for layer in model.model.layers]
    longest = max(len(row.ids) for row in rows)
    # What stands behind a row is not seen by it: no mask is needed.
    hidden = model.model(mx.array([[*row.ids, *[0] * (longest - len(row.ids))] for row in rows]))
    mx.eval(hidden)
    cap = folder.kind.logit_cap(folder.config)
    for place, row in enumerate(rows):
        def logits(places: npt.NDArray[np.intp], place: int = place) -> npt.NDArray[np.float32]:
            cancel.check()
            told = head_logits(model, hidden[place, mx.array(places)], folder.tied_embeddings, cap)
            return np.array(told.astype(mx.float32), copy=True)

        yield logprobs_of(row, logits, logit_rows_at_once(folder))


class _Passing:
    """A block that computes at once and lets go of its weights behind it."""

    def __init__(self, block: Any, cancel: Cancel) -> None:
        self._block, self._cancel = block, cancel

    def __getattr__(self, name: str) -> Any:
        return getattr(self._block, name)

    def __call__(self, *given: Any, **named: Any) -> Any:
        import mlx.core as mx
        from mlx.utils import tree_map

        self._cancel.check()
        result = self._block(*given, **named)
        mx.eval(result)
        self._block.update(tree_map(lambda weight: mx.zeros(1, weight.dtype), self._block.parameters()))
        mx.clear_cache()
        return result
