"""Columns of log-probabilities that a training needs beside its rows, such as those of the policy before step 1: worked
out once, kept beside the checkpoints, and read again only by the training that they were made for. Must not know a
library."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from localdistill.safety.files import atomic_write_bytes, atomic_write_text
from localdistill.trainers._rows import Dataset

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from localdistill.core.losses import Floats


@dataclass(frozen=True)
class StoredColumn:
    """float32 (n, K) per row, for its n trained tokens."""

    values: Sequence[Floats]

    def of(self, rows: Sequence[int]) -> npt.NDArray[np.float32]:
        """(N, K) of `rows`, one after the other."""
        import numpy as np

        return np.concatenate([self.values[row] for row in rows])

    def save(self, folder: Path, name: str, identity: str) -> None:
        """Keep it in `folder` as the column `name` of the training `identity`."""
        import io

        import numpy as np

        folder.mkdir(parents=True, exist_ok=True)
        data = io.BytesIO()
        np.save(data, np.concatenate(list(self.values)), allow_pickle=False)
        atomic_write_bytes(folder / f"{name}.npy", data.getvalue())
        said = {"training": identity, "sha256": hashlib.sha256(data.getvalue()).hexdigest()}
        atomic_write_text(folder / f"{name}.json", json.dumps(said))


def load_column(folder: Path, name: str, identity: str, rows: Dataset) -> StoredColumn | None:
    """The column `name` in `folder`, where it is whole and belongs to the training `identity` on `rows`; else None."""
    import io

    import numpy as np

    try:
        said = json.loads((folder / f"{name}.json").read_text())
        data = (folder / f"{name}.npy").read_bytes()
        if said != {"training": identity, "sha256": hashlib.sha256(data).hexdigest()}:
            return None
        flat = np.load(io.BytesIO(data), allow_pickle=False)
    except (OSError, ValueError):
        return None
    sizes = [len(rows.trained(row)) for row in range(len(rows))]
    if flat.ndim != 2 or len(flat) != sum(sizes):
        return None
    return StoredColumn(np.split(flat, np.cumsum(sizes)[:-1]))
