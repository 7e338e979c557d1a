"""Reads a stored tensor in pieces of rows as float32, straight from the mapped file, so that converting a tensor costs
its output and one piece. Headers are checked by `modelfiles.tensors` before anything here maps a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from localdistill.core.borders import BORDERS
from localdistill.core.errors import ModelFileError
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.tensors import TensorInfo

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_NUMPY_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a model folder."""

    file: Path
    info: TensorInfo

    @property
    def name(self) -> str:
        """Its name in the checkpoint."""
        return self.info.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, rows first."""
        return self.info.shape

    def rows(self, multiple: int = 1) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """(first row, float32 rows) in pieces of about `BORDERS.weight_values`, each a multiple of `multiple` rows.

        A tensor of one dimension comes as one piece.
        """
        import numpy as np

        raw = np.memmap(self.file, mode="r", offset=self.info.start, shape=self.shape,
                        dtype=_NUMPY_TYPES[self.info.dtype])
        width = max(1, prod(self.shape[1:]))
        step = self.shape[0] if len(self.shape) == 1 else max(1, BORDERS.weight_values // width // multiple) * multiple
        for first in range(0, self.shape[0], step):
            piece = raw[first:first + step]
            if self.info.dtype == "BF16":
                yield first, (piece.astype(np.uint32) << 16).view(np.float32)
            else:
                yield first, piece.astype(np.float32)


def stored_tensors(folder: ModelFolder) -> dict[str, StoredTensor]:
    """Every tensor of the model, by name. Raises ModelFileError for one that is not a plain float tensor."""
    for file, info in folder.tensors.values():
        if info.dtype not in _NUMPY_TYPES or not info.count:
            raise ModelFileError(f"{file.name}: tensor '{info.name}' is {info.dtype} {info.shape}",
                                 "export needs merged weights in F32, F16 or BF16")
    return {name: StoredTensor(file, info) for name, (file, info) in folder.tensors.items()}
