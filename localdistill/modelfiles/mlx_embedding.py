"""An embedding for kinds whose class in mlx-lm rounds the factor that it multiplies embeddings by, where transformers
does not. Imports mlx: import it only where a model is loaded."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx import nn


class CorrectedEmbedding(nn.Embedding):  # type: ignore[misc]
    """An embedding whose rows are given with a correction, in float32; as a head it is what it was."""

    def __init__(self, base: Any, correction: float) -> None:
        super().__init__(1, 1)
        self.weight = base.weight
        self._correction = correction

    def corrected(self, rows: mx.array) -> mx.array:
        """rows (..., H) of embeddings. In 16 bits both libraries round alike."""
        return rows * self._correction if rows.dtype == mx.float32 else rows

    def __call__(self, ids: mx.array) -> mx.array:
        """ids (...) -> (..., H)."""
        return self.corrected(super().__call__(ids))
